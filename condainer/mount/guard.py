"""What stands in for the commands of an image that is not there for those who use it.

Such a shell or script has the image's `bin` in PATH. Were there nothing else, it would find the
commands of the system instead, and go on with another Python without a word. So stand-ins lie in
the directory below every mount, for when it was taken away; and in a directory outside of all
mounts, next in PATH, for when the daemon behind the mount has died.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from condainer.startup.command_environment import STAND_INS
from condainer.system.files import is_private_directory, remove_tree

STUB = ".condainer-guard"
SCRIPT = """\
#!/bin/sh
echo "cnd: $0: the image is not mounted any more: source \\`activate' again" >&2
exit 125
"""
# Shells remember where they found a command: it works again when the image is back.
PATIENT = """\
#!/bin/sh
command={bin}/${{0##*/}}
for time in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    [ ! -x "$command" ] || exec "$command" "$@"
    /bin/sleep 0.1
done
echo "cnd: $command: the image is not mounted any more, and has not come back" >&2
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
        _fill(prefix / "bin", SCRIPT, names)


def put_outside(prefix: Path, directory: Path) -> None:
    """Have stand-ins of the commands of a mounted image in our directory of lock files.

    They stay there for whoever still has them in PATH. Raises OSError.
    """
    place = directory / f"{prefix.name}{STAND_INS}"
    if (place / STUB).exists():
        return
    made = directory / f"{prefix.name}.{os.getpid()}{STAND_INS}"
    try:
        _fill(made, PATIENT.format(bin=shlex.quote(f"{prefix}/bin")), _executables(prefix / "bin"))
        # What is there already, without its stub, is of no use.
        shutil.rmtree(place, ignore_errors=True)
        with suppress(FileExistsError):
            os.rename(made, place)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _executables(directory: Path) -> list[str]:
    """Return the names of all that can be run; raises OSError, for none must be left out."""
    found = []
    for name in os.listdir(directory) if directory.is_dir() else ():
        path = directory / name
        if path.exists() and os.access(path, os.X_OK) and not path.is_dir():
            found.append(name)
    # A daemon that died meanwhile has answered with no.
    os.stat(directory.parent)
    return found


def _fill(directory: Path, script: str, names: Sequence[str]) -> None:
    directory.mkdir(0o700)
    stub = directory / STUB
    stub.write_text(script, encoding="utf-8", errors="surrogateescape")
    stub.chmod(0o500)
    for name in names:
        (directory / name).symlink_to(STUB)


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
