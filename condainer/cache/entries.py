"""The entries of a cache: where they are, and how they are looked up; see cache_layout.md."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from condainer.lock import explicit
from condainer.lock.address import Address, stated_address
from condainer.lock.explicit import parse_explicit
from condainer.lock.locks import Lock
from condainer.settings.config import PROJECT_FILE, Settings
from condainer.system.errors import CollisionError, NotBuiltError
from condainer.system.files import read_bytes, read_small, read_text, storage_errors
from condainer.system.machine import this_platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1
IMAGE = "image.squashfs"
MANIFEST = "manifest.json"
LOCK = "explicit.lock"
# Places of one entry: more than one only where members' incomplete entries pile up.
PLACES = 10
# No manifest of ours is as large, in bytes.
LARGEST = 1 << 20
# Nor a lock.
LARGEST_LOCK = explicit.LARGEST
# The name of an entry's directory.
ENTRY = re.compile(r"[0-9a-f]{32}(\.[0-9])?")


@dataclass(frozen=True)
class Manifest:
    """What is recorded of an image beside it: who made it, how, and the digests of its bytes."""

    address: str
    recipe_sha256: str
    prefix: str
    name: str
    size: int
    sha256: str
    xxh3: str
    tree_sha256: str
    compressor: str
    compression_level: int
    builder: str
    host: str
    created: str
    tools: dict[str, str]
    format: int = FORMAT
    built_from_source: list[str] = field(default_factory=list)


# What reading gives where something else than a file stands; other errors may pass.
NO_FILE = (errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENOTDIR, errno.EFBIG)
# What parse_manifest() raises.
UNREADABLE = (ValueError, TypeError, KeyError, RecursionError)
# The type of each value in a manifest, by name; anybody can have written one.
KINDS = {item.name: str(item.type).partition("[")[0] for item in fields(Manifest)}


@dataclass(frozen=True)
class Entry:
    """An image in a cache, found or just published."""

    address: str
    directory: Path
    manifest: Manifest

    @property
    def image(self) -> Path:
        """The squashfs file."""
        return self.directory / IMAGE

    @property
    def root(self) -> Path:
        """The cache that holds the entry."""
        return root_of(self.directory)

    @property
    def explicit_lock(self) -> Path:
        """The lock from which the image was built."""
        return self.directory / LOCK

    @property
    def prefix(self) -> Path:
        """The mount point that is baked into the image's files."""
        return Path(self.manifest.prefix)


def roots(settings: Settings) -> tuple[Path, ...]:
    """Return the caches, each once, in the order of look-ups."""
    return tuple(dict.fromkeys((*settings.readonly_caches, settings.cache_directory)))


def is_ours(owner: int) -> bool:
    """Tell whether what belongs to a user is ours to move or delete."""
    return os.geteuid() in (0, owner)


def entry_directory(root: Path, digest: str) -> Path:
    """Return where the entry of an address stands in a cache."""
    return root / "images" / digest[:2] / digest


def address_in(directory: Path) -> str:
    """Return the address that the name of an entry's directory states."""
    return directory.name.partition(".")[0]


def root_of(directory: Path) -> Path:
    """Return the cache of an entry's directory."""
    # Not parents[2], which a directory near the root does not have.
    return directory.parent.parent.parent


def places(root: Path, digest: str) -> list[Path]:
    """Return all places of an entry: its own, and those beside one that nobody may clear."""
    first = entry_directory(root, digest)
    return [first, *(first.with_name(f"{digest}.{number}") for number in range(1, PLACES))]


def _look_into(root: Path, digest: str) -> Entry | None:
    for place in places(root, digest):
        entry = read_entry(place)
        if entry is not None or not os.path.lexists(place):
            return entry
    return None


def look_up(address: Address, settings: Settings) -> Entry | None:
    """Return the entry of an address, or None if no cache has it, for any reason.

    Raises CollisionError if the entry was made from another canonical text.
    """
    for root in roots(settings):
        entry = _look_into(root, address.digest)
        if entry is None:
            continue
        if entry.manifest.recipe_sha256 != address.sha256:
            raise CollisionError(
                f"{entry.directory} holds another environment under the same address "
                f"(recipe sha256 {entry.manifest.recipe_sha256}, wanted {address.sha256})",
                "It is not served. If nobody needs it, its owner can delete that directory; "
                "tell the cache's administrator, for this does not happen by accident.",
            )
        return entry
    return None


def find(digits: str, settings: Settings) -> Entry:
    """Return the entry of an address that may be shortened.

    Raises as pinned().
    """
    return pinned(digits, settings)[0]


def pinned(digits: str, settings: Settings) -> tuple[Entry, Lock]:
    """Return the entry of an address that may be shortened, and the lock that it was made from.

    Raises NotBuiltError if there is none, or more than one, CollisionError if the lock has another
    address.
    """
    whole: dict[str, Entry] = {}
    for root in roots(settings):
        for directory in sorted(root.glob(f"images/{digits[:2]}/{digits}*")):
            entry = read_entry(directory)
            if entry is not None:
                whole.setdefault(entry.address, entry)
    demand_one(digits, whole, settings)
    entry = next(iter(whole.values()))
    return entry, _checked_lock(entry)


def demand_one(
    digits: str, addresses: Collection[str], settings: Settings, remedy: str = ""
) -> None:
    """Raise NotBuiltError unless exactly one address was found that begins with some digits."""
    if not addresses:
        places = ", ".join(str(root) for root in roots(settings))
        hint = remedy or _how_to_have(digits, settings)
        raise NotBuiltError(f"No image with the address {digits} in {places}", hint)
    if len(addresses) > 1:
        several = f"{digits} is the beginning of several addresses: {', '.join(sorted(addresses))}"
        raise NotBuiltError(several, "Write more of its digits.")


def _how_to_have(digits: str, settings: Settings) -> str:
    """Return the remedy for an image that is not there."""
    if digits == settings.pin:
        path = settings.project / PROJECT_FILE
        return f"`address` in {path} pins it: remove that, then run `cnd build`."
    return "Run `cnd build` in its project; `cnd list` shows the images that are there."


def _checked_lock(entry: Entry) -> Lock:
    """Compare an entry that is named by its address alone with its own lock, and return that."""
    path = entry.explicit_lock
    with storage_errors(f"read {path}"):
        text = read_text(path, "utf-8-sig", "replace", follow=False, limit=LARGEST_LOCK)
    lock = parse_explicit(text, str(path), this_platform())
    address = stated_address(lock, entry.prefix.parent, entry.address)
    promised = (entry.manifest.address, entry.manifest.recipe_sha256, entry.prefix)
    if promised != (address.digest, address.sha256, address.prefix):
        raise CollisionError(
            f"{entry.directory} does not hold what its address says: its lock has the address "
            f"{address.digest}",
            "It is not served; its owner can delete that directory.",
        )
    return lock


def entry_directories(root: Path, digits: str = "") -> Iterator[Path]:
    """Yield where entries stand in a cache, whole ones or not, whose address begins with `digits`.

    A cache that is missing or cannot be read has none.
    """
    for group in _directories(root / "images", digits[:2]):
        if re.fullmatch(r"[0-9a-f]{2}", group.name):
            for directory in _directories(group, digits):
                if ENTRY.fullmatch(directory.name):
                    yield directory


def _directories(parent: Path, beginning: str) -> list[Path]:
    """Return the directories, not links, in `parent` whose names begin so, in order."""
    try:
        with os.scandir(parent) as listing:
            names = [
                item.name
                for item in listing
                if item.name.startswith(beginning) and item.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []
    return [parent / name for name in sorted(names)]


def read_entry(directory: Path) -> Entry | None:
    """Read an entry; a missing, incomplete or unreadable one is none.

    Links, FIFOs and other things in the place of a file are neither followed nor opened.
    """
    # Texts, not paths: a cache may hold thousands of entries.
    place = str(directory)
    try:
        statuses = [os.lstat(f"{place}/{name}") for name in (IMAGE, MANIFEST, LOCK)]
        regular = all(stat.S_ISREG(status.st_mode) for status in statuses)
        if not regular or not stat.S_ISDIR(os.lstat(place).st_mode):
            return None
        if statuses[2].st_size > LARGEST_LOCK:
            return None
        manifest = parse_manifest(read_small(f"{place}/{MANIFEST}", LARGEST)[0])
    except (OSError, *UNREADABLE):
        return None
    whole = statuses[0].st_size == manifest.size and address_in(directory) == manifest.address
    return Entry(manifest.address, directory, manifest) if whole else None


def read_papers(directory: Path) -> tuple[bytes, bytes]:
    """Return the content of the manifest and the lock of an entry, neither of which is trusted.

    Raises OSError for what is no regular file, or larger than any of ours.
    """
    manifest = read_bytes(directory / MANIFEST, follow=False, limit=LARGEST)
    return manifest, read_bytes(directory / LOCK, follow=False, limit=LARGEST_LOCK)


def render_manifest(manifest: Manifest) -> bytes:
    """Return the text of a manifest."""
    return (json.dumps(vars(manifest), indent=2, sort_keys=True) + "\n").encode()


def parse_manifest(text: str) -> Manifest:
    """Read the text of a manifest.

    Raises ValueError, TypeError, KeyError or RecursionError (UNREADABLE) if it is none.
    """
    content: dict[str, Any] = json.loads(text)
    if content["format"] > FORMAT:
        raise ValueError("made by a later version")
    known = {name: value for name, value in content.items() if name in KINDS}
    for name, value in known.items():
        if type(value).__name__ != KINDS[name]:
            raise TypeError(f"{name} is not of the type {KINDS[name]}")
    return Manifest(**known)
