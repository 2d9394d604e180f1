"""A package index on loopback that asks who is there."""

from __future__ import annotations

import base64
import hashlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def write_index(root: Path, wheels: Sequence[Path]) -> None:
    """Write a simple index of wheels, `simple/<name>/`.

    Args:
        root: the directory that is served.
        wheels: the wheels, each of another project.
    """
    for wheel in wheels:
        page = root / "simple" / wheel.name.partition("-")[0].lower().replace("_", "-")
        page.mkdir(parents=True)
        shutil.copy(wheel, page)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        link = f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>'
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")


@contextmanager
def serve_private(root: Path, user: str, password: str) -> Iterator[str]:
    """Serve a directory on 127.0.0.1 to one user, and give host and port.

    Args:
        root: the directory.
        user: who may read it.
        password: by basic authentication.
    """
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") == wanted:
                super().do_GET()
            else:
                self.send_response(HTTPStatus.UNAUTHORIZED)
                self.send_header("WWW-Authenticate", 'Basic realm="private"')
                self.send_header("Content-Length", "0")
                self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
