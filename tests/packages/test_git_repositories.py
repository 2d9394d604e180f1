"""Git repositories in the package cache: real ones, through Git's own file protocol."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from condainer.lock.locks import PipPackage
from condainer.network import client_settings
from condainer.packages import git_repositories
from condainer.pypi import wheels
from condainer.settings.config import Settings
from condainer.system.errors import LockfileError, NetworkError, OfflineError, StorageError
from condainer.system.reporter import Silent


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=directory, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository with one commit."""
    path = tmp_path / "origin"
    path.mkdir()
    git(path, "init", "--quiet")
    (path / "file").write_text("one\n")
    git(path, "add", "file")
    git(path, "commit", "--quiet", "-m", "one")
    return path


def package(origin: Path, rest: str = "") -> PipPackage:
    commit = git(origin, "rev-parse", "HEAD")
    return PipPackage("probe", f"git+{origin.as_uri()}@{commit}{rest}", "")


def fetch(wanted: PipPackage, settings: Settings) -> str:
    (url,) = git_repositories.fetch([wanted], settings, Silent())
    return url


def test_the_commit_is_there_when_the_origin_is_not(
    origin: Path, tmp_path: Path, load: Callable[..., Settings]
) -> None:
    settings, wanted = load(), package(origin, "#subdirectory=sub")
    url = fetch(wanted, settings)
    assert url.startswith(f"git+file://{settings.package_cache}")
    assert url.endswith(wanted.url.partition("@")[2])
    origin.rename(tmp_path / "gone")
    mirror = git_repositories.mirror_path(wanted, settings)
    os.utime(mirror, (0, 0))
    assert fetch(wanted, settings) == url
    # It counts as used.
    assert time.time() - mirror.stat().st_mtime < 600
    repository = url.removeprefix("git+").partition("@")[0]
    git(tmp_path, "clone", "--quiet", repository, "copy")
    assert (tmp_path / "copy" / "file").read_text() == "one\n"
    with pytest.raises(NetworkError, match="cannot be mirrored"):
        fetch(wanted, load("package_cache=other"))
    assert not list((settings.project / "other").rglob("*.git"))


def test_a_commit_that_was_taken_back_is_told(
    origin: Path, load: Callable[..., Settings], tmp_path: Path
) -> None:
    settings, first = load(), package(origin)
    fetch(first, settings)
    git(origin, "commit", "--quiet", "--amend", "-m", "other")
    git(origin, "reflog", "expire", "--expire=now", "--all")
    git(origin, "gc", "--quiet", "--prune=now")
    assert fetch(first, settings)
    with pytest.raises(NetworkError, match="does not have the commit"):
        fetch(first, load("package_cache=other"))
    # It is carried over though no branch has it any more.
    git_repositories.bundle(first, tmp_path / "bundle", settings)
    other = load(f"package_cache={tmp_path / 'other'}", "offline=true")
    git_repositories.unbundle(first, tmp_path / "bundle", other)
    assert not git_repositories.missing([first], other)


def test_a_process_that_was_faster_keeps_its_mirror(
    origin: Path, load: Callable[..., Settings]
) -> None:
    settings, wanted = load(), package(origin)
    fetch(wanted, settings)
    mirror = git_repositories.mirror_path(wanted, settings)
    inode = mirror.stat().st_ino
    # It began when there was none.
    git_repositories._mirror(wanted, settings)
    assert mirror.stat().st_ino == inode


def test_a_full_disk_is_not_the_network(
    load: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    told = "fatal: write error: No space left on device"
    program.write_text(f"#!/bin/sh\necho {told} >&2\nexit 128\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    settings, url = load(), "git+https://anna:geheim@index.example/x.git@" + "0" * 40
    with pytest.raises(StorageError, match="No space left on device") as caught:
        fetch(PipPackage("probe", url, ""), settings)
    assert str(settings.package_cache) in caught.value.message
    assert "geheim" not in caught.value.message
    assert "package_cache" in caught.value.hint


def test_offline_no_server_is_asked(load: Callable[..., Settings]) -> None:
    url = "git+https://anna:geheim@127.0.0.1:9/x.git@" + "0" * 40
    with pytest.raises(OfflineError) as caught:
        fetch(PipPackage("probe", url, ""), load("offline=true"))
    assert "probe from git+https://***@127.0.0.1:9/x.git" in caught.value.message
    with pytest.raises(NetworkError) as refused:
        fetch(PipPackage("probe", url, ""), load())
    assert "geheim" not in refused.value.message


BACKEND = """\
import zipfile

def build_wheel(directory, settings=None, metadata=None):
    name = "probe-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr("probe.py", "VALUE = 1\\n")
        wheel.writestr("probe-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: probe\\n"
                       "Version: 1.0\\n")
        wheel.writestr("probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\n"
                       "Root-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("probe-1.0.dist-info/RECORD", "")
    return name
"""
PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def test_uv_installs_from_the_mirror(
    origin: Path,
    tmp_path: Path,
    load: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sub = origin / "sub"
    sub.mkdir()
    (sub / "backend.py").write_text(BACKEND)
    (sub / "pyproject.toml").write_text(PROJECT)
    git(origin, "add", "sub")
    git(origin, "commit", "--quiet", "-m", "two")
    wanted = package(origin, "#subdirectory=sub")
    settings = load()
    sources = wheels.fetch([wanted], settings, Silent())
    origin.rename(tmp_path / "gone")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    prefix = tmp_path / "prefix"
    subprocess.run([wheels.find_uv(), "venv", "--quiet", prefix], check=True)
    wheels.install(sources, prefix, tmp_path, (), Silent())
    assert list(prefix.glob("lib/python3*/site-packages/probe.py"))


@pytest.mark.parametrize(
    "url",
    [
        "git+https://host/x.git",
        "git+https://host/x.git@main",
        "git+ext::sh -c touch%20evil@" + "0" * 40,
        "git+--upload-pack=evil@" + "0" * 40,
        "git+https://host/x.git@" + "0" * 39 + "g",
    ],
)
def test_what_is_no_commit_is_refused(url: str, load: Callable[..., Settings]) -> None:
    with pytest.raises(LockfileError):
        fetch(PipPackage("probe", url, ""), load())


def test_git_says_how_it_calls_ssh_only_where_it_is_needed(
    load: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load()
    asked = tmp_path / "asked"
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n: > {asked}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(os, "environ", {"PATH": f"{program.parent}:/usr/bin:/bin"})
    client_settings.prepare(settings, Silent())
    assert not asked.exists()
    assert "GIT_SSH_COMMAND" not in os.environ
    git_repositories.limit_ssh()
    assert asked.exists()
    assert "ConnectTimeout" in os.environ["GIT_SSH_COMMAND"]
