"""Private directories of running processes, and the removal of those whose process was killed."""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from condainer.startup.lease_files import this_boot as this_boot
from condainer.startup.lease_files import this_host as this_host
from condainer.system.files import lock_if_free, remove_tree, storage_errors

_until_exit = ExitStack()
# For programs that import the package: `cnd` itself skips this and calls leave().
atexit.register(_until_exit.close)


@dataclass(frozen=True)
class Claim:
    """What the name of a claimed directory says: its purpose, its host, and its process.

    `doing` is what that process does there, if that is known.
    """

    purpose: str
    host: str
    pid: int
    doing: str = ""


def read_claim(path: Path) -> Claim | None:
    """Return the claim in a directory's name, or None if it has none."""
    parts = path.name.rsplit(".", 3)
    if len(parts) != 4 or not re.fullmatch("[0-9]+", parts[2]):
        return None
    return Claim(parts[0], parts[1], int(parts[2]), parts[3].partition("-")[2])


@contextmanager
def claimed_directory(parent: Path, purpose: str, doing: str = "") -> Iterator[Path]:
    """Make a private directory, and remove it at the end.

    Its name is `<purpose>.<host>.<pid>.<random>`, with `-<doing>` where that is given. While this
    process lives it also holds a lock on the directory. Raises OSError when it cannot be made.
    """
    import tempfile

    prefix, suffix = f"{purpose}.{this_host()}.{os.getpid()}.", f"-{doing}" if doing else ""
    while True:
        path = Path(tempfile.mkdtemp(suffix, prefix, parent))
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        # Without locks, only the process's number shows that it lives.
        lock_if_free(descriptor)
        if path.is_dir():
            break
        # Another process reclaimed it in the moment before the lock.
        os.close(descriptor)
    try:
        yield path
    finally:
        remove_tree(path)
        os.close(descriptor)


@contextmanager
def working_directory(parent: Path, purpose: str) -> Iterator[Path]:
    """Make a claimed directory, and its parents; raises StorageError for what fails in it."""
    with storage_errors(f"work in {parent}"):
        parent.mkdir(parents=True, exist_ok=True)
        with claimed_directory(parent, purpose) as path:
            yield path


def directory_until_exit(parent: Path, purpose: str) -> Path:
    """Make a claimed directory that leave() removes; raises OSError."""
    return _until_exit.enter_context(claimed_directory(parent, purpose))


def leave() -> None:
    """Remove the directories of this process; its entry point calls this at the end."""
    _until_exit.close()


def reclaim(parent: Path) -> None:
    """Remove directories of this user that killed processes of this host have left.

    Both signs of life must be missing: the process may be in a container whose processes are not
    seen here, and on some file systems every process gets the lock. Other hosts' directories stay,
    because neither sign is seen here.
    """
    for path in parent.glob("*.*.*.*"):
        if has_ended(path):
            with suppress(OSError), held(path) as free:
                if free and path.lstat().st_uid == os.geteuid():
                    remove_tree(path)


def has_ended(path: Path) -> bool:
    """Tell whether a claim is of this host, and its process is not seen."""
    claim = read_claim(path)
    return claim is not None and claim.host == this_host() and not _is_alive(claim.pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


@contextmanager
def held(path: Path) -> Iterator[bool | None]:
    """Hold the lock of a claimed directory, and yield whether it was free; None without locks.

    Raises OSError if there is no directory.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield lock_if_free(descriptor)
    finally:
        os.close(descriptor)
