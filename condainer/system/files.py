"""The one door through which files and directories are published, and their helpers."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from condainer.startup import attach
from condainer.startup.lease_files import user_name as user_name
from condainer.system.errors import BuildError, CondainerError, StorageError, ToolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

# How a file is read: by read_bytes(), or from what has kept its bytes.
Read = Callable[[Path], bytes]
# How often the deletion of a changing tree is tried again.
REMOVALS = 10
# The size of the largest file that is read as a whole, in bytes. Files that others put into a cache
# have limits of their own.
LARGEST = 64 << 20
# The beginning of the name of a file that is being written.
UNFINISHED = "."
# The keys of condainer.yml that name the directories of builds.
PLACES = "(`cache_directory:`, `package_cache:`, `staging_directory:`)"
# The remedy for a text in another encoding.
SAVE_AS_UTF8 = "Save the file as UTF-8."

CACHEDIR_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This directory is a Condainer cache; backups may leave it out.\n"
    "# See https://bford.info/cachedir/\n"
)


@contextmanager
def storage_errors(doing: str, remedy: str = "") -> Iterator[None]:
    """Turn an operating system error while `doing` something into a StorageError.

    Parameters: `remedy` takes the place of the general one.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(doing, error, remedy) from error


@contextmanager
def reading(
    path: Path, kind: type[CondainerError], other: str = "", no_text: str = SAVE_AS_UTF8
) -> Iterator[None]:
    """Explain why a text file of a project cannot be read, as an error of a kind.

    Parameters: `no_text` is the remedy for one that is not UTF-8, `other` for all else. Raises
    FileNotFoundError as it is.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except UnicodeDecodeError:
        raise kind(f"{path}: not UTF-8 text", no_text) from None
    except OSError as error:
        raise kind(f"{path}: cannot be read: {error.strerror}", other) from None


def writing(path: Path) -> AbstractContextManager[None]:
    """Explain what fails while a file of a project, or one that the user named, is written.

    No key of the configuration says where that is. Raises StorageError.
    """
    remedy = f"Make it possible to write in {path.absolute().parent}, or choose another place."
    return storage_errors(f"write {path}", remedy)


def storage_error(doing: str, error: OSError, remedy: str = "") -> StorageError:
    """Return the StorageError that names the place, the reason and the remedy of `error`."""
    told = f"{error.filename} " in f"{doing} "
    place = f" ({error.filename})" if error.filename and not told else ""
    another = (
        f"name another place in condainer.yml {PLACES}; unless it does, XDG_CACHE_HOME and TMPDIR "
        "say where caches and staging directories are."
    )
    in_the_way = f"A file is where a directory should be: move it away, or {another}"
    permission = f"Ask its owner for permission, or {another}"
    hints = {
        errno.ENOSPC: f"Free some space there, or name a larger place in condainer.yml {PLACES}.",
        errno.EDQUOT: "Your quota there is used up: free some space, or name another place in "
        f"condainer.yml {PLACES}.",
        errno.EIO: "The disk, or its server, failed: try again, or name another place in "
        f"condainer.yml {PLACES}, and tell the administrator.",
        errno.EACCES: permission,
        errno.EPERM: permission,
        errno.EROFS: "That file system is read-only: name another place in condainer.yml.",
        errno.EEXIST: in_the_way,
        errno.ENOTDIR: in_the_way,
        errno.EFBIG: "Condainer reads no files of this size: look at what it is.",
    }
    reason = os.strerror(error.errno) if error.errno else str(error)
    return StorageError(
        f"Cannot {doing}: {reason}{place}", remedy or hints.get(error.errno or 0, "")
    )


def storage_error_told(doing: str, told: str) -> StorageError | None:
    """Return the StorageError that a program's message tells of; None for another error.

    Parameters: `told` is the message, which names the file.
    """
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
        if os.strerror(number) in told:
            error = storage_error(doing, OSError(number, os.strerror(number)))
            return StorageError(f"{error.message}\n{told.strip()}", error.hint)
    return None


@contextmanager
def programs_of(directory: Path) -> Iterator[None]:
    """Run programs that are in a directory, and explain their failure if that is mounted noexec.

    Raises StorageError in the place of a BuildError or ToolError there.
    """
    try:
        yield
    except (BuildError, ToolError) as error:
        if not os.statvfs(directory).f_flag & os.ST_NOEXEC:
            raise
        raise StorageError(
            f"{directory} is on a file system that is mounted noexec: no program of an environment "
            f"can run there\n{error.message}",
            "Name a directory on another one: `staging_directory:` in condainer.yml, or TMPDIR.",
        ) from None


def umask() -> int:
    """Return the process's umask without changing it."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


def read_bytes(path: Path, follow: bool = True, limit: int = LARGEST) -> bytes:
    """Return the content of a regular file.

    Parameters: without `follow`, a symbolic link is no regular file. Raises OSError for anything
    else, and for more than `limit` bytes: a reader would wait for a FIFO or a device for ever, and
    a sparse file may have any size.
    """
    return _read(path, follow, limit)[0]


def _read(path: str | Path, follow: bool, limit: int) -> tuple[bytes, os.stat_result]:
    descriptor, status = _open_regular(path, follow)
    with open(descriptor, "rb") as stream:
        content = stream.read(status.st_size + 1) if status.st_size <= limit else b""
        if len(content) > status.st_size:
            # It has grown, or is one of the files, as in /proc, that do not tell their size.
            content += stream.read(limit)
    if max(len(content), status.st_size) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
    return content, status


def open_regular(path: str | Path, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading; `follow` and what it raises as read_bytes().

    The time of access of our own files stays, so that a look does not count as use.
    """
    return open(_open_regular(path, follow)[0], "rb")


def _open_regular(path: str | Path, follow: bool) -> tuple[int, os.stat_result]:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags | os.O_NOATIME)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
        descriptor = os.open(path, flags)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor, status


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file of any size; raises OSError."""
    return digest_of(path, "sha256")


def digest_of(path: str | Path, kind: str) -> str:
    """Return a digest of a file of any size, also the md5 of other tools; raises OSError."""
    import hashlib

    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_text(
    path: Path,
    encoding: str = "utf-8",
    errors: str = "strict",
    follow: bool = True,
    limit: int = LARGEST,
) -> str:
    """Return the text of a regular file; raises OSError as read_bytes(), UnicodeDecodeError."""
    return read_bytes(path, follow, limit).decode(encoding, errors)


def read_small(path: str | Path, limit: int) -> tuple[str, os.stat_result]:
    """Return the text and the state of a regular file that any user may have made.

    Raises OSError for a link and for what is larger than `limit` bytes, UnicodeDecodeError.
    """
    content, status = _read(path, follow=False, limit=limit)
    return content.decode("utf-8"), status


def publish_text(
    path: Path, text: str, mode: int | None = None, follow: bool = True, durable: bool = True
) -> None:
    """Write a text file as published_file() does; line ends and surrogates are kept."""
    with published_file(path, mode, follow, durable) as stream:
        stream.write(text.encode("utf-8", "surrogateescape"))


@contextmanager
def published_file(
    path: Path, mode: int | None = None, follow: bool = True, durable: bool = True
) -> Iterator[BinaryIO]:
    """Write a file so that readers and a crash see the old or the new content, and no mixture.

    Parameters: `mode` sets the permission bits, by default those of the umask. A symbolic link at
    `path` is followed, so that a linked file stays linked; without `follow`, for directories that
    others can write, it is replaced. A file that is not `durable` may be empty after a crash: this
    is for files that every build makes again. Raises OSError.
    """
    target = Path(os.path.realpath(path)) if follow else path
    name = _unfinished(target)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with open(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), 0o666 & ~umask() if mode is None else mode)
            if durable:
                os.fsync(stream.fileno())
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
    if durable:
        sync_directory(target.parent)


def _unfinished(path: Path) -> Path:
    """Return where a file is written first, beside it; names have 255 bytes at most."""
    return path.parent / f"{UNFINISHED}{path.name[:60]}.{os.urandom(6).hex()}"


@contextmanager
def turn(directory: Path, longest: float = 10.0) -> Iterator[None]:
    """Let processes that read and then replace a file of a directory do so one after another.

    Parameters: `longest` is how many seconds to wait, because any reader of the directory can hold
    its lock. If the directory cannot be locked, it does not wait.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            end = time.monotonic() + longest
            while lock_if_free(descriptor) is False and time.monotonic() < end:
                time.sleep(0.01)
        yield


def lock_if_free(descriptor: int) -> bool | None:
    """Lock an open file or directory; False if another process holds it, None without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def publish_link(path: Path, target: Path | str) -> None:
    """Make or replace a symbolic link, so that one is there at all times; raises OSError."""
    if path.is_symlink() and os.readlink(path) == str(target):
        return
    new = _unfinished(path)
    new.symlink_to(target)
    try:
        os.replace(new, path)
    except BaseException:
        new.unlink()
        raise


def put(path: Path, content: bytes) -> None:
    """Write a private file of ours that a crash may lose; raises OSError."""
    with published_file(path, 0o600, follow=False, durable=False) as stream:
        stream.write(content)


def sync_directory(path: Path) -> None:
    """Make renames inside a directory durable, on file systems that can."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_directory(source: Path, target: Path) -> bool:
    """Move a finished directory to its place by one rename; False if another is there already.

    The files in `source` are made durable first, so that after a crash the entry is either absent
    or complete. Raises OSError for every other failure.
    """
    for item in source.iterdir():
        sync_file(item)
    sync_directory(source)
    try:
        os.rename(source, target)
    except OSError as error:
        # A sticky directory refuses to replace another member's entry; ENOTDIR means that a file or
        # a link is there.
        refused = (errno.EPERM, errno.EACCES, errno.EBUSY, errno.ENOTDIR)
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, *refused) and os.path.lexists(target):
            return False
        raise
    sync_directory(target.parent)
    return True


def make_directory(path: Path, mode: int) -> None:
    """Create a directory, and the missing ones above it, with exactly `mode` despite the umask.

    A directory that is there already keeps its mode. Raises OSError.
    """
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_directory(path.parent, mode)
    try:
        path.mkdir()
    except FileExistsError:
        if path.is_dir():
            return
        raise
    # mkdir(mode=…) would lose bits to the umask.
    path.chmod(mode)


def remove_tree(path: Path) -> None:
    """Delete a directory tree of ours, if there is one, including read-only directories.

    A symbolic link is deleted itself, never what it points to.
    """
    import shutil

    if path.is_symlink():
        path.unlink()
        return
    for _ in range(REMOVALS):
        if not path.is_dir():
            return
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            # Another process deleted something in it, or all of it.
            continue
        except RecursionError:
            # So deep a tree was made to be in the way, and stays.
            return
        except OSError:
            # It is not writable, or a killed process wrote its last file. Root needs no modes, and
            # could be led to change those of other files.
            if os.geteuid() != 0:
                _make_writable(path)
            time.sleep(0.05)
    with suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)


def _make_writable(path: Path) -> None:
    # The directory before its content, which only a readable directory shows.
    with suppress(OSError):
        os.chmod(path, stat.S_IRWXU)
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                _make_writable(Path(entry.path))


@contextmanager
def access_time_kept(path: Path) -> Iterator[None]:
    """Keep the time of access of a file of ours while a program reads it."""
    before = None
    with suppress(OSError):
        before = path.stat()
    try:
        yield
    finally:
        with suppress(OSError):
            if before is not None and path.stat().st_atime_ns != before.st_atime_ns:
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def stand_somewhere(directory: Path) -> None:
    """Go to a directory if the working directory was deleted, because engines need one.

    Relative paths must be absolute before. Raises StorageError.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        with storage_errors(f"work in {directory}"):
            os.chdir(directory)


def is_private_directory(path: Path) -> bool:
    """Tell whether `path` is a directory, not a link, of ours that no other user can write."""
    try:
        return attach.is_private(path)
    except OSError:
        return False
