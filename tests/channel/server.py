"""A web server on loopback that stands in for a mirror of a conda channel."""

from __future__ import annotations

import mimetypes
import os
import threading
import time
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
        rate: how many bytes of a file go out a second, to each connection; None for no limit.
        cut: after how many bytes the next files break off, one for each answer with a body.
        ranges: whether parts of files are given.
        absent: what is in the paths of files that the server does not show; empty for none.
        sent: how many bytes of files went out, in all answers together; a test may clear it.
    """

    root: Path
    url: str
    requests: list[str] = field(default_factory=list)
    rate: float | None = None
    cut: list[int] = field(default_factory=list)
    ranges: bool = True
    absent: str = ""
    sent: int = 0
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
        return HTTPStatus.NOT_FOUND if self.absent and self.absent in path else None

    def end(self, length: int) -> int:
        """Tell after how many bytes an answer of so many breaks off."""
        with self._lock:
            return min(length, self.cut.pop(0)) if self.cut else length

    def note_sent(self, count: int) -> None:
        """Count bytes that went out."""
        with self._lock:
            self.sent += count


@contextmanager
def serve(root: Path, port: int = 0, rate: float | None = None) -> Iterator[ChannelServer]:
    """Serve a directory on 127.0.0.1 for as long as the context lasts.

    Args:
        root: the directory; the channel is a directory in it.
        port: the port, or 0 for any that is free.
        rate: how many bytes of a file go out a second, to each connection.
    """

    class Handler(_Handler):
        pass

    server = _Server(("127.0.0.1", port), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    Handler.channel = ChannelServer(root.resolve(), url, rate=rate)
    # A short poll lets the context end at once instead of after half a second.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield Handler.channel
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Of Python's five, a client that opens many connections loses some, and waits for up to a
    # minute until its kernel tries again.
    request_queue_size = 256


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
        status = os.fstat(content.fileno())
        size, tag = status.st_size, f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        if tag in self.headers.get("If-None-Match", ""):
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self.send_header("ETag", tag)
            self.end_headers()
            return
        # A part is asked for of the file that the client has the rest of.
        part = self.channel.ranges and self.headers.get("If-Range", tag) == tag
        start, end = self._asked_range(size) if part else (0, size)
        whole = (start, end) == (0, size)
        self.send_response(HTTPStatus.OK if whole else HTTPStatus.PARTIAL_CONTENT)
        self.send_header(
            "Content-Type", mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        )
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes" if self.channel.ranges else "none")
        self.send_header("Last-Modified", self.date_time_string(status.st_mtime))
        self.send_header("ETag", tag)
        if not whole:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if with_body:
            content.seek(start)
            self._send(content, end - start)

    def _send(self, content: BinaryIO, length: int) -> None:
        """Send the next bytes of a file: all at once, at a rate, or until it is to break off."""
        left = self.channel.end(length)
        self.close_connection = self.close_connection or left < length
        rate = self.channel.rate
        piece = max(1, int(rate / 20)) if rate else 1 << 20
        while left and (data := content.read(min(piece, left))):
            if rate:
                time.sleep(len(data) / rate)
            # Before, so that a client that has read it finds it counted.
            self.channel.note_sent(len(data))
            self.wfile.write(data)
            left -= len(data)

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
