"""Threads beside this one, for which ^C does not wait."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def pool(count: int) -> Iterator[ThreadPoolExecutor]:
    """Provide so many threads, and wait at the end for what they do.

    After ^C or an error, they are left to it: what is read may be long, or not come at all.
    """
    threads = ThreadPoolExecutor(count)
    try:
        yield threads
    except BaseException:
        threads.shutdown(wait=False, cancel_futures=True)
        raise
    threads.shutdown()
