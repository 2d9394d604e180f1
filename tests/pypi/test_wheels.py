"""uv as builds use it: files that it replaces can be hard links into the package cache."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from condainer.pypi import wheels
from condainer.system.files import sha256_of
from condainer.system.reporter import Silent

INFO = "over-1.0.dist-info"
FILES = {
    "tests/__init__.py": "new",
    "over-1.0.data/data/share/over.txt": "new",
    "over-1.0.data/scripts/script": "#!python\nnew",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: over\nVersion: 1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\nentry = over:new\n",
}


def test_uv_replaces_files_and_does_not_write_into_them(tmp_path: Path) -> None:
    wheel = tmp_path / "over-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
        archive.writestr(f"{INFO}/RECORD", "".join(f"{n},,\n" for n in [*FILES, f"{INFO}/RECORD"]))
    prefix = tmp_path / "prefix"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    (site,) = prefix.glob("lib/python3*/site-packages")
    # Another version of it, which uv removes, and files that belong to nobody.
    (site / "over-0.9.dist-info").mkdir()
    (site / "over-0.9.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: over\nVersion: 0.9\n"
    )
    (site / "over-0.9.dist-info" / "RECORD").write_text(
        "gone.py,,\nover-0.9.dist-info/METADATA,,\nover-0.9.dist-info/RECORD,,\n"
    )
    names = ["share/over.txt", "bin/script", "bin/entry"]
    linked = [site / "tests/__init__.py", site / "gone.py", *(prefix / name for name in names)]
    cache = tmp_path / "cache"
    cache.mkdir()
    for number, path in enumerate(linked):
        (cache / str(number)).write_text("cached")
        (cache / str(number)).chmod(0o640)
        path.parent.mkdir(exist_ok=True)
        os.link(cache / str(number), path)
    hashed = f"over @ {wheel.as_uri()}{wheels.HASHED}{sha256_of(wheel)}"
    wheels.install([hashed], prefix, tmp_path, [], Silent())
    assert not (site / "gone.py").exists()
    for path in cache.iterdir():
        status = path.stat()
        assert (path.read_text(), status.st_mode & 0o777, status.st_nlink) == ("cached", 0o640, 1)
    assert all("cached" not in path.read_text() for path in linked if path.exists())


@pytest.mark.parametrize(
    ("requirement", "name"),
    [
        ("Foo.Bar[x] @ https://host/other-1.0.tar.gz", "foo-bar"),
        ("https://host/a-b/foo-bar-1.0.tar.gz", "foo-bar"),
        ("https://user@host/foo-bar-1.0.zip#sha256=00", "foo-bar"),
        ("https://host/foo-bar-1.0.tar.gz?a=b-c --hash=sha256:00", "foo-bar"),
        ('https://host/foo-bar-1.0.tar.gz ; python_version > "3.8"', "foo-bar"),
        ("https://host/foo_bar-1.0%2Bcpu-1-py3-none-any.whl", "foo-bar"),
        ("git+https://host/x.git@v1#egg=foo_bar&subdirectory=y", "foo-bar"),
        ("git+https://host/foo-bar@" + 40 * "0", "foo-bar"),
        ("git+ssh://git@host/foo-bar.git", "foo-bar"),
    ],
)
def test_a_url_names_a_package(requirement: str, name: str) -> None:
    assert wheels.name_of_url(requirement) == name
