"""Private mounts: the namespace that our processes on a node share, and the place made in it.

The owner of a directory can remove it, and the kernel then detaches what is mounted on it in every
namespace. So a private mount is made on a directory of ours, of root, or of a user whose code we
run anyway; otherwise a view of ours covers the whole base directory.
"""

from __future__ import annotations

import enum
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from condainer.mount import mount_locks
from condainer.mount.mount_locks import Locks
from condainer.startup.namespace import join as join_process
from condainer.system import files, mount_table, namespace
from condainer.system.errors import MountError

# The status of main() where there is no such mount.
NOTHING = 3


@dataclass(frozen=True)
class Place:
    """What was made for a private mount.

    `notice` tells other users that we mount on their directory; `announced` is its locked
    descriptor. `cover` is the directory that takes the place of the base directory, if any does.
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
    """Enter the namespace of a private mount of ours, if there is one."""
    try:
        number, mount, user = locks.namespace.read_text(encoding="ascii").split()
        keeper = int(number)
    except (OSError, ValueError):
        return Joined.NOT
    if join_process(user, mount, keeper):
        return Joined.BY_KEEPER
    prefix = mount_locks.prefix_of(locks)
    # The daemon and the commands of the mount are in the namespace as well.
    if any(join_process(user, mount, pid) for pid in _processes_in(mount, prefix)):
        return Joined.BY_ANOTHER
    return Joined.NOT


def write_down(locks: Locks, keeper: int = 0) -> None:
    """Tell later commands the namespaces of the mount, and its keeper's process."""
    names = " ".join(os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "user"))
    mount_locks.write(locks.namespace, f"{keeper} {names}\n")


def _processes_in(mount: str, prefix: Path) -> list[int]:
    pids = []
    place = mount_table.real(prefix)
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            same = process.name.isdigit() and os.readlink(process / "ns/mnt") == mount
            # The kernel reuses numbers of namespaces.
            table = mount_table.mount_table(process / "mountinfo") if same else ()
            if any(entry.path == place for entry in table):
                pids.append(int(process.name))
    return pids


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
    notice, announced = mount_locks.announce(prefix)
    try:
        namespace.enter()
        if cover is not None:
            namespace.private_view(prefix.parent, cover, without=prefix.name)
            prefix.mkdir(0o700)
            mount_locks.write(_stubs(cover), "\n".join(os.listdir(cover)))
        lay(prefix)
        write_down(locks)
    except OSError as error:
        notice.unlink(missing_ok=True)
        os.close(announced)
        mount_locks.remove_mount_point(prefix)
        raise MountError(
            f"{prefix} cannot be mounted privately: {error.strerror}", namespace.REMEDY
        ) from error
    return Place(notice, announced, cover)


def show(copy: Path, prefix: Path, trusted: Callable[[int], bool]) -> None:
    """Show an unpacked copy at `prefix` only to this process and to what it starts.

    The process must have one thread. Parameters: as of enter(). Raises MountError when the machine
    does not allow it, or when others could replace what is at `prefix`.
    """
    demand_safe(prefix, trusted)
    notice, announced = mount_locks.announce(prefix)
    try:
        namespace.enter()
        namespace.bind(copy, prefix)
    except OSError as error:
        os.close(announced)
        notice.unlink(missing_ok=True)
        raise MountError(
            f"{copy} cannot be shown at {prefix}: {error.strerror}", namespace.REMEDY
        ) from error
    # Locked until the command has ended.
    os.set_inheritable(announced, True)


def demand_safe(prefix: Path, trusted: Callable[[int], bool]) -> None:
    """Raise MountError for a prefix at which others could put something else during its use."""
    if not _is_safe(prefix, trusted):
        raise MountError(
            f"{prefix} is taken by {owner(prefix)}, who could replace it while it is used",
            "Set `mount_base_directory` to a directory of your own and build again.",
        )


def lay_again(prefix: Path, trusted: Callable[[int], bool]) -> None:
    """Put back the place that was unmounted from outside; raises MountError, or as lay()."""
    if not mount_table.has_place(prefix) and not _is_safe(prefix, trusted):
        raise MountError(
            f"{prefix} was removed while it was used, and belongs to another user now",
            "Wait until your other commands in this image have ended.",
        )
    try:
        lay(prefix)
    except OSError as error:
        raise files.storage_error(f"mount at {prefix}", error) from error


def lay(prefix: Path) -> None:
    """Mount an empty file system of ours over `prefix`, unless it is there; raises OSError.

    squashfuse looks at the directory that it mounts at, and we may not see another user's.
    """
    if not mount_table.has_place(prefix):
        namespace.tmpfs(prefix)


def _is_safe(prefix: Path, trusted: Callable[[int], bool]) -> bool:
    """Tell whether we may mount on what is at `prefix`; makes a directory if nothing is there."""
    mounted = mount_table.mounted_at(prefix)
    if mounted is not None and mounted.owner not in (None, os.geteuid()):
        # A user's FUSE file system may show any owner.
        return trusted(mounted.owner)
    try:
        with suppress(FileExistsError):
            prefix.mkdir(0o700)
        status = prefix.lstat()
    except OSError as error:
        raise files.storage_error(f"create the mount point {prefix}", error) from error
    if not stat.S_ISDIR(status.st_mode):
        return False
    return status.st_uid in (0, os.geteuid()) or trusted(status.st_uid)


def _cover_directory(locks: Locks) -> Path:
    """Make the directory for what commands write to the covered base directory."""
    import tempfile

    name, directory = os.path.basename(locks.stem), locks.users.parent
    path = Path(tempfile.mkdtemp(".files", f"{name}-", directory))
    # As /tmp, so that the kernel applies its rules for links and files of others.
    path.chmod(0o1777)
    return path


def leave(prefix: Path, cover: Path | None) -> None:
    """Undo enter(); the files that commands wrote to the cover stay."""
    with suppress(OSError):
        namespace.unmount(prefix)
    if cover is None:
        return
    try:
        namespace.unmount(prefix.parent, lazy=True)
        stubs = _stubs(cover).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:
        return
    for stub in stubs:
        # The stub of an entry of the base directory is empty.
        with suppress(OSError):
            _remove_empty(cover / stub)
    with suppress(OSError):
        _stubs(cover).unlink()
        cover.rmdir()


def _stubs(cover: Path) -> Path:
    """Return the file that names what private_view() made in the cover."""
    return cover.with_name(f"{cover.name}.list")


def _remove_empty(path: Path) -> None:
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        path.rmdir()
    elif stat.S_ISLNK(status.st_mode) or status.st_size == 0:
        path.unlink()


def owner(path: Path) -> str:
    """Say who owns what is at a path, as far as can be seen."""
    entry = mount_table.mounted_at(path)
    try:
        number = entry.owner if entry else path.lstat().st_uid
    except OSError:
        number = None
    what = "a mount" if entry else "something"
    return f"{what} of {'another user' if number is None else files.user_name(number)}"


def main(stem: str) -> int | str:
    """Unmount a private mount under its users, and return what this process ends with.

    That is NOTHING if a killed keeper has left nothing but the `namespace` file; a text tells of an
    error. Parameters: `stem` is how the paths of its lock files begin.
    """
    locks = mount_locks.locks_at(stem)
    if join(locks) is Joined.NOT:
        locks.namespace.unlink(missing_ok=True)
        return NOTHING
    try:
        namespace.unmount(mount_locks.prefix_of(locks), lazy=True)
    except OSError as error:
        return str(error.strerror)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
