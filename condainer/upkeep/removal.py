"""Images removed from a cache: an entry disappears by one rename, and is then deleted."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from condainer.cache import entries, publish
from condainer.images import inventory
from condainer.images.inventory import Item
from condainer.settings.config import Settings
from condainer.system.errors import CondainerError, MountError, StorageError
from condainer.system.files import storage_errors, sync_directory, user_name
from condainer.system.private_directory import claimed_directory, this_host


def chosen(addresses: Sequence[str], settings: Settings, force: bool) -> list[Item]:
    """Return the places to clear for some addresses; nothing is touched if one must stay.

    Parameters: `force` takes what is mounted or being built as well. Raises NotBuiltError for an
    address that the cache does not have, MountError for one that is in use, StorageError for an
    entry of another user.
    """
    items: dict[Path, Item] = {}
    for text in addresses:
        for item in _ours(text, settings):
            items[item.directory] = item
            _check_owner(item)
            if not force:
                _check_unused(item)
    return list(items.values())


def _ours(text: str, settings: Settings) -> list[Item]:
    """Return the places of an address in the cache that we write."""
    items = inventory.named(text, settings)
    ours = [item for item in items if item.root == settings.cache_directory]
    if not ours or settings.cache_directory in settings.readonly_caches:
        raise StorageError(
            f"{items[0].directory} is in a cache that is only read",
            "Only images of `cache_directory:` can be removed; `cnd list` shows which.",
        )
    return ours


def _check_owner(item: Item) -> None:
    with storage_errors(f"remove {item.directory}"):
        owner = item.directory.lstat().st_uid
    if not entries.is_ours(owner):
        raise StorageError(
            f"{item.directory} belongs to {user_name(owner)}, and only its owner can remove it",
            f"Ask {user_name(owner)}, or the cache's administrator.",
        )


def _check_unused(item: Item) -> None:
    if item.names:
        raise CondainerError(
            f"{item.address} is named {', '.join(item.names)}",
            "`cnd tag --delete` takes a name away, `cnd tag NAME ADDRESS` gives it to another "
            "image; `--force` removes this one anyway.",
        )
    if item.mounted:
        assert item.entry is not None
        raise MountError(
            f"{item.address} is mounted at {item.entry.prefix}",
            "Unmount it first, in its project with `cnd umount`; `--force` removes it anyway.",
        )
    elsewhere = [lease for lease in item.leases if lease.host != this_host()]
    if elsewhere:
        raise MountError(
            f"{item.address} is mounted by {elsewhere[0]}",
            "`cnd list` shows whether it still is; `--force` removes it anyway.",
        )
    with lock_of(item.root, item.address) as free:
        if not free:
            raise CondainerError(
                f"{item.address} is being built just now",
                "Wait for its builder; `--force` removes what is there anyway.",
            )


@contextlib.contextmanager
def lock_of(root: Path, address: str) -> Iterator[bool]:
    """Keep builders of an address waiting for a moment; yield False if one is working.

    Where there is no lock, or locks do not work, there is nothing to wait for.
    """
    descriptor = None
    free = True
    with contextlib.suppress(OSError):
        path = root / "locks" / f"{address}.lock"
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # Shared: some file systems want a file open for writing before they lock exclusively.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
    try:
        yield free
    finally:
        if descriptor is not None:
            os.close(descriptor)


def remove(item: Item) -> None:
    """Remove an entry for everybody at once; processes that have it open keep it.

    An entry that is already gone is fine. Raises StorageError when it cannot be moved.
    """
    with lock_of(item.root, item.address), storage_errors(f"remove {item.directory}"):
        publish.prepare(item.root)
        with claimed_directory(item.root / "tmp", f"removed-{item.address}") as aside:
            with contextlib.suppress(FileNotFoundError):
                os.rename(item.directory, aside / item.directory.name)
            sync_directory(item.directory.parent)
