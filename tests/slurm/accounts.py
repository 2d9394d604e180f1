"""Ordinary accounts of this machine, made for a test."""

from __future__ import annotations

import contextlib
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

from tests.slurm.settings import PATH

# How often an account is tried to be made while others hold the lock of /etc/passwd.
LOCKED = 50


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
        timeout: float = 120,
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
def accounts(place: Path, number: int) -> Iterator[list[Account]]:
    """Make accounts with homes in a directory that all can pass through; root alone can."""
    names = [f"cndslurm{os.getpid()}{letter}" for letter in "abcdefgh"[:number]]
    try:
        yield [_make(name, place / "home" / name) for name in names]
    finally:
        for name in names:
            with contextlib.suppress(KeyError):
                _end_processes(pwd.getpwnam(name).pw_uid)
            subprocess.run(["userdel", "--force", name], check=False, capture_output=True)


def _make(name: str, home: Path) -> Account:
    command = ["useradd", "--no-create-home", "--home-dir", str(home), name]
    for _ in range(LOCKED):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if "lock" not in done.stderr:
            break
        # Somebody else is making accounts, too.
        time.sleep(0.2)
    done.check_returncode()
    entry = pwd.getpwnam(name)
    home.mkdir(parents=True)
    shutil.chown(home, entry.pw_uid, entry.pw_gid)
    return Account(name, entry.pw_uid, entry.pw_gid, home)


def _end_processes(uid: int) -> None:
    """End what still runs for an account of ours."""
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if directory.stat().st_uid == uid:
                os.kill(int(directory.name), signal.SIGKILL)
