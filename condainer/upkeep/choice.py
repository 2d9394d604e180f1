"""Which images of a cache go, which stay, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from condainer.cache import entries
from condainer.cache.leases import ADDRESS, DAY, LIVE
from condainer.images import inventory
from condainer.images.inventory import Item, Mounts
from condainer.images.notes import Records
from condainer.system.files import read_small, user_name
from condainer.system.private_directory import read_claim
from condainer.system.text import some
from condainer.upkeep.leftovers import is_abandoned, survey
from condainer.upkeep.policy import Policy
from condainer.upkeep.removal import lock_of

# A process that has just looked an image up may not have mounted it yet.
RECENT = LIVE


@dataclass(frozen=True)
class Image:
    """An entry of the cache, whole or not, its size in bytes, and when it was last used.

    `why` says why it goes or stays, `detail` names the users, projects or tags behind that.
    """

    item: Item
    size: int
    used: float
    why: str = ""
    detail: str = ""
    place: Path | None = None

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        return {
            "address": self.item.address,
            "name": self.item.name,
            "directory": str(self.item.directory),
            "size": self.size,
            "last_used": inventory.utc(self.used) if self.used else None,
            "why": self.why,
            "detail": self.detail,
            "trash": str(self.place) if self.place else None,
        }


def read_images(root: Path, records: Records) -> Iterator[Image]:
    """Yield all entries of a cache, whole or not; of the latter, any change counts as use."""
    mounts = Mounts()
    for directory in entries.entry_directories(root):
        item = inventory.read_item(root, directory, mounts, records)
        if item.entry is not None:
            yield Image(item, item.entry.manifest.size, item.last_used)
        else:
            changed, size = survey(directory, records.now)
            yield Image(item, size, max(changed, records.last_use(item.address)))


def choose(
    images: Sequence[Image], policy: Policy, records: Records, root: Path
) -> tuple[list[Image], list[Image]]:
    """Return the images that go and those that stay, each with the reason."""
    built = _built(root, records.now)
    total = sum(image.size for image in images)
    chosen, kept = [], []
    for image in sorted(images, key=lambda image: (image.used, image.item.directory)):
        due = _why_it_goes(image, policy, total, records.now)
        stays = why_it_stays(image, records, built) if due else ("limits", "")
        if stays:
            kept.append(replace(image, why=stays[0], detail=stays[1]))
        else:
            chosen.append(replace(image, why=due))
            total -= image.size
    return _in_order(chosen, kept)


def _why_it_goes(image: Image, policy: Policy, total: int, now: float) -> str:
    if image.item.entry is None:
        return "broken"
    if policy.older_than is not None and now - image.used > policy.older_than:
        return "unused"
    return "space" if policy.max_size is not None and total > policy.max_size else ""


def why_it_stays(image: Image, records: Records, built: set[str]) -> tuple[str, str] | None:
    """Return why an image must not go, with details, or None.

    Parameters: `built` are the addresses that are being built.
    """
    item = image.item
    leases = records.leases.get(item.address)
    projects = records.projects.get(item.address)
    idle = records.now - image.used
    owner, made = _owner_and_time(item.directory)
    if leases:
        return "lease", some([str(lease) for lease in leases], 1)
    if item.mounted and item.entry:
        return "mounted", str(item.entry.prefix)
    if projects and item.entry:
        return "project", some([str(project) for project in projects], 1)
    if item.names and item.entry:
        return "name", some(item.names, 1)
    if item.address in built or _is_locked(item):
        return "building", ""
    if idle < (RECENT if item.entry else DAY) or records.now - made < RECENT:
        return "recent", ""
    if item.entry is None and not _is_broken(item.directory):
        return "unknown", "made by a later version, or unreadable just now"
    return None if entries.is_ours(owner) else ("owner", user_name(owner))


def _owner_and_time(directory: Path) -> tuple[int, float]:
    """Return who made an entry, and when: its builder writes the last file just before."""
    with suppress(OSError):
        status = directory.lstat()
        return status.st_uid, status.st_mtime
    return os.geteuid(), 0.0


def _is_locked(item: Item) -> bool:
    with lock_of(item.root, item.address) as free:
        return not free


def _built(root: Path, now: float) -> set[str]:
    """Return the addresses that are being built, on any node, as far as it can be known."""
    addresses = set()
    with suppress(OSError):
        for name in os.listdir(root / "tmp"):
            path = root / "tmp" / name
            claim = read_claim(path)
            if claim and ADDRESS.fullmatch(claim.purpose) and not is_abandoned(path, now):
                addresses.add(claim.purpose)
    return addresses


def _is_broken(directory: Path) -> bool:
    """Tell whether an entry is certainly broken, for every version of Condainer."""
    try:
        content = json.loads(read_small(directory / entries.MANIFEST, entries.LARGEST)[0])
        form = content.get("format") if isinstance(content, dict) else None
        if isinstance(form, int) and form > entries.FORMAT:
            return False
        for name in (entries.IMAGE, entries.LOCK):
            os.stat(directory / name)
        return True
    except (FileNotFoundError, *entries.UNREADABLE):
        return True
    except OSError as error:
        return error.errno in entries.NO_FILE


def _in_order(chosen: list[Image], kept: list[Image]) -> tuple[list[Image], list[Image]]:
    """Keep entries in places before one that stays, because readers stop at the first gap."""
    last: dict[str, str] = {}
    for image in kept:
        name = image.item.directory.name
        last[image.item.address] = max(last.get(image.item.address, ""), name)
    before = [i for i in chosen if i.item.directory.name < last.get(i.item.address, "")]
    rest = [image for image in chosen if image not in before]
    return rest, kept + [replace(i, why="order", detail=last[i.item.address]) for i in before]
