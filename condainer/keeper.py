"""The locks of a mount, and the process that unmounts it when its last user has gone.

Users hold a shared lock on the file `users`, which the commands they start inherit. One keeper per
mount waits until it can have that lock for itself. Who mounts or repairs holds `mount` meanwhile;
`persistent` says that the mount stays although nobody holds a lock.

A lock file is never unlinked: somebody could hold a lock on the file that is gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from condainer import backends, files, namespace, process
from condainer.backends import Busy, State
from condainer.errors import CondainerError, MountError, StorageError

# How often a keeper tries again to unmount what is in use without a lock, in seconds.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
NAMES = 10


@dataclass(frozen=True)
class Locks:
    """The lock files of one mount on one node."""

    users: Path
    keeper: Path
    mount: Path
    persistent: Path


def locks_for(prefix: Path) -> Locks:
    """Return the lock files of a mount point, in a private directory beside it.

    The names tell apart what shares the directory but not the mount: nodes, boots and mount
    namespaces. Raises MountError when no directory of ours can be had.
    """
    directory = _private_directory(prefix.parent)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    stem = f"{prefix.name}-{boot}-{_view(prefix.parent)}"
    return Locks(*(directory / f"{stem}.{field}" for field in Locks.__dataclass_fields__))


def _private_directory(base: Path) -> Path:
    """Return our directory of lock files below `base`.

    Somebody may have taken the name in a directory that all can write. Then it is the next name;
    one that is there and ours always wins, so that all our processes agree.
    """
    name = f".condainer-{os.geteuid()}"
    candidates = [base / name, *(base / f"{name}.{number}" for number in range(1, NAMES))]
    for _ in range(2):
        for candidate in candidates:
            if files.is_private_directory(candidate):
                return candidate
        for candidate in candidates:
            try:
                candidate.mkdir(0o700)
                return candidate
            except FileExistsError:
                continue
            except OSError as error:
                raise files.storage_error(f"create {candidate}", error) from error
    raise MountError(
        f"{candidates[0]} and the names after it belong to others",
        "Ask the administrator to remove them, or choose another `mount_base_directory`.",
    )


def _view(base: Path) -> str:
    """Name the set of processes that see the same mounts below `base` as we do."""
    real = os.path.realpath(base)
    holder = None
    for entry in backends.mount_table():
        inside = real == entry.path or real.startswith(entry.path.rstrip("/") + "/")
        if inside and (holder is None or len(entry.path) >= len(holder.path)):
            holder = entry
    if holder is not None and holder.peers:
        return f"s{holder.peers}"
    return "n" + os.readlink("/proc/self/ns/mnt").strip("mnt:[]")


def take(path: Path, exclusive: bool, wait: bool = True) -> int | None:
    """Lock a file and return its descriptor, or None when others hold it and `wait` is false.

    Raises MountError when the file is not ours, or its file system has no locks.
    """
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise MountError(
                f"{path} cannot be locked: {error.strerror}",
                "Choose a `mount_base_directory` on a local file system.",
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        # A cleaner of temporary files removed it while we waited: others lock the new one.
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        files.make_directory(path.parent, 0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise files.storage_error(f"open the lock file {path}", error) from error
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise StorageError(f"{path} is not a file of yours", "Remove it.")
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def visitors(prefix: Path) -> bool:
    """Tell whether another user has a private mount on top of this mount point.

    Removing the directory would take their mount away: the kernel detaches it in every namespace.
    """
    for notice in prefix.parent.glob(f"{prefix.name}.visitor-*"):
        try:
            descriptor = os.open(notice, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
    return False


def announce(prefix: Path) -> tuple[Path, int]:
    """Say, by a locked file that everybody can read, that we mount on top of a mount point."""
    notice = prefix.with_name(f"{prefix.name}.visitor-{os.geteuid()}-{os.getpid()}")
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with files.storage_errors(f"create {notice}"):
        descriptor = os.open(notice, flags, 0o644)
        os.fchmod(descriptor, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return notice, descriptor


def remove_mount_point(prefix: Path) -> None:
    """Remove an empty mount point of ours, unless others need the directory to stay."""
    if files.is_private_directory(prefix) and not visitors(prefix):
        try:
            os.rmdir(prefix)
        except OSError:
            return


def ensure(locks: Locks, prefix: Path, address: str, linger: float, tools: Path | None) -> None:
    """Make sure that exactly one keeper looks after a shared mount.

    The caller holds the users' lock, so that a keeper can end only before or after this.
    """
    descriptor = take(locks.keeper, exclusive=True, wait=False)
    if descriptor is None:
        return
    try:
        _start(["shared", str(prefix), address, str(linger), str(descriptor)], tools, [descriptor])
    finally:
        os.close(descriptor)


def start_private(prefix: Path, users: int, notice: Path, announced: int) -> None:
    """Start the keeper of a mount in the namespace of this process.

    Parameters: `users` is a descriptor of the users' lock, opened apart from those that hold it;
    `announced` the locked descriptor of the `notice`.
    """
    arguments = ["private", str(prefix), str(users), str(notice)]
    with namespace.mount_right():
        _start(arguments, None, [users, announced])


def _start(arguments: Sequence[str], tools: Path | None, descriptors: Sequence[int]) -> None:
    argv = [*process.module_command("condainer.keeper"), *arguments, str(tools or "")]
    process.start_daemon(argv, backends.tool_environment(tools), descriptors)


def keep_shared(
    prefix: Path, address: str, linger: float, held: int, tool_directory: Path | None
) -> None:
    """Unmount when nobody has held the users' lock for `linger` seconds, and then end."""
    pause = FIRST_PAUSE
    locks = locks_for(prefix)
    while True:
        seen = _wait_until_unused(locks)
        time.sleep(linger)
        users = take(locks.users, exclusive=True, wait=False)
        if users is None:
            continue
        if os.fstat(users).st_mtime_ns == seen:
            if locks.persistent.exists() or _unmounted(prefix, address, tool_directory):
                # In this order: who gets the users' lock after us must see that we are gone.
                os.close(held)
                os.close(users)
                return
            os.close(users)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            continue
        os.close(users)


def _wait_until_unused(locks: Locks) -> int:
    """Return once nobody holds the users' lock, with the time at which somebody last took it."""
    users = take(locks.users, exclusive=True)
    assert users is not None
    try:
        return os.fstat(users).st_mtime_ns
    finally:
        os.close(users)


def _unmounted(prefix: Path, address: str, tool_directory: Path | None) -> bool:
    """Unmount, and tell whether nothing of ours is mounted any more."""
    state = backends.examine(prefix, address)
    try:
        if state in (State.MOUNTED, State.DEAD):
            backends.stop(prefix, tool_directory, lazy=state is State.DEAD)
    except Busy:
        # In use by somebody who closed the lock's descriptor, or who never had it.
        return False
    except CondainerError:
        return backends.examine(prefix, address) not in (State.MOUNTED, State.DEAD)
    remove_mount_point(prefix)
    return True


def keep_private(prefix: Path, users: int, notice: Path) -> None:
    """Unmount inside our namespace when its commands have ended; then nothing holds it together."""
    fcntl.flock(users, fcntl.LOCK_EX)
    pause = FIRST_PAUSE
    while True:
        try:
            namespace.unmount(prefix)
            break
        except OSError as error:
            if error.errno != errno.EBUSY:
                break
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    notice.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        # What our mount covered; the directory is ours where nobody else had one there.
        namespace.unmount(prefix)
        remove_mount_point(prefix)


def main(arguments: Sequence[str]) -> None:
    """Keep a mount: `shared PREFIX ADDRESS LINGER LOCK TOOLS`, `private PREFIX USERS NOTICE ""`."""
    kind, prefix, *rest = arguments
    if kind == "shared":
        address, linger, held, tools = rest
        keep_shared(Path(prefix), address, float(linger), int(held), Path(tools) if tools else None)
    else:
        keep_private(Path(prefix), int(rest[0]), Path(rest[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
