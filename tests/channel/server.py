"""A web server on loopback that stands in for a mirror of a conda channel."""

from __future__ import annotations

import mimetypes
import shutil
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

PACKAGES = (".conda", ".tar.bz2")


@dataclass
class Fault:
    """An answer that takes the place of a file's, for a number of times.

    Args:
        path_substring: the requests it applies to.
        status: the HTTP status it gives.
        times: how many more requests it applies to.
    """

    path_substring: str
    status: int
    times: int


@dataclass
class ChannelServer:
    """A running server, as a test sees it.

    Args:
        root: the directory it serves.
        url: its address, without a slash at the end.
        requests: the paths asked for, in order; a test may clear it.
    """

    root: Path
    url: str
    requests: list[str] = field(default_factory=list)
    _faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def downloads(self) -> list[str]:
        """The packages among the requests."""
        return [path for path in self.requests if path.endswith(PACKAGES)]

    def fail(self, path_substring: str, status: int = 503, times: int = 1) -> None:
        """Answer the next requests whose path contains the text with an error.

        Args:
            path_substring: what the path must contain; an empty text is in every path.
            status: the HTTP status to answer with.
            times: for how many requests.
        """
        with self._lock:
            self._faults.append(Fault(path_substring, status, times))

    def note(self, path: str) -> int | None:
        """Record a request, and tell the status to fail it with, if any."""
        with self._lock:
            self.requests.append(path)
            for fault in self._faults:
                if fault.times > 0 and fault.path_substring in path:
                    fault.times -= 1
                    return fault.status
        return None


@contextmanager
def serve(root: Path, port: int = 0) -> Iterator[ChannelServer]:
    """Serve a directory on 127.0.0.1 for as long as the context lasts.

    Args:
        root: the directory; the channel is a directory in it.
        port: the port, or 0 for any that is free.
    """

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    Handler.channel = ChannelServer(root.resolve(), f"http://127.0.0.1:{server.server_port}")
    # A short poll lets the context end at once instead of after half a second.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Handler.channel
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    channel: ChannelServer
    protocol_version = "HTTP/1.1"
    # Without this, a small answer waits for the client's delayed acknowledgement.
    disable_nagle_algorithm = True
    # Ends the thread of a connection that a client keeps open but no longer uses.
    timeout = 60

    def do_GET(self) -> None:
        """Answer with the file."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the file's headers."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, with_body: bool) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        status = self.channel.note(path)
        file = (self.channel.root / path.lstrip("/")).resolve()
        if status is None and file.is_file() and file.is_relative_to(self.channel.root):
            with file.open("rb") as content:
                self._send_file(file, content, with_body)
        else:
            self._send_status(status or HTTPStatus.NOT_FOUND)

    def _send_status(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, file: Path, content: BinaryIO, with_body: bool) -> None:
        size = file.stat().st_size
        start, end = self._asked_range(size)
        whole = (start, end) == (0, size)
        self.send_response(HTTPStatus.OK if whole else HTTPStatus.PARTIAL_CONTENT)
        self.send_header(
            "Content-Type", mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        )
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", self.date_time_string(file.stat().st_mtime))
        if not whole:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if with_body and whole:
            shutil.copyfileobj(content, self.wfile, 1 << 20)
        elif with_body:
            content.seek(start)
            self.wfile.write(content.read(end - start))

    def _asked_range(self, size: int) -> tuple[int, int]:
        """The part asked for by a simple Range header, or the whole, which is always allowed."""
        unit, _, span = self.headers.get("Range", "").partition("=")
        first, _, last = span.partition("-")
        if unit != "bytes" or not (first + last).isdigit():
            return 0, size
        if not first:
            return max(0, size - int(last)), size
        end = min(size, int(last) + 1) if last else size
        return (int(first), end) if int(first) < end else (0, size)
