"""The garbage collection of a cache: least recently used images go first, what is needed stays.

An image is first moved into the trash, and deleted after a grace period. Until then, a build takes
it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from condainer.cache import entries, publish, trash
from condainer.images import inventory
from condainer.images.inventory import Mounts
from condainer.images.notes import Records, clock, read_records
from condainer.settings.config import STAGE, Settings
from condainer.system.errors import StorageError
from condainer.system.files import storage_errors, sync_directory
from condainer.upkeep import choice, leftovers, share
from condainer.upkeep.choice import Image
from condainer.upkeep.leftovers import Leftover
from condainer.upkeep.policy import Policy
from condainer.upkeep.removal import lock_of

# How many images are moved before users' notes are read again.
BATCH = 100


@dataclass
class Collected:
    """What a collection did, or would do: `before` and `after` are the bytes of all images."""

    root: Path
    policy: Policy
    dry: bool
    before: int = 0
    moved: list[Image] = field(default_factory=list)
    back: list[Image] = field(default_factory=list)
    kept: list[Image] = field(default_factory=list)
    deleted: list[Leftover] = field(default_factory=list)
    waiting: list[Leftover] = field(default_factory=list)
    cleared: list[Leftover] = field(default_factory=list)

    @property
    def after(self) -> int:
        """The bytes of the images that stay."""
        return self.before - sum(image.size for image in self.moved)

    @property
    def freed(self) -> int:
        """The bytes that were freed."""
        return sum(left.size for left in (*self.deleted, *self.cleared))

    @property
    def later(self) -> int:
        """The bytes that are freed after the grace period."""
        return sum(left.size for left in self.waiting)

    @property
    def too_large(self) -> bool:
        """Tell whether the images that have to stay are more than the cache may hold."""
        return self.policy.max_size is not None and self.after > self.policy.max_size

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        lists = ("moved", "back", "kept", "deleted", "waiting", "cleared")
        return {
            "cache": str(self.root),
            "dry_run": self.dry,
            "policy": self.policy.report(),
            **{name: [item.report() for item in getattr(self, name)] for name in lists},
            "freed": self.freed,
            "freed_later": self.later,
            "size_before": self.before,
            "size_after": self.after,
            "too_large": self.too_large,
        }


def collect(settings: Settings, policy: Policy, dry: bool) -> Collected:
    """Collect what nobody needs, as far as the policy says, in the writable cache.

    Parameters: `dry` touches nothing. Raises StorageError for what is no cache of ours.
    """
    root = settings.cache_directory
    done = Collected(root, policy, dry)
    if root in settings.readonly_caches:
        raise StorageError(
            f"{root} is a cache that is only read", "Run `cnd gc` where it is `cache_directory:`."
        )
    if not root.is_dir():
        return done
    with storage_errors(f"read {root}"):
        share.check_content(root)
    records = read_records(root, clock(root / "tmp", dry))
    images = list(choice.read_images(root, records))
    done.before = sum(image.size for image in images)
    chosen, done.kept = choice.choose(images, policy, records, root)
    if dry:
        done.moved = chosen
    else:
        _move(chosen, done)
        records = read_records(root, clock(root / "tmp"))
    _empty_trash(done, records)
    _clear(settings, done, records)
    return done


def _move(chosen: Sequence[Image], done: Collected) -> None:
    """Move images into the trash, and move back those that came into use in the meantime."""
    for start in range(0, len(chosen), BATCH):
        moved = list(_thrown(chosen[start : start + BATCH], done))
        records = read_records(done.root, clock(done.root / "tmp"))
        mounts = Mounts()
        for image in moved:
            assert image.place is not None
            item = inventory.read_item(done.root, image.place, mounts, records)
            now = replace(image, item=item, used=max(item.last_used, image.used))
            stays = choice.why_it_stays(now, records, set())
            if stays and (back := trash.put_back(image.place, done.root)):
                item = replace(image.item, directory=back)
                done.back.append(replace(image, item=item, why=stays[0], detail=stays[1]))
            elif image.item.directory.exists() and not image.place.exists():
                done.back.append(replace(image, why="building", detail="a build took it back"))
            else:
                done.moved.append(image)
        for directory in {done.root / publish.TRASH, *(i.item.directory.parent for i in moved)}:
            with suppress(OSError):
                sync_directory(directory)


def _thrown(images: Iterable[Image], done: Collected) -> Iterator[Image]:
    for image in images:
        item = image.item
        with lock_of(item.root, item.address) as free:
            if not free:
                done.kept.append(replace(image, why="building"))
                continue
            try:
                yield replace(image, place=trash.throw(item.directory, item.root))
            except FileNotFoundError:
                # Another collection, or `cnd rm`, was first.
                done.before -= image.size
            except OSError as error:
                detail = error.strerror or str(error)
                done.kept.append(replace(image, why="refused", detail=detail))


def _empty_trash(done: Collected, records: Records) -> None:
    """Delete what has been in the trash for long enough; what is mounted somewhere waits."""
    if done.dry:
        images = [Leftover(i.item.directory, "image", i.size) for i in done.moved]
        (done.waiting if done.policy.grace > 0 else done.deleted).extend(images)
    for thrown in trash.content(done.root):
        left = Leftover(thrown.path, "image", leftovers.size_of(thrown.path))
        early = records.now - thrown.since < done.policy.grace
        if early or thrown.address in records.leases or not entries.is_ours(thrown.owner):
            done.waiting.append(left)
        elif done.dry or leftovers.discard(left.path, done.root / "tmp"):
            done.deleted.append(left)


def _clear(settings: Settings, done: Collected, records: Records) -> None:
    """Delete what processes, mounts and projects left when they ended."""
    root, staging, base = done.root, settings.staging_directory, settings.mount_base_directory
    addresses = {entries.address_in(path) for path in entries.entry_directories(root)}
    addresses |= {thrown.address for thrown in trash.content(root)}
    left = [
        *leftovers.abandoned(root / "tmp", records.now),
        *leftovers.quarantined(root, records.now),
        *leftovers.notes(root, addresses, records.gone, records.now),
    ]
    # Usually other file systems, which have their own clocks.
    staged = list(leftovers.abandoned(staging, clock(staging, done.dry), STAGE))
    mounted = list(leftovers.at_prefixes(base, clock(base, done.dry), Mounts()))
    for place, found in ((root / "tmp", left), (staging, staged), (base, mounted)):
        done.cleared += [i for i in found if done.dry or leftovers.clear(i, place)]
