"""The limits of a package cache, kept by every build: what was used last stays.

They hold for what that very build has used as well, because a quota or a disk does. What can be
made of downloads goes before these, and what is too large by itself takes nothing else with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from condainer.package_cache import clean, in_use
from condainer.package_cache.archives import private_root
from condainer.package_cache.clean import Item
from condainer.settings.config import Settings
from condainer.system import quantities
from condainer.system.reporter import Reporter
from condainer.system.text import counted, human_size

# Where what is used and removed as one is two levels down.
DEEP = ("archives", "compiled", "git", "metadata")


def keep(settings: Settings, reporter: Reporter) -> None:
    """Remove what is too old or too much of the user's own package cache.

    While another build uses it, nothing is removed: that one does it at its end.
    """
    root = private_root(settings)
    with in_use.alone_in(root) as alone:
        removed = [item for item in _surplus(root, settings) if _is_removed(item)] if alone else []
    if removed:
        files, size = sum(item.files for item in removed), sum(item.size for item in removed)
        reporter.note(
            f"Removed {counted(files, 'files')}, {human_size(size)}, from {root}, which keeps "
            f"{settings.packages_max_size} in {settings.packages_max_files} files for "
            f"{settings.packages_older_than} (packages_max_size, …)"
        )


def _surplus(root: Path, settings: Settings) -> Iterator[Item]:
    max_size = quantities.size(settings.packages_max_size, "packages_max_size")
    age = quantities.age(settings.packages_older_than, "packages_older_than")
    oldest = time.time() - age
    size = files = 0
    for _, used, path in sorted(_pieces(root), reverse=True):
        item = clean.measured(path)
        more = size + item.size > max_size or files + item.files > settings.packages_max_files
        if more or used < oldest:
            yield item
        else:
            size, files = size + item.size, files + item.files


def _pieces(root: Path) -> Iterator[tuple[bool, float, Path]]:
    """Yield what a package cache holds, each of which is used as one.

    Before the path come whether it outranks what can be made of downloads, and the last use.
    """
    for name in clean.OURS:
        for path in _entries(root / name):
            for piece in _entries(path) if name in DEEP else (path,):
                yield name not in clean.SCRATCH, _last_use(piece), piece


def _entries(directory: Path) -> list[Path]:
    with suppress(OSError):
        return [directory / name for name in os.listdir(directory)]
    return []


def _last_use(path: Path) -> float:
    """Return when a file, or one in a directory, was written or read, as far as that is noted."""
    times = [0.0]
    for place in (path, *_entries(path)):
        with suppress(OSError):
            status = place.lstat()
            times += [status.st_mtime, 0.0 if place.is_dir() else status.st_atime]
    return max(times)


def _is_removed(item: Item) -> bool:
    with suppress(OSError):
        clean.delete(item.path)
        return True
    return False
