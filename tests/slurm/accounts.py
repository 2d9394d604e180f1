"""Ordinary accounts of this machine, made for a test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Account:
    """A user of this machine, with a home directory."""

    name: str
    uid: int
    gid: int
    home: Path


@contextmanager
def accounts(place: Path, number: int) -> Iterator[list[Account]]:
    """Make accounts with homes in a directory that all can pass through; root alone can."""
    names = [f"cndslurm{os.getpid()}{letter}" for letter in "abcdefgh"[:number]]
    try:
        yield [_make(name, place / "home" / name) for name in names]
    finally:
        for name in names:
            subprocess.run(["userdel", name], check=False, capture_output=True)


def _make(name: str, home: Path) -> Account:
    subprocess.run(["useradd", "--no-create-home", "--home-dir", str(home), name], check=True)
    entry = pwd.getpwnam(name)
    home.mkdir(parents=True)
    shutil.chown(home, entry.pw_uid, entry.pw_gid)
    return Account(name, entry.pw_uid, entry.pw_gid, home)
