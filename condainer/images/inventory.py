"""What the caches hold: every entry, broken ones too, and those that an address names."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from condainer.cache import entries, names
from condainer.cache.leases import LIVE, Lease
from condainer.cache.project_register import Project
from condainer.images.notes import Records, read_records
from condainer.lock.address import DIGITS
from condainer.mount import mount_work, node_copies
from condainer.settings.config import Settings
from condainer.system import mount_table
from condainer.system.errors import NotBuiltError
from condainer.system.text import printable, some

# How many similar addresses an error shows.
SHOWN = 8
# How long a list of images waits for a file system with projects, in seconds.
PATIENCE = 1.0


@dataclass(frozen=True)
class Item:
    """The place of an entry in a cache; `entry` is None when it is not whole.

    `last_used` is when the image was last read, written or noted to be used, as far as its file
    system records it. `mounted` says that it is at its prefix in this process's view, `leases` are
    its mounts on any node, `pinned_by` the projects that name it, and `names` those of the cache.
    `staged` is a copy of ours on this node.
    """

    address: str
    root: Path
    directory: Path
    entry: entries.Entry | None
    last_used: float
    mounted: bool
    leases: tuple[Lease, ...] = ()
    pinned_by: tuple[Project, ...] = ()
    names: tuple[str, ...] = ()
    staged: Path | None = None

    @property
    def name(self) -> str:
        """The name of the builder's environment."""
        return self.entry.manifest.name if self.entry else ""

    @property
    def created(self) -> float:
        """When the image was built."""
        return _seconds(self.entry.manifest.created) if self.entry else 0.0

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        known = dict(vars(self.entry.manifest)) if self.entry else {"address": self.address}
        return {
            **known,
            "whole": self.entry is not None,
            "cache": str(self.root),
            "directory": str(self.directory),
            "image": str(self.entry.image) if self.entry else None,
            "last_used": utc(self.last_used) if self.last_used else None,
            "mounted": self.mounted,
            "staged": str(self.staged) if self.staged else None,
            "leases": [lease.report() for lease in self.leases],
            "pinned_by": [str(project.directory) for project in self.pinned_by],
            "names": list(self.names),
        }


class Mounts:
    """The mount table at one moment; to read it for every entry would take seconds."""

    def __init__(self) -> None:
        self._points = {entry.path for entry in mount_table.mount_table()}
        self._names = {os.path.basename(path) for path in self._points}

    def has(self, prefix: Path) -> bool:
        """Tell whether anything is mounted at a prefix, by any user."""
        if prefix.name not in self._names:
            return False
        with suppress(OSError, ValueError):
            return mount_table.real(prefix) in self._points
        return False


def utc(seconds: float) -> str:
    """Return a time as manifests have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def inventory(settings: Settings) -> list[Item]:
    """Return what all caches hold, sorted by name, the newest first; broken entries come last."""
    items = _items(settings, "")
    return sorted(items, key=lambda i: (i.entry is None, i.name, -i.created, i.address))


def _items(settings: Settings, digits: str) -> Iterator[Item]:
    mounts = Mounts()
    copies = node_copies.by_address(mount_work.wish_of(settings))
    for root in entries.roots(settings):
        records = read_records(root, time.time(), PATIENCE)
        for directory in entries.entry_directories(root, digits):
            item = read_item(root, directory, mounts, records)
            yield replace(item, staged=copies.get(item.address))


def read_item(root: Path, directory: Path, mounts: Mounts, records: Records) -> Item:
    """Return the entry in a directory, whole or not, with the notes of its users."""
    entry = entries.read_entry(directory)
    address = entries.address_in(directory)
    used = max(_last_read(directory, records.now), records.last_use(address))
    mounted = entry is not None and mounts.has(entry.prefix)
    leases = tuple(records.leases.get(address, ()))
    projects = tuple(records.projects.get(address, ()))
    given = tuple(name.name for name in records.names.get(address, ()))
    return Item(address, root, directory, entry, used, mounted, leases, projects, given)


def _last_read(directory: Path, now: float) -> float:
    try:
        status = os.stat(f"{directory}/{entries.IMAGE}")
    except OSError:
        return 0.0
    used = max(status.st_atime, status.st_mtime)
    # A time in the future would make the image the last one used for ever.
    return used if used < now + LIVE else status.st_ctime


def named(text: str, settings: Settings) -> list[Item]:
    """Return all places, whole ones first, of the one address that a text begins or names.

    Raises NotBuiltError with candidates if no cache has such an address, or more than one,
    TrustError.
    """
    digits = address_of(text, settings)
    items = sorted(_items(settings, digits), key=lambda item: item.entry is None)
    known = {item.address: item.name for item in reversed(items)}
    if not known:
        raise unknown(digits, settings)
    if len(known) > 1:
        raise NotBuiltError(f"{digits} is the beginning of {len(known)} addresses", _shown(known))
    return items


def address_of(text: str, settings: Settings) -> str:
    """Return the address, perhaps shortened, that a text is or names; raises as named()."""
    try:
        return names.address(text, settings)
    except NotBuiltError:
        raise unknown(text, settings) from None


def unknown(text: str, settings: Settings) -> NotBuiltError:
    """Return the error for a text that names nothing, with similar addresses."""
    known = {item.address: item.name for item in inventory(settings)}
    heads = {address[: len(text)]: address for address in known}
    near = [heads[head] for head in difflib.get_close_matches(text.lower(), heads, SHOWN)]
    near += [address for address, name in known.items() if name == text]
    roots = ", ".join(str(root) for root in entries.roots(settings))
    if names.DIGITS.fullmatch(text):
        problem = f"No image with the address {text} in {roots}"
    else:
        digits = f"{names.LEAST_DIGITS} to {DIGITS} digits"
        problem = f"{text} is neither a file, a name, nor an address of {digits}"
    chosen = {address: known[address] for address in near}
    return NotBuiltError(problem, _shown(chosen) if chosen else "`cnd list` shows all images.")


def _shown(names: dict[str, str]) -> str:
    shown = [f"{address} ({printable(name)})" for address, name in sorted(names.items())]
    return f"Did you mean {some(shown, SHOWN)}?"
