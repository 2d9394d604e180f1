"""One file from a URL into an open file: tried again, resumed, and hashed on the way."""

from __future__ import annotations

import email.utils
import functools
import hashlib
import os
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

from condainer import __version__
from condainer.packages import credentials, silence
from condainer.system.files import open_regular
from condainer.system.hosts import near
from condainer.system.urls import redacted

if TYPE_CHECKING:
    from requests import Response, Session
    from requests.auth import AuthBase

# Of tries that brought nothing; each byte that comes begins a new count, up to a limit.
TRIES = 5
RESUMPTIONS = 100
# Seconds. The first wait, which doubles; the longest one; to connect.
FIRST_WAIT = 0.25
LONGEST_WAIT = 30.0
CONNECT = 15.0
BLOCK = 1 << 16
PARALLEL = 8
# Beside all from 500: the server asks for patience.
LATER = (408, 425, 429)
DENIED = (401, 403, 404)


class Unavailable(Exception):
    """A URL does not give its file; `again` says whether it may do so later.

    Parameters: `wait` is the time in seconds that the server asks for, `status` its answer;
    `silent` that nothing came for as long as a client waits.
    """

    def __init__(
        self,
        reason: str,
        again: bool = False,
        wait: float | None = None,
        status: int = 0,
        silent: bool = False,
    ) -> None:
        super().__init__(reason)
        self.again = again
        self.wait = wait
        self.status = status
        self.silent = silent


class Received:
    """What has come of a file, in an open file that can be written anew."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.restart()

    def restart(self) -> None:
        """Forget what has come."""
        self.stream.seek(0)
        self.stream.truncate()
        self.sha256 = hashlib.sha256()
        self.size = 0
        # By which the server can tell that it still has the same file.
        self.validator = ""
        self.kind = ""
        self.whole = True

    def write(self, data: bytes) -> None:
        """Add bytes; raises OSError, which is about the disk and not about the network."""
        self.stream.write(data)
        self.sha256.update(data)
        self.size += len(data)


def fetch(url: str, received: Received, stop: threading.Event) -> None:
    """Get the whole file of an http or file URL.

    Raises Unavailable when that fails for good or `stop` is set, OSError when the disk fails.
    """
    if url.startswith("file://"):
        _copy(url, received)
        return
    tries = resumptions = 0
    wait = FIRST_WAIT
    while True:
        before = received.size
        try:
            _request(url, received, stop)
            return
        except Unavailable as problem:
            if received.size > before:
                tries, wait = 0, FIRST_WAIT
                resumptions += 1
            tries += 1
            if problem.silent and received.size == before:
                # Who said nothing for so long would be waited for as long again.
                raise
            if not problem.again or tries >= TRIES or resumptions > RESUMPTIONS:
                raise
            # Clients that were refused together must not come back together.
            stop.wait(min(problem.wait or wait * random.uniform(0.5, 1.5), LONGEST_WAIT))
            wait *= 2
            if stop.is_set():
                raise


def _copy(url: str, received: Received) -> None:
    try:
        source = open_regular(Path(unquote(urlsplit(url).path)))
    except OSError as error:
        raise Unavailable(error.strerror or str(error)) from None
    with source:
        while block := source.read(1 << 20):
            received.write(block)


def _request(url: str, received: Received, stop: threading.Event) -> None:
    import requests
    import urllib3

    try:
        with _answer(url, received) as response:
            _accept(response, received)
            expected = response.headers.get("Content-Length")
            before = received.size
            for block in response.raw.stream(BLOCK, decode_content=False):
                if stop.is_set():
                    raise Unavailable("interrupted")
                received.write(block)
            if expected is None:
                received.whole = False
            elif received.size - before < int(expected):
                raise Unavailable("the connection was closed early", again=True)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        reason = _reason(error)
        silent = isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError))
        raise Unavailable(reason, not _is_final(error), silent=silent) from None


def _answer(url: str, received: Received) -> Response:
    """Ask for what is missing; where that is denied, ask again with what a keyring knows."""
    # A server that compresses on the way could not resume.
    headers = {"Accept-Encoding": "identity", "User-Agent": f"condainer/{__version__}"}
    if received.size:
        headers["Range"] = f"bytes={received.size}-"
        if received.validator:
            headers["If-Range"] = received.validator

    def get(auth: credentials.Login | None) -> Response:
        return _session().get(
            url,
            headers=headers,
            stream=True,
            timeout=(min(CONNECT, silence.limit()), silence.limit()),
            auth=_basic(auth) if auth else None,
        )

    if unset := credentials.unset(url):
        raise Unavailable(
            f"the environment variable {unset}, which is to say who logs in, is unset"
        )
    response = get(credentials.login(url))
    if response.status_code in DENIED and (known := _keyring(url)):
        response.close()
        response = get(known)
    return response


def _keyring(url: str) -> credentials.Login | None:
    # It can take a second, or ask a person: once is enough, also for many files at a time.
    with _asking:
        return _known(credentials.server(url))


@functools.cache
def _known(server: str) -> credentials.Login | None:
    return credentials.from_keyring(server)


_asking = threading.Lock()


def _basic(login: credentials.Login) -> AuthBase:
    from requests.auth import HTTPBasicAuth

    # As UTF-8: requests would refuse other text than latin-1.
    return HTTPBasicAuth(login[0].encode(), login[1].encode())


@functools.cache
def _session() -> Session:
    """Return the client: proxies and netrc as its variables say, and the usual variable for CAs."""
    import requests
    from requests.adapters import HTTPAdapter

    class Careful(requests.Session):
        def rebuild_auth(
            self, prepared_request: requests.PreparedRequest, response: requests.Response
        ) -> None:
            target = f"{prepared_request.url}"
            if response.url.startswith("https:") and target.startswith("http:"):
                raise requests.exceptions.InvalidSchema("redirected from https to http")
            # Only who is there already may go on there.
            if near(target) not in ("", near(response.url)):
                raise requests.exceptions.InvalidSchema(f"redirected to {near(target)}")
            super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]

    session = Careful()
    adapter = HTTPAdapter(pool_connections=PARALLEL, pool_maxsize=PARALLEL)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    own = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    others = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if others and not own:
        session.verify = others
    return session


def _accept(response: Response, received: Received) -> None:
    """Go on only with an answer that continues, or begins, the file."""
    status = response.status_code
    if status == 416:
        received.restart()
        raise Unavailable("the server does not resume", again=True, status=status)
    if status not in (200, 206):
        later = status in LATER or status >= 500
        wait = _retry_after(response.headers.get("Retry-After", "")) if later else None
        reason = f"the server answers {status} {response.reason or ''}".rstrip()
        raise Unavailable(reason, later, wait, status)
    if status == 206:
        start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        if start != str(received.size):
            received.restart()
            raise Unavailable("the server resumes at the wrong place", again=True)
        received.whole = False
    else:
        received.restart()
    etag = response.headers.get("ETag", "")
    weak = not etag or etag.startswith("W/")
    received.validator = response.headers.get("Last-Modified", "") if weak else etag
    received.kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _retry_after(text: str) -> float | None:
    """Return the seconds that a Retry-After header asks for."""
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _is_final(error: Exception) -> bool:
    """Tell whether trying again is of no use: certificates and URLs stay what they are."""
    import requests

    return isinstance(error, (ValueError, requests.TooManyRedirects)) or (
        isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE" in str(error).upper()
    )


def _reason(error: Exception) -> str:
    """Return the innermost reason, in which no URL stands."""
    seen: BaseException = error
    for _ in range(10):
        inner = getattr(seen, "reason", None) or next(
            (part for part in seen.args if isinstance(part, BaseException)), None
        )
        inner = inner if isinstance(inner, BaseException) else seen.__cause__ or seen.__context__
        if inner is None:
            break
        seen = inner
    if isinstance(seen, TimeoutError):
        return "timed out"
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror
    return redacted(str(seen)) or type(seen).__name__
