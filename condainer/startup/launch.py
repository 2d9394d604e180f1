"""How this process becomes a command, or starts one that outlives it, with next to no imports."""

# The C part of `signal`: the interpreter has it loaded already, without the enumerations.
import _signal
import errno
import os
import sys

from condainer.startup import command_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

# The errors of a path that does not exist, or whose FUSE daemon does not.
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)


class CommandNotStarted(Exception):
    """A command could not be started; `exit_code` is 127 or 126 as of a shell, or 125."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


def execute(
    argv: "Sequence[str]",
    env: "Mapping[str, str]",
    image: "tuple[str, str] | None" = None,
    warn: "Callable[[str], object] | None" = None,
) -> "NoReturn":
    """Replace this process by a command, looked for in the PATH of its new environment.

    Parameters: `image` is the prefix and the address of the environment's image: once that is
    unmounted, no command from outside of it runs in the place of its own. `warn` is told of a
    Python that is not the image's. Raises CommandNotStarted, with the exit code of a shell, or 125
    if the image was unmounted.
    """
    from_python()
    command = argv[0]
    if "/" in command:
        candidates, image = [command], None
    else:
        # No program has an empty name.
        directories = env.get("PATH", os.defpath).split(os.pathsep) if command else []
        candidates = [os.path.join(directory or ".", command) for directory in directories]
    refused: OSError | None = None
    gone = False
    for candidate in candidates:
        within = image is not None and candidate.startswith(f"{image[0]}/")
        if gone and not within and not _is_stand_in(candidate):
            break
        if warn and image and not within and _is_python(candidate):
            warn(f"{command} is not in the environment: this is {candidate}")
        try:
            _exec(candidate, argv, env)
        except PermissionError as error:
            if os.path.lexists(candidate) and (not os.path.isdir(candidate) or "/" in command):
                if within:
                    raise CommandNotStarted(f"{candidate}: {error.strerror}", 126) from None
                refused = refused or error
        except OSError as error:
            absent = isinstance(error, (FileNotFoundError, NotADirectoryError))
            reason = "its interpreter does not exist" if absent else error.strerror
            if image is not None and within and error.errno in GONE:
                there = _has(candidate, *image)
                if there:
                    raise CommandNotStarted(f"{candidate}: {reason}", 126) from None
                gone = gone or there is None
            elif not absent or ("/" in command and os.path.isfile(candidate)):
                raise CommandNotStarted(f"{command}: {reason}", 126) from None
    if gone and image is not None:
        raise CommandNotStarted(f"{command}: {image[0]} was unmounted just now: run it again", 125)
    if refused:
        raise CommandNotStarted(f"{command}: {refused.strerror}", 126)
    reason = "No such file or directory" if "/" in command else "command not found"
    raise CommandNotStarted(f"{command}: {reason}", 127)


def _is_python(path: str) -> bool:
    """Tell whether a command is a Python outside of an image, or a script that one runs."""
    if not os.access(path, os.X_OK) or os.path.isdir(path) or _is_stand_in(path):
        return False
    if os.path.basename(path).startswith("python"):
        return True
    try:
        with open(path, "rb", buffering=0) as stream:
            first = stream.read(256).partition(b"\n")[0]
    except OSError:
        return False
    return first.startswith(b"#!") and b"python" in first


def _is_stand_in(path: str) -> bool:
    """Tell whether a path is that of a stand-in for a command of the image."""
    return os.path.dirname(path).endswith(command_environment.STAND_INS)


def _has(path: str, prefix: str, address: str) -> "bool | None":
    """Tell whether an image has a path below its prefix; None if the image is not mounted."""
    try:
        # What is open stays the same image, even if another is mounted over it.
        place = os.open(prefix, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sentinel = f"/proc/self/fd/{place}/{command_environment.SENTINEL}"
            with open(sentinel, "rb", buffering=0) as stream:
                if stream.read(100) != address.encode() + b"\n":
                    return None
            try:
                os.lstat(path[len(prefix) + 1 :], dir_fd=place)
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True
        finally:
            os.close(place)
    except OSError:
        return None


def end_cleanly() -> None:
    """Turn SIGTERM and SIGHUP into an exception, so that private files are removed first."""
    for number in (_signal.SIGTERM, _signal.SIGHUP):
        # nohup ignores SIGHUP for us, too.
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, _terminated)


def _terminated(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def from_python() -> None:
    """Prepare for an exec: write out buffered text, and reset the signals that Python ignores."""
    sys.stdout.flush()
    sys.stderr.flush()
    # An exec resets SIGINT itself.
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def _exec(path: str, argv: "Sequence[str]", env: "Mapping[str, str]") -> None:
    try:
        os.execve(path, list(argv), dict(env))
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script without an interpreter line is for the shell.
        os.execve("/bin/sh", ["/bin/sh", path, *argv[1:]], dict(env))


def module_command(module: str) -> list[str]:
    """Return the command that runs a module of ours in this interpreter.

    It finds the same Condainer however that was installed, and neither the working directory nor
    a PYTHON* variable can put other code in its place. Beside it, only the standard library is sure
    to be importable.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    start = (
        "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
        "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    )
    # File names are UTF-8 in any locale.
    return [sys.executable, "-I", "-X", "utf8", "-c", start, root, module]


def start_daemon(
    argv: "Sequence[str]", env: "Mapping[str, str]", pass_fds: "Sequence[int]" = ()
) -> int:
    """Start a command that outlives us, as a child of init, without our terminal and descriptors.

    Parameters: `env` is its whole environment, `pass_fds` the descriptors it keeps. It returns
    before the command has started, with the number of a child to wait for, which ends immediately.
    """
    child = os.fork()
    if child == 0:
        _become_daemon(argv, env, pass_fds)
    return child


def _become_daemon(
    argv: "Sequence[str]", env: "Mapping[str, str]", pass_fds: "Sequence[int]"
) -> "NoReturn":
    try:
        os.setsid()
        # A second fork, so that init adopts it and it can never get a terminal.
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        command_environment.close_all_but((0, 1, 2, *pass_fds))
        for kept in pass_fds:
            os.set_inheritable(kept, True)
        os.execve(argv[0], list(argv), dict(env))
    finally:
        # The copy of the parent must never go on as if it were the parent.
        os._exit(127)
