"""The lock files of a mount, and what else its users write beside the mount point.

Users hold a shared lock on the file `users`, which the commands they start inherit. One keeper per
mount waits for an exclusive lock on it. A process that mounts or repairs locks `mount`. Lock files
are never unlinked while they may be in use: a process could hold a lock on the unlinked file.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path

from condainer.mount import guard
from condainer.startup import attach
from condainer.startup.command_environment import STAND_INS
from condainer.system import files, mount_table
from condainer.system.errors import MountError, StorageError
from condainer.system.private_directory import reclaim, this_boot

NAMES = 10
# The ending of the file by which a keeper tells shells that it is there.
READY = ".ready"
# The name of a mount point, with an address.
MOUNT_POINT = re.compile(r"condainer-([0-9a-f]{32})")


@dataclass(frozen=True)
class Locks:
    """The files of one mount on one node.

    `persistent` says that the mount stays without users, `namespace` where a private one is,
    `verified` which bytes it was made from; `shells` begins the names of shells' claims.
    """

    users: Path
    keeper: Path
    mount: Path
    persistent: Path
    namespace: Path
    verified: Path
    shells: Path

    @property
    def stem(self) -> str:
        """How the paths of all of them begin; see attach.stem_of()."""
        return str(self.users).removesuffix(".users")


def locks_for(prefix: Path, private: str | None = None) -> Locks:
    """Return the lock files of a mount point, in a private directory beside it.

    The names differ by node, boot and mount namespace, which may share the directory but not the
    mount. Parameters: `private` names a private mount, which only processes in its namespace see.
    Raises MountError when no directory of ours can be made.
    """
    directory = private_directory(prefix.parent)
    view = _view(prefix.parent) if private is None else f"{_view(prefix.parent)}-{private}"
    return locks_at(f"{attach.beginning_of(str(directory), prefix.name)}{view}")


def locks_at(stem: str) -> Locks:
    """Return the lock files whose paths begin with a stem."""
    return Locks(*(Path(f"{stem}.{field.name}") for field in fields(Locks)))


def of_our_namespace(prefix: Path) -> Locks | None:
    """Return the lock files of the private mount whose namespace we are in, or None."""
    if not mount_table.has_place(prefix):
        # The kernel reuses numbers of namespaces, and the records of killed keepers stay.
        return None
    directory = existing_directory(prefix.parent)
    if directory is None:
        return None
    stem = attach.stem_inside(attach.beginning_of(str(directory), prefix.name))
    return locks_at(stem) if stem else None


def address_at(prefix: Path) -> str:
    """Return the address in the name of a mount point."""
    return prefix.name.partition("-")[2]


def prefix_of(locks: Locks) -> Path:
    """Return the mount point that lock files belong to."""
    name = MOUNT_POINT.match(locks.users.name)
    assert name is not None
    return locks.users.parent.parent / name[0]


def private_ones(base: Path) -> list[Locks]:
    """Return the lock files of our private mounts below a directory."""
    directory = existing_directory(base)
    records = sorted(directory.glob(f"*{attach.RECORD}")) if directory else []
    return [locks_at(str(record).removesuffix(attach.RECORD)) for record in records]


def forget_earlier_boots(base: Path) -> None:
    """Delete the lock files of earlier boots, which no process can hold."""
    boot = this_boot()
    kinds = {READY, *(f".{field.name}" for field in fields(Locks))}
    directory = existing_directory(base)
    for path in directory.iterdir() if directory else []:
        if path.suffix in kinds and f"-{boot}-" not in path.name:
            path.unlink(missing_ok=True)


def private_directory(base: Path) -> Path:
    """Return our directory of lock files below `base`.

    If another user has taken the name in a shared directory, it is the next one. An existing
    directory of ours always wins, so that all our processes agree.
    """
    existing = existing_directory(base)
    if existing is not None:
        return existing
    candidates = _candidates(base)
    for candidate in candidates:
        try:
            candidate.mkdir(0o700)
            return candidate
        except FileExistsError:
            # Perhaps another process of ours was quicker.
            if files.is_private_directory(candidate):
                return candidate
        except OSError as error:
            raise files.storage_error(f"create {candidate}", error) from error
    raise MountError(
        f"{candidates[0]} and the names after it belong to others",
        "Ask the administrator to remove them, or choose another `mount_base_directory`.",
    )


def _candidates(base: Path) -> list[Path]:
    name = f".condainer-{os.geteuid()}"
    return [base / name, *(base / f"{name}.{number}" for number in range(1, NAMES))]


def existing_directory(base: Path) -> Path | None:
    """Return our directory of lock files below `base`, if it exists."""
    return next((path for path in _candidates(base) if files.is_private_directory(path)), None)


def stand_ins(prefix: Path) -> str:
    """Return where the stand-ins of an image's commands are; empty without a directory of ours."""
    directory = existing_directory(prefix.parent)
    return f"{directory}/{prefix.name}{STAND_INS}" if directory else ""


def _view(base: Path) -> str:
    """Name the set of processes that see the same mounts below `base` as we do."""
    holder = mount_table.holder(base)
    if holder is not None and holder.peers:
        return f"s{holder.peers}"
    return attach.own_view()


def take(path: Path, exclusive: bool, wait: bool = True) -> int | None:
    """Lock a file and return its descriptor, or None when others hold it and `wait` is false.

    Raises MountError when the file is not ours, or its file system has no locks.
    """
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    while True:
        descriptor = _open(path)
        try:
            if attach.lock(descriptor, path, kind if wait else kind | fcntl.LOCK_NB):
                return descriptor
        except BlockingIOError:
            return None
        except OSError as error:
            raise MountError(
                f"{path} cannot be locked: {error.strerror}",
                "Choose a `mount_base_directory` on a local file system.",
            ) from error


def wait_for(path: Path, exclusive: bool) -> int:
    """Lock a file, waiting for others, and return its descriptor; raises as take()."""
    descriptor = take(path, exclusive)
    assert descriptor is not None
    return descriptor


@contextmanager
def all_taken(paths: Iterable[Path]) -> Iterator[bool]:
    """Lock files for the context, in order, and yield whether no other process held one.

    What comes after a file that another process holds is left alone: one who mounts holds `mount`,
    and would take us for the keeper.
    """
    with ExitStack() as held:
        alone = True
        for path in paths:
            descriptor = take(path, exclusive=True, wait=False)
            if descriptor is None:
                alone = False
                break
            held.callback(os.close, descriptor)
        yield alone


def claim(locks: Locks) -> int:
    """Share the users' lock, and note the time for the keeper."""
    descriptor = wait_for(locks.users, exclusive=False)
    os.utime(descriptor)
    return descriptor


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


def write(path: Path, text: str = "") -> None:
    """Write a small file of ours; raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, text.encode("utf-8", "surrogateescape"))
    finally:
        os.close(descriptor)


def claim_for_shell(locks: Locks, pid: int) -> Path:
    """Note that a shell uses a mount, until it ends or the returned file is deleted.

    Raises MountError when there is no such process of ours.
    """
    started = _started(pid)
    if started is None:
        raise MountError(f"There is no process {pid}", "`--shell` takes the number of a shell.")
    path = locks.shells.with_name(f"{locks.shells.name}.{pid}")
    write(path, started)
    return path


def ready_file(prefix: Path, directory: Path) -> Path:
    """Return the file by which a keeper says that it respects claims that are made without a lock.

    It is one file for all views, whose names shells do not know: a reader compares namespaces.
    """
    return Path(f"{attach.beginning_of(str(directory), prefix.name)}any{READY}")


def say_ready(path: Path, locks: Locks) -> None:
    """Say that this process looks after a mount, and where shells put their claims."""
    pid = os.getpid()
    with suppress(OSError):
        write(path, f"{pid} {_started(pid)} {locks.shells}\n")


def take_back_ready(prefix: Path, locks: Locks) -> Callable[[], None]:
    """Make shells ask `cnd` before they claim a mount; the returned function undoes that."""
    path = ready_file(prefix, locks.users.parent)
    text = ""
    with suppress(OSError):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        path.unlink()
    return lambda: write(path, text) if text else None


def shells(locks: Locks) -> list[int]:
    """Return the shells that use a mount; the claims of those that have ended are deleted."""
    pids = []
    for path in locks.shells.parent.glob(f"{locks.shells.name}.*"):
        with suppress(OSError):
            if _is_of_a_shell(path):
                pids.append(int(path.suffix[1:]))
            else:
                path.unlink()
    return pids


def _is_of_a_shell(claim: Path) -> bool:
    """Tell whether the shell that made a claim still lives; raises OSError."""
    pid = claim.suffix[1:]
    started = _started(int(pid)) if pid.isdigit() else None
    # An empty claim is being written.
    return started is not None and claim.read_text(encoding="ascii") in (started, "")


def shells_anywhere(prefix: Path) -> bool:
    """Tell whether a shell uses what is at a prefix, in any mount namespace."""
    directory = existing_directory(prefix.parent)
    for path in directory.glob(f"{prefix.name}-{this_boot()}-*.shells.*") if directory else ():
        with suppress(OSError, UnicodeDecodeError):
            if _is_of_a_shell(path):
                return True
    return False


def reclaim_below(base: Path) -> None:
    """Remove the unfinished copies of killed processes below a directory."""
    directory = existing_directory(base)
    if directory is not None:
        reclaim(directory)


def _started(pid: int) -> str | None:
    """Return when a process was started, which distinguishes it from others of the same number."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may hold anything.
    return text.rpartition(")")[2].split()[19]


def visitors(prefix: Path) -> bool:
    """Tell whether another user has a private mount on top of this mount point.

    Removing the directory would take their mount away: the kernel detaches it in every namespace.
    """
    return any(is_locked(notice) for notice in prefix.parent.glob(f"{prefix.name}.visitor-*"))


def is_locked(path: Path) -> bool:
    """Tell whether another process holds a file; one that is not there is not held."""
    try:
        return attach.is_locked(path)
    except OSError:
        return False


def announce(prefix: Path) -> tuple[Path, int]:
    """Say, by a locked file that all users can read, that we mount on top of a mount point."""
    for left in prefix.parent.glob(f"{prefix.name}.visitor-{os.geteuid()}-*"):
        # A killed keeper leaves its notice.
        withdraw(left)
    notice = prefix.with_name(f"{prefix.name}.visitor-{os.geteuid()}-{os.getpid()}")
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with files.storage_errors(f"create {notice}"):
        while True:
            descriptor = os.open(notice, flags, 0o644)
            os.fchmod(descriptor, 0o644)
            # Before it is locked, another command of ours may remove it as left over.
            if attach.lock(descriptor, notice, fcntl.LOCK_EX):
                return notice, descriptor


def withdraw(notice: Path) -> None:
    """Delete a notice of ours, unless a keeper holds it."""
    with suppress(OSError):
        if not is_locked(notice):
            notice.unlink()


def remove_mount_point(prefix: Path) -> None:
    """Remove an empty mount point of ours, unless others need the directory to stay."""
    if files.is_private_directory(prefix) and not visitors(prefix):
        guard.remove(prefix)
        with suppress(OSError):
            os.rmdir(prefix)


def remove_left(prefix: Path) -> None:
    """Remove, as root, an empty mount point that another user's killed processes left."""
    if not visitors(prefix):
        # rmdir removes only an empty directory that is no mount point here.
        with suppress(OSError):
            os.rmdir(prefix)
