"""Tools for a machine that lacks them, installed by an ordinary user."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from condainer.lock.explicit import read_explicit
from tests.channel.build import left_out
from tests.helpers.needed import needs
from tests.helpers.projects import SMALL, Project

# What `cnd prereq --install` does not bring.
SYSTEM = ("fusermount3", "bash", "sh", "ldd", "ssh-keygen", "unshare", "cat", "env", "uname", "ls")
OURS = ("mksquashfs", "unsquashfs", "squashfuse_ll")


@pytest.fixture
def bare(make_project: Any, channel: Path, tmp_path: Path) -> Project:
    """A project on a machine without squashfs-tools and squashfuse."""
    if missing := left_out(channel):
        needs(", ".join(missing))
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    for name in SYSTEM:
        if found := shutil.which(name):
            (bin_directory / name).symlink_to(found)
    made: Project = make_project(
        text=SMALL, PATH=str(bin_directory), XDG_DATA_HOME=str(tmp_path / "data")
    )
    return made


def test_tools_are_installed_and_found_from_then_on(bare: Project, tmp_path: Path) -> None:
    data = tmp_path / "data" / "condainer" / "tools"
    assert "--install" in bare.cnd("prereq", status=10).stderr
    assert bare.json("-y", "prereq", "--install")["would"][0].endswith(str(data))
    assert not data.exists()
    report = bare.json("prereq", "--install")
    assert report["installed"]["new"]
    directory = Path(report["installed"]["directory"])
    for name in OURS:
        assert report[name]["found"] == str(data / "current" / "programs" / name)
    assert report["mksquashfs"]["can"] == {
        "zstd": True,
        "reproducible": True,
        "multithreaded": True,
    }
    assert report["squashfuse_ll"]["can"]["timeout"]
    # The exact versions are on record, and nothing is left beside them.
    lock = read_explicit(directory / "explicit.lock", "linux-64")
    assert [package.filename for package in lock.conda] == report["installed"]["packages"]
    assert sorted(path.name for path in data.iterdir()) == sorted(["current", directory.name])
    assert oct(directory.stat().st_mode & 0o7777) == "0o755"

    built = bare.json("build")
    assert bare.cnd("exec", "probe-prefix").stdout.strip() == built["prefix"]
    assert not bare.json("prereq", "--install")["installed"]["new"]

    # What others could have changed is not run.
    (data / "current" / "programs").chmod(0o777)
    assert "mksquashfs" in bare.cnd("prereq", status=10).stderr


def test_the_system_goes_on_with_its_own_fusermount(bare: Project) -> None:
    report = bare.json("prereq", "--install")
    assert report["fusermount3"]["can"] == {"setuid": True}
    programs = Path(report["installed"]["directory"], "programs")
    assert {path.name for path in programs.iterdir()} <= {*OURS, "squashfuse"}


def test_without_a_channel_nothing_is_left(bare: Project, tmp_path: Path) -> None:
    channel = tmp_path / "empty" / "noarch"
    channel.mkdir(parents=True)
    (channel / "repodata.json").write_text('{"packages": {}, "packages.conda": {}}')
    mirror = f"conda-forge={channel.parent.as_uri()}"
    bare.cnd("prereq", "--install", status=5, CONDAINER_MIRRORS=mirror)
    nobody = "conda-forge=http://127.0.0.1:9/x"
    bare.cnd("--offline", "prereq", "--install", status=6, CONDAINER_MIRRORS=nobody)
    assert not (tmp_path / "data").exists()
