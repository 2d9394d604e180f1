"""The note in a cache that a project names an image of it, written by each build."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import xxhash

from condainer.cache.entries import UNREADABLE, Entry
from condainer.settings.config import Settings
from condainer.startup.find_project import DEFAULT
from condainer.system.files import publish_text, read_small, user_name
from condainer.system.machine import this_platform

# Where the notes of a cache are.
PROJECTS = "projects"
# What one of them may hold at most, in bytes; the longest path has 4096.
LIMIT = 32_768
# How old a note may become before a build touches it, in seconds.
RENEWED = 86400.0


def note(entry: Entry, settings: Settings) -> None:
    """Note in the cache of an entry that a project uses it; a cache that is only read stays so.

    Nothing is written if the same note is there already; failures are ignored.
    """
    with suppress(OSError):
        path = place_of(entry, settings)
        if path is None:
            return
        directory = Path(os.path.realpath(settings.project))
        platform, base = this_platform(), settings.mount_base_directory
        content = {
            "project": str(directory),
            "address": entry.address,
            "platform": platform,
            "base": str(base),
            "user": user_name(os.geteuid()),
            "host": os.uname().nodename,
            "inode": directory.stat().st_ino,
            "parent": directory.parent.stat().st_ino,
        }
        if name := _name(settings):
            content["environment"] = name
        written = _written(path, content)
        if written is None:
            publish_text(path, json.dumps(content) + "\n", 0o644, follow=False)
        elif time.time() - written > RENEWED:
            os.utime(path, follow_symlinks=False)


def place_of(entry: Entry, settings: Settings) -> Path | None:
    """Return where a project is noted in the cache of an entry, None where nothing is noted."""
    place = entry.root / PROJECTS
    if entry.root in settings.readonly_caches or place.is_symlink() or not place.is_dir():
        return None
    directory, name = os.path.realpath(settings.project), _name(settings)
    of = f"\0{name}" if name else ""
    key = os.fsencode(f"{directory}\0{this_platform()}\0{settings.mount_base_directory}{of}")
    return place / f"{xxhash.xxh3_128_hexdigest(key)}.{os.geteuid()}"


def _name(settings: Settings) -> str:
    """Return the name of the environment, empty for `default`, which is that of most projects."""
    name = settings.environment_name
    return "" if name == DEFAULT else name


def _written(path: Path, content: dict[str, object]) -> float | None:
    """Return when this was noted, by any node that sees the same directory, or None."""
    with suppress(OSError, *UNREADABLE):
        text, status = read_small(path, LIMIT)
        same = {**json.loads(text), "host": content["host"]} == content
        return status.st_mtime if same else None
    return None
