"""The client of registries against two real ones of different make, and against one of malice."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from condainer.network import deadlines, http, silence
from condainer.oci import client, image_manifest, repository, upload
from condainer.oci.client import Client
from condainer.oci.errors import (
    LoginRefused,
    NoRegistry,
    NotThere,
    RegistryError,
    Unreachable,
    WrongContent,
)
from condainer.oci.image_manifest import EMPTY, EMPTY_CONTENT, MANIFEST_TYPE
from condainer.settings.config import SILENCE
from tests.helpers import flaky, flaky_registry, registry
from tests.helpers.flaky import Answer
from tests.helpers.needed import needs_program
from tests.helpers.registry import PASSWORD, USER, Registry, log_in
from tests.helpers.waiting import until

CONTENT = os.urandom(3_000_000)
DIGEST = image_manifest.digest_of(CONTENT)
FILES = (CONTENT, b'{"format": 1}', b"@EXPLICIT\n")
TAG = "0123456789abcdef"


@pytest.fixture(autouse=True)
def own_session(isolated_user: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let what a test sets for authorities and logins be its own, and waits be short."""
    names = ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    for name in (*names, "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(isolated_user / "run"))
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    http.session.cache_clear()
    yield
    http.session.cache_clear()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that asks for nothing; each test has a repository of its own."""
    with registry.serve(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def zuul(tmp_path_factory: pytest.TempPathFactory, zuul_registry: Path) -> Iterator[Registry]:
    with registry.serve_zuul(tmp_path_factory.mktemp("zuul"), zuul_registry) as running:
        yield running


@pytest.fixture(params=registry.MAKES)
def each(request: pytest.FixtureRequest) -> Registry:
    """Each of the real registries, where USER is logged in and no other test has left a blob."""
    fixture = "plain" if request.param == "docker-registry" else "zuul"
    running: Registry = request.getfixturevalue(fixture)
    # One of them has all blobs in all repositories. Neither remembers any in memory.
    for path in running.storage.glob("*"):
        shutil.rmtree(path)
    log_in(running.authority)
    return running


@pytest.fixture
def server() -> Iterator[flaky_registry.Registry]:
    """A registry that does as a test asks for, and holds one blob."""
    with flaky_registry.serve() as running:
        running.add_blob(CONTENT)
        yield running


def client_of(authority: str, path: str = "images", scheme: str = "oci") -> Client:
    return Client(repository.parse(f"{scheme}://{authority}/{path}", "tests"))


def at(server: flaky_registry.Registry) -> Client:
    # Python's server does not answer a handshake.
    return client_of(server.authority, scheme="oci" if "https" in server.url else "oci+http")


def push(to: Client, tag: str = TAG) -> image_manifest.ImageManifest:
    image = image_manifest.of_files(
        *((hashlib.sha256(content).hexdigest(), len(content)) for content in FILES)
    )
    for item, content in zip((image.squashfs, image.manifest, image.lock), FILES, strict=True):
        to.upload(item.digest, item.size, io.BytesIO(content))
    to.upload(EMPTY.digest, EMPTY.size, io.BytesIO(EMPTY_CONTENT))
    to.put_manifest(tag, image_manifest.write(image), MANIFEST_TYPE)
    return image


def pulled(of: Client, tag: str = TAG) -> tuple[bytes, ...]:
    image = image_manifest.read(of.manifest(tag).content, tag)
    items = (image.squashfs, image.manifest, image.lock)
    return tuple(of.content(item.digest, item.size) for item in items)


def blob(of: Client, path: Path, content: bytes = CONTENT) -> bytes:
    """Get the blob into a file, and return what stands there."""
    with path.open("w+b") as stream:
        of.blob(image_manifest.digest_of(content), len(content), stream)
    return path.read_bytes()


# A real registry


def test_an_image_is_pushed_and_pulled(each: Registry) -> None:
    mine = client_of(each.authority, "group/pushed")
    with pytest.raises(NotThere):
        mine.manifest(TAG)
    # Of a repository that is not there, zuul-registry has an empty list.
    with suppress(NotThere):
        assert mine.tags() == []
    assert not mine.exists(DIGEST)
    image = push(mine)
    assert pulled(client_of(each.authority, "group/pushed")) == FILES
    assert mine.exists(DIGEST)
    found = mine.manifest(TAG)
    assert found.media_type == MANIFEST_TYPE
    assert image_manifest.read(found.content, TAG) == image
    assert mine.manifest(found.digest) == found
    assert mine.tags() == [TAG]
    with pytest.raises(NotThere, match="group/pushed"):
        mine.manifest("other")
    # It was asked for with TLS, of which it knows nothing.
    assert mine.root.startswith("http:")


def test_a_repository_that_is_not_there_has_no_tags(plain: Registry) -> None:
    with pytest.raises(NotThere, match="nowhere"):
        client_of(plain.authority, "nowhere").tags()


def test_what_is_there_is_not_sent_again(each: Registry) -> None:
    mine = client_of(each.authority, "twice")
    told: list[int] = []
    assert mine.upload(DIGEST, len(CONTENT), io.BytesIO(CONTENT), told.append)
    assert told[-1] == len(CONTENT)
    told.clear()
    assert not mine.upload(DIGEST, len(CONTENT), io.BytesIO(CONTENT), told.append)
    assert told == []


def test_who_is_not_logged_in_may_pull(each: Registry) -> None:
    push(client_of(each.authority, "open"))
    (Path.home() / ".docker/config.json").unlink()
    mine = client_of(each.authority, "open")
    assert pulled(mine) == FILES
    assert mine.tags() == [TAG]


def test_progress_is_told_of_a_pull(each: Registry, tmp_path: Path) -> None:
    mine = client_of(each.authority, "progress")
    push(mine)
    told: list[int] = []
    with (tmp_path / "blob").open("w+b") as stream:
        mine.blob(DIGEST, len(CONTENT), stream, told.append)
    assert told == sorted(told)
    assert told[-1] == len(CONTENT)


def test_a_large_blob_is_checked_beside(each: Registry, tmp_path: Path) -> None:
    mine = client_of(each.authority, "large")
    content = os.urandom(http.LARGE + 5)
    mine.upload(image_manifest.digest_of(content), len(content), io.BytesIO(content))
    assert blob(mine, tmp_path / "blob", content) == content


def put_signatures(to: Client) -> None:
    push(to)
    found = to.manifest(TAG)
    assert to.referrers(found.digest) == []
    subject = image_manifest.describe(found.content)
    for name in ("0.sig", "1.sig", "0.sig"):
        layer = image_manifest.Descriptor("text/plain", EMPTY.digest, EMPTY.size, name)
        to.put_referrer(subject, layer, image_manifest.SIGNATURE_TYPE)
    listed = to.referrers(found.digest)
    assert {item.artifact_type for item in listed} == {image_manifest.SIGNATURE_TYPE}
    texts = [to.manifest(item.digest).content for item in listed]
    layers = [image_manifest.read_referrer(text, "tests") for text in texts]
    assert {layer.title for (layer,) in layers} == {"0.sig", "1.sig"}


def test_signatures_have_a_tag_where_the_registry_does_not_list_them(each: Registry) -> None:
    mine = client_of(each.authority, "signed")
    put_signatures(mine)
    tag = mine.manifest(TAG).digest.replace(":", "-")
    assert sorted(mine.tags()) == sorted([TAG, tag])
    assert len(image_manifest.read_index(mine.manifest(tag).content, tag)) == 2


def test_a_login_is_used_and_a_wrong_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, certificate = flaky.certificates(tmp_path / "tls", "127.0.0.1")
    with registry.serve(tmp_path / "registry", login=True, certificate=certificate) as running:
        with pytest.raises(Unreachable, match="certificate") as caught:
            client_of(running.authority).manifest(TAG)
        assert "SSL_CERT_FILE" in caught.value.hint
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        http.session.cache_clear()
        # What clients of packages know is nothing to a registry.
        netrc = tmp_path / "netrc"
        netrc.write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        with pytest.raises(LoginRefused, match=r"without a login.*\.docker/config\.json"):
            push(client_of(running.authority))
        path = log_in(running.authority, password="wrong-word")
        with pytest.raises(LoginRefused, match=f"the login of {path}") as refused:
            client_of(running.authority).tags()
        assert f"skopeo login {running.authority}" in refused.value.hint
        assert "wrong-word" not in str(refused.value)
        log_in(running.authority)
        mine = client_of(running.authority)
        push(mine)
        assert pulled(mine) == FILES
        assert mine.root.startswith("https:")
        assert PASSWORD not in running.log.read_text()


@dataclass
class TokenServer(flaky.Flaky):
    """Gives tokens that Debian's registry takes, to one user with one password."""

    key: Path = Path()
    der: bytes = b""

    def token(self, scope: str) -> str:
        kind, name, actions = scope.split(":")
        now = int(time.time())
        claims = {
            "iss": "tests",
            "sub": USER,
            "aud": "registry",
            "jti": os.urandom(8).hex(),
            "nbf": now - 5,
            "exp": now + 60,
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(self.der).decode()]}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        signing = ["openssl", "dgst", "-sha256", "-sign", str(self.key)]
        made = subprocess.run(signing, input=signed.encode(), capture_output=True, check=True)
        return f"{signed}.{_encoded(made.stdout)}"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class TokenHandler(flaky.Handler):
    def answer(
        self, status: int, body: bytes, length: int | None = None, **headers: str | None
    ) -> None:
        if status == 404 and self.path.startswith("/token?"):
            (scope,) = parse_qs(urlsplit(self.path).query)["scope"]
            status, body = 200, json.dumps({"token": self.flaky.token(scope)}).encode()
        super().answer(status, body, length, **headers)


def test_tokens_are_got_with_the_login(tmp_path: Path) -> None:
    key, certificate, der = (tmp_path / name for name in ("key", "certificate", "der"))
    rsa = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tokens"]
    subprocess.run([*rsa, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    subprocess.run(
        ["openssl", "x509", "-in", certificate, "-outform", "DER", "-out", der], check=True
    )
    state = TokenServer("", login=(USER, PASSWORD), key=key, der=der.read_bytes())
    with flaky.serve_as(TokenHandler, state) as tokens:
        lines = (
            f"{{realm: '{tokens.url}/token', service: registry, issuer: tests, "
            f"rootcertbundle: {certificate}}}"
        )
        with registry.serve(tmp_path / "registry", token=lines) as running:
            with pytest.raises(LoginRefused, match="answers 401"):
                client_of(running.authority).tags()
            log_in(running.authority)
            push(client_of(running.authority))
            mine = client_of(running.authority)
            assert pulled(mine) == FILES
            asked = len(tokens.asked)
            # A token does for all that is alike.
            assert pulled(mine) == FILES
            assert len(tokens.asked) == asked
            scopes = {parse_qs(urlsplit(asked.path).query)["scope"][0] for asked in tokens.asked}
            actions = {frozenset(scope.rpartition(":")[2].split(",")) for scope in scopes}
            assert actions == {frozenset(["pull"]), frozenset(["pull", "push"])}


# skopeo, as an independent client


def skopeo(*arguments: str) -> str:
    command = [needs_program("skopeo"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_skopeo_reads_what_is_pushed_and_what_it_pushes_is_read(
    each: Registry, tmp_path: Path
) -> None:
    mine = client_of(each.authority, "ours")
    image = push(mine)
    ours = f"docker://{each.authority}/ours:{TAG}"
    raw = skopeo("inspect", "--raw", "--tls-verify=false", ours)
    assert image_manifest.read(raw.encode(), "skopeo") == image
    copy = ("copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo(*copy, ours, f"dir:{tmp_path / 'files'}")
    hexadecimal = image.squashfs.digest.removeprefix("sha256:")
    assert (tmp_path / "files" / hexadecimal).read_bytes() == CONTENT
    layout = f"oci:{tmp_path / 'layout'}:{TAG}"
    skopeo(*copy, ours, layout)
    skopeo(*copy, layout, f"docker://{each.authority}/theirs:{TAG}")
    theirs = client_of(each.authority, "theirs")
    assert theirs.manifest(TAG) == mine.manifest(TAG)
    assert pulled(theirs) == FILES


# Connections that break off


@dataclass
class Relay:
    """Passes connections on to a server, and cuts them after so many bytes, one way or another."""

    authority: str
    cuts: list[int] = field(default_factory=list)

    def join(self, ends: tuple[socket.socket, socket.socket], passed: list[int]) -> None:
        one, other = ends
        try:
            while data := one.recv(1 << 16):
                passed[0] += len(data)
                if self.cuts and passed[0] > self.cuts[0]:
                    self.cuts.pop(0)
                    break
                other.sendall(data)
        except OSError:
            pass
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


@contextmanager
def relay(target: str) -> Iterator[Relay]:
    host, _, port = target.partition(":")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = Relay(f"127.0.0.1:{listening.getsockname()[1]}")

        def accept() -> None:
            while True:
                try:
                    here, _ = listening.accept()
                except OSError:
                    return
                there = socket.create_connection((host, int(port)))
                passed = [0]
                for ends in ((here, there), (there, here)):
                    threading.Thread(target=running.join, args=(ends, passed), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield running
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_real_registry_that_is_cut_off_gets_and_gives_all(each: Registry, tmp_path: Path) -> None:
    with relay(each.authority) as between:
        mine = client_of(between.authority, "cut", "oci+http")
        log_in(between.authority)
        between.cuts[:] = [500_000, 1_500_000]
        push(mine)
        assert between.cuts == []
        between.cuts[:] = [500_000, 1_500_000, 100_000]
        assert blob(mine, tmp_path / "blob") == CONTENT
        assert between.cuts == []


@pytest.mark.parametrize(
    ("plan", "requests"),
    [
        ([flaky.drop(1_000_000)], 2),
        ([flaky.drop(200_000)] * 8, 9),
        ([flaky.status(503), flaky.status(429)], 3),
        ([flaky.hang_up] * 3, 4),
        ([flaky.drop(1_000_000), flaky.ignoring_ranges], 2),
        ([flaky.drop(1_000_000), flaky.wrong_range], 3),
        ([flaky.without_length(1_000_000)], 2),
        ([flaky.short_length], 2),
        # What came in pieces need not be what the registry has.
        ([flaky.drop(1_000_000), flaky.wrong_rest], 3),
    ],
)
def test_a_blob_comes_whole_in_the_end(
    server: flaky_registry.Registry, tmp_path: Path, plan: list[Answer], requests: int
) -> None:
    server.plan[:] = plan
    assert blob(at(server), tmp_path / "blob") == CONTENT
    assert len(server.asked) == requests


def test_a_pull_goes_on_where_it_broke_off(server: flaky_registry.Registry, tmp_path: Path) -> None:
    server.plan[:] = [flaky.drop(1_000_000), flaky.drop(500_000)]
    assert blob(at(server), tmp_path / "blob") == CONTENT
    ranges = [asked.headers.get("range") for asked in server.asked]
    assert ranges == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_silent_registry_is_not_waited_for_for_ever(
    server: flaky_registry.Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "_limit", 0.3)
    server.plan[:] = [flaky.silent] * 9
    start = time.monotonic()
    with pytest.raises(Unreachable, match="timed out"):
        blob(at(server), tmp_path / "blob")
    # By default, it would be waited for so long each time.
    assert time.monotonic() - start < SILENCE


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("HTTP/1.1 200 OK\nX-Long: ", "no answer within"),
        (f"HTTP/1.1 200 OK\nContent-Length: {len(CONTENT)}\n\n", "bytes came in"),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1", "."),
        ("HTTP/1.1 404 Not Found\nContent-Length: 9999\n\n", "404"),
        # Of the body of such an answer there is nothing to wait for.
        ("HTTP/1.1 302 Found\nLocation: /elsewhere\nContent-Length: 9999\n\n", "404"),
    ],
)
def test_a_registry_that_drips_is_not_waited_for_for_ever(
    server: flaky_registry.Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    head: str,
    told: str,
) -> None:
    monkeypatch.setattr(silence, "_limit", 1.0)
    server.plan[:] = [flaky.dripping(head)] * 9
    with pytest.raises(RegistryError, match=told):
        blob(at(server), tmp_path / "blob")
    # What is too slow once is not tried again.
    assert len(server.asked) == 1 + ("Location" in head)


def test_a_small_answer_that_drips_has_to_come_in_time(
    server: flaky_registry.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "SMALL", 1.0)
    server.files["/v2/images/manifests/tag"] = b"{}"
    server.plan[:] = [flaky.dripping("HTTP/1.1 200 OK\nContent-Length: 9999\n\n")]
    with pytest.raises(Unreachable, match="too slowly"):
        at(server).manifest("tag")
    assert at(server).manifest("tag").content == b"{}"


def test_a_registry_that_is_away_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(Unreachable, match="refused") as caught:
        client_of(f"127.0.0.1:{port}").manifest(TAG)
    assert f"127.0.0.1:{port}" in caught.value.message
    assert caught.value.exit_code == 6
    with pytest.raises(Unreachable):
        client_of("registry.invalid").manifest(TAG)


def test_a_look_up_does_not_wait_for_a_registry_that_is_busy(
    server: flaky_registry.Registry,
) -> None:
    server.files["/v2/images/manifests/tag"] = b"{}"
    server.plan[:] = [flaky.status(503, "30"), flaky.status(503, "30")]
    start = time.monotonic()
    with pytest.raises(Unreachable, match="503"):
        at(server).manifest("tag")
    assert time.monotonic() - start < 30
    assert at(server).manifest("tag").content == b"{}"


@pytest.mark.parametrize("answer", [flaky.silent, flaky.status(503, "30")], ids=["silent", "busy"])
def test_small_files_are_not_waited_for_as_images_are(
    server: flaky_registry.Registry, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    # Less than the limit for images, as usual.
    monkeypatch.setattr(http, "LOOK_UP", (1.0, 1.0))
    start = time.monotonic()
    server.plan[:] = [answer] * 5
    with pytest.raises(Unreachable, match=r"timed out|503"):
        at(server).content(DIGEST, len(CONTENT))
    with flaky.serve() as tokens:
        challenged(server, f"{tokens.url}/token")
        place = "/token?service=s%2C1&scope=repository%3Aimages%3Apull"
        tokens.files[place] = b"0" * 3000
        tokens.plan[:] = [answer] * 2
        with pytest.raises(Unreachable, match=r"timed out|503"):
            at(server).manifest("tag")
    assert time.monotonic() - start < 30


# A registry that lies


@pytest.mark.parametrize("answer", [flaky.wrong, flaky.endless])
def test_other_bytes_are_refused(
    server: flaky_registry.Registry, tmp_path: Path, answer: Answer
) -> None:
    server.plan[:] = [answer] * 9
    with pytest.raises(WrongContent, match="blob") as caught:
        blob(at(server), tmp_path / "blob")
    assert DIGEST in caught.value.message
    assert caught.value.exit_code == 9
    assert (tmp_path / "blob").stat().st_size <= len(CONTENT)


def test_a_blob_that_is_shorter_is_refused(server: flaky_registry.Registry, tmp_path: Path) -> None:
    server.files[f"/v2/images/blobs/{DIGEST}"] = CONTENT[:-1]
    with pytest.raises(RegistryError, match=r"closed early|416"):
        blob(at(server), tmp_path / "blob")


def test_a_manifest_that_is_huge_or_another_one_is_refused(
    server: flaky_registry.Registry,
) -> None:
    mine, place = at(server), "/v2/images/manifests/"
    server.files[f"{place}huge"] = bytes(image_manifest.LARGEST + 1)
    server.files[f"{place}endless"] = bytes(100_000)
    with pytest.raises(WrongContent, match="more than"):
        mine.manifest("huge")
    server.plan[:] = [flaky.endless]
    with pytest.raises(WrongContent, match="more than"):
        mine.manifest("endless")
    server.files[f"{place}{DIGEST}"] = b"{}"
    with pytest.raises(WrongContent, match=f"not {DIGEST}"):
        mine.manifest(DIGEST)
    server.files[f"{place}tag"] = b"{}"
    assert mine.manifest("tag").digest == EMPTY.digest
    server.headers["Docker-Content-Digest"] = DIGEST
    with pytest.raises(WrongContent, match=f"not {DIGEST}"):
        mine.manifest("tag")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"tags": "x"}', b'{"tags": [1]}', b"[" * 99_999])
def test_a_list_of_tags_that_is_none_is_refused(
    server: flaky_registry.Registry, content: bytes
) -> None:
    server.files[f"/v2/images/tags/list?n={client.PAGE}"] = content
    with pytest.raises(RegistryError, match="list of tags"):
        at(server).tags()


def test_tags_come_in_pages(
    server: flaky_registry.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [f"/v2/images/tags/list?n={client.PAGE}&last={number}" for number in range(5)]
    places[0] = f"/v2/images/tags/list?n={client.PAGE}"
    for number, place in enumerate(places):
        server.files[place] = json.dumps({"name": "images", "tags": [f"tag-{number}"]}).encode()
    for place, following in itertools.pairwise(places):
        server.links[place] = f'<{following}>; rel="next"'
    mine = at(server)
    assert mine.tags() == [f"tag-{number}" for number in range(5)]
    monkeypatch.setattr(client, "PAGES", 4)
    with pytest.raises(RegistryError, match="does not end"):
        mine.tags()


@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("manifests/tag", lambda client: client.manifest("tag")),
        ("tags/list?n=1000", Client.tags),
        (f"referrers/{DIGEST}", lambda client: client.referrers(DIGEST)),
    ],
    # The digest is another one in each worker.
    ids=("manifest", "tags", "referrers"),
)
def test_a_web_page_is_no_answer_of_a_registry(
    server: flaky_registry.Registry, path: str, ask: Any
) -> None:
    server.files[f"/v2/images/{path}"] = b"\n<!DOCTYPE html><html>Welcome</html>"
    for plan in ([], [flaky.page]):
        server.plan[:] = plan
        with pytest.raises(NoRegistry, match=r"is no registry.*HTML page") as caught:
            ask(at(server))
        assert server.authority in caught.value.message
        assert "proxy" in caught.value.hint


def test_a_registry_without_pages_lists_its_tags(server: flaky_registry.Registry) -> None:
    server.files["/v2/images/tags/list"] = b'{"name": "images", "tags": ["one"]}'
    assert at(server).tags() == ["one"]


def test_a_web_page_is_no_token(server: flaky_registry.Registry, tmp_path: Path) -> None:
    with flaky.serve() as tokens:
        tokens.files["/t?service=s%2C1&scope=repository%3Aimages%3Apull"] = b"<html>Log in</html>"
        challenged(server, f"{tokens.url}/t")
        with pytest.raises(RegistryError, match="gives an HTML page instead"):
            blob(at(server), tmp_path / "blob")


def test_a_list_of_tags_leads_nowhere_else(server: flaky_registry.Registry) -> None:
    place = f"/v2/images/tags/list?n={client.PAGE}"
    server.files[place] = b'{"tags": ["one", "../two", "\\u001b[2J"]}'
    mine = at(server)
    assert mine.tags() == ["one"]
    for url in (place, "http://127.0.0.1:1/v2/", "http://169.254.169.254/"):
        server.headers["Link"] = f'<{url}>; rel="next"'
        with pytest.raises(RegistryError, match="does not end"):
            mine.tags()


@pytest.mark.parametrize("url", ["http://[", "http://127.0.0.1:99999/", "http://x:port/"])
def test_what_a_registry_names_may_be_no_url(
    server: flaky_registry.Registry, tmp_path: Path, url: str
) -> None:
    server.plan[:] = [flaky.redirect(url)] * 9
    with pytest.raises(RegistryError, match="what is no URL"):
        blob(at(server), tmp_path / "blob")
    server.plan.clear()
    server.uploads_at = url
    with pytest.raises(RegistryError, match="what is no URL"):
        at(server).upload(EMPTY.digest, EMPTY.size, io.BytesIO(EMPTY_CONTENT))
    place = f"/v2/images/tags/list?n={client.PAGE}"
    server.files[place] = b'{"tags": ["one"]}'
    server.links[place] = f'<{url}>; rel="next"'
    with pytest.raises(RegistryError, match=r"list of tags: .*what is no URL"):
        at(server).tags()


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest", "http://metadata.google.internal/", "file:///etc"]
)
def test_nobody_is_sent_to_where_credentials_are_served(
    server: flaky_registry.Registry, tmp_path: Path, target: str
) -> None:
    server.plan[:] = [flaky.redirect(target)] * 9
    with pytest.raises(RegistryError, match="redirected to"):
        blob(at(server), tmp_path / "blob")
    server.uploads_at = f"{target}/"
    other = CONTENT[::-1]
    with pytest.raises(RegistryError, match="redirected to"):
        at(server).upload(image_manifest.digest_of(other), len(other), io.BytesIO(other))


# Who is told the login


def challenged(server: flaky_registry.Registry, realm: str = "") -> None:
    """Let a registry ask for a token, of its own or of another server."""
    where = realm or f"{server.url}/token"
    server.challenge = f'Bearer realm="{where}",service="s,1",scope="repository:images:pull"'


def logins_sent(server: flaky_registry.Registry | flaky.Flaky) -> set[str]:
    found = {asked.headers.get("authorization", "") for asked in server.asked}
    return {value.partition(" ")[2] for value in found if value}


def encoded(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_store_of_blobs_is_not_told_the_login(
    server: flaky_registry.Registry, tmp_path: Path
) -> None:
    challenged(server)
    log_in(server.authority)
    with flaky.serve() as store:
        store.files["/blob"] = CONTENT
        server.plan[:] = [flaky.redirect(f"{store.url}/blob")]
        assert blob(at(server), tmp_path / "blob") == CONTENT
        assert logins_sent(store) == set()
        assert logins_sent(server) == {encoded(USER, PASSWORD), "token-0"}
    # A store that wants a login is not given one, also if the registry itself wanted none.
    with flaky_registry.serve() as store:
        challenged(store)
        server.challenge = ""
        server.plan[:] = [flaky.redirect(f"{store.url}/v2/images/blobs/{store.add_blob(CONTENT)}")]
        with pytest.raises(LoginRefused):
            blob(at(server), tmp_path / "blob")
        assert logins_sent(store) == set()
        assert len(store.asked) == 1


def test_another_server_for_uploads_is_not_told_the_login(
    server: flaky_registry.Registry,
) -> None:
    challenged(server)
    log_in(server.authority)
    other = CONTENT[::-1]
    digest = image_manifest.digest_of(other)
    with flaky_registry.serve() as store:
        store.uploads.append(bytearray())
        server.uploads_at = f"{store.url}/v2/images/blobs/uploads/"
        assert at(server).upload(digest, len(other), io.BytesIO(other))
        assert store.files[f"/v2/images/blobs/{digest}"] == other
        assert logins_sent(store) == set()


def test_a_server_of_tokens_is_told_the_login_of_the_registry_only(
    server: flaky_registry.Registry, tmp_path: Path
) -> None:
    with flaky_registry.serve() as tokens:
        log_in(server.authority, "mine", "one-secret")
        log_in(tokens.authority, "other", "another-secret")
        challenged(server, f"{tokens.url}/token")
        server.tokens.append("token-0")
        assert blob(at(server), tmp_path / "blob") == CONTENT
        assert logins_sent(tokens) == {encoded("mine", "one-secret")}
        (asked,) = tokens.asked
        assert asked.path == "/token?service=s%2C1&scope=repository%3Aimages%3Apull"
        # Who is sent on from there takes no login along.
        tokens.asked.clear()
        with flaky.serve() as elsewhere:
            tokens.files["/other?service=s%2C1&scope=repository%3Aimages%3Apull"] = b""
            tokens.plan[:] = [flaky.redirect(f"{elsewhere.url}/token")]
            challenged(server, f"{tokens.url}/other")
            server.tokens.clear()
            with pytest.raises(RegistryError, match="302"):
                blob(at(server), tmp_path / "blob")
            assert elsewhere.asked == []


def test_a_scope_that_is_none_of_a_repository_is_not_asked_for(
    server: flaky_registry.Registry, tmp_path: Path
) -> None:
    server.challenge = f'Bearer realm="{server.url}/token",scope="read"'
    assert blob(at(server), tmp_path / "blob") == CONTENT
    assert "/token?service=&scope=repository%3Aimages%3Apull" in {
        asked.path for asked in server.asked
    }


def test_a_token_that_is_old_is_renewed(server: flaky_registry.Registry, tmp_path: Path) -> None:
    challenged(server)
    mine = at(server)
    assert blob(mine, tmp_path / "blob") == CONTENT
    assert server.tokens == ["token-0"]
    server.tokens[:] = ["x"]
    assert blob(mine, tmp_path / "blob") == CONTENT
    assert server.tokens == ["x", "token-1"]
    # Also while a blob is sent.
    other = CONTENT[::-1]

    class Expiring(io.BytesIO):
        def seek(self, place: int, whence: int = 0) -> int:
            if place and "expired" not in server.tokens:
                server.tokens[:] = ["expired"]
            return super().seek(place, whence)

    server.cuts[:] = [2_000_000]
    assert mine.upload(image_manifest.digest_of(other), len(other), Expiring(other))


def test_an_identity_token_is_exchanged(server: flaky_registry.Registry, tmp_path: Path) -> None:
    challenged(server)
    log_in(server.authority, "<token>", "", identitytoken="identity-secret")
    assert blob(at(server), tmp_path / "blob") == CONTENT
    (asked,) = server.requests("POST")
    assert "identity-secret" in asked.body
    assert "refresh_token" in asked.body
    assert all("identity-secret" not in f"{asked.path}{asked.headers}" for asked in server.asked)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{}", b'{"token": 7}', b'"x"', b"[" * 99_999),
        # What no header can hold.
        *(b'{"token": "a\\nb"}', b'{"token": "\\u20ac"}'),
    ],
    ids=range(8),
)
def test_a_token_that_is_none_is_refused(
    server: flaky_registry.Registry, tmp_path: Path, content: bytes
) -> None:
    with flaky.serve() as tokens:
        place = "/t?service=s%2C1&scope=repository%3Aimages%3Apull"
        tokens.files[place] = content
        challenged(server, f"{tokens.url}/t")
        with pytest.raises(RegistryError, match="gives none"):
            blob(at(server), tmp_path / "blob")
        tokens.files[place] = bytes(2_000_000)
        with pytest.raises(RegistryError, match="more than"):
            blob(at(server), tmp_path / "blob")


def test_many_threads_log_in_once(server: flaky_registry.Registry, tmp_path: Path) -> None:
    challenged(server)
    log_in(server.authority)
    mine = at(server)
    results: list[bytes] = []

    def get(number: int) -> None:
        results.append(blob(mine, tmp_path / str(number)))

    threads = [threading.Thread(target=get, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENT] * 8
    assert server.tokens == ["token-0"]


# Uploads to a registry that resumes


OTHER = os.urandom(3_000_000)
OTHER_DIGEST = image_manifest.digest_of(OTHER)


def send(to: Client, stream: Any = None, content: bytes = OTHER) -> bool:
    digest = image_manifest.digest_of(content)
    return to.upload(digest, len(content), stream or io.BytesIO(content))


def test_a_push_goes_on_where_it_broke_off(server: flaky_registry.Registry) -> None:
    server.cuts[:] = [1_000_000, 500_000, 1]
    assert send(at(server))
    assert server.files[f"/v2/images/blobs/{OTHER_DIGEST}"] == OTHER
    assert len(server.uploads) == 1
    assert [asked.headers.get("content-range") for asked in server.requests("PATCH")] == [
        None,
        "1000000-2999999",
        "1500000-2999999",
        "1500001-2999999",
    ]
    assert not send(at(server))


def test_a_push_that_is_cut_off_often_arrives(server: flaky_registry.Registry) -> None:
    server.cuts[:] = [200_000] * 14
    assert send(at(server))
    assert server.files[f"/v2/images/blobs/{OTHER_DIGEST}"] == OTHER


def test_a_push_that_gets_nowhere_ends(server: flaky_registry.Registry) -> None:
    server.cuts[:] = [0] * 20
    with pytest.raises(Unreachable):
        send(at(server))
    assert len(server.requests("PATCH")) == http.TRIES


@pytest.mark.parametrize(
    "statuses",
    [
        # Of the requests whether it is there, for an upload, its body, its end.
        [503],
        [0, 503],
        [0, 0, 500],
        [0, 0, 0, 502],
        [429, 429, 0, 503],
    ],
)
def test_a_registry_that_is_busy_gets_all_in_the_end(
    server: flaky_registry.Registry, statuses: list[int]
) -> None:
    server.statuses[:] = statuses
    assert send(at(server))
    assert server.statuses == []
    assert server.files[f"/v2/images/blobs/{OTHER_DIGEST}"] == OTHER


@pytest.mark.parametrize(
    ("status", "uploads"),
    [
        # Of the requests how much has arrived, and for the rest.
        ([503], 1),
        ([404], 2),
        ([405], 2),
        ([0, 416], 2),
        ([0, 404], 2),
        ([0, 0, 400], 2),
        ([0, 503], 1),
    ],
)
def test_a_registry_that_cannot_go_on_is_sent_all_again(
    server: flaky_registry.Registry, status: list[int], uploads: int
) -> None:
    server.cuts[:] = [1_000_000]
    server.statuses[:] = [0, 0, 0, 0, *status]
    assert send(at(server))
    assert server.files[f"/v2/images/blobs/{OTHER_DIGEST}"] == OTHER
    assert len(server.uploads) == uploads


def test_a_registry_that_allows_no_look_is_sent_all(server: flaky_registry.Registry) -> None:
    for _ in range(2):
        server.statuses[:] = [405]
        assert send(at(server))
    assert server.files[f"/v2/images/blobs/{OTHER_DIGEST}"] == OTHER
    server.statuses[:] = [405]
    assert not at(server).exists(OTHER_DIGEST)


def test_cookies_of_a_registry_are_not_sent_back(
    server: flaky_registry.Registry, tmp_path: Path
) -> None:
    # It would take that for a browser's session, and refuse what a page of its own has not sent.
    server.headers["Set_Cookie"] = "sid=1; Path=/"
    mine = at(server)
    assert blob(mine, tmp_path / "blob") == CONTENT
    assert send(mine)
    assert not [asked for asked in server.asked if "cookie" in asked.headers]


def test_a_registry_that_has_more_than_can_be_said_is_sent_all_again(
    server: flaky_registry.Registry,
) -> None:
    server.cuts[:] = [1_000_000]
    server.headers["Range"] = f"0-{'9' * 5000}"
    assert send(at(server))
    assert server.files[f"/v2/images/blobs/{OTHER_DIGEST}"] == OTHER


def test_a_registry_that_has_more_than_there_is_is_sent_all_again(
    server: flaky_registry.Registry,
) -> None:
    class Reader(io.BytesIO):
        def seek(self, place: int, whence: int = 0) -> int:
            if place and not server.uploads[0].startswith(b"more"):
                server.uploads[0][:] = b"more" * 1_000_000
            return super().seek(place, whence)

    server.cuts[:] = [2_500_000]
    assert send(at(server), Reader(OTHER))
    assert server.files[f"/v2/images/blobs/{OTHER_DIGEST}"] == OTHER


class Ending(io.BytesIO):
    """A file that cannot be read from some place on, or is not because of ^C."""

    def __init__(self, content: bytes, error: BaseException, end: int = 1) -> None:
        super().__init__(content)
        self.error = error
        self.end = end

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.end:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_an_upload_that_does_not_go_on_is_cancelled(
    server: flaky_registry.Registry, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        send(at(server), Ending(OTHER, error))
    until(lambda: server.cancelled == [0])


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_real_registry_forgets_an_upload_that_ends(plain: Registry, error: BaseException) -> None:
    path = f"ending/{type(error).__name__.lower()}"
    with pytest.raises(type(error)):
        # Later, it does not: it takes only a place of which it has told all that has come.
        send(client_of(plain.authority, path), Ending(OTHER, error, 0))
    uploads = plain.storage / "docker/registry/v2/repositories" / path / "_uploads"
    assert uploads.is_dir()
    assert not [*uploads.rglob("data")]


def test_an_upload_is_cancelled_within_a_second(
    server: flaky_registry.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CANCELLING", 0.1)
    held = threading.Event()
    monkeypatch.setattr(flaky_registry.RegistryHandler, "do_DELETE", lambda self: held.wait())
    # Otherwise, it waits for ever.
    with pytest.raises(KeyboardInterrupt):
        send(at(server), Ending(OTHER, KeyboardInterrupt()))
    held.set()


def after_the_body(pieces: Sequence[bytes]) -> Callable[[flaky_registry.RegistryHandler], None]:
    """Make a handler's method that takes all that is sent, says something, and no more."""

    def answer(handler: flaky_registry.RegistryHandler) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        with suppress(OSError):
            for piece in pieces:
                handler.wfile.write(piece)
                time.sleep(0.02)
            handler.rfile.read(1)
        handler.close_connection = True

    return answer


@pytest.mark.parametrize(
    ("method", "size"),
    [("PATCH", len(OTHER)), ("PUT", len(OTHER)), ("PUT", 5)],
    ids=("body", "end", "small"),
)
@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ((), "timed out"),
        ((b"HTTP/1.1 201 Created\r\nX-Long: ", *[b"x"] * 999), "no answer within"),
    ],
    ids=("silent", "dripping"),
)
def test_a_registry_that_takes_all_and_does_not_answer(
    server: flaky_registry.Registry,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    size: int,
    pieces: Sequence[bytes],
    told: str,
) -> None:
    monkeypatch.setattr(silence, "_limit", 0.5)
    monkeypatch.setattr(flaky_registry.RegistryHandler, f"do_{method}", after_the_body(pieces))
    start = time.monotonic()
    with pytest.raises(Unreachable, match=told):
        send(at(server), content=OTHER[:size])
    assert time.monotonic() - start < SILENCE
    until(lambda: server.cancelled == [0])


@pytest.mark.parametrize("some", [0, 1000], ids=("nothing", "little"))
def test_a_registry_that_does_not_take_a_block(
    server: flaky_registry.Registry, monkeypatch: pytest.MonkeyPatch, some: int
) -> None:
    ended = threading.Event()

    def answer(handler: flaky_registry.RegistryHandler) -> None:
        handler.flaky.asked.append(flaky.Asked(handler.path, {}, "PATCH"))
        while not ended.wait(0.1):
            handler.rfile.read(some)
        handler.close_connection = True

    monkeypatch.setattr(silence, "_limit", 0.5)
    monkeypatch.setattr(flaky_registry.RegistryHandler, "do_PATCH", answer)
    start = time.monotonic()
    try:
        # More than the kernel takes.
        with pytest.raises(Unreachable, match="timed out"):
            send(at(server), content=bytes(64 << 20))
    finally:
        ended.set()
    # It may have taken some of it: then the rest would be sent.
    assert len(server.requests("PATCH")) == http.TRIES
    assert time.monotonic() - start < SILENCE


def test_the_time_for_an_answer_begins_when_all_is_sent(
    server: flaky_registry.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            time.sleep(0.8)
            return super().read(size)

    monkeypatch.setattr(silence, "_limit", 0.5)
    start = time.monotonic()
    assert send(at(server), Slow(OTHER))
    assert time.monotonic() - start > 2


def test_a_small_blob_goes_at_once(server: flaky_registry.Registry) -> None:
    assert send(at(server), content=b"small")
    assert [asked.method for asked in server.asked] == ["HEAD", "POST", "PUT"]


def test_a_part_that_has_come_may_be_told_by_another_status(
    server: flaky_registry.Registry,
) -> None:
    server.taken = 204
    server.cuts[:] = [1_000_000]
    assert send(at(server))
    assert server.files[f"/v2/images/blobs/{OTHER_DIGEST}"] == OTHER


def test_a_file_that_fails_is_not_the_network(server: flaky_registry.Registry) -> None:
    with pytest.raises(OSError, match="less than"):
        send(at(server), io.BytesIO(OTHER[:-1]))


def saying(line: bytes) -> Answer:
    """Answer with one line, and no more."""

    def answer(handler: flaky.Handler, content: bytes) -> None:
        handler.wfile.write(line + b"\r\n\r\n")
        handler.close_connection = True

    return answer


def test_what_a_registry_says_of_a_failure_is_told(server: flaky_registry.Registry) -> None:
    server.files["/v2/images/manifests/tag"] = b"{}"
    server.plan[:] = [saying(b"HTTP/1.1 400 \x1b[2J")]
    with pytest.raises(RegistryError, match=r"400 \?\[2J"):
        at(server).manifest("tag")
    server.plan[:] = [saying(b"\x1b[2J")] * 2
    with pytest.raises(RegistryError, match=r"\?\[2J"):
        at(server).manifest("tag")
    with pytest.raises(RegistryError, match=r"400 .*: DIGEST_INVALID: \?\[2J"):
        at(server).upload(EMPTY.digest, len(OTHER), io.BytesIO(OTHER))


def test_signatures_are_listed_by_a_registry_that_can(server: flaky_registry.Registry) -> None:
    server.has_referrers = True
    mine = at(server)
    push(mine)
    found = mine.manifest(TAG)
    server.files[f"/v2/images/referrers/{found.digest}"] = image_manifest.write_index([])
    put_signatures(mine)
    assert not any("sha256-" in place for place in server.files)
