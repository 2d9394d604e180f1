"""Downloaded files in the package caches: looked up, checked, and published.

`archives/<aa>/<sha256>/<file>` holds conda archives, wheels and sdists. Every file is checked
against its hash before each use, so it does not matter who put it there; what is read again after
that is read from where no other user can change it.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from condainer.settings.config import Settings, user_cache
from condainer.system.errors import IntegrityError, LockfileError
from condainer.system.files import make_directory, published_file, sha256_of
from condainer.system.mount_table import is_on_network
from condainer.system.private_directory import claimed_directory, reclaim

# What the private directories are called in which files are downloaded.
PARTIAL = "download"
# Where the engine unpacks conda packages in a package cache.
UNPACKED = "unpacked"
OTHERS = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class File:
    """A file that a lock names: its URL, its sha256, and the URLs to ask for it, in order."""

    url: str
    sha256: str
    filename: str
    places: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.filename in ("", ".", "..") or set(self.filename) & set("/\0\n"):
            raise LockfileError(f"{self.url}: a URL without a usable file name")


def path_in(root: Path, file: File) -> Path:
    """Return where a file stands in a package cache."""
    return root / "archives" / file.sha256[:2] / file.sha256 / file.filename


def roots(settings: Settings) -> tuple[Path, ...]:
    """Return the package caches in the order in which they are looked into."""
    caches = (*settings.readonly_package_caches, settings.package_cache, private_root(settings))
    return tuple(dict.fromkeys(caches))


def find(file: File, settings: Settings) -> Path | None:
    """Return a file whose bytes have the hash of the lock, from the first cache that has one."""
    candidates = (path_in(root, file) for root in roots(settings))
    path = next((path for path in candidates if _is_good(path, file.sha256)), None)
    if path is not None:
        note_use(path)
    return path


def note_use(path: Path) -> None:
    """Note in the times of a file or directory that it is used: limits removes what is not.

    Reading need not do so, and of a directory, any search through it would.
    """
    now = time.time_ns()
    with suppress(OSError):
        os.utime(path, ns=(now, now if path.is_dir() else path.stat().st_mtime_ns))


def _is_good(path: Path, sha256: str) -> bool:
    try:
        # What stands there can be anything; a FIFO would keep the reader waiting.
        return path.is_file() and sha256_of(path) == sha256
    except OSError:
        return False


def private_root(settings: Settings) -> Path:
    """Return the package cache for what no hash of a lock vouches for: unpacked files and indexes.

    That is `package_cache`, unless others can write there.
    """
    shared = is_shared(settings.package_cache)
    return user_cache() / "packages" if shared else settings.package_cache


def keeps_unpacked(settings: Settings) -> bool:
    """Tell whether unpacked packages stay for the next build, or go with the one that needs them.

    They are many small files, which home directories and file systems of servers have no room for.
    """
    if settings.unpacked != "auto":
        return settings.unpacked == "keep"
    root, home = os.path.realpath(private_root(settings)), os.path.expanduser("~")
    # A service may have none, or all of the file system.
    at_home = home.strip("/~") and root.startswith(f"{os.path.realpath(home)}/")
    return not at_home and not is_on_network(Path(root))


def is_shared(root: Path) -> bool:
    """Tell whether a package cache belongs to a group, or to another user."""
    try:
        status = root.stat()
    except OSError:
        return False
    return status.st_uid != os.geteuid() or bool(status.st_mode & OTHERS)


def held(path: Path, sha256: str, settings: Settings) -> Path:
    """Return an archive that stays as it was checked, to be read again.

    One that others can replace or write is copied into the user's own package cache. Raises
    IntegrityError when it does not have its hash any more, OSError.
    """
    if not any(_is_others(place) for place in (path, *path.parents[:4])):
        return path
    root = private_root(settings)
    copy = root / path.relative_to(path.parents[3])
    if copy == path or _is_good(copy, sha256):
        return copy
    with partials(root) as directory:
        draft = directory / path.name
        shutil.copyfile(path, draft)
        if not _is_good(draft, sha256):
            raise IntegrityError(
                f"{path} was changed after it was checked: its sha256 is no longer {sha256}",
                "Ask the owner of that package cache, or name another (`package_cache:`).",
            )
        draft.chmod(0o644)
        copy.parent.mkdir(parents=True, exist_ok=True)
        os.replace(draft, copy)
    return copy


def _is_others(path: Path) -> bool:
    status = path.stat()
    return status.st_uid not in (0, os.geteuid()) or bool(status.st_mode & OTHERS)


def writable_root(settings: Settings) -> Path:
    """Return the package cache into which files are downloaded."""
    root = settings.package_cache
    # A group's may be for reading only.
    return private_root(settings) if is_shared(root) and not os.access(root, os.W_OK) else root


@contextmanager
def partials(root: Path) -> Iterator[Path]:
    """Make a private directory in a package cache for what is being downloaded; raises OSError."""
    root.mkdir(0o755, parents=True, exist_ok=True)
    reclaim(root)
    with claimed_directory(root, PARTIAL) as directory:
        yield directory


def publish_directory(draft: Path, target: Path) -> None:
    """Move a directory to its place; one that another process put there is as good."""
    try:
        os.rename(draft, target)
    except OSError:
        if not target.is_dir():
            raise


def publish(partial: Path, file: File, settings: Settings) -> Path:
    """Move a file that was checked to its place, and return that; raises OSError."""
    root = partial.parent.parent
    target = path_in(root, file)
    mode = stat.S_IMODE(root.stat().st_mode)
    partial.chmod(mode & 0o444 if is_shared(root) else 0o644)
    try:
        make_directory(target.parent, mode)
        os.replace(partial, target)
    except PermissionError:
        private = private_root(settings)
        if root == private:
            raise
        # Another member's damaged file stands there, and the directory is sticky.
        target = path_in(private, file)
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("rb") as source, published_file(target) as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    return target
