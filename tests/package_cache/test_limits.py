"""What a build removes of a package cache that is too old, too large or of too many files."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from condainer.network import client_settings
from condainer.package_cache import in_use, limits
from condainer.settings.config import Settings
from condainer.system.reporter import Silent

Load = Callable[..., Settings]
# From the one that was used last to the one that was used first, in days.
PIECES = {"archives/aa/new.conda": 0, "archives/aa/old.conda": 2, "git/aa/repository": 5}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "packages"
    for name, days in {**PIECES, "notes of the user": 100}.items():
        put(path / name, days)
    return path


def put(file: Path, days: float, size: int = 1000) -> None:
    """Write a file that was used some days ago."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))
    then = time.time() - days * 86400
    os.utime(file, (then, then))


def left(root: Path, settings: Settings) -> list[str]:
    """Keep the limits, and return what is left of the pieces."""
    client_settings.prepare(settings, Silent())
    limits.keep(settings, Silent())
    assert (root / "notes of the user").exists()
    return [name for name in PIECES if (root / name).exists()]


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        ({"packages_older_than": "30d"}, 3),
        ({"packages_older_than": "3d"}, 2),
        ({"packages_max_files": 1}, 1),
        ({"packages_max_size": "2000"}, 2),
        ({"packages_max_size": "1999"}, 1),
    ],
)
def test_what_was_used_last_stays(root: Path, load: Load, limit: dict[str, Any], kept: int) -> None:
    settings = replace(load(f"package_cache={root}"), **limit)
    assert left(root, settings) == list(PIECES)[:kept]


def test_what_can_be_made_of_downloads_goes_before_them(root: Path, load: Load) -> None:
    for name in ("unpacked/new-1.0-0", "uv/new", "interpreters/new"):
        put(root / name / "file", 0)
    settings = replace(load(f"package_cache={root}"), packages_max_files=4)
    assert left(root, settings) == list(PIECES)
    assert len([*root.glob("*/new*/file")]) == 1


@pytest.mark.parametrize("name", ["archives", "compiled", "git", "metadata"])
def test_what_is_old_goes_without_what_is_new(root: Path, load: Load, name: str) -> None:
    old, new = root / name / "bb" / "old", root / name / "bb" / "new"
    put(old, 40)
    put(new, 1)
    assert left(root, replace(load(f"package_cache={root}"), packages_older_than="30d"))
    assert (old.exists(), new.exists()) == (False, True)


def test_what_is_too_large_by_itself_takes_nothing_with_it(root: Path, load: Load) -> None:
    put(root / "archives/aa/large.conda", 0, 3000)
    settings = replace(load(f"package_cache={root}"), packages_max_size="2000")
    assert left(root, settings) == list(PIECES)[:2]
    assert not (root / "archives/aa/large.conda").exists()


def test_nothing_goes_while_another_build_uses_it(root: Path, load: Load) -> None:
    settings = replace(load(f"package_cache={root}"), packages_max_files=1)
    descriptor = os.open(root / in_use.IN_USE, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    assert left(root, settings) == list(PIECES)
    os.close(descriptor)
    assert left(root, settings) == list(PIECES)[:1]
