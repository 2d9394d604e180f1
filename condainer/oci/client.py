"""The client of one repository, by HTTP as the OCI distribution specification says.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
It is our own, because oras-py (0.2.43) has no artifactType, resumes nothing, and compares no
digests.
"""

from __future__ import annotations

import functools
import io
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin

from condainer.network import deadlines, http
from condainer.network.hosts import host_of
from condainer.oci import access, image_manifest, logins
from condainer.oci.errors import (
    NoRegistry,
    NotThere,
    Refused,
    RegistryError,
    Unreachable,
    WrongContent,
)
from condainer.oci.image_manifest import Descriptor
from condainer.oci.repository import DIGEST, TAG, Repository
from condainer.oci.upload import PUSH, Upload
from condainer.system.text import printable
from condainer.system.urls import origin

if TYPE_CHECKING:
    from requests import Response

PULL = "pull"
# The statuses of a look whether a blob is there; the last is that of servers that allow no look.
LOOKED = (200, 404, 405)
DOCKER_HUB = "registry-1.docker.io"
MANIFESTS = f"{image_manifest.MANIFEST_TYPE}, {image_manifest.INDEX_TYPE}"
# OpenSSL's errors for an answer without TLS.
PLAIN = re.compile(r"WRONG.VERSION|RECORD.LAYER|HTTP.REQUEST|PACKET.LENGTH", re.IGNORECASE)
NEXT = re.compile(r"<(?P<url>[^<>]*)>\s*;[^,]*\brel=\"?next\b", re.IGNORECASE)
# The tags of one answer, and the answers of a list that are read.
PAGE, PAGES = 1000, 100
# How often an index is written that others also write.
WRITES = 5
# The seconds after which another writer that has read an index has written it.
SETTLING = (0.2, 0.6)
# In bytes: of a registry's reason for a failure, and of a header that is searched.
LARGEST_REASON = 4096


@dataclass(frozen=True)
class Manifest:
    """A manifest as it is stored: its bytes, media type and digest."""

    content: bytes
    media_type: str
    digest: str


class Client:
    """A repository; threads may share it, and it sends a login only to a registry that asks.

    All methods raise RegistryError or its kinds: Unreachable, LoginRefused, NotThere, WrongContent;
    and ConfigError for a damaged file of logins.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._answered = False

    def manifest(self, reference: str, accept: str = MANIFESTS) -> Manifest:
        """Return the manifest of a tag or digest."""
        with self.errors(f"the manifest of {reference}"):
            content, headers = self._read(f"manifests/{_checked(reference)}", accept)
        digest = image_manifest.digest_of(content)
        for promised in (reference, headers.get("Docker-Content-Digest", "")):
            if promised.startswith("sha256:") and promised != digest:
                raise self._wrong(f"the manifest of {reference}", digest, promised)
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Manifest(content, media_type, digest)

    def exists(self, digest: str) -> bool:
        """Tell whether the repository has a blob."""
        with self.errors(f"the blob {digest}"):
            return http.persist(lambda: self.has(digest), pace=self._pace)

    def has(self, digest: str) -> bool:
        """Tell whether the repository has a blob, asking once; raises http.Unavailable.

        One that a registry does not tell of is not there.
        """
        place = f"blobs/{_checked(digest)}"
        return self.ask("HEAD", place, LOOKED, timeout=http.look_up()).status_code == 200

    def blob(
        self,
        digest: str,
        size: int,
        stream: BinaryIO,
        progress: Callable[[int], None] | None = None,
        within: float | None = None,
        soon: bool = False,
    ) -> None:
        """Write a blob into an open file, resuming where a connection breaks off.

        Parameters: `size` is how many bytes it has, `progress` is told how many have come, `within`
        is the time in seconds for all of it; with `soon`, it does not wait long for a registry that
        is busy or silent. Raises OSError when the disk fails; after an error, the file does not
        hold the blob.
        """
        wanted = digest.removeprefix("sha256:")
        received = http.Received(stream, size, size, progress, within, wanted)
        place = f"blobs/{_checked(digest)}"
        with self.errors(f"the blob {digest}"):
            timeout, pace = (http.look_up(), http.BRISK) if soon else (None, http.PATIENT)
            http.fetch_by(
                lambda headers: self.ask("GET", place, headers=headers, timeout=timeout),
                received,
                pace,
            )
        if received.is_wrong:
            raise self._wrong(f"the blob {digest}", f"sha256:{received.sha256.hexdigest()}", digest)

    def content(self, digest: str, size: int) -> bytes:
        """Return a blob of `size` bytes, which the caller knows to be few."""
        stream = io.BytesIO()
        self.blob(digest, size, stream, within=deadlines.SMALL, soon=True)
        return stream.getvalue()

    def upload(
        self,
        digest: str,
        size: int,
        stream: BinaryIO,
        progress: Callable[[int], None] | None = None,
    ) -> bool:
        """Send a blob from an open file, unless the repository has it; tell whether it was sent.

        Parameters are those of blob(). Raises OSError when the file cannot be read.
        """
        upload = Upload(self, digest, size, stream, progress)
        try:
            with self.errors(f"the blob {digest}"):
                return http.persist(upload.attempt, lambda: upload.there)
        except BaseException:
            upload.cancel()
            raise

    def put_manifest(self, reference: str, content: bytes, media_type: str) -> Mapping[str, str]:
        """Store a manifest under a tag or its digest, and return the headers of the answer."""
        place, headers = f"manifests/{_checked(reference)}", {"Content-Type": media_type}

        def attempt() -> Mapping[str, str]:
            return self.ask("PUT", place, (201,), PUSH, headers, content).headers

        with self.errors(f"the manifest of {reference}"):
            return http.persist(attempt, pace=self._pace)

    def tags(self) -> list[str]:
        """Return all tags of the repository."""
        try:
            return self._tags(f"tags/list?n={PAGE}")
        except NotThere:
            # Some registries have no pages.
            return self._tags("tags/list")

    def _tags(self, place: str) -> list[str]:
        tags: list[str] = []
        with self.errors("the list of tags"):
            for content in self._pages(place, "application/json"):
                names = None
                with suppress(ValueError, RecursionError, AttributeError):
                    names = json.loads(content).get("tags") or []
                if not isinstance(names, list) or not all(isinstance(tag, str) for tag in names):
                    raise self._unlike("the list of tags")
                # _checked() refuses others.
                tags += [tag for tag in names if TAG.fullmatch(tag)]
        return list(dict.fromkeys(tags))

    def referrers(self, digest: str) -> list[Descriptor]:
        """Return the manifests that refer to a manifest, such as its signatures."""
        what = f"the list of what refers to {digest}"
        referrers: list[Descriptor] = []
        try:
            with self.errors(what):
                pages = self._pages(f"referrers/{_checked(digest)}", image_manifest.INDEX_TYPE)
                for content in pages:
                    referrers += image_manifest.read_index(content, f"{self.repository}: {what}")
        except NotThere:
            return self._index(_fallback_tag(digest))
        return referrers

    def put_referrer(self, subject: Descriptor, layer: Descriptor, artifact_type: str) -> None:
        """Store a manifest that refers to another one, `subject`, and holds a file.

        If the registry does not list referrers itself, they are in an index with a tag of its own,
        as the specification says.
        """
        content = image_manifest.write_referrer(subject, layer, artifact_type)
        item = image_manifest.describe(content, artifact_type)
        headers = self.put_manifest(item.digest, content, image_manifest.MANIFEST_TYPE)
        if "OCI-Subject" not in headers:
            self.add_to_index(_fallback_tag(subject.digest), item)

    def add_to_index(
        self, tag: str, item: Descriptor, stays: Callable[[Descriptor], bool] = lambda other: True
    ) -> None:
        """Add a manifest to the index with a tag, and remove those that do not stay.

        Others may write the index at the same time, so it is read again after a pause.
        """
        for _ in range(WRITES):
            listed = self._index(tag)
            if item in listed:
                return
            content = image_manifest.write_index([*filter(stays, listed), item])
            self.put_manifest(tag, content, image_manifest.INDEX_TYPE)
            time.sleep(random.uniform(*SETTLING))
        raise RegistryError(
            f"{self.repository}: others keep writing the tag {tag}", "Try again later."
        )

    def _index(self, tag: str) -> list[Descriptor]:
        """Return the manifests of an index; none if there is no index."""
        with suppress(NotThere, WrongContent):
            content = self.manifest(tag, image_manifest.INDEX_TYPE).content
            return list(image_manifest.read_index(content, f"{self.repository}:{tag}"))
        return []

    # Requests

    @functools.cached_property
    def root(self) -> str:
        """The URL of the registry."""
        place = self.repository
        host = DOCKER_HUB if place.authority in logins.DOCKER_HUB else place.authority
        return f"http://{host}/" if place.scheme == "http" or self._is_plain else f"https://{host}/"

    @property
    def _is_plain(self) -> bool:
        """Whether a registry on this machine has no TLS, from its answer to a handshake."""
        import requests

        if not self.repository.is_loopback:
            return False
        # The next request meets any other error again.
        with suppress(requests.RequestException):
            try:
                url = f"https://{self.repository.authority}/v2/"
                session = http.session(netrc=False)
                timeout = http.patience(access.CONNECT)
                session.head(url, auth=access.Authorization(""), timeout=timeout).close()
            except requests.exceptions.SSLError as error:
                return PLAIN.search(str(error)) is not None
        return False

    @functools.cached_property
    def _access(self) -> access.Access:
        return access.Access(self.repository, self.root)

    def ask(
        self,
        method: str,
        place: str,
        expected: tuple[int, ...] = (),
        actions: str = PULL,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: tuple[float, float] | None = None,
    ) -> Response:
        """Ask once, and again with a login if the registry wants one.

        Parameters: `place` is relative to the repository, or a URL; `expected` are the statuses of
        success, for answers whose body does not matter. Raises http.Unavailable.
        """
        url = self._url(place)
        limits = timeout or http.patience(access.CONNECT)

        def send(authorization: str) -> Response:
            return http.ask(
                method,
                url,
                limits,
                netrc=False,
                # The limits do not include the time of sending.
                sending=body if isinstance(body, deadlines.Sending) else None,
                headers={**http.HEADERS, **(headers or {})},
                data=body,
                # The store that a registry sends uploads to gets no login; see Upload.
                auth=access.Authorization(authorization if ours(url) else ""),
                allow_redirects=method in ("GET", "HEAD"),
            )

        def ours(url: str) -> bool:
            return origin(url) == origin(self.root)

        with http.failures():
            used = self._access.header(actions)
            response = send(used)
            self._answered = True
            # Only the registry itself may ask for a login, not the store that it redirects to.
            if response.status_code == 401 and ours(response.url):
                challenge = response.headers.get("WWW-Authenticate", "")[:LARGEST_REASON]
                _drain(response)
                if fresh := self._access.renewed(challenge, actions, used):
                    response = send(fresh)
            if expected and response.status_code not in expected:
                raise _refusal(response)
            if expected:
                _drain(response)
        return response

    def _url(self, place: str) -> str:
        return urljoin(f"{self.root}v2/{self.repository.path}/", place)

    def _read(self, place: str, accept: str) -> tuple[bytes, Mapping[str, str]]:
        """Return the content of a place, and the headers of the answer."""
        stream = io.BytesIO()
        received = http.Received(stream, most=image_manifest.LARGEST, within=deadlines.SMALL)
        http.fetch_by(
            lambda headers: self.ask(
                "GET", place, headers={**headers, "Accept": accept}, timeout=http.look_up()
            ),
            received,
            self._pace,
        )
        if received.is_page:
            raise NoRegistry(
                f"The server at {self.repository.authority} is no registry: for "
                f"{self.repository} it answers with an HTML page",
                "Check the host and the path; the page may also be that of a proxy or of a login.",
            )
        return stream.getvalue(), received.headers

    def _pages(self, place: str, accept: str) -> Iterator[bytes]:
        """Yield the answers of a list, which may have several."""
        seen = set()
        for _ in range(PAGES):
            seen.add(place)
            content, headers = self._read(place, accept)
            yield content
            match = NEXT.search(headers.get("Link", "")[:LARGEST_REASON])
            if match is None:
                return
            with http.failures():
                place = http.joined(self._url(place), match["url"])
            if place in seen or origin(place) != origin(self.root):
                break
        raise self._unlike("a list, which does not end,")

    @property
    def _pace(self) -> http.Pace:
        # It waits only for a registry that has answered before.
        return http.PATIENT if self._answered else http.IMPATIENT

    # Errors

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Turn Unavailable into the errors of registries; `what` names what is asked for."""
        try:
            yield
        except http.Unavailable as error:
            raise self._error(what, error) from None

    def _error(self, what: str, error: http.Unavailable) -> RegistryError:
        told = f"{self.repository}: {what}: {error}"
        if isinstance(error, http.TooMuch):
            return WrongContent(told, "It is not used. Ask the registry's administrator.")
        if error.status in (401, 403):
            return self._access.refused(str(error))
        if error.status == 404:
            return NotThere(told, "Check the path of the repository, and what it has.")
        if "certificate" in str(error).lower():
            hint = (
                f"If {host_of(self.root)} has its certificate from your site's own authority, name "
                "the file of that in SSL_CERT_FILE."
            )
            return Unreachable(told, hint)
        hint = f"Check the network, and whether {host_of(self.root)} is a registry."
        if error.status == 400:
            return Refused(told, "Ask the registry's administrator for the reason.")
        return (Unreachable if error.again or not error.status else RegistryError)(told, hint)

    def _wrong(self, what: str, digest: str, promised: str) -> WrongContent:
        return WrongContent(
            f"{self.repository}: {what} has the digest {digest}, not {promised}",
            "It is not used. Ask the registry's administrator for the reason.",
        )

    def _unlike(self, what: str) -> RegistryError:
        return RegistryError(
            f"{self.repository}: {what} is not what registries give",
            f"Check whether {host_of(self.root)} is a registry.",
        )


def _refusal(response: Response) -> http.Unavailable:
    """Return the failure of an answer, with the registry's own reason."""
    refusal = http.refusal(response)
    # The reason may be incomplete, or no JSON.
    with suppress(http.Unavailable, ValueError, LookupError, TypeError, RecursionError):
        said = json.loads(http.beginning(response, LARGEST_REASON))["errors"][0]
        reason = printable(f"{said['code']}: {said.get('message', '')}")[:200]
        refusal.args = (f"{refusal}: {reason}",)
    response.close()
    return refusal


def _drain(response: Response) -> None:
    """Read and close an answer; if it is short, its connection can be used again."""
    with suppress(http.Unavailable):
        http.beginning(response, LARGEST_REASON)
    response.close()


def _checked(reference: str) -> str:
    """Return a tag or digest; another text in a URL could lead elsewhere."""
    if not (TAG.fullmatch(reference) or DIGEST.fullmatch(reference)):
        raise ValueError(f"neither a tag nor a digest: {reference!r}")
    return reference


def _fallback_tag(digest: str) -> str:
    return digest.replace(":", "-")
