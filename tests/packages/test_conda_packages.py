"""Conda packages that are linked."""

from __future__ import annotations

import os
import time
from pathlib import Path

from condainer.package_cache.archives import UNPACKED
from condainer.packages import conda_packages
from condainer.settings.load import load_settings
from condainer.system.reporter import Silent
from tests.channel.package import Recipe, write_conda, write_file


def test_what_was_unpacked_before_counts_as_used(tmp_path: Path) -> None:
    write_file(tmp_path / "tree" / "share" / "one", "1")
    write_conda(tmp_path / "tree", Recipe("one", "1.0"), tmp_path / "channel")
    archives = [*(tmp_path / "channel").rglob("*.conda")]
    settings = load_settings(tmp_path, (f"package_cache={tmp_path / 'packages'}",))
    where = (tmp_path / "final", tmp_path / "scratch", settings, Silent())
    conda_packages.link(archives, tmp_path / "first", *where)
    unpacked = tmp_path / "packages" / UNPACKED / "one-1.0-0"
    os.utime(unpacked, (0, 0))
    conda_packages.link(archives, tmp_path / "second", *where)
    assert time.time() - unpacked.stat().st_mtime < 600
