"""What a test needs of its machine: without it, the test is skipped, or fails in CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

LMOD = Path("/usr/share/lmod/lmod/init/bash")


def needs(what: str) -> NoReturn:
    """Skip a test where something is missing, but not in continuous integration."""
    if os.environ.get("CI"):
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")


def needs_program(name: str) -> str:
    """Return the path of a program; skip a test without it, but not in continuous integration."""
    return shutil.which(name) or needs(name)


def needs_lmod() -> None:
    """Skip a test where Lmod is missing, but not in continuous integration."""
    if not LMOD.exists():
        needs("lmod")


def needs_root(purpose: str) -> None:
    """Skip a test that an ordinary user runs, but not in continuous integration."""
    if os.geteuid() != 0:
        needs(f"root {purpose}")
