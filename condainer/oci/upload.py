"""The upload of one blob, which continues where a connection broke off."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from condainer.network import deadlines, http, silence
from condainer.oci.errors import RegistryError

if TYPE_CHECKING:
    from requests import Response

    from condainer.oci.client import Client

PUSH = "pull,push"
BLOCK = 1 << 20
# In bytes: smaller blobs go with the request that ends an upload.
SMALL = 1 << 20
# Seconds.
CANCELLING = 1.0
# The least bytes per second at which a registry reads a blob again before it confirms it.
SLOWEST = 20_000_000
# No file has more digits.
RANGE = re.compile(r"(?:bytes=)?0-(?P<last>\d{1,18})")
# The statuses of a rest that is not taken: the upload has gone, or has another size or other bytes.
LOST = (400, 404, 416)
# The statuses for a body: the specification's, and that of `crane registry serve`.
TAKEN = (202, 204)


class Upload:
    """A blob on its way to a repository; parameters are those of Client.upload().

    `there` is how many bytes the registry has confirmed.
    """

    def __init__(
        self,
        client: Client,
        digest: str,
        size: int,
        stream: BinaryIO,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.client = client
        self.digest = digest
        self.size = size
        self.stream = stream
        self.progress = progress
        self.there = 0
        self._location = ""
        self.failure: OSError | None = None

    def attempt(self) -> bool:
        """Send what is missing; False if nothing is. Raises http.Unavailable."""
        begun = bool(self._location)
        if self.client.has(self.digest):
            return begun
        resumed = begun and self._is_resumed()
        if not resumed:
            self.there = 0
            self._follow(self._ask("POST", "blobs/uploads/", (202,)))
        try:
            self._send(resumed)
        except http.Unavailable as problem:
            if not (resumed and problem.status in LOST):
                raise
            self._location = ""
            raise http.Unavailable(str(problem), again=True) from None
        return True

    def cancel(self) -> None:
        """Tell the registry to drop the upload, if it answers within a second."""
        if self._location:
            ended = threading.Thread(target=self._cancel, daemon=True)
            ended.start()
            ended.join(CANCELLING)

    def _cancel(self) -> None:
        # Registries remove abandoned uploads themselves, later.
        with suppress(http.Unavailable, RegistryError, OSError):
            self.client.ask("DELETE", self._location, (), PUSH).close()

    def _is_resumed(self) -> bool:
        """Ask how much of a broken upload has arrived; False if the registry does not tell that."""
        try:
            response = self._ask("GET", self._location, (204,))
        except http.Unavailable as problem:
            if problem.again:
                raise
            return False
        match = RANGE.fullmatch(response.headers.get("Range", "").strip())
        # Some registries answer `0-0` for nothing.
        last = int(match["last"]) if match else 0
        if last >= self.size:
            return False
        self.there = last + 1 if last else 0
        self._follow(response)
        return True

    def _send(self, resumed: bool) -> None:
        body: _Part | None = _Part(self, self.there)
        if self.size > SMALL or resumed:
            headers = {"Content-Type": "application/octet-stream"}
            if resumed:
                headers["Content-Range"] = f"{self.there}-{self.size - 1}"
            if self.there < self.size:
                self._follow(self._ask("PATCH", self._location, TAKEN, headers, body))
            body = None
        separator = "&" if "?" in self._location else "?"
        place = f"{self._location}{separator}digest={self.digest}"
        headers = {"Content-Type": "application/octet-stream"}
        self._ask("PUT", place, (201,), headers, body, self.size / SLOWEST)

    def read(self, start: int) -> bytes:
        """Return a block of the file; raises OSError."""
        try:
            self.stream.seek(start)
            block = self.stream.read(min(BLOCK, self.size - start))
            if not block:
                raise OSError(errno.EIO, f"it has less than {self.size} bytes")
        except OSError as error:
            self.failure = error
            raise
        return block

    def _ask(
        self,
        method: str,
        place: str,
        expected: tuple[int, ...],
        headers: dict[str, str] | None = None,
        body: _Part | None = None,
        longer: float = 0.0,
    ) -> Response:
        # The first limit is also that of sending a block.
        timeout = (silence.limit(), silence.limit() + longer)
        try:
            # An empty body would be sent in chunks.
            return self.client.ask(method, place, expected, PUSH, headers, body or None, timeout)
        except http.Unavailable:
            # requests reports an error of the disk as one of the network.
            if self.failure is not None:
                raise self.failure from None
            raise

    def _follow(self, response: Response) -> None:
        """Continue at the URL that the registry names; only the registry itself gets a login."""
        with http.failures():
            location = http.joined(response.url, response.headers.get("Location", response.url))
            http.check_redirect(response.url, location)
        self._location = location


class _Part(deadlines.Sending):
    """The end of a file, as the body of a request of known length that can be sent again."""

    def __init__(self, upload: Upload, start: int) -> None:
        super().__init__()
        self._upload = upload
        self._start = start

    def __len__(self) -> int:
        return self._upload.size - self._start

    def __iter__(self) -> Iterator[bytes]:
        upload, sent = self._upload, self._start
        while sent < upload.size:
            if self.given_up:
                raise http.Unavailable("interrupted")
            yield (block := upload.read(sent))
            sent += len(block)
            if upload.progress is not None:
                upload.progress(sent)
        self.ended.set()
