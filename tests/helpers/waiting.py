"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

# Against waiting for ever, in seconds: a busy machine takes twenty times as long as an idle one.
PATIENCE = 300.0


def wait_until(condition: Any, seconds: float = PATIENCE) -> bool:
    """Wait for something to become true, and tell whether it has."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def until(condition: Callable[[], object], what: str = "it never came true") -> None:
    """Wait for something to become true; raises AssertionError, which says what, if it does not."""
    assert wait_until(condition), what
