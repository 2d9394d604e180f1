"""What packages from source need to be built."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from condainer.lock.locks import CondaPackage, Lock, PipPackage
from condainer.pypi import build_requirements
from condainer.settings.load import load_settings
from condainer.system.reporter import Silent

SDIST = PipPackage("thing", "https://index.example/thing-1.0.tar.gz", "0" * 64)


@pytest.mark.parametrize(
    ("platform", "conda", "said"),
    [
        ("linux-ppc64le", "python-3.12.1-0.conda", "for linux-ppc64le"),
        ("linux-aarch64", "other-1.0-0.conda", "without a python"),
        ("linux-64", "other-1.0-0.conda", "without a python"),
    ],
)
def test_what_cannot_be_found_out_is_a_warning(
    tmp_path: Path, platform: str, conda: str, said: str
) -> None:
    warnings: list[str] = []

    class Warned(Silent):
        def warn(self, message: str) -> None:
            warnings.append(message)

    package = CondaPackage(f"https://channel.example/{platform}/{conda}", "0" * 64)
    lock = Lock(platform, (package,), (SDIST,))
    settings = load_settings(tmp_path, (f"package_cache={tmp_path / 'packages'}",))
    assert build_requirements.fetch(lock, settings, Warned()) == []
    (warning,) = warnings
    assert "thing" in warning
    assert said in warning


def test_a_record_that_is_read_counts_as_used(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, (f"package_cache={tmp_path / 'packages'}",))
    build_requirements.write("key", "[]", settings)
    path = build_requirements.path_of("key", settings)
    os.utime(path, (0, 0))
    assert build_requirements.read("key", settings) == []
    assert time.time() - path.stat().st_atime < 600
    assert path.stat().st_mtime == 0
