"""Variables that say where a user's files are, and say nothing that can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.channel import ChannelServer
from tests.helpers.projects import Project

NULL = "/dev/null"


@pytest.fixture
def project(make_project: Any, server: ChannelServer) -> Project:
    """A small project that says nothing of places itself."""
    made: Project = make_project(CONDAINER_MIRRORS=f"conda-forge={server.url}/conda-forge")
    for name in ("CONDAINER_CACHE", "CONDAINER_PACKAGE_CACHE", "CONDAINER_STAGING"):
        made.environment.pop(name, None)
    return made


def refused(project: Project, *arguments: str) -> str:
    """Return what is said of a place that cannot be used."""
    said = project.cnd("-q", *arguments, status=12).stderr
    assert NULL in said
    assert "XDG_CACHE_HOME and TMPDIR" in said
    return said


def test_a_cache_home_that_is_no_directory(project: Project, tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    project.environment |= {"XDG_CACHE_HOME": NULL, "TMPDIR": str(staging)}
    project.cnd("lock")
    assert not list(staging.iterdir())
    assert "Cannot use the cache /dev/null/condainer: " in refused(project, "build")
    assert project.json("status")["lock"] == "current"
    assert "Run `cnd build` first" in project.cnd("exec", "true", status=125).stderr


def test_no_place_at_all(project: Project) -> None:
    project.environment |= {"XDG_CACHE_HOME": NULL, "TMPDIR": NULL}
    assert "Cannot keep the index of a channel in " in refused(project, "lock")
    # Before anything is solved.
    assert "Cannot use the cache /dev/null/condainer: " in refused(project, "build")
    assert not list(project.path.glob("*.lock"))
    assert project.json("status")["lock"] == "missing"
    project.cnd("exec", "true", status=125)


def test_a_temporary_directory_that_is_none(project: Project) -> None:
    project.environment["TMPDIR"] = NULL
    project.cnd("lock")
    assert "Cannot make a staging directory in /dev/null: " in refused(project, "build")
    project.cnd("exec", "true", status=125)


@pytest.mark.parametrize("place", ["relative", "{}/missing/too"])
def test_a_temporary_directory_is_made(project: Project, tmp_path: Path, place: str) -> None:
    project.environment["TMPDIR"] = place.format(tmp_path)
    project.cnd("lock")
    assert not project.json("build")["hit"]
    assert not list((project.path / project.environment["TMPDIR"]).iterdir())
    assert project.json("status")["image"]
    found = project.cnd("exec", "sh", "-c", 'echo "$TMPDIR"').stdout
    assert found == f"{project.environment['TMPDIR']}\n"


@pytest.mark.parametrize("place", ["relative", NULL])
def test_other_directories_are_not_needed(project: Project, place: str) -> None:
    names = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")
    project.environment |= dict.fromkeys(names, place)
    project.cnd("lock")
    assert not project.json("build")["hit"]
    assert project.json("status")["image"]
    assert project.cnd("exec", "probe-prefix").returncode == 0


def test_a_relative_cache_home_is_ignored(project: Project, tmp_path: Path) -> None:
    project.environment |= {"XDG_CACHE_HOME": "relative", "HOME": str(tmp_path / "home")}
    image = Path(project.json("build")["image"])
    assert image.is_relative_to(tmp_path / "home" / ".cache")
    assert project.cnd("exec", "probe-prefix").returncode == 0
    assert not (project.path / "relative").exists()
