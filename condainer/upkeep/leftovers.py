"""Files that processes, mounts and projects leave in a cache and in the staging directory."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer.cache import leases, trash
from condainer.cache.entries import is_ours
from condainer.cache.leases import DAY, LEASES, LIVE, USE, USES
from condainer.cache.project_note import PROJECTS
from condainer.cache.project_register import Project
from condainer.cache.publish import QUARANTINE
from condainer.images.inventory import Mounts
from condainer.settings.config import STAGE
from condainer.system.files import is_private_directory, remove_tree
from condainer.system.private_directory import claimed_directory, has_ended, held, read_claim

# How long a directory may stay unchanged before it is abandoned, in seconds, if its process is of
# another host, or its number was used again: no build takes so long.
ABANDONED = 7 * DAY
# How long damaged entries are kept for investigation, in seconds.
KEPT = 30 * DAY
# The purpose of directories in which something is being deleted.
COLLECTED = "collected"
# A mount point.
PREFIX = re.compile(r"condainer-[0-9a-f]{32}")
# How many files are looked at to find out when one of them changed.
MANY = 200_000


@dataclass(frozen=True)
class Leftover:
    """A path that nobody needs, what it was, and its size in bytes."""

    path: Path
    what: str
    size: int = 0

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        return {"path": str(self.path), "what": self.what, "size": self.size}


def survey(path: Path, enough: float) -> tuple[float, int]:
    """Return when something last changed in a directory or file, and its size in bytes.

    Parameters: the first change after `enough` is as good as the last.
    """
    newest, size, left = 0.0, 0, [os.fspath(path)]
    for _ in range(MANY):
        if not left or newest > enough:
            return newest, size
        place = left.pop()
        with suppress(OSError):
            status = os.lstat(place)
            newest = max(newest, status.st_mtime, status.st_ctime)
            size += status.st_blocks * 512
            if stat.S_ISDIR(status.st_mode):
                with os.scandir(place) as listing:
                    left += [item.path for item in listing]
    # Too many files: it counts as changed.
    return enough + 1, size


def size_of(path: Path) -> int:
    """Return the bytes that a directory or file takes."""
    return survey(path, float("inf"))[1]


def abandoned(place: Path, now: float, purpose: str = "") -> Iterator[Leftover]:
    """Yield what processes that were killed left in a directory for private ones.

    Parameters: `now` is the time of its file system, in seconds; `purpose`, if there is one, is
    the purpose of the claims that count, because others use the directory, too.
    """
    for path in _paths(place):
        claim = read_claim(path)
        if purpose and (claim is None or claim.purpose != purpose):
            continue
        with suppress(OSError):
            status = path.lstat()
            if not is_ours(status.st_uid):
                continue
            if is_abandoned(path, now):
                yield Leftover(path, "left by a process that was killed", size_of(path))


def is_abandoned(path: Path, now: float) -> bool:
    """Tell whether a claim's process has ended and its lock is free, or nothing changes there."""
    if has_ended(path):
        with suppress(OSError), held(path) as free:
            if free is True:
                return True
    return survey(path, now - ABANDONED)[0] <= now - ABANDONED


def at_prefixes(base: Path, now: float, mounts: Mounts) -> Iterator[Leftover]:
    """Yield what killed builds left at mount points, where they stage without user namespaces.

    A mount point that is not mounted should be empty.
    """
    for path in _paths(base):
        name = PREFIX.fullmatch(path.name)
        if name and is_private_directory(path) and not mounts.has(path) and _paths(path):
            newest, size = survey(path, now - ABANDONED)
            if newest <= now - ABANDONED:
                yield Leftover(path, "left by a process that was killed", size)


def quarantined(root: Path, now: float) -> Iterator[Leftover]:
    """Yield the damaged entries that nobody looked into for long enough."""
    for damaged in trash.content(root, QUARANTINE):
        if now - damaged.since > KEPT and is_ours(damaged.owner):
            yield Leftover(damaged.path, "damaged", size_of(damaged.path))


def notes(root: Path, addresses: set[str], gone: list[Project], now: float) -> Iterator[Leftover]:
    """Yield the notes that no longer count: of mounts, of uses, of projects.

    Parameters: `addresses` are those that the cache has, `gone` the projects that do not exist.
    """
    for path in _paths(root / LEASES):
        if _age(path, now) > LIVE:
            yield Leftover(path, "lease of a mount that ended")
    for path in _paths(root / USES):
        match = USE.fullmatch(path.name)
        if match and match[1] not in addresses and _age(path, now) > DAY:
            yield Leftover(path, "use of an image that is gone")
    for project in gone:
        yield Leftover(project.note, "project that is gone")
    for path in _paths(root / PROJECTS):
        # What a process that was killed had not published yet.
        if re.fullmatch(r"\..*", path.name) and _age(path, now) > DAY:
            yield Leftover(path, "left by a process that was killed")


def _paths(place: Path) -> list[Path]:
    return [place / name for name in trash.names(place)]


def _age(path: Path, now: float) -> float:
    """Return the age of a regular file in seconds, 0 for anything else."""
    with suppress(OSError):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            return now - leases.seen(status)
    return 0.0


def clear(leftover: Leftover, workshop: Path) -> bool:
    """Delete a leftover, and tell whether we did: another process may delete it or use it again.

    Parameters: `workshop` is a directory for private ones, on the same file system.
    """
    path = leftover.path
    try:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            path.unlink()
            return True
        with held(path) as free:
            if free is False:
                return False
            return discard(path, workshop)
    except OSError:
        return False


def discard(path: Path, workshop: Path) -> bool:
    """Delete a directory by way of a private one, so that only one collection does; was it us?"""
    purpose = STAGE if path.name.startswith(f"{STAGE}.") else COLLECTED
    try:
        with claimed_directory(workshop, purpose) as aside:
            os.rename(path, aside / "it")
            remove_tree(aside / "it")
            return not (aside / "it").exists()
    except OSError:
        return False
