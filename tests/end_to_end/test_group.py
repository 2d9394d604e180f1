"""Two real accounts of one group share a cache, whatever their umasks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.accounts import accounts, group

# useradd locks /etc/passwd: whoever makes accounts does so in one worker.
pytestmark = pytest.mark.xdist_group("accounts")

CND = (sys.executable, "-m", "condainer")
# The accounts may look into any directory, because the interpreter of the tests may stand in one
# that is closed to them; what they may write and replace is that of ordinary users.
SEARCH = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


@dataclass(frozen=True)
class Member:
    """A member of the group, with a home directory, a umask and the group's cache."""

    name: str
    home: Path
    umask: int
    environment: dict[str, str]

    def cnd(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        account = (f"--reuid={self.name}", f"--regid={self.name}", "--init-groups")
        done = subprocess.run(
            ["setpriv", *account, *SEARCH, *CND, *arguments],
            cwd=self.home,
            env={**self.environment, "HOME": str(self.home), "USER": self.name},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            umask=self.umask,
        )
        assert done.returncode == status, done.stderr
        return done

    def build(self, packages: str) -> Any:
        (self.home / "environment.yml").write_text(f"dependencies: [{packages}]\n")
        return json.loads(self.cnd("build", "--json").stdout)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account can reach."""
    path = Path(tempfile.mkdtemp(prefix="condainer-group-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def members(place: Path, channel: Path) -> Iterator[tuple[Member, Member]]:
    """Two accounts of one group, made for the test, with umasks 077 and 022."""
    tools = [tool for tool in ("useradd", "groupadd", "setpriv") if shutil.which(tool) is None]
    if tools or os.getuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("needs root, useradd, groupadd and setpriv")
        pytest.skip("needs root, useradd, groupadd and setpriv")
    cache = place / "cache"
    cache.mkdir()
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "CONDAINER_CACHE": str(cache),
        "CONDAINER_MIRRORS": f"conda-forge={channel.as_uri()}",
        "CONDAINER_STAGING": "/tmp",
        "CONDAINER_LINGER": "0",
    }
    with group() as name, accounts(place, 2, name) as made:
        shutil.chown(cache, group=name)
        cache.chmod(0o3775)
        first, second = made
        yield (
            Member(first.name, first.home, 0o077, environment),
            Member(second.name, second.home, 0o022, environment),
        )


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
