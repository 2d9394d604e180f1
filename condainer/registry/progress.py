"""The progress of the transfer of an image: how much, how fast, and how much longer."""

from __future__ import annotations

import time
from collections.abc import Callable

from condainer.system.reporter import Reporter
from condainer.system.text import human_rate, human_seconds, human_size


def progress(reporter: Reporter, size: int) -> Callable[[int], None]:
    """Return a function that takes the number of transferred bytes, of `size`, for the reporter."""
    begun = time.monotonic()

    def tell(done: int) -> None:
        seconds = time.monotonic() - begun
        text = f"{human_size(size)}, {human_rate(done, seconds)}"
        if 0 < done < size:
            left = human_seconds(seconds * (size - done) / done)
            text = f"{100 * done // size} %, {human_rate(done, seconds)}, {left} left"
        reporter.progress(done, size)
        reporter.receiving(text)

    return tell
