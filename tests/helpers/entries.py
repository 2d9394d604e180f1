"""Entries of a cache and what lies beside them, written by hand."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from condainer.cache import entries
from condainer.cache.leases import DAY


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def make_entry(root: Path, address: str, **values: Any) -> Path:
    """Put an entry with an image of four bytes into a cache."""
    directory = entries.entry_directory(root, address)
    directory.mkdir(parents=True)
    for name in (entries.IMAGE, entries.LOCK):
        if (root / name).exists():
            os.link(root / name, directory / name)
        else:
            (directory / name).write_bytes(b"hsqs")
    manifest = {
        **dict.fromkeys(("recipe_sha256", "sha256", "xxh3", "tree_sha256", "host"), ""),
        "format": 1,
        "address": address,
        "prefix": f"/tmp/condainer-{address}",
        "name": "demo",
        "size": 4,
        "builder": "me",
        "created": "2026-01-02T03:04:05Z",
        "compressor": "zstd",
        "compression_level": 9,
        "tools": {},
        **values,
    }
    (directory / entries.MANIFEST).write_text(json.dumps(manifest))
    return directory


def noted(root: Path, directory: Path, name: str = "0" * 32, **values: Any) -> Path:
    """Write the note of a project by hand."""
    content = {
        "project": str(directory),
        "address": digest(1),
        "platform": "linux-64",
        "base": "/tmp",
        "user": "me",
        "host": socket.gethostname(),
        "inode": directory.stat().st_ino if directory.is_dir() else 7,
        "parent": directory.parent.stat().st_ino if directory.parent.is_dir() else 7,
        **values,
    }
    path = root / "projects" / f"{name}.{os.geteuid()}"
    path.write_text(json.dumps(content))
    return path


def age(directory: Path, days: float) -> None:
    then = time.time() - days * DAY
    for path in (*directory.iterdir(), directory):
        os.utime(path, (then, then))


def grow_old(cache: Path) -> None:
    """Let all images, and all notes of uses, be old."""
    for entry in cache.glob("images/*/*"):
        age(entry, 100)
    for use in cache.glob("uses/*"):
        os.utime(use, (1e9, 1e9))


def snapshot(root: Path) -> list[tuple[str, int, int, int]]:
    states = []
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        states.append((str(path), status.st_mode, status.st_mtime_ns, status.st_atime_ns))
    return states
