"""Two real accounts of one group share a cache, whatever their umasks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.helpers.members import Member

# useradd locks /etc/passwd: whoever makes accounts does so in one worker.
pytestmark = pytest.mark.xdist_group("accounts")


def test_both_build_and_both_hit(members: tuple[Member, Member]) -> None:
    private, open_ = members
    first = private.build("probe-prefix")
    assert not first["hit"]
    assert open_.build("probe-prefix")["image"] == first["image"]
    assert open_.cnd("exec", "probe-prefix").stdout.strip() == first["prefix"]
    second = open_.build("probe-prefix, probe-files")
    assert not second["hit"]
    assert private.build("probe-prefix, probe-files")["hit"]
    assert private.cnd("exec", "probe-prefix").stdout.strip() == second["prefix"]
    assert not private.build("probe-activate")["hit"]
    assert not open_.build("probe-old")["hit"]


def test_nobody_replaces_what_another_added(members: tuple[Member, Member]) -> None:
    private, open_ = members
    image = Path(private.build("probe-prefix")["image"])
    entry = str(image.parent)
    for command in (["rm", "-rf", entry], ["mv", entry, f"{entry}.away"]):
        done = subprocess.run(
            [
                "setpriv",
                f"--reuid={open_.name}",
                f"--regid={open_.name}",
                "--init-groups",
                *command,
            ],
            capture_output=True,
            check=False,
        )
        assert done.returncode != 0
    assert image.exists()


def test_a_purged_entry_of_another_is_stepped_around(members: tuple[Member, Member]) -> None:
    private, open_ = members
    built = private.build("probe-prefix")
    image = Path(built["image"])
    # As a purge of old files does it, which runs as root.
    image.unlink()
    again = open_.build("probe-prefix")
    assert (again["hit"], again["sha256"]) == (False, built["sha256"])
    assert Path(again["image"]).parent.name == f"{built['address']}.1"
    assert private.build("probe-prefix")["hit"]
