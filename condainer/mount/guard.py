"""Stand-ins for an image's commands, in the directory below its mount, for when it is unmounted."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from condainer.startup.stand_ins import STUB, fill
from condainer.system.files import is_private_directory, remove_tree


def put(below: int, prefix: Path) -> None:
    """Put stand-ins below the mount of an image, so that its commands fail loudly without it.

    Parameters: `below` is a descriptor of the directory mounted on.
    """
    with suppress(OSError):
        fill(f"/proc/self/fd/{below}/bin", str(prefix), os.listdir(prefix / "bin"))


def is_put(prefix: Path) -> bool:
    """Tell whether a mount point of ours holds nothing but stand-ins.

    Some may be missing while they are put or removed, or after a kill.
    """
    try:
        if os.listdir(prefix) != ["bin"] or not is_private_directory(prefix / "bin"):
            return False
        return all(_is_stand_in(entry) for entry in os.scandir(prefix / "bin"))
    except FileNotFoundError:
        return is_private_directory(prefix)
    except OSError:
        return False


def _is_stand_in(entry: os.DirEntry[str]) -> bool:
    return entry.name == STUB or (entry.is_symlink() and os.readlink(entry.path) == STUB)


def remove(prefix: Path) -> None:
    """Remove the stand-ins, if there are any."""
    if is_private_directory(prefix) and is_put(prefix):
        remove_tree(prefix / "bin")
