"""What an argument of `cnd show` and `cnd diff` names: an entry, an image file, or a lockfile."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash

from condainer.cache import entries, names, squashfs
from condainer.cache.papers import PLATFORM
from condainer.images import inventory
from condainer.images.inventory import Item
from condainer.images.notes import read_records
from condainer.lock import conda_lock, rattler_lock
from condainer.lock.address import address_of, prefix_of
from condainer.lock.contents import (
    Contents,
    Difference,
    changes_report,
    contents_of,
    contents_of_recipe,
)
from condainer.lock.explicit import LARGEST, parse_explicit
from condainer.lock.lock_paths import LOCKFILE, RATTLER_LOCKS, lockfile_path
from condainer.lock.locks import Lock
from condainer.settings.config import Settings
from condainer.settings.load import of_environment
from condainer.solve.lock_state import demanded
from condainer.system.errors import LockfileError, NotBuiltError
from condainer.system.files import open_regular, read_text, storage_errors
from condainer.system.machine import this_platform

SQUASHFS = b"hsqs"


@dataclass(frozen=True)
class Subject:
    """An environment that an argument names: its address, its content, and where it was read.

    `item` is its place in a cache; None for an image or a lockfile outside of any.
    """

    kind: str
    source: Path
    address: str
    contents: Contents
    item: Item | None = None

    @property
    def prefix(self) -> Path:
        """The mount point of its image."""
        return prefix_of(self.address, self.contents.base)

    def report(self) -> dict[str, Any]:
        """Return what `cnd show --json` prints."""
        contents = self.contents
        return {
            **({} if self.item is None else self.item.report()),
            **self.reference(),
            "prefix": str(self.prefix),
            "platform": contents.platform,
            "post_link_scripts": contents.post_link_scripts,
            "packages": [asdict(package) for package in contents.packages],
            "variables": dict(contents.variables),
        }

    def reference(self) -> dict[str, str]:
        """Return its kind, source and address."""
        return {"kind": self.kind, "source": str(self.source), "address": self.address}


def difference_report(old: Subject, new: Subject, difference: Difference) -> dict[str, Any]:
    """Return what `cnd diff --json` prints."""
    return {"old": old.reference(), "new": new.reference(), **changes_report(difference)}


def subject_of(text: str | None, settings: Settings, base: Path) -> Subject:
    """Return what an argument names: an environment of the project, else, if digits, an address.

    Otherwise it is a path if that exists, else the name of an image; None is the project itself.
    Parameters: `base` is the directory from which paths are relative. Raises NotBuiltError for
    what names nothing, LockfileError and IntegrityError for files that are not what they should be.
    """
    if text is None:
        return _of_environment(settings)
    if text in dict(settings.environments):
        return _of_environment(of_environment(settings, text).of_user())
    path = base / text
    if names.DIGITS.fullmatch(text) or not text or not path.exists():
        return _of_item(inventory.named(text, settings)[0])
    directory = path if path.is_dir() else path.parent
    if path.is_dir() or path.name in (entries.IMAGE, entries.MANIFEST, entries.LOCK):
        item = _entry_at(directory.resolve())
        if item is not None:
            return _of_item(item)
    if path.is_dir():
        raise NotBuiltError(
            f"{path} holds no whole image of a cache", "Name an entry of a cache, or a file."
        )
    if _is_image(path):
        text = squashfs.read_recipe(path, settings)
        contents = contents_of_recipe(text, str(path))
        return Subject("image", path, xxhash.xxh3_128_hexdigest(text.encode()), contents)
    return _of_lockfile(path, read_lock(path), settings)


def _of_environment(settings: Settings) -> Subject:
    """Return the image of an environment's lock, current or not; the lock itself without one."""
    if settings.address is not None:
        return _of_item(inventory.named(settings.address, settings)[0])
    lock = demanded(settings, "lock")
    address = address_of(lock, settings.mount_base_directory)
    entry = entries.look_up(address, settings)
    item = _entry_at(entry.directory) if entry is not None else None
    if item is not None:
        return _of_item(item)
    return _of_lockfile(lockfile_path(settings, lock.platform), lock, settings)


def _entry_at(directory: Path) -> Item | None:
    """Return the entry that a directory is; one that stands alone belongs to no cache of ours."""
    root = entries.root_of(directory)
    records = read_records(root, time.time(), inventory.PATIENCE)
    item = inventory.read_item(root, directory, inventory.Mounts(), records)
    return item if item.entry is not None else None


def _of_item(item: Item) -> Subject:
    if item.entry is None:
        raise NotBuiltError(
            f"{item.directory} is not whole, or was made by a later version",
            "The next `cnd build` of its lock builds it again; `cnd rm` removes what is left.",
        )
    contents = contents_of(read_lock(item.entry.explicit_lock), item.entry.prefix.parent)
    return Subject("entry", item.directory, item.address, contents, item)


def _is_image(path: Path) -> bool:
    if not path.is_file():
        # read_text() refuses devices and pipes, which would keep us waiting.
        return False
    with storage_errors(f"read {path}"), open_regular(path) as stream:
        return stream.read(len(SQUASHFS)) == SQUASHFS


def _of_lockfile(path: Path, lock: Lock, settings: Settings) -> Subject:
    address = address_of(lock, settings.mount_base_directory)
    return Subject("lockfile", path, address.digest, contents_of(lock, address.base))


def read_lock(path: Path) -> Lock:
    """Read a lockfile of any platform, only to show it."""
    if path.suffix in (".yml", ".yaml"):
        return conda_lock.read(path, this_platform())
    if path.name in RATTLER_LOCKS:
        return rattler_lock.read(path, this_platform())
    with storage_errors(f"read {path}"):
        try:
            text = read_text(path, "utf-8-sig", limit=LARGEST)
        except UnicodeDecodeError:
            raise LockfileError(
                f"{path}: neither an image nor a lockfile", "Name an image or a lockfile."
            ) from None
    header = PLATFORM.search(text)
    name = LOCKFILE.fullmatch(path.name)
    platform = header[1] if header else name["platform"] if name else this_platform()
    return parse_explicit(text, str(path), platform)
