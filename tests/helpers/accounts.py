"""Ordinary accounts of this machine, made for a test."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
PATH = f"/usr/local/bin:/usr/bin:/bin:{SBIN}"
# How often accounts are tried to be changed while others hold the lock of /etc/passwd.
LOCKED = 1500
# How long the processes of an account may take to end: keepers unmount when the last user has gone.
ENDING = 30.0

# A name that is used again could have processes of its last owner.
_numbers = itertools.count()


@dataclass(frozen=True)
class Account:
    """A user of this machine, with a home directory."""

    name: str
    uid: int
    gid: int
    home: Path

    @property
    def become(self) -> tuple[str, ...]:
        """What root writes before a command that this user shall run."""
        return ("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups")

    def start(
        self, *argv: str, environment: Mapping[str, str], before: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """Start a command in the home directory.

        Parameters: `environment` is added to a bare one, `before` are words that root writes
        before the command.
        """
        child: subprocess.Popen[str] = subprocess.Popen(
            [*before, *self.become, *argv],
            cwd=self.home,
            env={"PATH": PATH, "HOME": str(self.home), "USER": self.name, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            umask=0o022,
        )
        return child

    def run(
        self,
        *argv: str,
        environment: Mapping[str, str],
        before: Sequence[str] = (),
        status: int | None = 0,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; a status other than the expected one is an error.

        Parameters: as for `start`; `status` None allows any, `timeout` in seconds.
        """
        with self.start(*argv, environment=environment, before=before) as child:
            try:
                stdout, stderr = child.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                child.terminate()
                raise
        if status is not None and child.returncode != status:
            raise AssertionError(f"{argv}: status {child.returncode}\n{stdout}\n{stderr}")
        return subprocess.CompletedProcess(argv, child.returncode, stdout, stderr)


ROOT = Account("root", 0, 0, Path("/"))


@contextmanager
def accounts(place: Path, number: int, group: str = "") -> Iterator[list[Account]]:
    """Make accounts with homes in a directory that all can pass through; root alone can.

    Parameters: `group` is a further one of which all are members.
    """
    made: list[Account] = []
    try:
        for _ in range(number):
            made.append(_make(f"cnd{os.getpid()}n{next(_numbers)}", place / "home", group))
        yield made
    finally:
        for account in made:
            _end_processes(account.uid)
            _change("userdel", "--force", account.name)


@contextmanager
def group() -> Iterator[str]:
    """Make a group, and return its name."""
    name = f"cnd{os.getpid()}g{next(_numbers)}"
    _change("groupadd", name)
    try:
        yield name
    finally:
        _change("groupdel", name)


def _make(name: str, homes: Path, group: str) -> Account:
    home = homes / name
    groups = ["--groups", group] if group else []
    _change("useradd", "--no-create-home", "--home-dir", str(home), *groups, name)
    entry = pwd.getpwnam(name)
    home.mkdir(parents=True)
    shutil.chown(home, entry.pw_uid, entry.pw_gid)
    return Account(name, entry.pw_uid, entry.pw_gid, home)


def _change(*command: str) -> None:
    """Run a command that changes accounts; repeat it while another process has them locked."""
    for _ in range(LOCKED):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if "lock" not in done.stderr:
            break
        time.sleep(0.2)
    assert done.returncode == 0, done.stderr


def _end_processes(uid: int) -> None:
    """See an account's processes end, and end what does not.

    Without its account, fusermount3 refuses what a keeper still has to unmount.
    """
    start = time.monotonic()
    while left := _processes(uid):
        waited = time.monotonic() - start
        assert waited < 2 * ENDING, f"processes of {uid} do not end: {left}"
        if waited > ENDING:
            for number in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        time.sleep(0.05)


def _processes(uid: int) -> list[int]:
    """Return the processes of an account that can still end: the dead ones wait for init."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (directory / "stat").read_bytes().rpartition(b")")[2].split()[0]
            if directory.stat().st_uid == uid and state != b"Z":
                found.append(int(directory.name))
    return found
