"""A web server on loopback that misbehaves in every way a test asks for."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import re
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit


class Server(ThreadingHTTPServer):
    """Says nothing of clients that close a connection, which is what many tests are about."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None: ...


@dataclass(frozen=True)
class Asked:
    """A request, as the server saw it."""

    path: str
    headers: dict[str, str]
    method: str = "GET"
    body: str = ""


@dataclass
class Flaky:
    """A running server: what it holds, how it answers the next requests, and what was asked."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    plan: list[Callable[[Handler, bytes], None]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    login: tuple[str, str] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self) -> Callable[[Handler, bytes], None]:
        with self.lock:
            return self.plan.pop(0) if self.plan else whole


def add_index(server: Flaky, wheels: Iterable[Path], root: str = "") -> None:
    """Let a server be a package index of the simple kind, at `<root>/simple`."""
    for wheel in wheels:
        content = wheel.read_bytes()
        digest = hashlib.blake2b(content, digest_size=32).hexdigest()
        path = f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{wheel.name}"
        link = f"../..{path}#sha256={hashlib.sha256(content).hexdigest()}"
        name = re.sub("[-_.]+", "-", wheel.name.partition("-")[0]).lower()
        server.files[f"{root}{path}"] = content
        page = f'<!DOCTYPE html><html><body><a href="{link}">{wheel.name}</a></body></html>'
        server.files[f"{root}/simple/{name}/"] = page.encode()


class Handler(BaseHTTPRequestHandler):
    """Answers as the server's plan says; `flaky` is set by serve()."""

    flaky: Any
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        self.flaky.asked.append(Asked(self.path, {k.lower(): v for k, v in self.headers.items()}))
        if self.flaky.login is not None:
            token = base64.b64encode(":".join(self.flaky.login).encode()).decode()
            if self.headers.get("Authorization") != f"Basic {token}":
                self.answer(401, b"")
                return
        content = self.flaky.files.get(self.path)
        if content is None:
            self.answer(404, b"")
            return
        self.flaky.next()(self, content)

    def do_HEAD(self) -> None:
        content = self.flaky.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def answer(
        self, status: int, body: bytes, length: int | None = None, **headers: str | None
    ) -> None:
        """Send an answer; a length that is not the body's ends the connection."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if length is not None and length != len(body):
            self.close_connection = True

    def start(self) -> int:
        """Return where the client wants the file to begin, if it wants all that follows."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match else 0


Answer = Callable[[Handler, bytes], None]


def kind(content: bytes) -> str:
    """Return the media type of what a server holds."""
    return "text/html" if content.startswith(b"<!DOCTYPE") else "application/octet-stream"


def whole(handler: Handler, content: bytes) -> None:
    """Answer as a good server does, ranges included."""
    start = handler.start()
    if start == 0:
        handler.answer(200, content, ETag='"one"', Content_Type=kind(content))
        return
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    handler.answer(206, content[start:], ETag='"one"', Content_Range=span)


def drop(after: int) -> Answer:
    """Promise all that is asked for, and close the connection after some bytes of it."""

    def answer(handler: Handler, content: bytes) -> None:
        start = handler.start()
        rest = content[start:]
        span = f"bytes {start}-{len(content) - 1}/{len(content)}" if start else None
        status = 206 if start else 200
        handler.answer(status, rest[:after], len(rest), ETag='"one"', Content_Range=span)

    return answer


def status(number: int, retry_after: str | None = None) -> Answer:
    return lambda handler, content: handler.answer(number, b"", Retry_After=retry_after)


def redirect(url: str) -> Answer:
    return lambda handler, content: handler.answer(302, b"", Location=url)


def stalling(share: float, headers: bool = True) -> Answer:
    """Send a share of the body and then nothing, until the client hangs up."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.close_connection = True
        if headers:
            begun = content[: int(len(content) * share)]
            # Without a type, clients would not wait for the rest of a page.
            handler.answer(200, begun, len(content), Content_Type=kind(content))
        handler.connection.settimeout(None)
        handler.connection.recv(1)

    return answer


silent = stalling(1 / 3)


def dripping(head: str) -> Answer:
    """Begin an answer with some lines, and go on with a byte now and then, without an end."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.wfile.write(head.replace("\n", "\r\n").encode())
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"x")
                time.sleep(0.02)
        handler.close_connection = True

    return answer


def hang_up(handler: Handler, content: bytes) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def ignoring_ranges(handler: Handler, content: bytes) -> None:
    handler.answer(200, content)


def wrong_range(handler: Handler, content: bytes) -> None:
    """Resume one byte too late."""
    start = handler.start() + 1
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    handler.answer(206, content[start:], Content_Range=span)


def wrong_rest(handler: Handler, content: bytes) -> None:
    """Resume with other bytes."""
    start = handler.start()
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    handler.answer(206, bytes(len(content) - start), Content_Range=span)


def no_range(handler: Handler, content: bytes) -> None:
    handler.answer(416, b"")


def short_length(handler: Handler, content: bytes) -> None:
    """Promise less than is sent."""
    handler.answer(200, content, len(content) - 7)


def without_length(after: int) -> Answer:
    """Tell no length, as old servers do, and close the connection after some bytes."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content[:after])
        handler.close_connection = True

    return answer


def endless(handler: Handler, content: bytes) -> None:
    """Tell no length, and never end."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(content or bytes(1000))


def page(handler: Handler, content: bytes) -> None:
    """Answer with a login page, as networks in hotels do."""
    handler.answer(200, b"<html>Log in</html>", Content_Type="text/html; charset=utf-8")


def wrong(handler: Handler, content: bytes) -> None:
    handler.answer(200, bytes(len(content)))


def slow(handler: Handler, content: bytes) -> None:
    """Send the file in small pieces."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    size = -(-len(content) // 20)
    for start in range(0, len(content), size):
        handler.wfile.write(content[start : start + size])
        handler.wfile.flush()
        time.sleep(0.02)


def add_channel(server: Flaky, channel: Path, names: str = "probe-*") -> None:
    """Let a server be a conda channel, at `/<name of the directory>`, with some of its packages."""
    for subdir in ("linux-64", "noarch"):
        directory = channel / subdir
        for path in [*directory.glob("repodata.json*"), *directory.glob(names)]:
            server.files[f"/{channel.name}/{subdir}/{path.name}"] = path.read_bytes()


@dataclass
class Proxy:
    """A running proxy: where it is, and what it was asked for."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def proxy(target: Flaky) -> Iterator[Proxy]:
    """Be a proxy that finds every host at one server."""
    place = urlsplit(target.url)

    class Relay(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_CONNECT(self) -> None:
            running.asked.append(self.path)
            with socket.create_connection((place.hostname or "", place.port or 0)) as server:
                self.send_response(200)
                self.end_headers()
                self.relay(server)
            self.close_connection = True

        def do_GET(self) -> None:
            running.asked.append(self.path)
            parts = urlsplit(self.path)
            connection = http.client.HTTPConnection(place.hostname or "", place.port or 0)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "proxy-connection"}
            connection.request(self.command, parts.path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() != "transfer-encoding":
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def relay(self, server: socket.socket) -> None:
            ends = {self.connection: server, server: self.connection}
            while True:
                ready, _, _ = select.select(list(ends), [], [], 30)
                for end in ready:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    ends[end].sendall(data)
                if not ready:
                    return

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = Server(("127.0.0.1", 0), Relay)
    running = Proxy(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certificates(directory: Path, *hosts: str) -> tuple[Path, tuple[Path, Path]]:
    """Make an authority of our own; return its file, and certificate and key of some hosts."""
    directory.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30")
    rights = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
    more = [part for right in rights for part in ("-addext", right)]
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ours", *more)
    openssl("req", *new, "-keyout", "host.key", "-out", "host.csr", "-subj", f"/CN={hosts[0]}")
    names = ",".join(f"IP:{host}" if host[0].isdigit() else f"DNS:{host}" for host in hosts)
    (directory / "extensions").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30")
    files = ("-in", "host.csr", "-out", "host.pem", "-extfile", "extensions")
    openssl("x509", "-req", *signing, *files)
    return directory / "ca.pem", (directory / "host.pem", directory / "host.key")


State = TypeVar("State", bound=Flaky)


@contextmanager
def serve(
    login: tuple[str, str] | None = None, certificate: tuple[Path, Path] | None = None
) -> Iterator[Flaky]:
    """Serve on 127.0.0.1, with TLS if a certificate and its key are given."""
    with serve_as(Handler, Flaky("", login=login), certificate) as running:
        yield running


@contextmanager
def serve_as(
    handler: type[Handler], state: State, certificate: tuple[Path, Path] | None = None
) -> Iterator[State]:
    """Serve with a handler and a state of one's own; see serve()."""

    class Own(handler):  # type: ignore[misc, valid-type]
        flaky = state

    server = Server(("127.0.0.1", 0), Own)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    state.url = f"{scheme}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
