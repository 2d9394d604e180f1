"""An unpacked copy of an image at its prefix, where no image can be mounted."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from condainer.mount import mount_locks
from condainer.startup import attach
from condainer.startup.command_environment import SENTINEL
from condainer.system import files, process
from condainer.system.errors import IntegrityError, MountError, ToolError
from condainer.system.private_directory import claimed_directory, reclaim

# The mark of a complete copy, beside the content of the image.
MARK = ".condainer/unpacked"
# The mode of the directory, which no other user needs to see.
READ_ONLY = 0o500
# The names of a copy that is being made, and of one that is being removed.
PARTIAL, REMOVED = "unpacking", "removed"
# The directory of copies whose prefixes others have taken.
OWN = "copies"


def aside(prefix: Path) -> Path:
    """Return where our copy of an image is when something else is at its prefix."""
    return mount_locks.private_directory(prefix.parent) / OWN / prefix.name


def bases(base: Path) -> list[Path]:
    """Return where our copies for prefixes in a directory may be: there, or aside."""
    own = mount_locks.existing_directory(base)
    return [base, own / OWN] if own else [base]


def is_there(prefix: Path, address: str) -> bool:
    """Tell whether a complete copy of ours of an image is at a prefix."""
    try:
        return (
            files.is_private_directory(prefix)
            and (prefix / SENTINEL).read_text(encoding="ascii") == f"{address}\n"
            and (prefix / MARK).is_file()
        )
    except (OSError, UnicodeDecodeError):
        return False


def tool(directory: Path | None) -> str:
    """Return the path of unsquashfs, from `directory` or PATH; raises ToolError."""
    path = process.find_tool("unsquashfs", directory)
    if path is None:
        raise ToolError(
            "unsquashfs is needed to unpack images, and is not installed",
            "Install the package squashfs-tools, or run `cnd prereq --install`, without root.",
        )
    return path


def put(image: Path, tree_sha256: str, prefix: Path, program: str) -> None:
    """Unpack an image at its prefix, where nothing is, and make it read-only.

    The copy is moved there by one rename, after its content was compared with the manifest's.
    Parameters: `program` is unsquashfs. Raises MountError when programs cannot run there,
    IntegrityError when the content is not what the manifest says, StorageError for a disk's error.
    """
    # The standard library is enough to mount, but not to look at every file of an image.
    from condainer.cache import squashfs

    base = prefix.parent
    if os.statvfs(base).f_flag & os.ST_NOEXEC:
        raise MountError(
            f"{base} is mounted noexec: programs of an unpacked image cannot run there",
            "Set `mount_base_directory` to a directory that is not, and build again: the address "
            "of an image depends on it.",
        )
    workshop = mount_locks.private_directory(base)
    reclaim(workshop)
    with (
        files.storage_errors(f"unpack {image} at {prefix}"),
        claimed_directory(workshop, PARTIAL) as scratch,
    ):
        copy = scratch / prefix.name
        squashfs.unpack(program, image, copy)
        if squashfs.tree_digest(copy) != tree_sha256:
            raise IntegrityError(
                f"{image} does not hold the files that its manifest describes",
                "It was changed or damaged: `cnd verify` moves it away, `cnd build` builds it "
                "again.",
            )
        (copy / MARK).touch()
        _make_read_only(copy)
        # To move a directory, one must be able to write to it.
        copy.chmod(stat.S_IRWXU)
        try:
            os.rename(copy, prefix)
        except OSError:
            # A process in another mount namespace, which has other locks, was quicker.
            if not is_there(prefix, mount_locks.address_at(prefix)):
                raise
        prefix.chmod(READ_ONLY)


def _make_read_only(copy: Path) -> None:
    """Make all files read-only, so that no command changes by mistake what all share."""
    for directory, _, names in os.walk(copy):
        for path in (directory, *(os.path.join(directory, name) for name in names)):
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                os.chmod(path, stat.S_IMODE(mode) & ~0o222)


def claim(prefix: Path) -> None:
    """Keep an unpacked copy until this process and the command that it becomes have ended.

    The lock is on the copy itself, which is the same in all mount namespaces; the lock files of
    mounts are not. Raises MountError if it is being removed.
    """
    with suppress(OSError):
        descriptor = os.open(prefix, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if attach.lock(descriptor, prefix, fcntl.LOCK_SH | fcntl.LOCK_NB):
            os.set_inheritable(descriptor, True)
            return
    raise MountError(f"{prefix} is being removed just now", "Try again.")


def remove(prefix: Path) -> bool:
    """Remove an unpacked copy, from its prefix by one rename; False if it is claimed.

    Raises StorageError.
    """
    with files.storage_errors(f"remove {prefix}"):
        descriptor = os.open(prefix, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            take_away(prefix)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)


def take_away(prefix: Path) -> None:
    """Remove an unpacked copy, even under processes that use it; raises StorageError."""
    with (
        files.storage_errors(f"remove {prefix}"),
        claimed_directory(mount_locks.private_directory(prefix.parent), REMOVED) as aside,
    ):
        prefix.chmod(stat.S_IRWXU)
        os.rename(prefix, aside / prefix.name)
