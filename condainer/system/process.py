"""The one door through which subprocesses are started."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from condainer.startup import tool_paths
from condainer.system import environments
from condainer.system.errors import CondainerError, ToolError
from condainer.system.urls import redacted

# The characters of stderr that are kept: a tool may write megabytes.
STDERR_LIMIT = 64_000
# The seconds in which a command may end by itself when it is told to.
GRACE = 1.0

find_tool = tool_paths.find


class CommandFailed(CondainerError):
    """A subprocess ended with a status other than zero."""

    exit_code = 11

    def __init__(self, argv: Sequence[str], status: int, stderr: str, stdout: str = "") -> None:
        detail = f":\n{stderr.strip()}" if stderr.strip() else ""
        super().__init__(f"`{shlex.join(argv)}` {_ending(status)}{detail}")
        self.argv = tuple(argv)
        self.status = status
        self.stderr = redacted(stderr)
        self.stdout = stdout

    @property
    def reason(self) -> str:
        """What the command wrote of its failure, or how it ended if it wrote nothing."""
        said = self.stderr.strip()
        if self.status < 0:
            return f"it {_ending(self.status)}\n{said}".strip()
        return said or f"it {_ending(self.status)} and said nothing"


class TooMuch(Exception):
    """A subprocess wrote more than `limit`, and was ended."""


def _ending(status: int) -> str:
    if status >= 0:
        return f"failed with status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    return f"was ended by {name}" + (", perhaps out of memory" if name == "SIGKILL" else "")


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
    on_line: Callable[[str], None] | None = None,
    pass_fds: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    terminal: bool = False,
    limit: int | None = None,
    given: str | None = None,
    seconds: float | None = None,
) -> Completed:
    """Run a command to its end and return what it wrote.

    It gets a session of its own, so that neither it nor what it started outlives this call.
    Parameters: `env` is the environment, by default that of a tool of the system (a module of ours
    needs our own, for its interpreter); `on_line` receives each line of stdout as it comes, and
    stdout is not collected (a carriage return ends a line too, as in progress bars); `pass_fds` are
    descriptors that it inherits, `stdin` is the one that it reads. With `terminal` it stays in our
    session and shares our stdin, so that it can ask for a passphrase. `limit` is how many
    characters stdout may have, for content of others. Without `on_line` and `limit`, `given` is
    what it reads from stdin, and `seconds` how long it may run. Raises CommandFailed when the
    status is not zero, ToolError when the command cannot be started or takes too long, TooMuch.
    """
    child = _popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=None if terminal else stdin if given is None else subprocess.PIPE,
        pass_fds=pass_fds,
        start_new_session=not terminal,
    )
    with child:
        try:
            stdout, stderr = _communicate(child, on_line, limit, given, seconds)
        except subprocess.TimeoutExpired:
            _end(child, terminal)
            raise ToolError(f"{argv[0]} has not ended within {seconds:g} s") from None
        except BaseException:
            _end(child, terminal)
            raise
    return _completed(argv, child, stdout, stderr)


class _Child(subprocess.Popen[str]):
    """A command whose end also ends its session, which could keep our pipes open for ever."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._watcher = threading.Thread(target=self._end_orphans, daemon=True)
        self._watcher.start()

    def _end_orphans(self) -> None:
        with contextlib.suppress(ChildProcessError):
            # Until wait() the zombie keeps the number of its session.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            _signal_session(self, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the command and of the watcher, as communicate() and `with` do too.

        Parameters: `timeout` in seconds. Raises subprocess.TimeoutExpired.
        """
        # To enter a namespace, a process must have no other thread.
        self._watcher.join(timeout)
        if self._watcher.is_alive():
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return super().wait()


@contextlib.contextmanager
def started(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[Callable[[], Completed]]:
    """Start a command as run() does; neither it nor what it starts outlives the context.

    Yields a function that waits for its end, and returns or raises as run(). If that is not called,
    the end of the context ends it. Raises ToolError when it cannot be started.
    """
    child = _popen(argv, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
    written = functools.cache(lambda: _communicate(child))
    with child:
        try:
            yield lambda: _completed(argv, child, *written())
        finally:
            _end(child)


def _popen(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None,
    pass_fds: Sequence[int] = (),
    start_new_session: bool,
) -> _Child:
    try:
        return _Child(
            argv,
            env=environments.system() if env is None else dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=pass_fds,
            start_new_session=start_new_session,
        )
    except FileNotFoundError as error:
        raise ToolError(f"{error.filename or argv[0]}: no such file or command") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ToolError(f"{argv[0]} cannot be executed: {reason}") from None


def _end(child: _Child, terminal: bool = False) -> None:
    """End a command and all of its session: gently, and then, or after another ^C, by force."""
    if child.returncode is not None:
        # Its number may be that of another process.
        return
    try:
        _signal_session(child, signal.SIGTERM)
        if terminal:
            child.terminate()
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if child.returncode is None:
            _signal_session(child, signal.SIGKILL)
            if terminal:
                child.kill()


def _completed(argv: Sequence[str], child: _Child, stdout: str, stderr: str) -> Completed:
    if child.returncode:
        said = stdout[-STDERR_LIMIT:]
        raise CommandFailed(argv, child.returncode, stderr or said, said)
    return Completed(stdout, stderr)


def _signal_session(child: _Child, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _communicate(
    child: _Child,
    on_line: Callable[[str], None] | None = None,
    limit: int | None = None,
    given: str | None = None,
    seconds: float | None = None,
) -> tuple[str, str]:
    if on_line is None and limit is None:
        stdout, stderr = child.communicate(given, seconds)
        return stdout, stderr[-STDERR_LIMIT:]
    assert child.stdout is not None
    assert child.stderr is not None
    # The last lines are enough for the last characters.
    errors: deque[str] = deque(maxlen=STDERR_LIMIT)
    drain = threading.Thread(target=_drain, args=(child.stderr, errors), daemon=True)
    drain.start()
    stdout = ""
    if on_line is not None:
        for line in child.stdout:
            on_line(line.rstrip("\n"))
    elif limit is not None:
        stdout = child.stdout.read(limit + 1)
        if len(stdout) > limit:
            raise TooMuch
    drain.join()
    child.wait()
    return stdout, "".join(errors)[-STDERR_LIMIT:]


def _drain(pipe: IO[str], lines: deque[str]) -> None:
    # The pipe is closed when the command is given up.
    with contextlib.suppress(ValueError):
        lines.extend(pipe)
