"""What of a cloned project is run by which command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from condainer.startup import tool_paths
from tests.helpers.projects import SMALL, Project

# `cnd umount --all` unmounts what other tests of the same user have mounted.
pytestmark = pytest.mark.xdist_group("accounts")

TOOLS = ("unsquashfs", "mksquashfs", "squashfuse_ll", "squashfuse", "fusermount3", "fusermount")


@pytest.fixture
def cloned(project: Project, make_project: Callable[..., Project]) -> Project:
    """Return a project that names tools of its own, which write down that they ran."""
    built = project.json("build")
    other = make_project("cloned", SMALL)
    (other.path / "tools").mkdir()
    for name in (*TOOLS, "conda"):
        real = tool_paths.find(name, "")
        tool = other.path / "tools" / name
        tool.write_text(f'#!/bin/sh\necho {name} >> {other.path}/ran\nexec {real} "$@"\n')
        tool.chmod(0o755)
    other.write("tool_directory: tools\n", "condainer.yml")
    other.environment["CONDAINER_CACHE"] = str(project.cache)
    shutil.copy(project.lockfile, other.path)
    other.environment["ADDRESS"] = str(built["address"])
    return other


def ran(project: Project) -> set[str]:
    path = project.path / "ran"
    found = set(path.read_text().split()) if path.exists() else set()
    path.unlink(missing_ok=True)
    return found


def test_only_a_build_runs_the_programs_that_a_project_names(
    cloned: Project, tmp_path: Path
) -> None:
    address, file = cloned.environment["ADDRESS"], str(tmp_path / "exported")
    for command in (
        *(["prereq"], ["status"], ["list"], ["show", address], ["diff", address, address]),
        *(["verify", "--all"], ["verify", address], ["verify", "--rebuild", address]),
        *(["export", address, file], ["import", file], ["verify", file], ["show", file]),
        *(["lock", "--check"], ["mount"], ["exec", "true"], ["umount"], ["umount", "--all"]),
        *(["cache"], ["gc", "--dry-run"], ["build"], ["exec", "true"], ["rm", "--force", address]),
        ["import", file],
    ):
        cloned.cnd(*command)
        assert not ran(cloned), command
    assert "`tool_directory` of this project is for its builds" in cloned.cnd("prereq").stderr
    cloned.cnd("rm", "--force", address)
    cloned.cnd("build")
    assert ran(cloned) == {"mksquashfs"}
    # Whoever names them otherwise wants them to be run.
    cloned.cnd("verify", CONDAINER_TOOLS=str(cloned.path / "tools"))
    assert ran(cloned) == {"unsquashfs"}
    cloned.cnd("--set", "tool_directory=tools", "verify")
    assert ran(cloned) == {"unsquashfs"}


@pytest.mark.parametrize("key", ["conda_exe", "installer"])
def test_a_project_s_engine_is_for_its_builds(cloned: Project, key: str) -> None:
    cloned.write(f"{key}: tools/conda\n", "condainer.yml")
    for command in ("prereq", "status", "list", "verify"):
        cloned.cnd(command)
        assert not ran(cloned), command
    cloned.cnd("verify", "--rebuild", cloned.environment["ADDRESS"])
    assert not ran(cloned)


@pytest.fixture
def carrying(project: Project) -> Iterator[Project]:
    """Return a project with a cache of its own, and an image in it that somebody else built."""
    del project.environment["CONDAINER_CACHE"]
    project.write("cache_directory: images\n", "condainer.yml")
    project.cnd("build")
    shutil.rmtree(checked(project))
    shutil.rmtree(checked(project).with_name("condainer-stamps"), ignore_errors=True)
    yield project
    project.cnd("umount", status=None)


def checked(project: Project) -> Path:
    return Path(project.environment["XDG_CACHE_HOME"], "condainer-checked")


@pytest.mark.parametrize("command", [["build"], ["exec", "true"], ["mount"], ["cache"]])
def test_a_cache_that_came_with_a_project_is_named_and_checked_once(
    carrying: Project, command: list[str]
) -> None:
    carrying.write("share/probe/data.txt\n", "condainer.profile")
    named = f"{carrying.path / 'images'} came with this project"
    first = carrying.cnd(*command).stderr
    assert named in first
    assert "Verifying" in first
    assert named not in carrying.cnd(*command).stderr
    assert len(list(checked(carrying).iterdir())) == 1


@pytest.mark.parametrize("command", [["build"], ["exec", "true"], ["mount"], ["shell"]])
def test_a_damaged_image_that_came_with_a_project_is_not_run(
    carrying: Project, command: list[str]
) -> None:
    (image,) = carrying.path.glob("images/images/*/*/image.squashfs")
    image.chmod(0o644)
    with image.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"x")
    image.chmod(0o444)
    refused = carrying.cnd(*command, status=125 if command[0] == "exec" else 9)
    assert "sha256" in refused.stderr
    assert not checked(carrying).exists()
    # An image that changes afterwards is another one.
    with image.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\0")
    carrying.cnd("build")
    (carrying.path / "touched").touch()
    image.chmod(0o644)
    with image.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"x")
    image.chmod(0o444)
    carrying.cnd(*command, status=125 if command[0] == "exec" else 9)


def test_what_was_built_here_and_what_the_user_names_is_not_checked_again(
    project: Project, tmp_path: Path
) -> None:
    project.write("cache_directory: images\n", "condainer.yml")
    variable = project.environment.pop("CONDAINER_CACHE")
    project.cnd("build")
    assert "came with" not in project.cnd("exec", "true").stderr
    assert len(list(checked(project).iterdir())) == 1
    shutil.rmtree(checked(project))
    shutil.rmtree(checked(project).with_name("condainer-stamps"), ignore_errors=True)
    images = str(project.path / "images")
    assert "came with" not in project.cnd("build", CONDAINER_CACHE=images).stderr
    assert variable != images
    configuration = Path(project.environment["XDG_CONFIG_HOME"], "condainer", "condainer.yml")
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(json.dumps({"readonly_caches": [images]}))
    assert "came with" not in project.cnd("build").stderr


def test_looking_at_a_project_s_cache_checks_nothing(carrying: Project) -> None:
    for command in (["status"], ["list"], ["-y", "mount"], ["-y", "build"], ["-y", "exec", "true"]):
        assert "came with" not in carrying.cnd(*command).stderr
    assert not checked(carrying).exists()
