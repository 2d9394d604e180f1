"""What a test needs of its machine."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def needs(what: str) -> NoReturn:
    """Skip where something is missing, but not in continuous integration."""
    if os.environ.get("CI"):
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")
