"""What a package cache holds, all of which can be made or downloaded again, and its removal."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer.package_cache.archives import UNPACKED, private_root
from condainer.package_cache.in_use import IN_USE
from condainer.settings.config import STAGE, Settings
from condainer.system.errors import StorageError
from condainer.system.files import remove_tree, storage_errors
from condainer.system.private_directory import has_ended, held, reclaim

# What builds leave that the downloaded packages give again, without a connection.
SCRATCH = (UNPACKED, "uv", "interpreters")
# All that we keep in a package cache. Other things there stay.
OURS = (
    *SCRATCH,
    "archives",
    "builds",
    "certificates.pem",
    "compiled",
    "git",
    "metadata",
    "repodata",
)


@dataclass(frozen=True)
class Item:
    """A directory or file that can go: how many files it has, and their size in bytes."""

    path: Path
    files: int
    size: int

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        return {"path": str(self.path), "files": self.files, "size": self.size}


def removable(settings: Settings, packages: bool) -> list[Item]:
    """Return what can be removed of the user's own package cache, and what killed builds left.

    Parameters: with `packages`, all of the cache, otherwise what needs no connection to be made
    again.
    """
    root = private_root(settings)
    # Only builds put this there.
    names = (OURS if packages else SCRATCH) if (root / IN_USE).is_file() else ()
    paths = [root / name for name in sorted(names) if os.path.lexists(root / name)]
    staging = settings.staging_directory
    paths += [path for path in sorted(staging.glob(f"{STAGE}.*")) if _is_left(path)]
    return [measured(path) for path in paths]


def remove(items: list[Item], settings: Settings) -> None:
    """Remove what removable() has found.

    Raises StorageError while a build of this user works with the package cache.
    """
    root = private_root(settings)
    if (root / IN_USE).is_file():
        with storage_errors(f"clean {root}"):
            descriptor = os.open(root / IN_USE, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for item in items:
                    if item.path.parent == root:
                        delete(item.path)
            except BlockingIOError:
                raise StorageError(
                    f"A build is using {root}", "Run `cnd clean` again when it has ended."
                ) from None
            finally:
                os.close(descriptor)
    reclaim(settings.staging_directory)


def _is_left(path: Path) -> bool:
    with suppress(OSError):
        if has_ended(path) and path.lstat().st_uid == os.geteuid():
            with held(path) as free:
                return bool(free)
    return False


def delete(path: Path) -> None:
    """Remove a file, or a directory with all that is in it; raises OSError."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def measured(path: Path) -> Item:
    """Return a directory or file with the number and the size of its files."""
    if not path.is_dir() or path.is_symlink():
        with suppress(OSError):
            return Item(path, 1, path.lstat().st_size)
        return Item(path, 0, 0)
    files = size = 0
    left = [os.fspath(path)]
    while left:
        with suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                    continue
                with suppress(FileNotFoundError):
                    size += entry.stat(follow_symlinks=False).st_size
                    files += 1
    return Item(path, files, size)
