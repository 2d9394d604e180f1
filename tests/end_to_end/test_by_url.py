"""Packages that environment.yml names by their URL: exactly that archive is solved for."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from rattler import Channel

from tests.channel import ChannelServer

OLDER = "noarch/click-8.1.8-py_0.conda"
CANONICAL = str(Channel("conda-forge").base_url).rstrip("/")


def locked(project: Any) -> str:
    lines = project.lockfile.read_text().splitlines()
    (line,) = [line for line in lines if "/click-" in line]
    return str(line)


def test_the_archive_is_what_is_solved_for(
    make_project: Any, server: ChannelServer, channel: Path
) -> None:
    data = (channel / OLDER).read_bytes()
    md5, sha256 = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
    spec = f"{CANONICAL}/{OLDER}#{md5}"
    mirror = f"conda-forge={server.url}/conda-forge"
    project = make_project(text=f"dependencies: ['{spec}']\n", CONDAINER_MIRRORS=mirror)
    project.cnd("lock")
    # What the mirror served is locked under the canonical URL, and its dependencies with it.
    assert locked(project) == f"{CANONICAL}/{OLDER}#sha256:{sha256}"
    assert "/python-3" in project.lockfile.read_text()
    assert sha256 in (project.path / "conda-lock.yml").read_text()
    server.requests.clear()
    assert project.json("status")["lock"] == "current"
    assert not server.requests
    project.cnd("build")
    code = "import click, importlib.metadata; print(importlib.metadata.version('click'))"
    assert project.cnd("exec", "python", "-c", code).stdout == "8.1.8\n"


@pytest.mark.parametrize("where", ["package cache", "mirror"])
def test_what_is_at_hand_is_not_asked_for(
    make_project: Any, server: ChannelServer, channel: Path, tmp_path: Path, where: str
) -> None:
    sha256 = hashlib.sha256((channel / OLDER).read_bytes()).hexdigest()
    known = f"#sha256:{sha256}" if where == "package cache" else ""
    own = {
        "CONDAINER_MIRRORS": f"conda-forge={channel.as_uri()}",
        "CONDAINER_PACKAGE_CACHE": str(tmp_path / "packages"),
    }
    project = make_project(text=f"dependencies: ['{CANONICAL}/{OLDER}{known}']\n", **own)
    if known:
        remote = f"conda-forge={server.url}/conda-forge"
        project.cnd("lock", CONDAINER_MIRRORS=remote)
        assert server.requests
        server.requests.clear()
        project.cnd("--offline", "lock", "--upgrade", CONDAINER_MIRRORS=remote)
        assert not server.requests
    else:
        project.cnd("--offline", "lock")
    assert locked(project).endswith(sha256)


@pytest.mark.parametrize("form", ["{file}", "click[url='file://{file}']", "./noarch/{name}"])
def test_an_archive_that_no_channel_has(
    make_project: Any, channel: Path, tmp_path: Path, form: str
) -> None:
    project = make_project(text="")
    archive = project.path / OLDER
    archive.parent.mkdir()
    shutil.copy(channel / OLDER, archive)
    spec = form.format(file=archive, name=archive.name)
    project.write(f'dependencies: ["{spec}"]\n')
    done = project.cnd("lock")
    assert "only on machines that have the file" in done.stderr
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert locked(project) == f"file://{archive}#sha256:{digest}"


@pytest.mark.parametrize(
    ("spec", "status", "what"),
    [
        (f"{CANONICAL}/{OLDER}#{'0' * 32}", 9, "has the md5"),
        (f"{CANONICAL}/{OLDER}#sha256:{'0' * 64}", 9, "has the sha256"),
        (f"{CANONICAL}/noarch/click-99-0.conda", 6, "cannot be downloaded"),
        ("/nowhere/noarch/none-1-0.conda", 4, "no file"),
        (f"{CANONICAL}/osx-64/click-99-0.conda", 4, "not a package for linux-64"),
    ],
)
def test_an_archive_that_is_not_what_it_should_be(
    make_project: Any, server: ChannelServer, spec: str, status: int, what: str
) -> None:
    mirror = f"conda-forge={server.url}/conda-forge"
    project = make_project(text=f"dependencies: ['{spec}']\n", CONDAINER_MIRRORS=mirror)
    done = project.cnd("lock", status=status)
    assert "environment.yml:1: " in done.stderr
    assert what in done.stderr
    assert not list(project.path.glob("*.lock"))


def test_a_channel_by_its_url_in_a_spec(make_project: Any) -> None:
    project = make_project(
        text=f"dependencies: ['{CANONICAL}::click=8.1', 'conda-forge/noarch::six']\n"
    )
    project.cnd("lock")
    assert locked(project).startswith(f"{CANONICAL}/{OLDER}#sha256:")
