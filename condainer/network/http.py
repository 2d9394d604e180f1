"""The download of one file into an open file: repeated, resumed, and hashed on the way."""

from __future__ import annotations

import email.utils
import functools
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

from condainer import __version__
from condainer.network import credentials, deadlines, silence
from condainer.network.hosts import near
from condainer.system.files import open_regular
from condainer.system.text import printable
from condainer.system.urls import origin, redacted

if TYPE_CHECKING:
    from requests import Response, Session
    from requests.auth import AuthBase

T = TypeVar("T")
# Asks for a file, with headers that say which part of it is missing.
Get = Callable[[Mapping[str, str]], "Response"]

# The tries that bring nothing; a byte that comes begins a new count, up to a limit.
TRIES = 5
RESUMPTIONS = 100
# The first wait, which doubles; the longest one; the time to connect; all in seconds.
FIRST_WAIT = 0.25
LONGEST_WAIT = 30.0
CONNECT = 15.0
# The number of tries, and the longest wait in seconds.
Pace = tuple[int, float]
PATIENT: Pace = (TRIES, LONGEST_WAIT)
# The same for a short look before a build, and for small files once a server has answered; and the
# seconds to connect and to answer.
IMPATIENT: Pace = (2, 1.0)
BRISK: Pace = (TRIES, 1.0)
LOOK_UP = (5.0, 10.0)
BLOCK = 1 << 16
# Files of at least so many bytes come in larger blocks, whose sum another thread computes. With
# blocks of 1 MiB, a virtual machine asked its host for memory each time: 1 GB took twice as long.
LARGE = 16 << 20
LARGE_BLOCK = 1 << 18
# How many of them may wait for that, which bounds the memory.
AHEAD = 4
PARALLEL = 8
# The statuses below 500 after which the server may answer later.
LATER = (408, 425, 429)
DENIED = (401, 403, 404)
# For transfers that nothing stops.
NEVER = threading.Event()
# A server that compresses an answer cannot resume it.
HEADERS = {"User-Agent": f"condainer/{__version__}", "Accept-Encoding": "identity"}


class Unavailable(Exception):
    """A URL does not give its file; `again` says whether it may do so later.

    Parameters: `wait` is the time in seconds that the server asks for, `status` its answer;
    `silent` says that no byte came for as long as a client waits.
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


class TooMuch(Unavailable):
    """More bytes come than the file can have."""


class Sha256Beside:
    """A sha256 that another thread computes while the next blocks come; it ends with the object."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1)
        self._room = threading.Semaphore(AHEAD)

    def update(self, data: bytes) -> None:
        """Take a block, once there is room for it."""
        self._room.acquire()
        task = self._pool.submit(self._digest.update, data)
        task.add_done_callback(lambda done: self._room.release())

    def hexdigest(self) -> str:
        """Return the sum of all blocks, once they are done."""
        return self._pool.submit(self._digest.hexdigest).result()


class Received:
    """The part of a file that has come, in an open file that can be truncated.

    Parameters: `least` and `most` are how many bytes it can have, as far as that is known;
    `progress` is told how many have come; `within` is the time in seconds for all of it; `wanted`
    is its sha256, if that is known. `failure` is what ended it here, if anything: OSError for the
    disk, or TooMuch.
    """

    def __init__(
        self,
        stream: BinaryIO,
        least: int = 0,
        most: int | None = None,
        progress: Callable[[int], None] | None = None,
        within: float | None = None,
        wanted: str | None = None,
    ) -> None:
        self.stream = stream
        self.wanted = wanted
        self.end = None if within is None else time.monotonic() + within
        self.least = least
        self.most = most
        self.progress = progress
        self.block = LARGE_BLOCK if least >= LARGE else BLOCK
        self.restart()

    def restart(self) -> None:
        """Forget what has come."""
        self.stream.seek(0)
        self.stream.truncate()
        self.sha256 = Sha256Beside() if self.least >= LARGE else hashlib.sha256()
        self.size = 0
        self.failure: OSError | TooMuch | None = None
        # From this the server can tell that it still has the same file.
        self.validator = ""
        self.kind = ""
        self.headers: Mapping[str, str] = {}
        self.whole = True

    @property
    def is_wrong(self) -> bool:
        """Whether what has come does not have the sha256 that is wanted."""
        return self.wanted is not None and self.sha256.hexdigest() != self.wanted

    @property
    def is_page(self) -> bool:
        """Whether what has come is a web page, by its media type or its first bytes."""
        self.stream.seek(0)
        start = self.stream.read(100).lstrip().lower()
        return self.kind == "text/html" or start.startswith((b"<!doctype html", b"<html"))

    def expect(self, count: int) -> None:
        """Raise TooMuch if the file cannot have so many bytes more."""
        if self.most is not None and self.size + count > self.most:
            self.failure = TooMuch(f"more than {self.most} bytes come")
            raise self.failure

    def write(self, data: bytes) -> None:
        """Add bytes; raises OSError for the disk, never for the network, and TooMuch."""
        self.expect(len(data))
        try:
            self.stream.write(data)
        except OSError as error:
            self.failure = error
            raise
        self.sha256.update(data)
        self.size += len(data)
        if self.progress is not None:
            self.progress(self.size)


def fetch(url: str, received: Received, stop: threading.Event = NEVER, soon: bool = False) -> None:
    """Get the whole file of an http or file URL.

    Parameters: with `soon`, it does not wait for a server that is away or busy. Raises Unavailable
    when that fails for good or `stop` is set, OSError when the disk fails.
    """
    if url.startswith("file://"):
        _copy(url, received)
        return
    timeout, pace = (look_up(), IMPATIENT) if soon else (patience(), PATIENT)
    fetch_by(functools.partial(_answer, url, timeout), received, pace, stop)


def fetch_by(
    get: Get, received: Received, pace: Pace = PATIENT, stop: threading.Event = NEVER
) -> None:
    """Get a whole file that `get` asks for; raises as fetch()."""

    def attempt() -> None:
        persist(lambda: receive(get, received, stop), lambda: received.size, pace, stop)

    attempt()
    if not received.whole and received.is_wrong:
        # It came in pieces, which may be of several answers, or its length was not told.
        received.restart()
        attempt()


def persist(
    attempt: Callable[[], T],
    gone: Callable[[], int] = lambda: 0,
    pace: Pace = PATIENT,
    stop: threading.Event = NEVER,
) -> T:
    """Return what an attempt gives, trying again with growing waits while that may help.

    Parameters: `gone` returns how many bytes were transferred; a failed attempt that transferred
    some begins a new count of tries. Raises the Unavailable of the last attempt.
    """
    tries, longest = pace
    failures = resumptions = 0
    wait = FIRST_WAIT
    while True:
        before = gone()
        try:
            return attempt()
        except Unavailable as problem:
            if gone() > before:
                failures, wait = 0, FIRST_WAIT
                resumptions += 1
            elif problem.silent:
                # Another try would wait as long again.
                raise
            failures += 1
            if not problem.again or failures >= tries or resumptions > RESUMPTIONS:
                raise
            # Clients that were refused together must not come back together.
            stop.wait(min(problem.wait or wait * random.uniform(0.5, 1.5), longest))
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


def receive(get: Get, received: Received, stop: threading.Event = NEVER) -> None:
    """Ask once for what is missing of a file, and take what comes; raises as fetch()."""
    headers = dict(HEADERS)
    if received.size:
        headers["Range"] = f"bytes={received.size}-"
        if received.validator:
            headers["If-Range"] = received.validator
    with failures(), get(headers) as response:
        _accept(response, received)
        # The header itself can say it twice, or anything.
        expected = response.raw.length_remaining
        before = received.size
        received.expect(expected or 0)
        with deadlines.Body(response, received.end) as body:
            while block := _next(body, received.block):
                if stop.is_set():
                    raise Unavailable("interrupted")
                received.write(block)
        if expected is None:
            received.whole = False
        least = max(received.least, before + (expected or 0))
        if received.size < least:
            raise Unavailable("the connection was closed early", again=True)


def _next(body: deadlines.Body, size: int) -> bytes:
    """Return the next bytes of an answer; raises Unavailable for one that comes too slowly."""
    try:
        block = body.read(size)
    except Exception:
        # A connection that Body has ended may fail in several ways.
        if not body.late:
            raise
    if body.late:
        raise Unavailable(body.late)
    return block


@contextmanager
def failures() -> Iterator[None]:
    """Turn what the client raises into Unavailable."""
    import requests
    import urllib3

    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        silent = isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError))
        raise Unavailable(_reason(error), not _is_final(error), silent=silent) from None


def _answer(url: str, timeout: tuple[float, float], headers: Mapping[str, str]) -> Response:
    """Ask for a file; if that is denied, ask again with a login of the keyring."""

    def get(auth: credentials.Login | None) -> Response:
        return ask("GET", url, timeout, headers=headers, auth=_basic(auth) if auth else None)

    if unset := credentials.unset(url):
        raise Unavailable(f"the environment variable {unset}, of the login, is unset")
    response = get(credentials.login(url))
    if response.status_code in DENIED and (known := _keyring(url)):
        response.close()
        response = get(known)
    return response


def ask(
    method: str,
    url: str,
    timeout: tuple[float, float],
    netrc: bool = True,
    sending: deadlines.Sending | None = None,
    **how: Any,
) -> Response:
    """Return the answer to a request, whose body is then read as it comes.

    Parameters: those of session(), deadlines.answered() and, for the rest, of requests.
    """
    request = functools.partial(
        session(netrc).request, method, url, stream=True, timeout=timeout, **how
    )
    return deadlines.answered(request, timeout, sending)


def _keyring(url: str) -> credentials.Login | None:
    # It can take a second, or ask the user: once is enough, even for many files at a time.
    with _asking:
        return _known(credentials.server(url))


@functools.cache
def _known(server: str) -> credentials.Login | None:
    return credentials.from_keyring(server)


_asking = threading.Lock()


def _basic(login: credentials.Login) -> AuthBase:
    from requests.auth import HTTPBasicAuth

    # As UTF-8: requests itself can encode only latin-1.
    return HTTPBasicAuth(login[0].encode(), login[1].encode())


def patience(connect: float = CONNECT) -> tuple[float, float]:
    """Return how many seconds to wait for a connection, and then for a byte."""
    return min(connect, silence.limit()), silence.limit()


def look_up() -> tuple[float, float]:
    """Return the same for a small file that a user waits for."""
    return min(LOOK_UP[0], silence.limit()), min(LOOK_UP[1], silence.limit())


@functools.cache
def session(netrc: bool = True) -> Session:
    """Return the client, with the proxies and CAs of the usual variables.

    Parameters: `netrc` says whether it takes logins from that file, and cookies.
    """
    from http.cookiejar import DefaultCookiePolicy

    import requests
    from requests.adapters import HTTPAdapter

    class Careful(requests.Session):
        def get_redirect_target(self, resp: Response) -> str | None:
            if not resp.is_redirect:
                return None
            # Otherwise requests reads the body, which may have no end.
            resp.close()
            target = resp.headers["location"].encode("latin-1").decode("utf-8", "replace")
            joined(resp.url, target)
            return target

        def rebuild_auth(
            self, prepared_request: requests.PreparedRequest, response: requests.Response
        ) -> None:
            target = f"{prepared_request.url}"
            check_redirect(response.url, target)
            if netrc:
                super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]
            elif self.should_strip_auth(response.url, target):  # type: ignore[no-untyped-call]
                prepared_request.headers.pop("Authorization", None)

    client = Careful()
    if not netrc:
        # Harbor takes a client with cookies for a browser, and then wants more than a login.
        client.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = HTTPAdapter(pool_connections=PARALLEL, pool_maxsize=PARALLEL)
    client.mount("https://", adapter)
    client.mount("http://", adapter)
    own = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    others = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if others and not own:
        client.verify = others
    return client


def joined(base: str, target: str) -> str:
    """Return the URL that a server names in its answer for another one, perhaps by a part of it.

    Raises requests.exceptions.InvalidURL, which failures() handles.
    """
    import requests

    try:
        url = urljoin(base, target)
        # A client that follows it asks for its port.
        origin(url)
    except ValueError:
        url = ""
    if not url:
        raise requests.exceptions.InvalidURL("the server leads to what is no URL")
    return url


def check_redirect(source: str, target: str) -> None:
    """Refuse a redirection to http, or into the neighbourhood of this machine.

    Parameters: `source` is the URL that answered, `target` the one that it names. Raises
    requests.exceptions.InvalidSchema, which failures() handles.
    """
    import requests

    if source.startswith("https:") and target.startswith("http:"):
        raise requests.exceptions.InvalidSchema("redirected from https to http")
    # A server in the neighbourhood may redirect to itself.
    if near(target) not in ("", near(source)):
        raise requests.exceptions.InvalidSchema(f"redirected to {near(target)}")


def _accept(response: Response, received: Received) -> None:
    """Raise Unavailable for an answer that neither continues nor begins the file."""
    status = response.status_code
    if status == 416:
        received.restart()
        raise Unavailable("the server does not resume", again=True, status=status)
    if status not in (200, 206):
        raise refusal(response)
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
    received.headers = response.headers
    received.kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def beginning(response: Response, size: int) -> bytes:
    """Return up to `size` bytes of an answer whose rest does not matter; raises as failures()."""
    with deadlines.Body(response, time.monotonic() + look_up()[1]) as body:
        return _next(body, size)


def refusal(response: Response) -> Unavailable:
    """Return the failure that an answer without success means."""
    status = response.status_code
    later = status in LATER or status >= 500
    wait = _retry_after(response.headers.get("Retry-After", "")) if later else None
    reason = printable(f"the server answers {status} {response.reason or ''}".rstrip())
    return Unavailable(reason, later, wait, status)


def _retry_after(text: str) -> float | None:
    """Return the seconds that a Retry-After header asks for."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _is_final(error: Exception) -> bool:
    """Tell whether another try cannot help, because certificates and URLs stay the same."""
    import requests

    return isinstance(error, (ValueError, requests.TooManyRedirects)) or (
        isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE" in str(error).upper()
    )


def _reason(error: Exception) -> str:
    """Return the innermost reason, without a URL."""
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
    return printable(redacted(str(seen))) or type(seen).__name__
