"""What other programs keep in the home directory is damaged: the file is named, or not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.channel.server import ChannelServer
from tests.helpers.repository import Repository

SMALL = "dependencies: [probe-files]\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory of its own."""
    path = tmp_path / "its home"
    path.mkdir()
    return path


def damage(path: Path, content: bytes | None) -> None:
    """Write a file, or make a directory where there should be one."""
    path.parent.mkdir(exist_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("content", [b"{broken", b"\xff\xfe", b"[]", None])
def test_logins_of_rattler(make_project: Any, home: Path, content: bytes | None) -> None:
    project = make_project(text=SMALL, HOME=str(home))
    file = home / ".rattler" / "credentials.json"
    damage(file, content)
    assert str(file) in project.cnd("lock", status=3).stderr
    project.cnd("lock", HOME=str(home.parent))
    assert str(file) in project.cnd("build", status=3).stderr


@pytest.mark.parametrize("content", [b"machine 127.0.0.1 password a nonsense b", b"\xff\xfe", None])
def test_netrc(make_project: Any, home: Path, server: ChannelServer, content: bytes | None) -> None:
    project = make_project(
        text=SMALL,
        HOME=str(home),
        CONDAINER_MIRRORS=f"conda-forge={server.url}/conda-forge",
        CONDAINER_PACKAGE_CACHE=str(home / "packages"),
    )
    damage(home / ".netrc", content)
    assert f"{home / '.netrc'}: ignored" in project.cnd("build").stderr


@pytest.mark.parametrize("content", [b"channels: [", b"\xff\xfe", b"- a\n"])
def test_condarc(make_project: Any, home: Path, content: bytes) -> None:
    project = make_project(text=SMALL, HOME=str(home))
    damage(home / ".condarc", content)
    assert f"{home / '.condarc'}: ignored" in project.cnd("build").stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"[broken\n", ".gitconfig"), (b"[core]\nbigFileThreshold = x\n", "core.bigfilethreshold")],
)
def test_configuration_of_git(
    make_project: Any, home: Path, tmp_path: Path, content: bytes, told: str
) -> None:
    source = Repository(tmp_path / "repository", "thing")
    source.commit("1.0")
    project = make_project(
        text=f"dependencies: [python, {{pip: ['thing @ git+{source.path.as_uri()}']}}]\n",
        HOME=str(home),
        UV_CACHE_DIR=str(tmp_path / "uv"),
    )
    damage(home / ".gitconfig", content)
    done = project.cnd("lock", status=3)
    assert "configuration of git" in done.stderr
    assert told in done.stderr
