"""Take out of a staged prefix what tells how it was made rather than what it is.

Two projects can reach the same packages by other specs, channel hosts, names and caches; the bytes
of the image must not show it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from condainer.lock.contents import CHANNEL
from condainer.system.files import published_file, remove_tree

# Written by installers about the way a wheel took to this prefix.
TRANSIENT = ("direct_url.json", "REQUESTED", "uv_cache.json", "uv_build.json")
DIRECTORY_MODE = 0o755
FILE_MODES = {False: 0o644, True: 0o755}
# An interpreter with arguments; more than this is read by no kernel.
SPLIT = re.compile(r"#!/usr/bin/env (?P<command>[^-\s]\S*[ \t]+\S[^\n]*)(?P<rest>\n.*)?", re.DOTALL)
SHEBANG = 512
# Engines shorten what is longer: older kernels read no more.
LONGEST = 127
# Bytes.
COPIED = 1 << 20
# Where the engine puts the files of packages that another package has, too.
CLOBBERED = "__clobbers__"
# What it says of such a file in the record of its package.
TAKEN = b'"original_path"'


def metadata(directory: Path, prefix: Path) -> None:
    """Normalise what conda and pip record about the installed packages.

    Parameters: `directory` is where the prefix is staged; `prefix` where it will be mounted.
    """
    meta = directory / "conda-meta"
    records = sorted(meta.glob("*.json"))
    shared = {name for path in records for name in _taken(path)}
    # One at a time: they name every file of the environment.
    for path in records:
        record = json.loads(path.read_text("utf-8"))
        _sort(record, shared)
        _changed(record, directory, prefix)
        replace(path, json.dumps(_record(record), sort_keys=True))
    for root, _, _ in os.walk(directory / CLOBBERED, topdown=False):
        with suppress(OSError):
            os.rmdir(root)
    # The engine's advice to backup programs is about a directory on disk, not about an image.
    (directory / "CACHEDIR.TAG").unlink(missing_ok=True)
    # conda takes a directory for an environment if it has this file; its content is a log.
    replace(meta / "history", "")
    for path in sorted(directory.glob("lib/python*/site-packages/*.dist-info")):
        if not (path / "METADATA").exists():
            # The rest of a conda package that a pip requirement replaced.
            remove_tree(path)
    for path in sorted(directory.glob("lib/python*/site-packages/*.dist-info/INSTALLER")):
        if path.read_text(encoding="utf-8").strip() == "uv":
            _dist_info(path.parent)


def _taken(record: Path) -> Iterator[str]:
    """Yield the names that files of a package would have if another package had none of them."""
    content = record.read_bytes()
    if TAKEN in content:
        paths = json.loads(content).get("paths_data", {}).get("paths", [])
        yield from (path["original_path"] for path in paths if path.get("original_path"))


def _sort(record: dict[str, Any], shared: Collection[str]) -> None:
    """Sort the files of a package that has one in common with another.

    Which package came first decides about their order, though not about whose file it is in the
    end.
    """
    paths = record.get("paths_data", {}).get("paths", [])
    if any(path.get("original_path") or path["_path"] in shared for path in paths):
        paths.sort(key=lambda path: str(path["_path"]))
        record["files"] = sorted(record.get("files", ()))


def _record(record: dict[str, Any]) -> dict[str, Any]:
    """Return a conda-meta record with its own subdir and file name as its only origin."""
    for key in ("requested_spec", "requested_specs", "link", "extracted_package_dir"):
        record.pop(key, None)
    record.pop("package_tarball_full_path", None)
    record["channel"] = CHANNEL
    record["url"] = f"{CHANNEL}/{record['subdir']}/{quote(record['fn'])}"
    return record


def _changed(record: dict[str, Any], directory: Path, prefix: Path) -> None:
    """Record the size of what the prefix was written into; the engine does not when it retries."""
    for path in record.get("paths_data", {}).get("paths", ()):
        # First of all, for nearly all others are left out.
        if path.get("prefix_placeholder"):
            file = directory / path["_path"]
            if file.is_file() and not file.is_symlink():
                _script(path, file, prefix)
                path["size_in_bytes"] = file.stat().st_size


def _script(path: dict[str, Any], file: Path, prefix: Path) -> None:
    """Let a script start whose interpreter has arguments, where the prefix does not fit into it.

    Engines write `#!/usr/bin/env interpreter arguments`, which the kernel hands on as one word.
    """
    with file.open("rb") as stream:
        # Whatever bytes these are.
        match = SPLIT.fullmatch(stream.read(SHEBANG).decode("latin-1"))
        if match is None or _fits(prefix, match["command"]):
            return
        start = f"#!/usr/bin/env -S {match['command']}{match['rest'] or ''}"
        content = start.encode("latin-1") + stream.read()
    mode = stat.S_IMODE(file.stat().st_mode)
    file.unlink()
    file.write_bytes(content)
    file.chmod(mode)
    path["sha256_in_prefix"] = hashlib.sha256(content).hexdigest()


def _fits(prefix: Path, command: str) -> bool:
    """Tell whether an engine left the interpreter's path where it is."""
    return " " not in str(prefix) and len(f"#!{prefix}/bin/{command}") <= LONGEST


def _dist_info(directory: Path) -> None:
    """Remove transient files of an installed wheel, and sort its RECORD without them."""
    for name in TRANSIENT:
        (directory / name).unlink(missing_ok=True)
    record = directory / "RECORD"
    gone = {f"{directory.name}/{name}" for name in TRANSIENT}
    with record.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.reader(stream) if row]
    kept = sorted(row for row in rows if row[0] not in gone)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept)
    replace(record, text.getvalue())


def replace(path: Path, text: str) -> None:
    """Write a new file in place of one that may be read-only, or a link into the package cache."""
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")


def modes(
    directory: Path, seen: Callable[[str, os.stat_result], None] = lambda path, status: None
) -> None:
    """Give every file and directory a mode that does not depend on a umask.

    Parameters: `seen` is told of every file, with its path and its state before.
    """
    waiting = [str(directory)]
    while waiting:
        root = waiting.pop()
        # First of all: one that is not readable cannot be looked into.
        os.chmod(root, DIRECTORY_MODE)
        with os.scandir(root) as listing:
            entries = list(listing)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
                continue
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                continue
            seen(entry.path, status)
            wanted = FILE_MODES[bool(status.st_mode & 0o111)]
            if stat.S_IMODE(status.st_mode) != wanted:
                _change_mode(entry.path, status, wanted)


def _change_mode(path: str, status: os.stat_result, mode: int) -> None:
    """Change the mode of a file, or of a copy of one that a cache holds as well."""
    if status.st_nlink == 1:
        with suppress(PermissionError):
            os.chmod(path, mode)
            return
    try:
        _copy(path, mode)
    except PermissionError:
        # What cannot be read cannot be copied; it is ours, or this is refused, too.
        os.chmod(path, mode)


def _copy(path: str, mode: int) -> None:
    """Put a copy in the place of a file; nothing that a package brought is in its way."""
    with (
        published_file(Path(path), mode, follow=False, durable=False) as target,
        open(path, "rb") as source,
    ):
        shutil.copyfileobj(source, target, COPIED)
