"""Who uses which image of a cache, on any node: leases of mounts, and times of use.

Both are small files that their users own; cache_layout.md describes them. Nothing here fails:
a cache that cannot be written, or that has no place for them, is used without.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from condainer.startup import lease_files
from condainer.startup.lease_files import LEASES as LEASES
from condainer.startup.lease_files import USES as USES
from condainer.system.files import user_name
from condainer.system.private_directory import read_claim
from condainer.system.text import printable

# How often the keeper of a mount refreshes its lease, in seconds.
REFRESH = 300.0
# How long a lease counts after it was last refreshed: some file systems take times from their
# clients, whose clocks may be an hour off.
LIVE = 2 * 3600.0
# How old a file of use may become before a refresh touches it.
DAY = 86400.0

use = lease_files.use

ADDRESS = re.compile(r"[0-9a-f]{32}")
USE = re.compile(r"([0-9a-f]{32})\.[0-9]+")


@dataclass(frozen=True)
class Lease:
    """A mount of an image: where, whose, and when it was last known to live.

    `host` also names the boot; `user` is a number.
    """

    address: str
    host: str
    pid: int
    user: int
    refreshed: float

    def __str__(self) -> str:
        return printable(f"{user_name(self.user)} on {self.node}")

    @property
    def node(self) -> str:
        """The name of the host, without its boot."""
        return self.host.rpartition("-")[0] or self.host

    def report(self) -> dict[str, object]:
        """Return what `--json` prints of it."""
        return {
            "host": self.node,
            "user": user_name(self.user),
            "process": self.pid,
            "refreshed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.refreshed)),
        }


def take(root: Path, address: str) -> Path | None:
    """Say that this process, or the keeper that it starts, uses an image; return the lease.

    None where the cache has no place for leases or cannot be written. Never raises OSError.
    """
    path = lease_files.take(str(root), address)
    return Path(path) if path else None


def refresh(path: Path) -> None:
    """Say that the mount of a lease still lives; a lease that was deleted is made again."""
    root, address = _subject(path)
    with suppress(OSError):
        try:
            # Not our own time: the clock of the file server counts.
            os.utime(path, follow_symlinks=False)
        except FileNotFoundError:
            lease_files.make(str(path.parent), path.name)
        now = path.lstat().st_mtime
        if now - _time_of(root / USES / lease_files.use_name(address)) > DAY:
            use(root, address)


def end(path: Path) -> None:
    """Take back a lease: the mount has gone just now."""
    root, address = _subject(path)
    use(root, address)
    with suppress(OSError):
        path.unlink()


def live(root: Path, now: float) -> dict[str, list[Lease]]:
    """Return the leases of a cache that count, by address.

    Parameters: `now` is the time of the cache's file system, in seconds. Only the age of a lease
    counts: processes of other nodes cannot be seen, and the numbers of ours are used again.
    """
    leases: dict[str, list[Lease]] = {}
    for name, status in _files(root / LEASES):
        claim = read_claim(Path(name))
        if claim is not None and ADDRESS.fullmatch(claim.purpose):
            refreshed = seen(status)
            if now - refreshed < LIVE:
                lease = Lease(claim.purpose, claim.host, claim.pid, status.st_uid, refreshed)
                leases.setdefault(claim.purpose, []).append(lease)
    return leases


def last_uses(root: Path) -> dict[str, float]:
    """Return when each image of a cache was last used by anybody who noted it."""
    return {address: max(by_user.values()) for address, by_user in users(root).items()}


def users(root: Path) -> dict[str, dict[int, float]]:
    """Return who noted to use each image of a cache, by their numbers, and when last."""
    uses: dict[str, dict[int, float]] = {}
    for name, status in _files(root / USES):
        match = USE.fullmatch(name)
        if match is not None:
            by_user = uses.setdefault(match[1], {})
            by_user[status.st_uid] = max(by_user.get(status.st_uid, 0.0), seen(status))
    return uses


def seen(status: os.stat_result) -> float:
    """Return when a note was last touched, by its owner."""
    # An owner can give a file a time in the future, but not a ctime.
    return min(status.st_mtime, status.st_ctime)


def _files(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the names and states of the regular files in a directory, which need not exist."""
    with suppress(OSError), ExitStack() as held:
        place = lease_files.opened_directory(directory)
        held.callback(os.close, place)
        for item in held.enter_context(os.scandir(place)):
            with suppress(OSError):
                status = item.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield item.name, status


def _subject(path: Path) -> tuple[Path, str]:
    """Return the cache and the address that a lease belongs to."""
    return path.parent.parent, path.name.partition(".")[0]


def _time_of(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0
