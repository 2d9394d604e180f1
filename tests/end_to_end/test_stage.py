"""`stage`: a copy of the image on the node, told by the commands, and the quick way kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from condainer.startup import answer
from tests.helpers.projects import Project
from tests.helpers.waiting import until

# `cnd umount --all` unmounts what other tests of the same user have mounted.
pytestmark = pytest.mark.xdist_group("accounts")


@pytest.fixture
def staged(make_project: Any, tmp_path: Path, empty_packages: Path) -> Project:
    """A built project whose image is to be copied to a directory."""
    node = tmp_path / "node"
    node.mkdir()
    # Of its own, for `cnd clean`: others build from the one that tests share.
    made: Project = make_project(
        CONDAINER_STAGE=str(node),
        CONDAINER_PACKAGE_CACHE=str(empty_packages),
        TMPDIR=str(tmp_path),
    )
    made.cnd("-q", "build")
    return made


def copies(project: Project) -> list[Path]:
    node = Path(project.environment["CONDAINER_STAGE"])
    return sorted(node.glob(".condainer-*/staged/*"))


def test_commands_use_and_tell_the_copy(staged: Project) -> None:
    done = staged.cnd("exec", "--", "probe-prefix")
    assert "Copying the image to this node" in done.stderr
    until(lambda: not copies(staged))
    assert staged.json("status")["staged"] is None
    staged.cnd("mount")
    (copy,) = copies(staged)
    status = staged.json("status")
    assert status["staged"] == str(copy)
    assert staged.json("show", status["address"])["staged"] == str(copy)
    assert staged.json("list")[0]["staged"] == str(copy)
    assert "  staged  " in staged.cnd("list").stdout
    assert str(copy) in staged.cnd("show", status["address"]).stdout
    done = staged.cnd("exec", "--", "probe-prefix")
    assert "Copying" not in done.stderr
    staged.cnd("umount")
    until(lambda: not copies(staged))


def test_the_quick_way_finds_the_mounted_copy(
    staged: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is mounted needs no look at the copy: nothing but the mount table decides."""
    staged.cnd("mount")
    staged.cnd("exec", "--", "true")
    for name, value in staged.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(staged.path)
    call = answer.parsed(["exec", "--", "true"])
    assert call is not None
    assert call.stamped is not None
    assert call.stamped["stage"] == "yes"
    argv = [sys.executable, "-m", "condainer", "exec", "true"]
    subprocess.run(
        ["strace", "-f", "-e", "trace=openat,execve", "-o", "trace", *argv],
        cwd=staged.path,
        env=staged.environment,
        check=True,
    )
    assert "staging" not in (staged.path / "trace").read_text()
    staged.cnd("umount")
    until(lambda: not copies(staged))


def test_clean_removes_what_nobody_uses(staged: Project) -> None:
    staged.cnd("mount")
    (copy,) = copies(staged)
    assert str(copy) not in staged.cnd("clean", "--dry-run").stdout
    left = copy.with_name(copy.name.replace(".squashfs", ".copying"))
    left.write_bytes(b"x")
    left.chmod(0o600)
    assert f"Would remove {left}" in staged.cnd("clean", "--dry-run").stderr
    assert left.exists()
    staged.cnd("clean")
    assert copies(staged) == [copy]
    staged.cnd("umount")
    until(lambda: not copies(staged))


def test_a_damaged_image_is_refused(staged: Project) -> None:
    image = Path(staged.json("status")["image"])
    image.chmod(0o644)
    with image.open("r+b") as stream:
        stream.seek(-9, os.SEEK_END)
        stream.write(b"\xff")
    done = staged.cnd("exec", "--", "true", status=125)
    assert "has the sha256" in done.stderr
    assert copies(staged) == []


@pytest.mark.parametrize("value", ["somewhere", "relative/directory", "yes"])
def test_what_is_no_value_is_refused(staged: Project, value: str) -> None:
    done = staged.cnd("status", status=3, CONDAINER_STAGE=value)
    assert "auto, never, always" in done.stderr
