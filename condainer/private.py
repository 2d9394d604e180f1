"""Private mounts: the namespace that our processes on a node share, and the place made in it.

Whoever owns a directory can remove it, and the kernel then detaches what is mounted on it in every
namespace. So a private mount lies on a directory of ours, of root, or of somebody whom we trust
with code anyway; else the whole base directory is covered by a view of ours.
"""

from __future__ import annotations

import enum
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from condainer import files, mountlocks, mounttable, namespace
from condainer.errors import MountError
from condainer.mountlocks import Locks


@dataclass(frozen=True)
class Place:
    """What was made for a private mount.

    `notice` tells other users that we mount on their directory; `announced` is its locked
    descriptor. `cover` is what takes the place of the base directory, if anything does.
    """

    notice: Path
    announced: int
    cover: Path | None


class Joined(enum.Enum):
    """Whether, and through which process, the namespace of a mount was entered."""

    NOT = "not"
    BY_KEEPER = "by its keeper"
    BY_ANOTHER = "by a process that its keeper left"


def join(locks: Locks) -> Joined:
    """Enter the namespace in which a mount of ours is, if there is one."""
    try:
        number, mount, user = locks.namespace.read_text(encoding="ascii").split()
        keeper = int(number)
    except (OSError, ValueError):
        return Joined.NOT
    if namespace.join(user, mount, keeper):
        return Joined.BY_KEEPER
    # Its daemon and its commands are in the namespace as well.
    if any(namespace.join(user, mount, pid) for pid in _processes_in(mount)):
        return Joined.BY_ANOTHER
    return Joined.NOT


def write_down(locks: Locks, keeper: int = 0) -> None:
    """Tell later commands in which namespaces, and by which process, they find the mount."""
    names = " ".join(os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "user"))
    mountlocks.write(locks.namespace, f"{keeper} {names}\n")


def _processes_in(mount: str) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and os.readlink(process / "ns/mnt") == mount:
                found.append(int(process.name))
    return found


def enter(prefix: Path, locks: Locks, trusted: Callable[[int], bool]) -> Place:
    """Move this process, which must have one thread, into a namespace with a place at `prefix`.

    Parameters: `trusted` says whether a user may own the directory that we mount on. Raises
    MountError when the machine does not allow it.
    """
    if not namespace.available():
        raise MountError(
            f"{prefix} is not available to us for a mount ({owner(prefix)}), and this machine "
            "does not allow a private one in a user namespace",
            namespace.REMEDY,
        )
    cover = None if _is_safe(prefix, trusted) else _cover_directory(locks)
    notice, announced = mountlocks.announce(prefix)
    try:
        namespace.enter()
        if cover is not None:
            namespace.private_view(prefix.parent, cover, without=prefix.name)
            prefix.mkdir(0o700)
        lay(prefix)
        write_down(locks)
    except OSError as error:
        notice.unlink(missing_ok=True)
        os.close(announced)
        mountlocks.remove_mount_point(prefix)
        raise MountError(
            f"{prefix} cannot be mounted privately: {error.strerror}", namespace.REMEDY
        ) from error
    return Place(notice, announced, cover)


def lay(prefix: Path) -> None:
    """Put a place that we own over whatever is at `prefix`, unless it lies there; raises OSError.

    squashfuse looks at the directory that it mounts at, which may be closed to us.
    """
    if not any(entry.kind == "tmpfs" for entry in mounttable.mounts_at(prefix)):
        namespace.tmpfs(prefix)


def _is_safe(prefix: Path, trusted: Callable[[int], bool]) -> bool:
    """Tell whether we may mount on what is at `prefix`; makes a directory if nothing is."""
    try:
        with suppress(FileExistsError):
            prefix.mkdir(0o700)
        status = prefix.lstat()
    except OSError as error:
        # Somebody's FUSE file system, closed to us.
        mounted = mounttable.mounted_at(prefix)
        if mounted is None:
            raise files.storage_error(f"create the mount point {prefix}", error) from error
        return mounted.owner is not None and trusted(mounted.owner)
    if not stat.S_ISDIR(status.st_mode):
        return False
    return status.st_uid in (0, os.geteuid()) or trusted(status.st_uid)


def _cover_directory(locks: Locks) -> Path:
    """Make the directory into which goes what is written to the base directory meanwhile."""
    path = locks.namespace.with_suffix(".files")
    number = 0
    while True:
        try:
            path.mkdir(0o700)
            return path
        except FileExistsError:
            number += 1
            path = locks.namespace.with_suffix(f".files-{number}")


def leave(prefix: Path, cover: Path | None) -> None:
    """Take away what enter() made; of the files written meanwhile nothing is lost."""
    with suppress(OSError):
        namespace.unmount(prefix)
    if cover is None:
        return
    with suppress(OSError):
        prefix.rmdir()
        namespace.unmount(prefix.parent, lazy=True)
    for stub in cover.iterdir():
        # What only held the place of an entry of the base directory is empty.
        with suppress(OSError):
            if os.path.lexists(prefix.parent / stub.name):
                _remove_empty(stub)
    with suppress(OSError):
        cover.rmdir()


def _remove_empty(path: Path) -> None:
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        path.rmdir()
    elif stat.S_ISLNK(status.st_mode) or status.st_size == 0:
        path.unlink()


def owner(path: Path) -> str:
    """Say who has the path, as far as can be seen."""
    entry = mounttable.mounted_at(path)
    try:
        number = entry.owner if entry else path.lstat().st_uid
    except OSError:
        number = None
    what = "a mount" if entry else "something"
    if number is None:
        return f"{what} of somebody else"
    return f"{what} of {files.user_name(number)}"


def main(record: Path) -> None:
    """Take away a private mount from all who use it; the argument is its `namespace` file."""
    locks = Locks(*(record.with_suffix(f".{field.name}") for field in fields(Locks)))
    if join(locks) is Joined.NOT:
        record.unlink(missing_ok=True)
        return
    namespace.unmount(mountlocks.prefix_of(locks), lazy=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
