"""What stands in for the commands of an image that was taken away from those who use it.

Such a shell or script still has the image's `bin` in PATH. Were there nothing, it would find the
commands of the system instead, and go on with another Python without a word. So the stand-ins lie
in the directory below every mount.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from condainer.files import is_private_directory, remove_tree

STUB = ".condainer-guard"
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
    directory = prefix / "bin"
    with suppress(OSError):
        directory.mkdir(0o700)
        stub = directory / STUB
        stub.write_text(SCRIPT, encoding="ascii")
        stub.chmod(0o500)
        for name in names:
            (directory / name).symlink_to(STUB)


def is_put(prefix: Path) -> bool:
    """Tell whether that is all that a mount point of ours holds."""
    try:
        return os.listdir(prefix) == ["bin"] and (prefix / "bin" / STUB).is_file()
    except OSError:
        return False


def remove(prefix: Path) -> None:
    """Take the stand-ins away, if there are any."""
    if is_private_directory(prefix) and is_put(prefix):
        remove_tree(prefix / "bin")
