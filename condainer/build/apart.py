"""Let a file system put what is made in a directory into places of their own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

# From linux/fs.h, as on x86 and ARM; elsewhere they are requests that no file system knows.
GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602
# `chattr +T`: directories below are not related to each other.
TOP_DIRECTORY = 0x00020000


def spread(directory: Path) -> None:
    """Tell the file system that the directories in this one need not be near each other.

    Their names decide where they get. ext4 without a journal does not use inodes again that were
    deleted in the last minutes, but looks at each of them for each file that it makes in the same
    part of a disk: of two builds, the second took seconds longer for that. Without effect where a
    file system does not know such a thing.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = fcntl.ioctl(descriptor, GET_FLAGS, struct.pack("@l", 0))
            (flags,) = struct.unpack("@i", found[:4])
            fcntl.ioctl(descriptor, SET_FLAGS, struct.pack("@l", flags | TOP_DIRECTORY))
        finally:
            os.close(descriptor)


def named(directory: Path, name: str) -> Path:
    """Return a path in a private directory whose name is another for each such directory.

    Parameters: `directory` has a name that is its own, of which the last part is random.
    """
    return directory / f"{name}.{directory.name.rpartition('.')[2]}"
