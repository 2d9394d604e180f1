"""What packages from source need to be built."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from condainer.lock.locks import CondaPackage, Lock, PipPackage
from condainer.package_cache import archives
from condainer.pypi import build_requirements, wheels
from condainer.settings.config import Settings
from condainer.settings.load import load_settings
from tests.helpers.told import Told

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
    package = CondaPackage(f"https://channel.example/{platform}/{conda}", "0" * 64)
    lock = Lock(platform, (package,), (SDIST,))
    settings = load_settings(tmp_path, (f"package_cache={tmp_path / 'packages'}",))
    warning = warned(lock, settings)
    assert "thing" in warning
    assert said in warning


def warned(lock: Lock, settings: Settings) -> str:
    """Return the warning with which nothing is fetched."""
    reporter = Told()
    assert build_requirements.fetch(lock, settings, reporter) == []
    (warning,) = reporter.warnings
    return warning


def zipped(text: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("thing-1.0/pyproject.toml", text)
    return content.getvalue()


def tarred() -> bytes:
    """Return an archive whose first file is larger than half of it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, size in (("data", 300_000), ("pyproject.toml", 1000)):
            member = tarfile.TarInfo(f"thing-1.0/{name}")
            member.size = size
            archive.addfile(member, io.BytesIO(os.urandom(size)))
    return content.getvalue()


WHOLE = zipped("[build-system]\nrequires = []\n")


@pytest.mark.parametrize(
    "content",
    [
        b"no archive",
        # They were cut off, before they were locked.
        gzip.compress(tarred())[:200_000],
        lzma.compress(tarred())[:200_000],
        # Another method of compression, in the list of files and before the file.
        WHOLE.replace(b"\x14\0\0\0\0\0", b"\x14\0\0\0\x63\0"),
        WHOLE.replace(b"thing-1.0/pyproject", b"thing-1.0/PYPROJECT", 1),
        zipped("build-system = 3\n"),
        zipped("[build-system]\nrequires = 3\n"),
        zipped("[build-system]\nrequires = 'setuptools'\n"),
        zipped("no toml"),
    ],
    ids=range(9),
)
def test_what_an_odd_sdist_needs_is_not_found_out(tmp_path: Path, content: bytes) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    sdist = PipPackage("thing", "https://index.example/thing-1.0.tar.gz", sha256)
    python = CondaPackage("https://channel.example/linux-64/python-3.12.1-0.conda", "0" * 64)
    settings = load_settings(tmp_path, (f"package_cache={tmp_path / 'packages'}",))
    (file,) = wheels.files_of([sdist], settings)
    path = archives.path_in(settings.package_cache, file)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    warning = warned(Lock("linux-64", (python,), (sdist,)), settings)
    assert "What thing needs to be built was not found out" in warning


def test_a_record_that_is_read_counts_as_used(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, (f"package_cache={tmp_path / 'packages'}",))
    build_requirements.write("key", "[]", settings)
    path = build_requirements.path_of("key", settings)
    os.utime(path, (0, 0))
    assert build_requirements.read("key", settings) == []
    assert time.time() - path.stat().st_atime < 600
    assert path.stat().st_mtime == 0
