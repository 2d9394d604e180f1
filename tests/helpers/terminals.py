"""Programs on terminals of their own."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.projects import Project
from tests.helpers.waiting import PATIENCE, until


class Terminal:
    """A program on a terminal of its own, and what the screen shows."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], place: Path) -> None:
        self.shown = ""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(place)
                os.execvpe(argv[0], list(argv), dict(environment))
            finally:
                os._exit(127)

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def wait_for(self, pattern: str) -> str:
        """Return what matched, and forget what was shown until there."""
        match = self._shows(pattern, PATIENCE)
        assert match, f"{pattern!r} is not in {self.shown!r}"
        self.shown = self.shown[match.end() :]
        return match[0]

    def type_until(self, text: str, pattern: str) -> str:
        """Type something again and again until something is shown, as wait_for() does."""

        def shown() -> object:
            self.type(text)
            return self._shows(pattern, 1)

        until(shown, f"{pattern!r} is not shown")
        return self.wait_for(pattern)

    def wait_for_sleep(self) -> None:
        """Wait until the program waits: for what is typed, if it has nothing else to wait for."""
        status = Path(f"/proc/{self.pid}/stat")
        until(lambda: status.read_text().rpartition(") ")[2][0] == "S", "the program does not wait")

    def _shows(self, pattern: str, seconds: float) -> re.Match[str] | None:
        """Read until something is shown, for so long."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.shown)):
            left = max(0, end - time.monotonic())
            if not select.select([self.descriptor], [], [], left)[0]:
                return None
            try:
                self.shown += os.read(self.descriptor, 4096).decode(errors="replace")
            except OSError:
                pytest.fail(f"ended without {pattern!r}: {self.shown!r}")
        return match

    def end(self) -> int:
        """Read until the program has ended, and return its status."""
        try:
            while os.read(self.descriptor, 4096):
                pass
        except OSError:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def terminal(project: Project, *argv: str) -> Iterator[Terminal]:
    environment = {**project.environment, "TERM": "dumb", "HOME": str(project.path.parent)}
    environment.update(SHELL="/bin/bash", PS1="$ ", PYTHON_BASIC_REPL="1")
    running = Terminal(argv, environment, project.path)
    try:
        yield running
    finally:
        try:
            os.kill(running.pid, signal.SIGKILL)
            os.waitpid(running.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(running.descriptor)


def session(argv: Sequence[str], environment: Mapping[str, str], place: Path, text: str) -> str:
    """Type something into a shell on a terminal until it ends; return what the screen shows."""
    running = Terminal(argv, environment, place)
    shown = b""
    try:
        while True:
            # A shell that begins to read throws away what was typed before.
            while not select.select([running.descriptor], [], [], 1 if shown else PATIENCE)[0]:
                running.type(text)
            if not (chunk := os.read(running.descriptor, 4096)):
                break
            if not shown:
                running.type(text)
            shown += chunk
    except OSError:
        # The terminal is gone with the shell.
        pass
    os.waitpid(running.pid, 0)
    os.close(running.descriptor)
    return shown.decode()
