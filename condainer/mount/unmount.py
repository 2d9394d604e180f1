"""Unmount an image, or all of ours on this node, and name the processes that still use it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from condainer.mount import backends, mount_locks, node_copies, private, unpack
from condainer.mount.backends import Busy, State
from condainer.mount.mount_locks import Locks
from condainer.mount.mount_work import Image, probe, wish_of
from condainer.mount.mounts import check_base
from condainer.mount.users import users_of
from condainer.startup import launch
from condainer.system import process
from condainer.system.errors import CondainerError, MountError
from condainer.system.mount_table import mount_table
from condainer.system.process import CommandFailed

if TYPE_CHECKING:
    # Unmounting must do with the standard library alone.
    from condainer.settings.config import Settings

# How long `unmount` waits for a keeper, which looks now and then, in seconds.
PATIENCE = 1.0


@dataclass(frozen=True)
class Cleared:
    """A mount point that `unmount` has cleared, or the problem because of which it has not.

    One that is `left` had no mount: the keeper that would have removed it was killed.
    """

    prefix: Path
    problem: str | None = None
    left: bool = False


def unmount(image: Image, *, force: bool = False, tool_directory: Path | None = None) -> bool:
    """Unmount an image and remove its mount point; False if it was not mounted by us.

    Parameters: `force` unmounts it under the processes that use it. Without it, raises MountError
    that names these processes.
    """
    done = _unmount(image, force, tool_directory)
    copy = replace(image, prefix=unpack.aside(image.prefix))
    if unpack.is_there(copy.prefix, copy.address):
        return _unmount(copy, force, tool_directory)
    return done


def _unmount(image: Image, force: bool, tool_directory: Path | None) -> bool:
    check_base(image.prefix.parent)
    # The claims on a private mount that we are inside of are not those on the one of all.
    inside = mount_locks.of_our_namespace(image.prefix)
    locks = inside or mount_locks.locks_for(image.prefix)
    sole = _take_alone(locks)
    try:
        state = probe(image)
        if state not in backends.HELD:
            if sole is not None:
                mount_locks.remove_mount_point(image.prefix)
            return False
        # First this, and then a look at the claims: a shell without a lock does the opposite.
        said = mount_locks.take_back_ready(image.prefix, locks)
        if (sole is None or mount_locks.shells(locks)) and not force:
            said()
            raise _in_use(image, locks)
        try:
            if state is State.UNPACKED:
                _remove_copy(image, locks, force)
            else:
                _stop(image, tool_directory, lazy=force or state is State.DEAD)
        except Busy:
            said()
            raise _in_use(image, locks) from None
        locks.persistent.unlink(missing_ok=True)
        if sole is not None and not mount_locks.shells(locks):
            mount_locks.remove_mount_point(image.prefix)
        return True
    finally:
        if sole is not None:
            os.close(sole)


def _stop(image: Image, tool_directory: Path | None, lazy: bool) -> None:
    """Unmount an image that no process has claimed; raises Busy."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            backends.clear(image.prefix, tool_directory, lazy=lazy)
            return
        except Busy:
            # A keeper looks at the mount now and then, and has it open for that moment.
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def unmount_all(settings: Settings, force: bool) -> list[Cleared]:
    """Unmount everything of ours on this node, private mounts below the base directory included.

    Parameters: `force` unmounts it under the processes that use it.
    """
    base, tools = settings.mount_base_directory, settings.tool_directory
    cleared = []
    mounted = [Path(entry.path) for entry in mount_table() if backends.is_ours(entry)]
    prefixes = {path for path in mounted if mount_locks.MOUNT_POINT.fullmatch(path.name)}
    prefixes |= {*copies(base)}
    for prefix in sorted(prefixes):
        image = Image(Path(), mount_locks.address_at(prefix), prefix)
        try:
            unmount(image, force=force, tool_directory=tools)
            cleared.append(Cleared(prefix))
        except CondainerError as error:
            cleared.append(Cleared(prefix, error.message))
    for place in sorted({*unpack.bases(base), *(prefix.parent for prefix in prefixes)}):
        mount_locks.reclaim_below(place)
        cleared += _private_ones_cleared(place, force)
        cleared += _left_ones_removed(place)
        mount_locks.forget_earlier_boots(place)
    # The keeper removes a copy that a daemon still has open.
    cleared += [Cleared(path, left=True) for path in node_copies.sweep(wish_of(settings))]
    return cleared


def copies(base: Path) -> list[Path]:
    """Return where unpacked copies of ours are below a directory."""
    paths = (
        path
        for place in unpack.bases(base)
        for path in place.glob("condainer-*")
        if mount_locks.MOUNT_POINT.fullmatch(path.name)
    )
    return [path for path in sorted(paths) if unpack.is_there(path, mount_locks.address_at(path))]


def unused_copies(settings: Settings) -> list[Path]:
    """Return where unpacked copies of ours without users are."""
    prefixes = []
    for prefix in copies(settings.mount_base_directory):
        locks = mount_locks.locks_for(prefix)
        with mount_locks.all_taken((locks.users,)) as alone:
            if alone and not _is_used(prefix, locks):
                prefixes.append(prefix)
    return prefixes


def remove_copies(prefixes: Iterable[Path], settings: Settings) -> None:
    """Remove unpacked copies that still have no users, and unfinished ones of killed processes."""
    for place in unpack.bases(settings.mount_base_directory):
        mount_locks.reclaim_below(place)
    for prefix in prefixes:
        with suppress(MountError):
            unmount(Image(Path(), mount_locks.address_at(prefix), prefix))


def lines(cleared: list[Cleared]) -> list[str]:
    """Return what `cnd umount --all` says of its work."""
    done = [
        f"Removed {item.prefix}, which was left" if item.left else f"Unmounted {item.prefix}"
        for item in cleared
        if item.problem is None
    ]
    return done or ["Nothing of yours is mounted on this machine"] * (not cleared)


def demand(cleared: list[Cleared]) -> None:
    """Raise a MountError that names what is in use, if anything is."""
    problems = [item.problem for item in cleared if item.problem is not None]
    if problems:
        raise MountError(
            "\n".join(problems),
            "Wait for these processes or end them; `--force` takes the images away from them.",
        )


def _private_ones_cleared(base: Path, force: bool) -> list[Cleared]:
    """Unmount private mounts below a directory that have no users, or all with `force`."""
    cleared = []
    for locks in mount_locks.private_ones(base):
        prefix = mount_locks.prefix_of(locks)
        sole = mount_locks.take(locks.users, exclusive=True, wait=False)
        try:
            if sole is None and not force:
                cleared.append(Cleared(prefix, f"{prefix} is in use in a private namespace"))
            elif _unmounted_privately(locks):
                cleared.append(Cleared(prefix))
        except CommandFailed as error:
            problem = f"{prefix} cannot be unmounted in its private namespace: {error.reason}"
            cleared.append(Cleared(prefix, problem))
        finally:
            if sole is not None:
                os.close(sole)
    return cleared


def _unmounted_privately(locks: Locks) -> bool:
    """Unmount a private mount; False if a killed keeper has left nothing but its record.

    In a process of its own, because one cannot leave the namespace again. Raises CommandFailed.
    """
    command = [*launch.module_command("condainer.mount.private"), locks.stem]
    try:
        process.run(command, env=os.environ)
    except CommandFailed as error:
        if error.status == private.NOTHING:
            return False
        raise
    return True


def _left_ones_removed(base: Path) -> list[Cleared]:
    """Remove the mount points of ours below a directory without users and keepers."""
    for notice in base.glob(f"condainer-*.visitor-{os.geteuid()}-*"):
        mount_locks.withdraw(notice)
    cleared = []
    for prefix in sorted(base.glob("condainer-*")):
        named = mount_locks.MOUNT_POINT.fullmatch(prefix.name)
        if named is None or backends.examine(prefix, named[1]) is not State.ABSENT:
            continue
        locks = mount_locks.locks_for(prefix)
        with mount_locks.all_taken((locks.mount, locks.keeper)) as alone:
            if alone:
                mount_locks.remove_mount_point(prefix)
        if not os.path.lexists(prefix):
            cleared.append(Cleared(prefix, left=True))
    return cleared


def _remove_copy(image: Image, locks: Locks, force: bool) -> None:
    """Remove an unpacked copy; raises Busy while it is used."""
    if force:
        unpack.take_away(image.prefix)
    elif _is_used(image.prefix, locks) or not unpack.remove(image.prefix):
        raise Busy(f"{image.prefix} is in use")


def _is_used(prefix: Path, locks: Locks) -> bool:
    """Tell whether a shell or process uses an unpacked copy, in any mount namespace."""
    claimed = mount_locks.shells_anywhere(prefix) or mount_locks.visitors(prefix)
    return bool(claimed or users_of(prefix, locks, everywhere=True))


def _take_alone(locks: Locks) -> int | None:
    deadline = time.monotonic() + PATIENCE
    while True:
        sole = mount_locks.take(locks.users, exclusive=True, wait=False)
        if sole is not None or time.monotonic() > deadline:
            return sole
        time.sleep(0.02)


def _in_use(image: Image, locks: Locks) -> MountError:
    shells = frozenset(mount_locks.shells(locks))
    users = "".join(f"\n  {user}" for user in users_of(image.prefix, locks, shells))
    return MountError(
        f"{image.prefix} is in use" + (f" by{users}" if users else ""),
        "Wait for these processes or end them; `--force` takes the image away from them.",
    )
