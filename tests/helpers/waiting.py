"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_until(condition: Any, seconds: float = 10) -> bool:
    """Wait for something to become true, and tell whether it has."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def until(
    condition: Callable[[], object], what: str = "it never came true", seconds: float = 30
) -> None:
    """Wait for something to become true; raises AssertionError, which says what, if it does not."""
    assert wait_until(condition, seconds), what
