"""What stands in for the commands of an image that is not there for those who use it.

Such a shell or script has the image's `bin` in PATH. Were there nothing else, it would find the
commands of the system instead, and go on with another Python without a word. So stand-ins lie in
the directory below every mount, for when it was taken away; `startup.stand_ins` has those for when
the daemon behind the mount has died.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from condainer.startup.stand_ins import STUB, fill
from condainer.system.files import is_private_directory, remove_tree

SCRIPT = """\
#!/bin/sh
echo "cnd: $0: the image is not mounted any more: source \\`activate' again" >&2
exit 125
"""


def commands(prefix: Path) -> list[str]:
    """Return the names of the commands of a mounted image."""
    with suppress(OSError):
        return os.listdir(prefix / "bin")
    return []


def put(prefix: Path, names: Sequence[str]) -> None:
    """Let these commands fail loudly, in an empty directory of ours, mounted on or not."""
    with suppress(OSError):
        fill(str(prefix / "bin"), SCRIPT, list(names))


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
