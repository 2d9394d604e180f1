"""Threads beside the one that ^C ends."""

from __future__ import annotations

import threading
from contextlib import suppress

from condainer.system import threads


def test_what_threads_do_is_waited_for() -> None:
    done: list[int] = []
    with threads.pool(2) as pool:
        for number in range(9):
            pool.submit(done.append, number)
    assert sorted(done) == [*range(9)]


def test_an_interruption_does_not_wait_for_threads() -> None:
    held, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        held.wait()

    try:
        with suppress(KeyboardInterrupt), threads.pool(1) as pool:
            first, second = pool.submit(work), pool.submit(work)
            begun.wait()
            raise KeyboardInterrupt
        assert first.running()
        assert second.cancelled()
    finally:
        held.set()
