"""Copies of images on this node, which our mounts share in the place of files on a server.

A copy is in a private directory of ours. Its name says which bytes it has, and the host and boot in
which they were verified. Its users hold a shared lock on the file: the process that mounts it, then
the keeper and the daemon of the mount. A process that gets an exclusive lock may delete it. A mount
keeps its file open, so nothing breaks even if a lock is lost.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from condainer.mount import mount_locks
from condainer.mount.safe_base import check_base
from condainer.startup import attach
from condainer.startup.lease_files import this_host
from condainer.system import files, machine, mount_table
from condainer.system.errors import CondainerError, IntegrityError
from condainer.system.reporter import Reporter

NEVER, AUTO, ALWAYS = "never", "auto", "always"
WORDS = (AUTO, NEVER, ALWAYS)
# The directory of copies, in our directory beside mount points.
STAGED = "staged"
COMPLETE, PARTIAL = ".squashfs", ".copying"
# The name of an image that a batch script has copied to a directory, with the address in between.
BROUGHT = ("condainer-", ".squashfs")
MEMORY = Path("/dev/shm")
BLOCK = 4 << 20
# The fractions of a file system, and of the free memory, that a copy leaves free.
FREE, FREE_MEMORY = 0.1, 0.5
# How long the daemon of an unmounted image may take to end, and the pause of a look, in seconds.
ENDING, PAUSE = 5.0, 0.05


@dataclass(frozen=True)
class Wish:
    """Where copies are made: one of WORDS, or the directory for them.

    `limit` is what all copies of this user on this node may take together, in bytes.
    """

    where: str = NEVER
    limit: int = 0

    def wants(self, image: Path) -> bool:
        """Tell whether to copy an image, if there is room."""
        if self.where == AUTO:
            return mount_table.is_on_network(image)
        return self.where != NEVER

    def places(self) -> list[Path]:
        """Return where copies are made, best first."""
        if self.where not in WORDS:
            return [Path(self.where)]
        named = [os.environ.get(name, "") for name in ("SLURM_TMPDIR", "TMPDIR")]
        given = [Path(name) for name in named if os.path.isabs(name)]
        return list(dict.fromkeys((*(given or [Path("/tmp")]), MEMORY)))

    def known_places(self) -> list[Path]:
        """Return where copies may be, including those of other jobs."""
        usual = Wish(AUTO).places()
        return list(dict.fromkeys((*self.places(), *usual, Path("/tmp"), MEMORY)))


@dataclass(frozen=True)
class Copy:
    """A copy, and the descriptor that has a shared lock on it."""

    path: Path
    claim: int

    def release(self) -> None:
        """Give up this process's part of the claim."""
        os.close(self.claim)


@dataclass(frozen=True)
class Source:
    """An image that may be copied, and the sha256 that its manifest states."""

    path: Path
    address: str
    sha256: str

    @property
    def name(self) -> str:
        """What a copy is called, without its ending."""
        return f"{self.address}.{self.sha256}.{this_host()}"


class _NoRoom(Exception):
    """A copy cannot be made at a place; the text says why."""


def provide(source: Source, wish: Wish, report: Reporter) -> Copy | None:
    """Return a claimed copy of an image, made if there is none; None if the image is used itself.

    It waits for another process that makes the same copy. Raises IntegrityError if the image does
    not have the bytes that its manifest states.
    """
    if not source.sha256 or not wish.wants(source.path):
        return None
    for place in wish.known_places():
        directory = existing_directory(place)
        copy = claimed(directory / f"{source.name}{COMPLETE}") if directory else None
        if copy is not None:
            _forget_brought(wish, source)
            return copy
    sweep(wish)
    problems = []
    for place in wish.places():
        try:
            return _made(place, source, wish, report)
        except _NoRoom as problem:
            problems.append(f"{place}: {problem}")
        except OSError as error:
            problems.append(f"{place}: {error.strerror}")
        except IntegrityError:
            raise
        except CondainerError as error:
            problems.append(error.message)
    if wish.where != AUTO:
        report.note(f"{source.path} is used where it is, without a copy: {'; '.join(problems)}")
    return None


def claimed(path: Path) -> Copy | None:
    """Claim an existing copy of ours; None without one."""
    with suppress(OSError):
        descriptor = _opened(path)
        # A process that deletes it has the lock for a moment.
        if attach.lock(descriptor, path, fcntl.LOCK_SH):
            if _is_ours(os.fstat(descriptor)):
                return Copy(path, descriptor)
            os.close(descriptor)
    return None


def existing_directory(place: Path) -> Path | None:
    """Return our directory of copies at a place, if it exists and no other user can write it."""
    above = mount_locks.existing_directory(place)
    directory = above / STAGED if above else None
    return directory if directory and files.is_private_directory(directory) else None


def _is_ours(status: os.stat_result) -> bool:
    mine = status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode)
    return mine and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _made(place: Path, source: Source, wish: Wish, report: Reporter) -> Copy:
    """Copy an image to a place, or wait for the process that does; raises _NoRoom and as copy()."""
    if wish.where in WORDS and mount_table.is_on_network(place):
        raise _NoRoom("it is on a server's file system itself")
    if not place.is_dir():
        raise _NoRoom("there is no such directory")
    check_base(place)
    while True:
        directory = mount_locks.private_directory(place) / STAGED
        try:
            files.make_directory(directory, 0o700)
        except FileNotFoundError:
            # As below.
            continue
        if not files.is_private_directory(directory) and os.path.lexists(directory):
            raise _NoRoom(f"{directory} is no directory that only this user can write")
        complete, partial = (directory / f"{source.name}{end}" for end in (COMPLETE, PARTIAL))
        copy = claimed(complete)
        if copy is not None:
            return copy
        try:
            turn = _taken(partial, report)
        except FileNotFoundError:
            # Another process removed the directory, which was empty.
            continue
        if turn is None:
            continue
        try:
            if os.path.lexists(complete):
                # Another process made it between our two looks.
                partial.unlink()
            else:
                _check_room(place, source, wish)
                _fill(turn, source, place, report)
                os.fchmod(turn, 0o400)
                os.rename(partial, complete)
                fcntl.flock(turn, fcntl.LOCK_SH)
                if _is_at(turn, complete):
                    return Copy(complete, turn)
        except BaseException:
            partial.unlink(missing_ok=True)
            os.close(turn)
            _remove_empty(directory)
            raise
        os.close(turn)


def _taken(partial: Path, report: Reporter) -> int | None:
    """Return the locked file of a new copy; None after a wait for a process that makes the same."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(partial, flags, 0o600)
    try:
        ours = attach.lock(descriptor, partial, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        report.step("Waiting for the process that copies the image to this node")
        # That process shares the lock as soon as the copy is complete.
        if (copy := claimed(partial)) is not None:
            copy.release()
        report.finish()
        return None
    return descriptor if ours else None


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _check_room(place: Path, source: Source, wish: Wish) -> None:
    size = os.stat(source.path).st_size
    taken = sum(item.stat().st_size for item in copies(wish) if item.exists())
    if taken + size > wish.limit:
        raise _NoRoom("the copies would take more than `stage_max_size`")
    state = os.statvfs(place)
    free = state.f_bavail * state.f_frsize
    if free - size < FREE * state.f_blocks * state.f_frsize:
        raise _NoRoom("too little space is left")
    if mount_table.is_in_memory(place) and size > FREE_MEMORY * machine.memory():
        raise _NoRoom("too little memory is left")


def _fill(turn: int, source: Source, place: Path, report: Reporter) -> None:
    """Copy an image into a file, preferably from what a batch script has brought.

    Raises IntegrityError, OSError.
    """
    brought = place / source.address.join(BROUGHT)
    with suppress(OSError):
        if _is_ours(brought.lstat()):
            report.step("Checking the image that was brought to this node", "percent")
            with suppress(IntegrityError):
                _copy(brought, turn, source.sha256, report)
                brought.unlink()
                report.finish()
                return
    report.step("Copying the image to this node", "percent")
    _copy(source.path, turn, source.sha256, report)
    report.finish()


def _forget_brought(wish: Wish, source: Source) -> None:
    """Delete what a batch script has brought to the node: there is a copy already."""
    for place in wish.places():
        brought = place / source.address.join(BROUGHT)
        with suppress(OSError):
            if _is_ours(brought.lstat()):
                brought.unlink()


def _copy(source: Path, turn: int, sha256: str, report: Reporter) -> None:
    with files.open_regular(source) as stream, os.fdopen(os.dup(turn), "wb") as copy:
        size = os.fstat(stream.fileno()).st_size
        copy.seek(0)
        copy.truncate(0)
        try:
            # Before another process takes the space.
            os.posix_fallocate(turn, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        copy_verified(stream, copy, sha256, source, report, size)


def copy_verified(
    stream: BinaryIO,
    copy: BinaryIO,
    sha256: str,
    source: Path,
    report: Reporter | None = None,
    size: int = 0,
) -> None:
    """Copy a file, and raise IntegrityError unless the copy has exactly these bytes.

    Parameters: `source` is the path that the error names, `size` in bytes is for the `report`.
    """
    import hashlib

    digest, done = hashlib.sha256(), 0
    while block := stream.read(BLOCK):
        digest.update(block)
        copy.write(block)
        done += len(block)
        if report is not None and size:
            report.progress(min(100, 100 * done // size), 100)
    if digest.hexdigest() != sha256:
        raise IntegrityError(
            f"{source} has the sha256 {digest.hexdigest()}, not the {sha256} that it should have",
            "It was changed or damaged: `cnd verify` moves it away, `cnd build` builds it again.",
        )


def copies(wish: Wish) -> list[Path]:
    """Return the copies of ours on this node, unfinished ones included."""
    paths: list[Path] = []
    for place in wish.known_places():
        directory = existing_directory(place)
        if directory is not None:
            # The process that deletes the last copy deletes the directory, too.
            with suppress(FileNotFoundError):
                paths += [path for path in sorted(directory.iterdir()) if _host_of(path)]
    # Two places can be one directory.
    return list({path.resolve(): path for path in paths}.values())


def by_address(wish: Wish) -> dict[str, Path]:
    """Return the complete copies of ours on this node, by the addresses of their images."""
    return {
        path.name.partition(".")[0]: path
        for path in reversed(copies(wish))
        if path.suffix == COMPLETE and _host_of(path) == this_host()
    }


def _host_of(path: Path) -> str | None:
    """Return the host and boot that a copy was made in; None if it is not of this host."""
    parts = path.name.split(".")
    if len(parts) != 4 or f".{parts[3]}" not in (COMPLETE, PARTIAL):
        return None
    # On a server's file system it may be another node's, whose locks are not seen here.
    here = parts[2].rpartition("-")[0] == this_host().rpartition("-")[0]
    return parts[2] if here else None


def unused(wish: Wish) -> list[Path]:
    """Return the copies without users, including the unfinished ones of killed processes."""
    paths = []
    for path in copies(wish):
        with _alone(path) as alone:
            if alone:
                paths.append(path)
    return paths


def sweep(wish: Wish) -> list[Path]:
    """Delete the copies without users, and return where they were."""
    return [path for path in copies(wish) if remove(path)]


def remove(path: Path) -> bool:
    """Delete a copy unless it has users, and tell whether that was done."""
    with _alone(path) as alone, suppress(OSError):
        if alone:
            path.unlink()
            _remove_empty(path.parent)
            return True
    return False


def remove_at_end(path: Path) -> None:
    """Delete a copy that was unmounted, unless others use it."""
    deadline = time.monotonic() + ENDING
    while path.exists() and not remove(path) and time.monotonic() < deadline:
        # Our daemon is ending, or there is another mount of it.
        time.sleep(PAUSE)


def _remove_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()
        if directory.parent.parent == MEMORY:
            # Elsewhere, that directory has lock files of mounts.
            directory.parent.rmdir()


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Lock a copy for the context, and yield whether it has no users."""
    with ExitStack() as held:
        alone = False
        with suppress(OSError):
            descriptor = _opened(path)
            if attach.lock(descriptor, path, fcntl.LOCK_EX | fcntl.LOCK_NB):
                held.callback(os.close, descriptor)
                alone = _is_ours(os.fstat(descriptor))
        yield alone
