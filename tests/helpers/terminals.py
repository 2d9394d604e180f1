"""Programs on terminals of their own."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.helpers.projects import Project


class Terminal:
    """A program on a terminal of its own, and what the screen shows."""

    def __init__(self, project: Project, argv: list[str]) -> None:
        environment = {**project.environment, "TERM": "dumb", "HOME": str(project.path.parent)}
        environment.update(SHELL="/bin/bash", PS1="$ ", PYTHON_BASIC_REPL="1")
        self.shown = ""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(project.path)
                os.execvpe(argv[0], argv, environment)
            finally:
                os._exit(127)

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def wait_for(self, pattern: str, seconds: float = 20) -> str:
        """Return what matched, and forget what was shown until there."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.shown)):
            ready, _, _ = select.select([self.descriptor], [], [], max(0, end - time.monotonic()))
            assert ready, f"{pattern!r} is not in {self.shown!r}"
            try:
                self.shown += os.read(self.descriptor, 4096).decode(errors="replace")
            except OSError:
                pytest.fail(f"ended without {pattern!r}: {self.shown!r}")
        self.shown = self.shown[match.end() :]
        return match[0]

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
    running = Terminal(project, list(argv))
    try:
        yield running
    finally:
        try:
            os.kill(running.pid, signal.SIGKILL)
            os.waitpid(running.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(running.descriptor)
