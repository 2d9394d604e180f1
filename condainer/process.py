"""The one door through which subprocesses are started."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from condainer.errors import CondainerError, ToolError

# Enough to show what went wrong; a tool that writes megabytes to stderr must not fill the memory.
STDERR_LIMIT = 64_000


class CommandFailed(CondainerError):
    """A subprocess ended with a status other than zero."""

    exit_code = 11

    def __init__(self, argv: Sequence[str], status: int, stderr: str) -> None:
        ended = f"was ended by signal {-status}" if status < 0 else f"failed with status {status}"
        detail = f":\n{stderr.strip()}" if stderr.strip() else " and said nothing"
        super().__init__(f"`{shlex.join(argv)}` {ended}{detail}")
        self.argv = tuple(argv)
        self.status = status
        self.stderr = stderr


@dataclass(frozen=True)
class Completed:
    """What a successful subprocess wrote."""

    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    on_line: Callable[[str], None] | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run a command to its end and return what it wrote.

    Parameters: `env` replaces the environment, `stdin` is fed as text (nothing otherwise),
    `on_line` receives each line of stdout as it comes instead of collecting it (a carriage
    return ends a line too, as progress bars write them). Raises CommandFailed when the status
    is not zero, ToolError when the executable does not exist.
    """
    try:
        child = subprocess.Popen(
            argv,
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=pass_fds,
        )
    except FileNotFoundError as error:
        raise ToolError(f"{error.filename or argv[0]}: no such file or command") from None
    except PermissionError as error:
        raise ToolError(f"{error.filename or argv[0]}: not permitted to execute") from None
    with child:
        try:
            stdout, stderr = _communicate(child, stdin, on_line)
        except BaseException:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
    if child.returncode:
        raise CommandFailed(argv, child.returncode, stderr or stdout[-STDERR_LIMIT:])
    return Completed(stdout, stderr)


def _communicate(
    child: subprocess.Popen[str], stdin: str | None, on_line: Callable[[str], None] | None
) -> tuple[str, str]:
    if on_line is None:
        stdout, stderr = child.communicate(stdin)
        return stdout, stderr[-STDERR_LIMIT:]
    assert child.stdout is not None
    assert child.stderr is not None
    errors: list[str] = []
    stderr_pipe = child.stderr
    drain = threading.Thread(target=lambda: errors.extend(stderr_pipe), daemon=True)
    drain.start()
    for line in child.stdout:
        on_line(line.rstrip("\n"))
    drain.join()
    child.wait()
    return "", "".join(errors)[-STDERR_LIMIT:]


def find_tool(name: str, directory: Path | None = None) -> str | None:
    """Return the path of an executable, looked for in `directory` before PATH, or None."""
    if directory is not None and (found := shutil.which(name, path=str(directory))):
        return found
    return shutil.which(name)


def module_command(module: str) -> list[str]:
    """Return the command that runs a module of ours in this interpreter.

    It finds the same Condainer however that was installed, and neither the working directory nor
    a PYTHON* variable can put other code in its place; only the standard library is sure to be
    there besides.
    """
    root = str(Path(__file__).resolve().parent.parent)
    start = (
        "import runpy, sys; sys.path.append(sys.argv.pop(1)); "
        "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-I", "-c", start, root, module]


def start_daemon(argv: Sequence[str], env: Mapping[str, str], pass_fds: Sequence[int] = ()) -> None:
    """Start a command that outlives us and is nobody's child, without our terminal and descriptors.

    Parameters: `env` is its whole environment, `pass_fds` the descriptors it keeps. It returns
    before the command has started; whether it did, the command itself has to show.
    """
    child = os.fork()
    if child == 0:
        _become_daemon(argv, env, pass_fds)
    os.waitpid(child, 0)


def _become_daemon(
    argv: Sequence[str], env: Mapping[str, str], pass_fds: Sequence[int]
) -> NoReturn:
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
