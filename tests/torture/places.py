"""Small file systems that are mounted for a campaign, and filled up."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

BALLAST = "ballast"
MIB = 1 << 20


@contextlib.contextmanager
def small_filesystem(where: Path, size: int, kind: str = "tmpfs") -> Iterator[Path]:
    """Mount a small file system, as root, and unmount it at the end.

    Parameters: `size` in bytes; `kind` is tmpfs, or ext4 in a file beside `where`.
    """
    where.mkdir(parents=True)
    image = where.with_name(f"{where.name}.{kind}")
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "condainer", str(where)]
    else:
        with image.open("wb") as stream:
            stream.truncate(size)
        subprocess.run([f"mkfs.{kind}", "-q", "-F", "-m", "0", image], check=True)
        command = ["mount", "-o", "loop", str(image), str(where)]
    subprocess.run(command, check=True)
    try:
        yield where
    finally:
        # Lazily: what a broken promise left running in it must not keep it.
        subprocess.run(["umount", "--lazy", where], check=True)
        image.unlink(missing_ok=True)


@contextlib.contextmanager
def read_only(directory: Path, where: Path) -> Iterator[Path]:
    """Mount a directory once more, read-only."""
    where.mkdir(parents=True)
    subprocess.run(["mount", "--bind", directory, where], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", where], check=True)
        yield where
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


def fill(where: Path, leave: int = 0) -> None:
    """Use up a file system, but for so many bytes."""
    status = os.statvfs(where)
    wanted = status.f_bavail * status.f_frsize - leave
    with (where / BALLAST).open("wb", buffering=0) as stream:
        with contextlib.suppress(OSError):
            os.posix_fallocate(stream.fileno(), 0, max(1, wanted))
        if leave:
            return
        # What it takes for its own tables, and what it gave back, byte by byte.
        stream.seek(0, os.SEEK_END)
        for amount in (MIB, 4096, 1):
            _write_all(stream.fileno(), bytes(amount))


def _write_all(descriptor: int, block: bytes) -> None:
    try:
        while os.write(descriptor, block) == len(block):
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def empty(where: Path) -> None:
    """Give the space back that fill() took."""
    (where / BALLAST).unlink(missing_ok=True)
