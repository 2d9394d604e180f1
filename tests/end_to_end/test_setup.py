"""What tools/setup does with the file of pins: it says what is wrong, and installs just that."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SETUP = Path(__file__).resolve().parents[2] / "tools/setup"
# A package of no files of its own, so that nothing is built but metadata.
PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "mine"
version = "1.0"
dependencies = ["six"]
[tool.setuptools]
packages = []
"""


class Clone:
    """A directory with tools/setup, which finds packages in a directory only."""

    def __init__(self, path: Path, wheels: Path) -> None:
        self.path = path
        self.wheels = wheels
        self.pins = path / "tools/pins.txt"
        self.pins.parent.mkdir(parents=True)
        shutil.copy(SETUP, self.pins.parent)
        (path / "pyproject.toml").write_text(PROJECT)
        # Nothing of the system is installed.
        (path / ".modules/usr").mkdir(parents=True)

    def pin(self, *names: str) -> None:
        self.pins.write_text("# By a test.\n" + "".join(map(self.entry, names)))

    def entry(self, name: str) -> str:
        (wheel,) = self.wheels.glob(f"{name}-*.whl")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        return f"{name}=={wheel.name.split('-')[1]} \\\n    --hash=sha256:{digest}\n"

    def run(self, status: int = 0) -> str:
        pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_NO_COMPILE": "1"}
        done = subprocess.run(
            ["tools/setup"],
            cwd=self.path,
            env={**os.environ, **pip, "PIP_FIND_LINKS": str(self.wheels)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        return done.stderr

    def installed(self) -> set[str]:
        packages = self.path.glob(".venv/lib/python*/site-packages/*.dist-info")
        return {path.name.split("-")[0] for path in packages} - {"pip"}


@pytest.fixture
def clone(tmp_path: Path, channel: Path) -> Clone:
    return Clone(tmp_path / "clone", channel.parent / "wheels")


@pytest.mark.long
def test_only_what_is_pinned_is_installed(clone: Clone) -> None:
    clone.pin("idna", "setuptools")
    assert "tools/pins.txt is not complete (mine 1.0 requires six" in clone.run(1)
    clone.pin("idna", "setuptools", "six")
    clone.run()
    assert clone.installed() == {"idna", "mine", "setuptools", "six"}
    assert clone.run() == ""
    clone.pin("setuptools", "six")
    clone.run()
    assert clone.installed() == {"mine", "setuptools", "six"}
    # Packages that are right stay as they are.
    (kept,) = clone.path.glob(".venv/lib/python*/site-packages/six.py")
    before = kept.stat()
    (clone.path / "pyproject.toml").write_text(PROJECT + "# more\n")
    assert "installing" in clone.run()
    assert kept.stat() == before


def conflict(text: str) -> str:
    return text.replace("six==", "<<<<<<< HEAD\nsix==")


DAMAGES: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda text: "", "is missing or empty"),
    "conflict": (conflict, "is damaged in line 4"),
    "binary": (lambda text: text.replace("==", "\0", 1), "is damaged in line 2"),
    "hash": (lambda text: text.replace("sha256:", "sha256:x", 1), "is damaged in line 3"),
    "half": (lambda text: text[: text.rindex("    --hash")], "ends too early"),
    "other": (lambda text: text[: text.index("setuptools")] + text[text.index("six") :], "lacks"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_pins_are_named_and_harm_nothing(clone: Clone, damage: str) -> None:
    change, reason = DAMAGES[damage]
    clone.pin("setuptools", "six")
    clone.pins.write_text(change(clone.pins.read_text()))
    (clone.path / ".venv").mkdir()
    told = clone.run(1)
    assert re.search(rf"^setup: tools/pins.txt .*{reason}.*git restore .*make pins", told)
    assert list((clone.path / ".venv").iterdir()) == []


def test_missing_pins_are_named(clone: Clone) -> None:
    assert "tools/pins.txt is missing or empty: restore it" in clone.run(1)


@pytest.mark.long
def test_pins_that_cannot_be_installed_are_named(clone: Clone) -> None:
    clone.pin("setuptools", "six")
    text = clone.pins.read_text()
    clone.pins.write_text(text[:-65] + "0" * 64 + "\n")
    told = clone.run(1)
    assert "HASHES" in told
    assert "otherwise restore the file (git restore tools/pins.txt)" in told
