"""A thread that works on blocks of data, a few blocks behind the thread that brings them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

# How many blocks may wait, which bounds the memory.
AHEAD = 4


class BlockThread:
    """Calls a function with each block that it is given, in order, until the function fails.

    The thread ends with the object.
    """

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take
        self._pool = ThreadPoolExecutor(1)
        self._room = threading.Semaphore(AHEAD)
        self._failure: Exception | None = None

    def give(self, block: bytes) -> None:
        """Take a block, once there is room for it; raises what the function has raised."""
        self._raise()
        self._room.acquire()
        self._pool.submit(self._work, block)

    def wait(self) -> None:
        """Wait until all blocks are done; raises what the function has raised."""
        self._pool.submit(lambda: None).result()
        self._raise()

    def close(self) -> None:
        """Wait until all blocks are done or have failed, and take no more."""
        self._pool.shutdown()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self, block: bytes) -> None:
        try:
            if self._failure is None:
                self._take(block)
        except Exception as error:
            self._failure = error
        finally:
            self._room.release()
