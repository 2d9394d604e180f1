"""Whether linked files are what their packages say: an engine can overlook that a write failed."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from condainer.errors import StorageError
from condainer.files import sha256_of

FILE, LINK, SCRIPT = "hardlink", "softlink", "unix_python_entry_point"


def check(directory: Path) -> None:
    """Hold what was linked into a prefix to the records of its packages in conda-meta.

    Files must have the recorded size and, where the prefix or the whole file was written by the
    engine, the recorded sha256; links must be links. Raises StorageError if one is not so.
    """
    records = [json.loads(path.read_text("utf-8")) for path in directory.glob("conda-meta/*.json")]
    paths = [path for record in records for path in record["paths_data"]["paths"]]
    owners = Counter(path["_path"] for path in paths)
    # Where several packages bring one file, the records do not tell whose it is.
    own = (path for path in paths if owners[path["_path"]] == 1)
    wrong = sorted(_wrong(directory, own))
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise StorageError(
            f"{directory / wrong[0]} was not written as its package says{more}",
            "The disk was full, or failed, for a moment: build again, or name another "
            "`staging_directory:` in condainer.yml.",
        )


def _wrong(directory: Path, paths: Iterator[dict[str, Any]]) -> Iterator[str]:
    for path in paths:
        kind, name = path["path_type"], path["_path"]
        if kind in (FILE, LINK, SCRIPT) and not _is_right(os.path.join(directory, name), path):
            yield name


def _is_right(name: str, path: dict[str, Any]) -> bool:
    try:
        status = os.lstat(name)
    except FileNotFoundError:
        return False
    if path["path_type"] == LINK:
        return stat.S_ISLNK(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        return False
    if path["path_type"] == SCRIPT:
        return path.get("sha256") in (None, sha256_of(name))
    if path.get("prefix_placeholder"):
        return path.get("sha256_in_prefix") in (None, sha256_of(name))
    return path.get("size_in_bytes") in (None, status.st_size)
