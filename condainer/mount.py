"""Mount an image at its prefix: kept, shared while in use, or in a namespace of our own."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from condainer import backends, files, keeper, namespace
from condainer.backends import Busy, State, Tools
from condainer.errors import MountError
from condainer.files import user_name
from condainer.keeper import Locks
from condainer.report import Reporter, Silent
from condainer.users import users_of

__all__ = ["Hold", "Image", "State", "hold", "mount", "probe", "unmount"]

# How long `unmount` waits for a keeper that is just looking whether the mount is in use, seconds.
PATIENCE = 1.0
# Dead mounts can lie on top of each other.
LAYERS = 16


@dataclass(frozen=True)
class Image:
    """An image file, its content address, and where it belongs."""

    path: Path
    address: str
    prefix: Path


@dataclass(frozen=True)
class Hold:
    """A claim on a mount: it lasts until every process that has the descriptor has ended.

    `private` says that the mount is in a namespace of this process, seen by nobody else.
    """

    descriptor: int
    private: bool

    def release(self) -> None:
        """Give up this process's part of the claim."""
        os.close(self.descriptor)


class _Taken(Exception):
    """Something that is not our mount stands at the prefix."""


def probe(image: Image) -> State:
    """Find out what is at the image's mount point; see `backends.examine`."""
    return backends.examine(image.prefix, image.address)


def mount(
    image: Image, *, tool_directory: Path | None = None, report: Reporter | None = None
) -> None:
    """Mount an image where every process of this user sees it, until `unmount`.

    Raises MountError when it cannot be, ToolError when a tool or device is missing.
    """
    check_base(image.prefix.parent)
    locks = keeper.locks_for(image.prefix)
    claim = _claim(locks)
    try:
        if probe(image) is not State.MOUNTED:
            tools = backends.find_tools(tool_directory)
            if not tools.direct:
                raise MountError(
                    "Ordinary users can mount only with a fusermount3 that is set-user-ID root",
                    "Ask for the package fuse3, or use `cnd shell` and `cnd exec`, which do "
                    "without it.",
                )
            _mount_shared(image, locks, tools, tool_directory, report or Silent())
        os.close(os.open(locks.persistent, os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except _Taken:
        raise MountError(
            f"{image.prefix} is taken by {_owner(image.prefix)}",
            "Use `cnd shell` or `cnd exec`: they mount the image for themselves alone.",
        ) from None
    finally:
        os.close(claim)


def hold(
    image: Image,
    *,
    linger: float,
    tool_directory: Path | None = None,
    report: Reporter | None = None,
) -> Hold:
    """Mount an image if it is not, and claim it for this process and what it executes.

    The claim ends with the last process that inherited it; `linger` seconds later the image is
    unmounted. Where the prefix is taken, this process, which must have one thread, enters a
    namespace in which the image is mounted for it alone. Raises MountError, ToolError.
    """
    check_base(image.prefix.parent)
    locks = keeper.locks_for(image.prefix)
    claim = _claim(locks)
    try:
        state = probe(image)
        tools = None if state is State.MOUNTED else backends.find_tools(tool_directory)
        if state is State.FOREIGN or (tools and not tools.direct):
            raise _Taken
        if tools or not locks.persistent.exists():
            # Before the mount is there: nothing is left even if we are killed in between.
            keeper.ensure(locks, image.prefix, image.address, linger, tool_directory)
        if tools:
            _mount_shared(image, locks, tools, tool_directory, report or Silent())
    except _Taken:
        os.close(claim)
        return _hold_private(image, backends.find_tools(tool_directory))
    except BaseException:
        os.close(claim)
        raise
    os.set_inheritable(claim, True)
    return Hold(claim, private=False)


def _claim(locks: Locks) -> int:
    """Take the users' lock with the others, and note the time for the keeper."""
    claim = keeper.take(locks.users, exclusive=False)
    assert claim is not None
    os.utime(claim)
    return claim


def _mount_shared(
    image: Image, locks: Locks, tools: Tools, tool_directory: Path | None, report: Reporter
) -> None:
    """Mount where everybody looks; the caller has claimed the mount. Raises _Taken."""
    turn = keeper.take(locks.mount, exclusive=True)
    assert turn is not None
    try:
        state = probe(image)
        if state is State.MOUNTED:
            return
        if state is State.DEAD:
            report.note(f"Repairing the mount of {image.prefix}, whose daemon has gone.")
            _clear(image, tool_directory)
        else:
            # What was kept has been unmounted by other means; a repaired mount stays kept.
            locks.persistent.unlink(missing_ok=True)
        if probe(image) is not State.ABSENT:
            raise _Taken
        _make_mount_point(image.prefix)
        try:
            backends.start(tools, image.path, image.prefix)
            _confirm(image)
        except BaseException:
            _clear(image, tool_directory)
            keeper.remove_mount_point(image.prefix)
            raise
    finally:
        os.close(turn)


def _clear(image: Image, tool_directory: Path | None) -> None:
    """Take away our mounts at the prefix, also under processes that still use dead ones."""
    for _ in range(LAYERS):
        entry = backends.mounted_at(image.prefix)
        if entry is None or entry.owner != os.geteuid():
            return
        backends.stop(image.prefix, tool_directory, lazy=True)


def _confirm(image: Image) -> None:
    """Believe a mount only when the content has the address that it should have."""
    if probe(image) is not State.MOUNTED:
        raise MountError(
            f"{image.path} does not hold the environment {image.address}",
            f"Delete {image.path.parent} and build it again with `cnd build`.",
        )


def _make_mount_point(prefix: Path) -> None:
    try:
        prefix.mkdir(0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise files.storage_error(f"create the mount point {prefix}", error) from error
    if not files.is_private_directory(prefix):
        raise _Taken


def check_base(base: Path) -> None:
    """Refuse a place where others could put another directory in place of our mount point.

    Makes the directory if it is missing. Raises MountError, StorageError.
    """
    if not base.exists():
        with files.storage_errors(f"create {base}"):
            files.make_directory(base, 0o755)
    real = Path(os.path.realpath(base))
    trusted = {0, os.geteuid()}
    known = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    if not any(line.split()[0] == "0" for line in known):
        # In a namespace that does not map root, root's directories show the overflow user.
        trusted.add(int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii")))
    for directory in (real, *real.parents):
        status = directory.stat()
        loose = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
        if loose or status.st_uid not in trusted:
            raise MountError(
                f"{base} is no safe place for mount points: others can replace what is in "
                f"{directory}",
                "Choose a `mount_base_directory` that only you or root can change, or that is "
                "sticky as /tmp is.",
            )


def _hold_private(image: Image, tools: Tools) -> Hold:
    """Mount over what is at the prefix, for this process and what it starts."""
    prefix = image.prefix
    try:
        unusable = not stat.S_ISDIR(prefix.lstat().st_mode)
    except FileNotFoundError:
        _make_mount_point(prefix)
        unusable = False
    except OSError:
        # Somebody's FUSE file system, closed to us; it can be mounted over nevertheless.
        unusable = False
    if unusable:
        raise MountError(
            f"{prefix} is not a directory and belongs to {_owner(prefix)}",
            "It must be removed before the image can be mounted.",
        )
    if not namespace.available():
        raise MountError(
            f"{prefix} is not available to us for a mount ({_owner(prefix)}), and this machine "
            "does not allow a private one in a user namespace",
            namespace.REMEDY,
        )
    claim = os.memfd_create("condainer-users", os.MFD_CLOEXEC)
    fcntl.flock(claim, fcntl.LOCK_SH)
    # A lock belongs to an opening of the file: the keeper must wait on one of its own.
    watched = os.open(f"/proc/self/fd/{claim}", os.O_RDWR | os.O_CLOEXEC)
    notice, announced = keeper.announce(prefix)
    try:
        _mount_privately(image, tools)
        keeper.start_private(prefix, watched, notice, announced)
    except BaseException:
        os.close(claim)
        notice.unlink(missing_ok=True)
        raise
    finally:
        os.close(watched)
        os.close(announced)
    os.set_inheritable(claim, True)
    return Hold(claim, private=True)


def _mount_privately(image: Image, tools: Tools) -> None:
    try:
        namespace.enter()
        # A place that we own, for squashfuse to mount at.
        namespace.tmpfs(image.prefix)
    except OSError as error:
        raise MountError(
            f"{image.prefix} cannot be mounted privately: {error.strerror}", namespace.REMEDY
        ) from error
    with namespace.mount_right():
        backends.start(tools, image.path, image.prefix)
    try:
        _confirm(image)
    except MountError:
        namespace.unmount(image.prefix, lazy=True)
        raise


def unmount(image: Image, *, force: bool = False, tool_directory: Path | None = None) -> bool:
    """Unmount an image and remove its mount point; False if it was not mounted by us.

    Parameters: `force` takes it away from the processes that use it. Raises MountError that names
    those processes when there are any.
    """
    check_base(image.prefix.parent)
    locks = keeper.locks_for(image.prefix)
    sole = _take_alone(locks)
    try:
        state = probe(image)
        if state not in (State.MOUNTED, State.DEAD):
            keeper.remove_mount_point(image.prefix)
            return False
        if sole is None and not force:
            raise _in_use(image, locks)
        try:
            backends.stop(image.prefix, tool_directory, lazy=force or state is State.DEAD)
        except Busy:
            raise _in_use(image, locks) from None
        locks.persistent.unlink(missing_ok=True)
        keeper.remove_mount_point(image.prefix)
        return True
    finally:
        if sole is not None:
            os.close(sole)


def _take_alone(locks: Locks) -> int | None:
    deadline = time.monotonic() + PATIENCE
    while True:
        sole = keeper.take(locks.users, exclusive=True, wait=False)
        if sole is not None or time.monotonic() > deadline:
            return sole
        time.sleep(0.02)


def _in_use(image: Image, locks: Locks) -> MountError:
    found = "".join(f"\n  {user}" for user in users_of(image.prefix, locks))
    return MountError(
        f"{image.prefix} is in use" + (f" by{found}" if found else ""),
        "Wait for these processes or end them; `--force` takes the image away from them.",
    )


def _owner(path: Path) -> str:
    """Say who has the path, as far as can be seen."""
    entry = backends.mounted_at(path)
    try:
        owner = entry.owner if entry else path.lstat().st_uid
    except OSError:
        owner = None
    what = "a mount" if entry else "something"
    return f"{what} of {user_name(owner)}" if owner is not None else f"{what} of somebody else"
