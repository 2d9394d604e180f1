"""How this process becomes a command, or starts one that outlives it, with next to no imports."""

# In C, and there from the start, which the enumerations of `signal` are not.
import _signal
import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn


class CommandNotStarted(Exception):
    """A command could not be started; `exit_code` is 127 or 126 as a shell has them."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


def execute(argv: "Sequence[str]", env: "Mapping[str, str]") -> "NoReturn":
    """Replace this process by a command, looked for in the PATH of its new environment.

    Raises CommandNotStarted, with the exit code that a shell would give.
    """
    from_python()
    command = argv[0]
    if "/" in command:
        candidates = [command]
    else:
        directories = env.get("PATH", os.defpath).split(os.pathsep)
        candidates = [os.path.join(directory or ".", command) for directory in directories]
    refused: OSError | None = None
    for candidate in candidates:
        try:
            _exec(candidate, argv, env)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.lexists(candidate) and "/" in command and os.path.isfile(candidate):
                raise CommandNotStarted(f"{command}: its interpreter does not exist", 126) from None
        except PermissionError as error:
            if os.path.lexists(candidate) and (not os.path.isdir(candidate) or "/" in command):
                refused = refused or error
        except OSError as error:
            raise CommandNotStarted(f"{command}: {error.strerror}", 126) from None
    if refused:
        raise CommandNotStarted(f"{command}: {refused.strerror}", 126)
    reason = "No such file or directory" if "/" in command else "command not found"
    raise CommandNotStarted(f"{command}: {reason}", 127)


def end_cleanly() -> None:
    """Let what ends this process be an exception, so that private pieces are removed first."""
    for number in (_signal.SIGTERM, _signal.SIGHUP):
        # What nohup wants of a command begins with us.
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, _terminated)


def _terminated(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def from_python() -> None:
    """Leave what an exec would hand on of Python: text not yet written, and ignored signals."""
    sys.stdout.flush()
    sys.stderr.flush()
    # SIGINT resets itself.
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
    a PYTHON* variable can put other code in its place; only the standard library is sure to be
    there besides.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    start = (
        "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
        "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    )
    # File names are UTF-8 whatever the locale of a caller says.
    return [sys.executable, "-I", "-X", "utf8", "-c", start, root, module]


def start_daemon(
    argv: "Sequence[str]", env: "Mapping[str, str]", pass_fds: "Sequence[int]" = ()
) -> int:
    """Start a command that outlives us and is nobody's child, without our terminal and descriptors.

    Parameters: `env` is its whole environment, `pass_fds` the descriptors it keeps. It returns
    before the command has started; whether it did, the command itself has to show. What is returned
    is the number of a child to be waited for, which ends at once.
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
        # Once more, so that it is adopted by init and can never get a terminal.
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        first = 3
        for kept in sorted(pass_fds):
            os.closerange(first, kept)
            os.set_inheritable(kept, True)
            first = kept + 1
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))
        os.execve(argv[0], list(argv), dict(env))
    finally:
        # Whatever happened, the copy of the parent must not go on as if it were the parent.
        os._exit(127)
