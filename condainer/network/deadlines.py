"""An end to waiting for servers that send a byte now and then, and so are never silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from condainer.network import silence

if TYPE_CHECKING:
    from requests import Response

# Seconds between two looks, and for the whole of a small file.
TICK = 0.25
SMALL = 60.0
# For a block, times as long as for a byte: so that silence is told as such.
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

    The client's own limits hold for one byte each, and for one of several hops. Parameters:
    `timeout` has these limits in seconds; those of the whole answer begin when `sending`, the body
    of the request, has ended. Raises requests.Timeout, and what `ask` raises.
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
    # Nothing ends it from outside; a daemon does not keep the process.
    threading.Thread(target=run, daemon=True).start()
    limit = 2 * sum(timeout)
    try:
        if sending is not None:
            sending.ended.wait()
        done = futures.wait([outcome], limit).done
    except BaseException:
        # ^C: what follows, such as a word to the server, comes after what is still being sent.
        if sending is not None:
            sending.given_up = True
            futures.wait([outcome], GIVING_UP)
        raise
    if not done:
        raise requests.Timeout(f"no answer within {limit:g} s")
    return outcome.result()


class Body:
    """The body of an answer, of which another thread watches that it comes.

    Parameters: `end` is when all of it has to be there, by the monotonic clock.
    """

    def __init__(self, response: Response, end: float | None = None) -> None:
        self._raw = response.raw
        self._end = end
        # When the block that is waited for was asked for: a slow disk is no slow server.
        self._since: float | None = None
        self._size = 0
        self._finished = threading.Event()
        self.late = ""

    def __enter__(self) -> Body:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finished.set()

    def read(self, size: int) -> bytes:
        """Return the next bytes, as many as are asked for unless it ends; raises as urllib3.

        What it returns or raises counts only as long as `late` is empty.
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
                # There may be nothing to shut down any more.
                with suppress(ValueError, RuntimeError, OSError):
                    self._raw.shutdown()
                return
