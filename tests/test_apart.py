"""Hints to file systems: taken where they are known, and harmless elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from condainer.build import apart
from condainer.system.private_directory import claimed_directory
from tests.integration.conftest import needs


def flags(directory: Path) -> str:
    """Return what lsattr says; empty where the file system knows no such things."""
    if shutil.which("lsattr") is None:
        needs("lsattr")
    done = subprocess.run(["lsattr", "-d", directory], check=False, capture_output=True, text=True)
    return done.stdout.partition(" ")[0]


def test_a_hint_is_added_to_what_there_is(tmp_path: Path) -> None:
    before = flags(tmp_path)
    if "e" not in before:
        # Not ext4: nothing may happen.
        apart.spread(tmp_path)
        assert flags(tmp_path) == before
        return
    subprocess.run(["chattr", "+A", tmp_path], check=True)
    apart.spread(tmp_path)
    apart.spread(tmp_path)
    assert {"A", "T", "e"} <= set(flags(tmp_path))
    # What is made below is not concerned.
    (tmp_path / "below").mkdir()
    assert "T" not in flags(tmp_path / "below")


def test_other_file_systems_are_left_alone(tmp_path: Path) -> None:
    shared = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        apart.spread(shared)
        (shared / "file").write_text("content")
    finally:
        shutil.rmtree(shared)
    apart.spread(tmp_path / "absent")
    assert os.listdir(tmp_path) == []


def test_names_differ_from_build_to_build(tmp_path: Path) -> None:
    with claimed_directory(tmp_path, "stage") as one, claimed_directory(tmp_path, "stage") as two:
        names = {apart.named(place, "prefix").name for place in (one, two)}
        assert len(names) == 2
        assert all(name.startswith("prefix.") for name in names)
        assert apart.named(one, "prefix").parent == one
