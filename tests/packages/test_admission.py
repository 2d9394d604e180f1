"""Where a lock may lead: what only the user can name is refused before anything is fetched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from condainer import pipeline
from condainer.lock.address import address_of
from condainer.lock.locks import CondaPackage, Lock, PipPackage
from condainer.network.hosts import near
from condainer.packages.admission import admit
from condainer.packages.archive_paths import is_inside
from condainer.settings.load import load_settings
from condainer.startup import stamp
from condainer.system import environments
from condainer.system.errors import LockfileError
from condainer.system.reporter import Silent
from condainer.system.urls import PLACE_VARIABLES

Write = Callable[[str, str | bytes], Path]

NEAR = [
    "file:///srv/c/noarch/a-1-0.conda",
    "FILE:///srv/c/noarch/a-1-0.conda",
    "file://localhost/srv/c/noarch/a-1-0.conda",
    "git+file:///srv/a.git@" + "0" * 40,
    "http://localhost/c/noarch/a-1-0.conda",
    "https://LOCALHOST:8080/c/noarch/a-1-0.conda",
    "http://a.localhost/c/noarch/a-1-0.conda",
    "http://localhost./c/noarch/a-1-0.conda",
    "http://127.0.0.1/c/noarch/a-1-0.conda",
    "http://127.1/c/noarch/a-1-0.conda",
    "http://0x7f000001/c/noarch/a-1-0.conda",
    "http://2130706433/c/noarch/a-1-0.conda",
    "http://0177.0.0.1/c/noarch/a-1-0.conda",
    "http://0.0.0.0/c/noarch/a-1-0.conda",
    "http://[::1]/c/noarch/a-1-0.conda",
    "http://[::ffff:127.0.0.1]/c/noarch/a-1-0.conda",
    "http://[::ffff:a9fe:a9fe]/c/noarch/a-1-0.conda",
    "http://169.254.169.254/latest/noarch/a-1-0.conda",
    "http://[fe80::1]/c/noarch/a-1-0.conda",
    "http://[fe80::1%25eth0]/c/noarch/a-1-0.conda",
    "http://%31%32%37.0.0.1:8765/c/noarch/a-1-0.conda",
    "http://１２７.0.0.1/c/noarch/a-1-0.conda",
    "http://a.example\\@127.0.0.1/c/noarch/a-1-0.conda",
    "http:///127.0.0.1/c/noarch/a-1-0.conda",
    "http:127.0.0.1/c/noarch/a-1-0.conda",
    "http://0.0.0.1/c/noarch/a-1-0.conda",
    "http://[::]/c/noarch/a-1-0.conda",
    "http://[::127.0.0.1]/c/noarch/a-1-0.conda",
    "http://[64:ff9b::a9fe:a9fe]/c/noarch/a-1-0.conda",
    "http://[64:ff9b:1::7f00:1]/c/noarch/a-1-0.conda",
    "http://[2002:7f00:1::]/c/noarch/a-1-0.conda",
    "http://[fd00:ec2::254]/c/noarch/a-1-0.conda",
    "http://100.100.100.200/c/noarch/a-1-0.conda",
    "http://metadata.google.internal/c/noarch/a-1-0.conda",
    "https://ip6-localhost/c/noarch/a-1-0.conda",
    "https://localhost.localdomain/c/noarch/a-1-0.conda",
    "git+ssh://git@LOCALHOST6/a.git@" + "0" * 40,
]
FAR = [
    "https://a.example/c/noarch/a-1-0.conda",
    "https://10.1.2.3/c/noarch/a-1-0.conda",
    "https://[2001:db8::1]/c/noarch/a-1-0.conda",
    "https://localhost.example/c/noarch/a-1-0.conda",
    "https://127.example/c/noarch/a-1-0.conda",
    "https://[64:ff9b::808:808]:8/c/noarch/a-1-0.conda",
    "https://[fd00:ec2::253]/c/noarch/a-1-0.conda",
    "https://metadata.example/c/noarch/a-1-0.conda",
    "git+ssh://git@a_b.example/a.git@" + "0" * 40,
]


@pytest.mark.parametrize("url", NEAR)
def test_what_is_near(project: Path, url: str) -> None:
    assert near(url)
    with pytest.raises(LockfileError, match="leads to") as caught:
        admit(lock_of(url), load_settings(project))
    assert "channels:" in caught.value.hint


@pytest.mark.parametrize("url", FAR)
def test_what_is_far(project: Path, url: str) -> None:
    assert not near(url)
    admit(lock_of(url), load_settings(project))


def lock_of(url: str) -> Lock:
    if url.startswith("git+") or url.endswith(".whl"):
        return Lock("linux-64", (), (PipPackage("a", url, ""),))
    return Lock("linux-64", (CondaPackage(url, "0" * 64),))


NAMED = [
    ("channels: [file:///srv/c]\ndependencies: [a]\n", "file:///srv/c/noarch/a-1-0.conda"),
    ("channels: [/srv/c/]\ndependencies: [a]\n", "file:///srv/c/noarch/a-1-0.conda"),
    (
        "channels: ['http://127.0.0.1:8/c']\ndependencies: [a]\n",
        "http://127.0.0.1:8/c/noarch/a-1-0.conda",
    ),
    (
        "channels: ['http://[fe80::1]/c']\ndependencies: [a]\n",
        "http://[fe80::1]/c/noarch/a-1-0.conda",
    ),
    ("dependencies: ['file:///srv/noarch/a-1-0.conda']\n", "file:///srv/noarch/a-1-0.conda"),
    ("dependencies: [b, {pip: [--find-links /srv/w, a]}]\n", "file:///srv/w/a-1-py3-none-any.whl"),
    (
        "dependencies: [b, {pip: ['--index-url http://u:p@localhost:8/simple', a]}]\n",
        "http://localhost:8/f/a-1-py3-none-any.whl",
    ),
    (
        "dependencies: [b, {pip: ['a @ git+file:///srv/a.git@v1']}]\n",
        f"git+file:///srv/a.git@{'0' * 40}",
    ),
    (
        "channels: ['http://a.example/c']\ndependencies: [a]\n",
        "http://a.example/c/noarch/a-1-0.conda",
    ),
]
NOT_NAMED = [
    (
        "channels: ['https://a.example:443/c']\ndependencies: [a]\n",
        "http://a.example/c/noarch/a-1-0.conda",
    ),
    ("channels: [file:///srv/c]\ndependencies: [a]\n", "file:///srv/cc/noarch/a-1-0.conda"),
    ("channels: [file:///srv/c]\ndependencies: [a]\n", "file:///srv/c/../d/noarch/a-1-0.conda"),
    ("channels: [file:///srv/c]\ndependencies: [a]\n", "file:///srv/c/%2e%2e/d/noarch/a-1-0.conda"),
    (
        "channels: ['http://127.0.0.1:8/c']\ndependencies: [a]\n",
        "http://127.0.0.1:9/c/noarch/a-1-0.conda",
    ),
    (
        "channels: ['https://a.example/c']\ndependencies: [a]\n",
        "http://a.example/c/noarch/a-1-0.conda",
    ),
    ("dependencies: [a]\n", "http://a.example/c/noarch/a-1-0.conda"),
    (
        "channels: ['http://b.example/c']\ndependencies: [a]\n",
        "http://a.example/c/noarch/a-1-0.conda",
    ),
    ("dependencies: [a]\n", f"git+http://a.example/a.git@{'0' * 40}"),
    ("channels: [file:///srv/c]\ndependencies: [a]\n", "http:///127.0.0.1/noarch/a-1-0.conda"),
    (
        "dependencies: [b, {pip: ['a @ git+file:///srv/a.git@v1']}]\n",
        f"git+file:///srv/b.git@{'0' * 40}",
    ),
]


@pytest.mark.parametrize(("text", "url"), NAMED)
def test_what_the_users_own_files_name_is_admitted(
    project: Path, write: Write, text: str, url: str
) -> None:
    write("environment.yml", text)
    admit(lock_of(url), load_settings(project))


@pytest.mark.parametrize(("text", "url"), NOT_NAMED)
def test_what_is_beside_it_is_refused(project: Path, write: Write, text: str, url: str) -> None:
    write("environment.yml", text)
    with pytest.raises(LockfileError, match="leads to"):
        admit(lock_of(url), load_settings(project))


def test_the_settings_and_uvs_variables_name_places(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored = load_settings(
        project, environ={"CONDAINER_MIRRORS": "c=file:///srv/m c=http://localhost:8/x"}
    )
    admit(lock_of("file:///srv/m/noarch/a-1-0.conda"), mirrored)
    admit(lock_of("http://localhost:8/y/noarch/a-1-0.conda"), mirrored)
    monkeypatch.setenv("UV_FIND_LINKS", "https://a.example/x /srv/wheels")
    admit(lock_of("file:///srv/wheels/a-1-py3-none-any.whl"), load_settings(project))
    monkeypatch.setenv("UV_INDEX", "inner=http://127.0.0.1:8/simple")
    admit(lock_of("http://127.0.0.1:8/a-1-py3-none-any.whl"), load_settings(project))


def test_a_condarc_names_places(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "condarc"
    path.write_text(
        "channel_alias: http://alias.example/t/se-cret\ncustom_channels: {x: 'http://x.example/c'}\n"
        "default_channels: ['http://main.example/m']\ncustom_multichannels: {m: [ours, x]}\n"
    )
    monkeypatch.setenv("CONDARC", str(path))
    for host in ("alias", "x", "main"):
        admit(lock_of(f"http://{host}.example/c/noarch/a-1-0.conda"), load_settings(project))
    with pytest.raises(LockfileError, match="leads to http,"):
        admit(lock_of("http://y.example/c/noarch/a-1-0.conda"), load_settings(project))


def test_an_image_that_is_built_again_is_held_to_it_too(project: Path) -> None:
    settings = load_settings(project)
    lock = lock_of(NEAR[0])
    address = address_of(lock, settings.mount_base_directory)
    with pytest.raises(LockfileError, match="leads to"):
        pipeline.build(lock, address, settings, Silent())


@pytest.mark.parametrize(
    "path", ["a", "a/b", "a..b/c", "..a", "site-packages/x.py", "a\\..\\b", "a b"]
)
def test_paths_inside(path: str) -> None:
    assert is_inside(path)


@pytest.mark.parametrize(
    "path", ["", "/a", "..", "../a", "a/../../b", "a/..", "site-packages/../x", "a\0b"]
)
def test_paths_outside(path: str) -> None:
    assert not is_inside(path)


def test_places_of_packages_are_told_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert environments.package_places() == ()
    monkeypatch.setenv("UV_INDEX", "own=https://anna:word@a.example/simple/  https://b.example/s")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://c.example/t/token/simple?sig=secret#x")
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("UV_FIND_LINKS", "/srv/wheels,https://d.example/flat")
    assert environments.package_places() == (
        ("UV_INDEX", "own=https://a.example/simple https://b.example/s"),
        ("UV_DEFAULT_INDEX", "https://c.example/simple"),
        ("UV_FIND_LINKS", "/srv/wheels https://d.example/flat"),
    )
    # It is written without an import there.
    assert {os.fsencode(name) for name in PLACE_VARIABLES} <= set(stamp.NAMES)
