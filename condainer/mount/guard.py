"""The stand-ins of an image's commands below its mount, for when that is taken away."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from condainer.startup.stand_ins import STUB, fill
from condainer.system.files import is_private_directory, remove_tree


def put(below: int, prefix: Path) -> None:
    """Let the commands of a mounted image fail loudly where they are not there.

    Parameters: `below` is a descriptor of the directory mounted on.
    """
    with suppress(OSError):
        fill(f"/proc/self/fd/{below}/bin", str(prefix), os.listdir(prefix / "bin"))


def is_put(prefix: Path) -> bool:
    """Tell whether that is all that a mount point of ours holds.

    Some may be missing: they are just being put or removed, or who did that was killed.
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
    """Take the stand-ins away, if there are any."""
    if is_private_directory(prefix) and is_put(prefix):
        remove_tree(prefix / "bin")
