"""A registry in memory that does all that the specification has, and misbehaves as a test asks for.

It is there for what no real one at hand does: resumed uploads, referrers, tokens of a
server of its own, and every kind of malice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.helpers import flaky
from tests.helpers.flaky import Asked, Flaky, Handler

UPLOAD = re.compile(r"/v2/images/blobs/uploads/(\d+)")
PUT = re.compile(r"/v2/images/manifests/(.+)")


@dataclass
class Registry(Flaky):
    """Its blobs and manifests are `files`, by path; `headers` go with them, `links` with some."""

    headers: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    # The WWW-Authenticate of those who have no token; `/token` gives one.
    challenge: str = ""
    tokens: list[str] = field(default_factory=list)
    given: int = 0
    uploads: list[bytearray] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    # After how many bytes of the next bodies it closes the connection.
    cuts: list[int] = field(default_factory=list)
    # Of the next requests that are no GET or HEAD; 0 for the right one.
    statuses: list[int] = field(default_factory=list)
    # Where uploads are said to be.
    uploads_at: str = "/v2/images/blobs/uploads/"
    # What it answers to a part of a blob that has come whole.
    taken: int = 202
    has_referrers: bool = False

    @property
    def authority(self) -> str:
        return urlsplit(self.url).netloc

    def add_blob(self, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.files[f"/v2/images/blobs/{digest}"] = content
        return digest

    def new_token(self) -> str:
        with self.lock:
            token = f"token-{self.given}"
            self.given += 1
            self.tokens.append(token)
            return token

    def requests(self, method: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method]


class RegistryHandler(Handler, BaseHTTPRequestHandler):
    """Answers as a registry."""

    flaky: Registry

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/token":
            self._note()
            self.answer(200, json.dumps({"token": self.flaky.new_token()}).encode())
        elif UPLOAD.fullmatch(parts.path):
            number = self._upload()
            if number is not None:
                self._status(204, number)
        elif self._is_welcome(noting=False):
            super().do_GET()

    def do_HEAD(self) -> None:
        if self._is_welcome():
            super().do_HEAD()

    def do_POST(self) -> None:
        if urlsplit(self.path).path == "/token":
            form = parse_qs(self._body().decode())
            self._note(form=form)
            self.answer(200, json.dumps({"access_token": self.flaky.new_token()}).encode())
        elif self._is_welcome():
            self.flaky.uploads.append(bytearray())
            self._status(202, len(self.flaky.uploads) - 1)

    def do_PATCH(self) -> None:
        number = self._upload()
        if number is None:
            return
        there = self.flaky.uploads[number]
        span = self.headers.get("Content-Range", f"{len(there)}-")
        if span.partition("-")[0] != str(len(there)):
            self.answer(416, b"")
        elif self._receive(there):
            self._status(self.flaky.taken, number)

    def do_DELETE(self) -> None:
        number = self._upload()
        if number is not None:
            self.flaky.cancelled.append(number)
            self.answer(204, b"")

    def do_PUT(self) -> None:
        if match := PUT.fullmatch(self.path):
            self._put_manifest(match[1])
            return
        number = self._upload()
        if number is None:
            return
        there = self.flaky.uploads[number]
        if self._receive(there):
            digest = parse_qs(urlsplit(self.path).query)["digest"][0]
            if digest != f"sha256:{hashlib.sha256(there).hexdigest()}":
                error = {"code": "DIGEST_INVALID", "message": "\x1b[2J"}
                self.answer(400, json.dumps({"errors": [error]}).encode())
                return
            self.flaky.add_blob(bytes(there))
            self.answer(201, b"")

    def _put_manifest(self, reference: str) -> None:
        if not self._is_welcome():
            return
        content = self._body()
        self.flaky.files[f"/v2/images/manifests/{reference}"] = content
        subject = json.loads(content).get("subject", {}).get("digest")
        if not (self.flaky.has_referrers and subject):
            self.answer(201, b"")
            return
        kept = self.flaky.files.setdefault(
            f"/v2/images/referrers/{subject}", b'{"schemaVersion": 2, "manifests": []}'
        )
        index = json.loads(kept)
        index["manifests"].append(
            {
                "mediaType": self.headers["Content-Type"],
                "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
                "size": len(content),
                "artifactType": json.loads(content)["artifactType"],
            }
        )
        self.flaky.files[f"/v2/images/referrers/{subject}"] = json.dumps(index).encode()
        self.answer(201, b"", OCI_Subject=subject)

    def answer(
        self, status: int, body: bytes, length: int | None = None, **headers: str | None
    ) -> None:
        more = {"Link": self.flaky.links.get(self.path), **self.flaky.headers}
        super().answer(status, body, length, **{**headers, **more})

    def _note(self, **more: object) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.flaky.asked.append(Asked(self.path, headers, self.command, str(more or "")))

    def _is_welcome(self, noting: bool = True) -> bool:
        known = {f"Bearer {token}" for token in self.flaky.tokens}
        if self.flaky.challenge and self.headers.get("Authorization") not in known:
            self._note()
            self._body()
            self.answer(401, b"", WWW_Authenticate=self.flaky.challenge)
            return False
        if noting:
            self._note()
        planned = self.flaky.statuses.pop(0) if noting and self.flaky.statuses else 0
        if planned:
            self.answer(planned, b"", Connection="close")
            self.close_connection = True
        return not planned

    def _upload(self) -> int | None:
        """Return the number of an upload that a request is for; without one, answer."""
        match = UPLOAD.fullmatch(urlsplit(self.path).path)
        if match is None or int(match[1]) >= len(self.flaky.uploads):
            self._note()
            self.answer(404, b"", Connection="close")
            self.close_connection = True
            return None
        return int(match[1]) if self._is_welcome() else None

    def _status(self, status: int, number: int) -> None:
        last = max(0, len(self.flaky.uploads[number]) - 1)
        place = f"{self.flaky.uploads_at}{number}?_state=secret"
        self.answer(status, b"", Location=place, Range=f"0-{last}")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _receive(self, there: bytearray) -> bool:
        """Take a body, or a part of it, after which the connection is closed."""
        length = int(self.headers.get("Content-Length", 0))
        cut = self.flaky.cuts.pop(0) if length and self.flaky.cuts else length
        there += self.rfile.read(min(cut, length))
        if cut < length:
            self.close_connection = True
        return cut >= length


@contextmanager
def serve(certificate: tuple[Path, Path] | None = None) -> Iterator[Registry]:
    """Serve on 127.0.0.1, with one repository, `images`."""
    with flaky.serve_as(RegistryHandler, Registry(""), certificate) as running:
        yield running
