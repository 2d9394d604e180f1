"""The trash of a cache: whole directories go in by one rename, and come back by another."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from condainer.cache import entries, leases, publish
from condainer.cache.entries import Entry
from condainer.cache.publish import TRASH
from condainer.lock.address import Address
from condainer.settings.config import Settings
from condainer.system.errors import CollisionError
from condainer.system.files import make_directory, sync_directory

NAME = re.compile(r"([0-9a-f]{32})\.[0-9]{8}T[0-9]{6}\.[0-9]{6}Z")


@dataclass(frozen=True)
class Thrown:
    """A directory in the trash; `since` is when it came there, by the file system's clock."""

    address: str
    path: Path
    owner: int
    since: float


def content(root: Path, where: str = TRASH) -> Iterator[Thrown]:
    """Yield what lies in the trash, or in the quarantine, of a cache, the oldest first."""
    for name in names(root / where):
        match = NAME.fullmatch(name)
        with suppress(OSError):
            status = (root / where / name).lstat()
            if match is not None and stat.S_ISDIR(status.st_mode):
                yield Thrown(match[1], root / where / name, status.st_uid, status.st_ctime)


def names(place: Path) -> list[str]:
    """Return the names in a directory, in order; a link, or what cannot be read, has none."""
    with suppress(OSError):
        if not place.is_symlink():
            return sorted(os.listdir(place))
    return []


def throw(directory: Path, root: Path) -> Path:
    """Move an entry into the trash; the caller makes that durable. Raises OSError."""
    target = publish.move_aside(directory, root, TRASH)
    with suppress(OSError):
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # Sets the time of the move, which a rename does not on every file system.
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode))
        finally:
            os.close(descriptor)
    return target


def put_back(path: Path, root: Path) -> Path | None:
    """Move an entry out of the trash to its place; None if that is no longer possible."""
    address = entries.address_in(path)
    with suppress(OSError):
        parent = entries.entry_directory(root, address).parent
        make_directory(parent, stat.S_IMODE((root / "images").stat().st_mode))
        for place in entries.places(root, address):
            # A rename would replace an empty directory.
            if os.path.lexists(place):
                continue
            os.rename(path, place)
            sync_directory(parent)
            return place
    return None


def restored(address: Address, settings: Settings) -> Entry | None:
    """Take the entry of an address back from the trash, if it is whole and we may move it.

    It has to pass the same look-up as any other entry; one of another canonical text stays.
    """
    root = settings.cache_directory
    for thrown in content(root):
        if thrown.address != address.digest or not entries.is_ours(thrown.owner):
            continue
        entry = entries.read_entry(thrown.path)
        if entry is None or entry.manifest.recipe_sha256 != address.sha256:
            continue
        if put_back(thrown.path, root) is not None:
            leases.use(root, address.digest)
            with suppress(CollisionError):
                return entries.look_up(address, settings)
    return None
