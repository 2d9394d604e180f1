"""Who is using a package cache: each process that works with one locks a file in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# What is locked.
IN_USE = ".in-use"

_in_use: dict[Path, int] = {}


def use(root: Path) -> None:
    """Hold a package cache until this process ends."""
    if root in _in_use:
        return
    with suppress(OSError):
        # If nothing can be written or locked here, the first download says so.
        root.mkdir(0o755, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        _in_use[root] = os.open(root / IN_USE, flags, 0o600)
        fcntl.flock(_in_use[root], fcntl.LOCK_SH)


@contextmanager
def alone_in(root: Path) -> Iterator[bool]:
    """Hold a package cache without any other process meanwhile, and tell whether that worked.

    The caller has finished using it: another one may have had it in between.
    """
    descriptor = _in_use.get(root, -1)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Also without locks, or without a file to lock.
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
