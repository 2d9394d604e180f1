"""Files from servers that fail, lie, or are slow: whole and right, or not at all."""

from __future__ import annotations

import _thread
import contextlib
import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from condainer.network import credentials, http
from condainer.package_cache import archives
from condainer.package_cache.archives import File
from condainer.packages import downloads, pages
from condainer.settings.config import Settings
from condainer.system.errors import IntegrityError, LockfileError, NetworkError, OfflineError
from condainer.system.reporter import Silent
from condainer.system.urls import PAGE, redacted
from tests.helpers import flaky
from tests.helpers.flaky import Answer, Flaky
from tests.helpers.waiting import PATIENCE, until

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "/probe-1.0-0.conda"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    """A server that holds one file."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    with flaky.serve() as running:
        running.files[NAME] = CONTENT
        yield running


def file_at(*places: str) -> File:
    return File(places[0], SHA256, NAME[1:], places)


def fetch(file: File, settings: Settings) -> bytes:
    (path,) = downloads.fetch([file], settings, Silent(), "Downloading")
    assert path == archives.path_in(settings.package_cache, file)
    return path.read_bytes()


def left(settings: Settings) -> list[Path]:
    """Return every file in the package cache."""
    return [path for path in settings.package_cache.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize(
    ("plan", "requests"),
    [
        ([], 1),
        ([flaky.slow], 1),
        ([flaky.hang_up, flaky.hang_up], 3),
        ([flaky.status(503), flaky.status(503)], 3),
        ([flaky.status(429), flaky.status(500), flaky.status(502), flaky.status(504)], 5),
        ([flaky.drop(100_000)], 2),
        ([flaky.drop(1000)] * 12, 13),
        ([flaky.drop(0)] * 3, 4),
        ([flaky.drop(100_000), flaky.ignoring_ranges], 2),
        ([flaky.drop(100_000), flaky.drop(100_000), flaky.status(503)], 4),
        ([flaky.drop(100_000), flaky.wrong_range], 3),
        ([flaky.drop(100_000), flaky.no_range], 3),
        ([flaky.without_length(100_000)], 2),
    ],
)
def test_a_file_comes_whole_in_the_end(
    server: Flaky, load: Callable[..., Settings], plan: list[Answer], requests: int
) -> None:
    server.plan[:] = plan
    settings = load()
    file = file_at(server.url + NAME)
    assert fetch(file, settings) == CONTENT
    assert len(server.asked) == requests
    assert left(settings) == [archives.path_in(settings.package_cache, file)]
    # It is there now.
    assert fetch(file, settings) == CONTENT
    assert len(server.asked) == requests


def test_a_dropped_connection_resumes_where_it_was(
    server: Flaky, load: Callable[..., Settings]
) -> None:
    server.plan[:] = [flaky.drop(100_000), flaky.drop(50_000)]
    assert fetch(file_at(server.url + NAME), load()) == CONTENT
    assert [asked.headers.get("range") for asked in server.asked] == [
        None,
        "bytes=100000-",
        "bytes=150000-",
    ]
    assert server.asked[1].headers["if-range"] == '"one"'


class Patient(threading.Event):
    """Notes for how long it is asked to wait, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return False


NO_TIMES = ("?", f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT")


def test_the_time_that_the_server_asks_for_is_waited(server: Flaky, tmp_path: Path) -> None:
    server.plan[:] = [
        flaky.status(429, "7"),
        flaky.status(503, "99999"),
        *(flaky.status(503, no) for no in NO_TIMES),
    ]
    patient = Patient()
    with open(tmp_path / "file", "w+b") as stream:
        http.fetch(server.url + NAME, http.Received(stream), patient)
    assert patient.waits[:2] == [7.0, http.LONGEST_WAIT]
    for wait in patient.waits[2:]:
        assert wait is not None
        assert 0 < wait < 1
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "requests"),
    [
        (flaky.status(403), 1),
        (flaky.status(404), 1),
        (flaky.status(410), 1),
        (flaky.status(503), 5),
        (flaky.hang_up, 5),
        (flaky.page, 1),
        (flaky.drop(0), 5),
    ],
)
def test_what_cannot_be_had_leaves_nothing(
    server: Flaky, load: Callable[..., Settings], answer: Answer, requests: int
) -> None:
    server.plan[:] = [answer] * 20
    settings = load()
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1") as caught:
        fetch(file_at(server.url + NAME), settings)
    assert "mirror" in caught.value.hint
    # Where a channel denies, rattler asks once more, with the logins that it knows.
    assert len(server.asked) in (requests, requests + 1)
    assert left(settings) == []


@pytest.mark.parametrize("answer", [flaky.wrong, flaky.short_length])
def test_another_file_is_refused(
    server: Flaky, load: Callable[..., Settings], answer: Answer
) -> None:
    server.plan[:] = [answer] * 9
    settings = load()
    with pytest.raises(IntegrityError, match=SHA256):
        fetch(file_at(server.url + NAME), settings)
    assert len(server.asked) == 1
    assert left(settings) == []


@pytest.mark.parametrize(
    "answer", [flaky.wrong, flaky.page, flaky.status(404), flaky.status(503), flaky.hang_up]
)
def test_the_next_mirror_is_asked(
    server: Flaky, load: Callable[..., Settings], answer: Answer
) -> None:
    settings = load()
    with flaky.serve() as first:
        first.files[NAME] = CONTENT
        first.plan[:] = [answer] * 20
        assert fetch(file_at(first.url + NAME, server.url + NAME), settings) == CONTENT
    assert len(server.asked) == 1
    # Nobody listens at the first any more.
    for path in left(settings):
        path.unlink()
    assert fetch(file_at(first.url + NAME, server.url + NAME), settings) == CONTENT


def test_a_page_without_an_end_is_not_read_to_its_end(
    server: Flaky, load: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LARGEST", 100_000)
    server.files["/simple/probe/"] = b"<html>"
    server.plan[:] = [flaky.endless]
    with pytest.raises(NetworkError, match="more than 100000 bytes"):
        fetch(file_at(f"{PAGE}{server.url}/simple/probe/"), load())
    assert len(server.asked) == 1


@pytest.mark.parametrize("plan", [[flaky.endless], [flaky.status(403), flaky.endless], []])
def test_a_file_without_an_end_is_not_written_to_its_end(
    server: Flaky,
    load: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    plan: list[Answer],
) -> None:
    monkeypatch.setattr(downloads, "LARGEST", 250_000)
    settings = load()
    server.plan[:] = plan
    with pytest.raises(NetworkError, match="more than 250000 bytes"):
        fetch(file_at(server.url + NAME), settings)
    server.plan[:] = plan
    with pytest.raises(NetworkError, match="more than 250000 bytes"):
        downloads.fetch_unknown(server.url + NAME, tmp_path / "file", http.NEVER)
    assert (tmp_path / "file").stat().st_size <= 250_000
    assert left(settings) == []


def test_a_file_url_needs_no_server(tmp_path: Path, load: Callable[..., Settings]) -> None:
    source = tmp_path / "größe 1+2.conda"
    source.write_bytes(CONTENT)
    assert fetch(file_at(source.as_uri()), load("offline=true")) == CONTENT
    with pytest.raises(NetworkError, match="No such file"):
        fetch(file_at((tmp_path / "absent").as_uri()), load("package_cache=elsewhere"))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NetworkError, match="cannot be downloaded"):
        fetch(file_at((tmp_path / "fifo").as_uri()), load("package_cache=elsewhere"))


def test_a_damaged_file_in_the_cache_is_replaced(
    server: Flaky, load: Callable[..., Settings]
) -> None:
    settings, file = load(), file_at(server.url + NAME)
    fetch(file, settings)
    path = archives.path_in(settings.package_cache, file)
    path.write_bytes(CONTENT[:-1] + b"?")
    assert fetch(file, settings) == CONTENT
    path.unlink()
    os.mkfifo(path)
    assert fetch(file, settings) == CONTENT


def test_offline_names_what_is_missing_and_asks_nobody(
    server: Flaky, load: Callable[..., Settings]
) -> None:
    url = server.url.replace("//", "//name:secret@") + NAME
    with pytest.raises(OfflineError) as caught:
        fetch(file_at(url), load("offline=true"))
    assert f"{NAME[1:]} from http://***@127.0.0.1" in caught.value.message
    assert "secret" not in caught.value.message
    assert "cnd fetch" in caught.value.hint
    assert not server.asked


def test_a_disk_that_fails_is_no_network_error(server: Flaky) -> None:
    class Full:
        def seek(self, place: int) -> None: ...
        def truncate(self) -> None: ...
        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "full")

    received = http.Received(Full())  # type: ignore[arg-type]
    with pytest.raises(OSError, match="full"):
        http.fetch(server.url + NAME, received, threading.Event())
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a\0b"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(LockfileError):
        File("https://x", SHA256, name, ("https://x",))


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("http://169.254.169.254/latest", "redirected to a link-local address"),
        ("http://metadata.google.internal/x", "redirected to a cloud's metadata"),
        ("http://[::ffff:a9fe:a9fe]/x", "redirected to a link-local address"),
    ],
)
def test_nobody_is_sent_to_where_credentials_are_served(
    server: Flaky, load: Callable[..., Settings], target: str, what: str
) -> None:
    server.plan[:] = [flaky.redirect(target)]
    with pytest.raises(NetworkError, match=what):
        fetch(file_at(server.url + NAME), load())


def test_nobody_is_sent_from_https_to_http(
    server: Flaky, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[..., Settings]
) -> None:
    authority, certificate = flaky.certificates(tmp_path / "tls", "127.0.0.1")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    http.session.cache_clear()
    try:
        with flaky.serve(certificate=certificate) as safe:
            safe.files[NAME] = CONTENT
            safe.plan[:] = [flaky.redirect(safe.url + NAME)]
            assert fetch(file_at(safe.url + NAME), load()) == CONTENT
            safe.plan[:] = [flaky.redirect(server.url + NAME)]
            with pytest.raises(NetworkError, match="from https to http"):
                fetch(file_at(safe.url + NAME), load("package_cache=other"))
            monkeypatch.delenv("SSL_CERT_FILE")
            http.session.cache_clear()
            with pytest.raises(NetworkError, match="certificate"):
                fetch(file_at(safe.url + NAME), load("package_cache=other"))
    finally:
        http.session.cache_clear()
    assert not server.asked


# Package caches of others


def test_a_read_only_cache_is_looked_into_first(
    server: Flaky, tmp_path: Path, load: Callable[..., Settings]
) -> None:
    site, file = tmp_path / "site", file_at(server.url + NAME)
    stored = archives.path_in(site, file)
    stored.parent.mkdir(parents=True)
    stored.write_bytes(CONTENT)
    settings = load(f"readonly_package_caches={site}", "offline=true")
    before = stored.stat()
    assert downloads.fetch([file], settings, Silent(), "") == (stored,)
    assert stored.stat().st_mtime_ns == before.st_mtime_ns
    assert not settings.package_cache.exists()
    # One that is damaged there is left as it is, and fetched.
    stored.write_bytes(b"damaged")
    with pytest.raises(OfflineError):
        fetch(file, settings)
    assert fetch(file, load(f"readonly_package_caches={site}")) == CONTENT
    assert stored.read_bytes() == b"damaged"


@pytest.mark.parametrize("mode", [0o3775, 0o3770])
def test_a_shared_cache_keeps_its_modes_whatever_the_umask(
    server: Flaky, load: Callable[..., Settings], isolated_user: Path, mode: int
) -> None:
    settings, file = load(), file_at(server.url + NAME)
    settings.package_cache.mkdir(parents=True)
    settings.package_cache.chmod(mode)
    previous = os.umask(0o077)
    try:
        fetch(file, settings)
    finally:
        os.umask(previous)
    path = archives.path_in(settings.package_cache, file)
    for directory in (path.parent, path.parent.parent, path.parent.parent.parent):
        assert directory.stat().st_mode & 0o7777 == mode
    assert path.stat().st_mode & 0o7777 == mode & 0o444
    # What no hash vouches for does not go there.
    assert archives.is_shared(settings.package_cache)
    assert archives.private_root(settings) == isolated_user / ".cache" / "condainer" / "packages"


@pytest.mark.parametrize(
    ("mode", "shared"),
    [(0o755, False), (0o2755, False), (0o775, True), (0o757, True), (0o3775, True)],
)
def test_whoever_can_write_shares(
    load: Callable[..., Settings], tmp_path: Path, mode: int, shared: bool
) -> None:
    settings = replace(load(), package_cache=tmp_path / "packages")
    settings.package_cache.mkdir()
    settings.package_cache.chmod(mode)
    assert archives.is_shared(settings.package_cache) == shared
    assert (archives.private_root(settings) == settings.package_cache) != shared


def test_archives_are_linked_from_where_nobody_else_can_change_them(
    server: Flaky, load: Callable[..., Settings], isolated_user: Path, tmp_path: Path
) -> None:
    settings = replace(load(), package_cache=tmp_path / "packages")
    file = file_at(server.url + NAME)
    settings.package_cache.mkdir(mode=0o755)
    assert fetch(file, settings) == CONTENT
    own = archives.path_in(settings.package_cache, file)
    assert archives.held(own, file.sha256, settings) == own
    settings.package_cache.chmod(0o3775)
    copy = archives.held(own, file.sha256, settings)
    assert isolated_user in copy.parents
    own.write_bytes(b"another")
    assert archives.held(own, file.sha256, settings) == copy
    assert copy.read_bytes() == CONTENT
    copy.unlink()
    with pytest.raises(IntegrityError, match="was changed after"):
        archives.held(own, file.sha256, settings)
    assert not copy.exists()


# Names and passwords


@pytest.fixture
def guarded() -> Iterator[Flaky]:
    """A server that asks for a login."""
    with flaky.serve(login=("anna", "geheim:ß")) as running:
        running.files[NAME] = CONTENT
        yield running


def test_logins_as_uv_has_them(
    guarded: Flaky,
    load: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    isolated_user: Path,
    tmp_path: Path,
) -> None:
    host = guarded.url.partition("//")[2]
    file = file_at(guarded.url + NAME)

    def again() -> bytes:
        http._known.cache_clear()
        return fetch(file, load(f"package_cache={tmp_path / os.urandom(4).hex()}"))

    with pytest.raises(NetworkError, match="401"):
        again()
    with monkeypatch.context() as context:
        context.setenv("UV_INDEX", f"other=http://x/ Own=http://{host}/simple")
        context.setenv("UV_INDEX_OWN_USERNAME", "anna")
        context.setenv("UV_INDEX_OWN_PASSWORD", "geheim:ß")
        assert again() == CONTENT
    with monkeypatch.context() as context:
        context.setenv("UV_DEFAULT_INDEX", f"http://anna:geheim%3A%C3%9F@{host}/simple")
        assert again() == CONTENT
    with monkeypatch.context() as context:
        netrc = isolated_user / ".netrc"
        netrc.write_text("machine 127.0.0.1 login anna password geheim:ß\n", encoding="utf-8")
        netrc.chmod(0o600)
        with contextlib.suppress(NetworkError):
            # requests sends it as latin-1, which this server does not take for UTF-8.
            again()
        assert "authorization" in guarded.asked[-1].headers
        netrc.unlink()
    program = tmp_path / "bin" / "keyring"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\n[ "$4" = http://{host}/simple ] && printf "anna\\ngeheim:ß\\n"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("UV_INDEX", f"http://{host}/simple")
    with pytest.raises(NetworkError):
        again()
    monkeypatch.setenv("UV_KEYRING_PROVIDER", "subprocess")
    assert again() == CONTENT


def test_a_keyring_is_asked_once_a_server(
    guarded: Flaky,
    load: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    program, asked = tmp_path / "bin" / "keyring", tmp_path / "asked"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\nsleep 0.1\necho geheim:ß\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("UV_KEYRING_PROVIDER", "subprocess")
    place = guarded.url.replace("//", "//anna@")
    for number in range(4):
        guarded.files[f"/{number}{NAME}"] = CONTENT + bytes([number])
    files = [
        File(url, hashlib.sha256(CONTENT + bytes([number])).hexdigest(), NAME[1:], (url,))
        for number in range(4)
        for url in [f"{place}/{number}{NAME}"]
    ]
    downloads.fetch(files, load(), Silent(), "")
    assert len(asked.read_text().splitlines()) == 1


def test_a_login_is_for_its_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX", "https://anna:geheim@index.example/simple")
    assert credentials.login("https://index.example/files/x.whl") == ("anna", "geheim")
    assert credentials.login("https://index.example:443/x") == ("anna", "geheim")
    for url in ("http://index.example/x", "https://index.example:8443/x", "https://other.example/"):
        assert credentials.login(url) is None


def test_a_token_may_have_an_empty_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX_URL", "https://to%2Fken:@index.example/simple")
    assert credentials.login("https://index.example/files/x.whl") == ("to/ken", "")
    # Its password stands in a netrc or keyring.
    monkeypatch.setenv("UV_INDEX_URL", "https://anna@index.example/simple")
    assert credentials.login("https://index.example/files/x.whl") is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://anna:geheim@host/a", "https://***@host/a"),
        ("https://token@host/a and http://b:c@d", "https://***@host/a and http://***@d"),
        ("https://host/t/se-cret/channel/x", "https://host/t/***/channel/x"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_no_password_is_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_an_interruption_that_wakes_nobody_is_seen(load: Callable[..., Settings]) -> None:
    stopped: list[bool] = []

    def get(item: str, partial: Path, settings: Settings, stop: threading.Event) -> None:
        # So that the main thread waits: it is told only when that ends.
        time.sleep(0.2)
        _thread.interrupt_main()
        stopped.append(stop.wait(PATIENCE))

    with pytest.raises(KeyboardInterrupt):
        downloads.at_once(["one"], get, load(), Silent())
    until(lambda: stopped)
    assert stopped == [True]
