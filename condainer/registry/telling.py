"""How far the transfer of an image is, how fast it goes, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable

from condainer.system.reporter import Reporter
from condainer.system.text import human_rate, human_seconds, human_size


def telling(reporter: Reporter, size: int) -> Callable[[int], None]:
    """Return what is told how many of `size` bytes have gone over, and tells the reporter."""
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
