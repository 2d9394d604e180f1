"""The entry point: runs the command line, and turns every ending into an exit status.

What is imported here is imported before a stamp is read, which has to cost next to nothing.
"""

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from condainer.startup.answer import Call


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run `cnd` and return its exit status; `system.errors` lists them."""
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 1


def _main(arguments: "Sequence[str] | None") -> int:
    from condainer.startup import answer

    start = time.perf_counter()
    try:
        call = answer.parsed(list(sys.argv[1:] if arguments is None else arguments))
        status = answer.run(call, start) if call else None
        if status is None and call:
            status = _run_again(call)
        if status is None:
            status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has seen enough; nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # 128 and SIGPIPE.
        return 141
    except Exception as error:
        if signalled := _signal_before(error):
            raise signalled from None
        # Mostly a full disk behind stdout; what a user can act on elsewhere has its own class.
        return _failed(_told(error) if isinstance(error, OSError) else error, arguments)
    return status


def _signal_before(error: BaseException | None) -> BaseException | None:
    """Return what a signal raised, of which an import or a clean-up has made another error."""
    while error is not None and not isinstance(error, (KeyboardInterrupt, SystemExit)):
        error = error.__cause__ or error.__context__
    return error


def _run_again(call: "Call") -> int | None:
    """Answer a call whose stamp was not enough; None if it is for the command line."""
    _settle()
    from condainer.cli import hit

    return hit.answer(call)


def _settle() -> None:
    """Prepare for work that takes its time."""
    import gc
    import warnings

    from condainer.startup import launch

    # What imports make stays until the end, and looking through it takes 5 % of most commands.
    gc.set_threshold(100_000)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    launch.end_cleanly()


def _run(arguments: "Sequence[str] | None") -> int:
    """Run `cnd` the long way."""
    if arguments is None:
        _settle()
    from condainer.cli.main import cli

    cli.main(args=arguments, prog_name="cnd", standalone_mode=False)
    return 0


def _told(error: OSError) -> Exception:
    """Return the error that says what a user can do about one of the operating system."""
    from condainer.system.errors import ConfigError
    from condainer.system.files import storage_error

    if isinstance(error, FileNotFoundError) and error.filename is None:
        # What os.getcwd() says, for whatever is relative.
        return ConfigError(
            "The working directory does not exist any more",
            "`cd` to one that does; or name the project, and all files, by absolute paths: `-d`.",
        )
    return storage_error("go on", error)


def _failed(error: Exception, arguments: "Sequence[str] | None") -> int:
    ours, executes = _own_words(sys.argv[1:] if arguments is None else arguments)
    from condainer.startup.launch import CommandNotStarted
    from condainer.system.errors import EXEC_FAILED, CondainerError

    if isinstance(error, CommandNotStarted):
        from condainer.cli.console import show_error

        show_error(CondainerError(error.message))
        return error.exit_code
    if isinstance(error, CondainerError):
        from condainer.cli.console import show_error

        if executes:
            # The user's command may end with any of the other numbers.
            error.exit_code = EXEC_FAILED
        show_error(error, ours)
        return error.exit_code
    if "click" in sys.modules:
        import click

        if isinstance(error, click.ClickException):
            import io

            from condainer.cli.console import answer_failure, say

            told = io.StringIO()
            error.show(told)
            say(told.getvalue().rstrip())
            context = error.ctx if isinstance(error, click.UsageError) else None
            hint = f"`{context.command_path} --help` says how it is used." if context else ""
            answer_failure(error.format_message(), hint, error.exit_code, ours)
            return error.exit_code
        if isinstance(error, click.Abort):
            return _interrupted()
    return _unexpected(ours)


def _own_words(words: "Sequence[str]") -> "tuple[Sequence[str], bool]":
    """Return the words of a command line that are ours, and whether it runs a user's command.

    Of such a one none is ours.
    """
    place = 0
    while words[place : place + 1] and words[place].startswith("-"):
        place += 2 if words[place] in ("-d", "--directory", "-e", "--environment", "--set") else 1
    executes = list(words[place : place + 1]) in (["exec"], ["run"])
    return () if executes else words, executes


def _interrupted() -> int:
    sys.stderr.write("cnd: interrupted\n")
    # 128 and SIGINT.
    return 130


def _unexpected(ours: "Sequence[str]") -> int:
    """Keep the traceback of a bug in a file, where it does not frighten but can be sent."""
    import tempfile
    import traceback

    from condainer import __version__
    from condainer.cli.console import answer_failure, say

    with tempfile.NamedTemporaryFile(
        "w", prefix="condainer-error-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        log.write(f"condainer {__version__}, Python {sys.version}\n")
        traceback.print_exc(file=log)
    problem = traceback.format_exc(limit=0).strip().splitlines()[-1]
    say(
        f"cnd: unexpected error: {problem}\n"
        f"     This is a bug in Condainer. Please report it with the file {log.name}"
    )
    answer_failure(f"unexpected error: {problem}", f"Please report it: {log.name}", 70, ours)
    return 70


def entry() -> None:
    """Run `cnd` and end the process without tearing the interpreter down.

    rattler's threads outlive its calls, and one that wakes while Python is being finalised ends
    the process with SIGSEGV: seen in 2 of 25 runs that ended right after an installation.
    """
    _use_utf8()
    _leave_other_modules()
    _complete_streams()
    # What asyncio says when an interruption takes it apart is of no use.
    sys.unraisablehook = lambda unraisable: None
    status = 130
    try:
        status = main()
        private_directory = sys.modules.get("condainer.system.private_directory")
        if private_directory is not None:
            private_directory.leave()
    except Exception as error:
        # What tells of an error can fail, too; the interpreter would end so.
        if _signal_before(error) is None:
            status = 1
            sys.excepthook(*sys.exc_info())
    finally:
        # Also after a second ^C: the interpreter would wait for threads that wait for a server.
        for stream in (sys.stdout, sys.stderr):
            try:  # noqa: SIM105
                stream.flush()
            except (OSError, ValueError):
                pass
        os._exit(status)


def _use_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale says that file names are otherwise.

    Those of packages are UTF-8. Unlike a variable, the option does not reach the command in an
    image, which gets its locale as it is.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _leave_other_modules() -> None:
    """Look for modules neither in PYTHONPATH nor in the user's own directory of packages.

    What is there is for other interpreters, as environment modules set it; the command in an image
    gets the variables as they are. Where Condainer itself is installed is looked at all the same.
    """
    given = os.environ.get("PYTHONPATH")
    others = {os.path.abspath(entry) for entry in given.split(os.pathsep)} if given else set()
    # None with `python -S`, and in most virtual environments it is not looked at.
    others.add(getattr(sys.modules.get("site"), "USER_SITE", None) or "")
    if __name__ == "__main__":
        # `python -m` looks there first, if it has not been deleted.
        others |= {sys.path[0]}
    if others.isdisjoint(sys.path):
        return
    standard = os.path.dirname(os.__file__)
    own = (standard, f"{sys.prefix}/lib/{os.path.basename(standard)}")
    sys.path[:] = [
        entry
        for entry in sys.path
        if entry not in others or entry.startswith(own) or _is_home(entry)
    ]


def _is_home(directory: str) -> bool:
    """Tell whether Condainer is installed in a directory, also as a link to its sources."""
    try:
        names = os.listdir(directory)
    except OSError:
        return False
    if any(name.startswith("condainer-") and name.endswith(".dist-info") for name in names):
        return True
    return directory == os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _complete_streams() -> None:
    """Open /dev/null in place of standard streams that the caller closed, as daemons do.

    Otherwise the next file that is opened would become our stdout.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        # File names need not be valid text.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")


if __name__ == "__main__":
    entry()
