"""Whether linked files are what their packages say: an engine can overlook that a write failed.

Also, of which files the engine knows the sha256, so that they need not be read again.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from condainer.system.errors import StorageError
from condainer.system.files import sha256_of

# Of unpacked packages, by their paths: inode, and time of the last change in nanoseconds.
States = Mapping[str, tuple[int, int]]
NONE: States = {}
FILE, LINK, SCRIPT = "hardlink", "softlink", "unix_python_entry_point"


class Vouched(NamedTuple):
    """The sha256 of a linked file, and by what it is recognised as the one that was linked."""

    sha256: str
    inode: int
    mtime_ns: int

    def is_of(self, status: os.stat_result) -> bool:
        """Tell whether a file is still that one; changes put a new file in its place."""
        return (self.inode, self.mtime_ns) == (status.st_ino, status.st_mtime_ns)


@dataclass(frozen=True)
class Linked:
    """What an engine linked: names of packages, dependencies first, and files vouched for."""

    order: tuple[str, ...]
    vouched: Mapping[str, Vouched] = field(default_factory=dict)


def states(packages: Iterable[Path]) -> States:
    """Return by what unpacked packages are recognised as those that stand there now."""
    recognised = {}
    for package in packages:
        with contextlib.suppress(OSError):
            status = package.stat()
            recognised[str(package)] = (status.st_ino, status.st_ctime_ns)
    return recognised


def check(directory: Path, before: States = NONE) -> Mapping[str, Vouched]:
    """Hold what was linked into a prefix to the records of its packages in conda-meta.

    Files must have the recorded size and, where the prefix or the whole file was written by the
    engine, the recorded sha256; links must be links. Returns the files that are hard links of
    those whose sha256 the engine has just compared with their packages': `before` are states() from
    before it did so, because it compares nothing that it unpacks now. Raises StorageError if one is
    not as recorded.
    """
    after = states(Path(name) for name in before)
    wrong: list[str] = []
    vouched: dict[str, Vouched] = {}
    # Where several packages bring one file, the records do not tell whose it is.
    names: set[str] = set()
    shared: set[str] = set()
    moved: set[str] = set()
    # One record at a time: all of them together are the largest thing that a build holds.
    for file in directory.glob("conda-meta/*.json"):
        record = json.loads(file.read_text("utf-8"))
        unpacked = str(record.get("extracted_package_dir"))
        compared = unpacked in before and before[unpacked] == after.get(unpacked)
        for path in record["paths_data"]["paths"]:
            name = path["_path"]
            (shared if name in names else names).add(name)
            if original := path.get("original_path"):
                moved.add(original)
            if path["path_type"] not in (FILE, LINK, SCRIPT):
                continue
            status = _right(os.path.join(directory, name), path)
            if status is None:
                wrong.append(name)
            elif compared and _is_as_unpacked(path, status):
                vouched[name] = Vouched(path["sha256"], status.st_ino, status.st_mtime_ns)
    wrong = [name for name in wrong if name not in shared]
    for name in (shared | moved) & vouched.keys():
        del vouched[name]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise StorageError(
            f"{directory / min(wrong)} was not written as its package says{more}",
            "The disk was full, or failed, for a moment: build again, or name another "
            "`staging_directory:` in condainer.yml.",
        )
    return vouched


def _right(name: str, path: Mapping[str, Any]) -> os.stat_result | None:
    """Return the state of a file that is as recorded, or None."""
    try:
        status = os.lstat(name)
    except FileNotFoundError:
        return None
    if path["path_type"] == LINK:
        right = stat.S_ISLNK(status.st_mode)
    elif not stat.S_ISREG(status.st_mode):
        right = False
    elif path["path_type"] == SCRIPT:
        right = path.get("sha256") in (None, sha256_of(name))
    elif path.get("prefix_placeholder"):
        right = path.get("sha256_in_prefix") in (None, sha256_of(name))
    else:
        right = path.get("size_in_bytes") in (None, status.st_size)
    return status if right else None


def _is_as_unpacked(path: Mapping[str, Any], status: os.stat_result) -> bool:
    """Tell whether a file is the package's own, to which the package cache has the other name."""
    changed = path.get("prefix_placeholder") or path.get("original_path")
    is_plain = path["path_type"] == FILE and not changed
    return is_plain and bool(path.get("sha256")) and status.st_nlink > 1
