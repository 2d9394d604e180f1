"""An end to waiting for slow servers, which send a byte now and then and so are never silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from typing import TYPE_CHECKING

from condainer.network import silence

if TYPE_CHECKING:
    from requests import Response

# Seconds between two looks, and for the whole of a small file.
TICK = 0.25
SMALL = 60.0
# The time for a block, as a multiple of that for a byte: silence is reported as such.
BLOCK = 2.0
# Seconds for the block that is being sent.
GIVING_UP = 0.5


class Sending:
    """The body of a request, which sets `ended` after its last byte, and stops when `given_up`."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.given_up = False


def answered(
    ask: Callable[[], Response], timeout: tuple[float, float], sending: Sending | None = None
) -> Response:
    """Return the answer to a request, once its headers are there.

    The client's own limits are for each byte and each redirection. Parameters: `timeout` has these
    limits in seconds; the time of the whole answer begins at the end of `sending`, the body of the
    request. Raises requests.Timeout, and what `ask` raises.
    """
    import requests

    outcome: futures.Future[Response] = futures.Future()

    def run() -> None:
        try:
            outcome.set_result(ask())
        except BaseException as error:
            outcome.set_exception(error)

    if sending is not None:
        sending.ended.clear()
        outcome.add_done_callback(lambda done: sending.ended.set())
    # The thread cannot be ended; as a daemon, it does not keep the process.
    threading.Thread(target=run, daemon=True).start()
    limit = 2 * sum(timeout)
    try:
        if sending is not None:
            sending.ended.wait()
        done = futures.wait([outcome], limit).done
    except BaseException:
        # After ^C, the next request to the server must not come before the end of this one.
        if sending is not None:
            sending.given_up = True
            futures.wait([outcome], GIVING_UP)
        raise
    if not done:
        raise requests.Timeout(f"no answer within {limit:g} s")
    return outcome.result()


class Body:
    """The body of an answer, which another thread ends if it comes too slowly.

    Parameters: `end` is when all of it must be there, by the monotonic clock.
    """

    def __init__(self, response: Response, end: float | None = None) -> None:
        self._raw = response.raw
        self._end = end
        # When read() began to wait: a slow disk is no slow server.
        self._since: float | None = None
        self._size = 0
        self._finished = threading.Event()
        self.late = ""

    def __enter__(self) -> Body:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._finished.set()

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or fewer at the end; raises as urllib3.

        What it returns or raises counts only while `late` is empty.
        """
        self._size, self._since = size, time.monotonic()
        try:
            return bytes(self._raw.read(size, decode_content=False))
        finally:
            self._since = None

    def _watch(self) -> None:
        while not self._finished.wait(TICK):
            now, since, limit = time.monotonic(), self._since, BLOCK * silence.limit()
            if self._end is not None and now > self._end:
                self.late = "it comes too slowly"
            elif since is not None and now - since > limit:
                self.late = f"less than {self._size} bytes came in {limit:g} s"
            if self.late:
                # The connection may be closed already.
                with suppress(ValueError, RuntimeError, OSError):
                    self._raw.shutdown()
                return
