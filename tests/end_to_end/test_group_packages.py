"""Two real accounts of one group share a package cache, whatever their umasks."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.members import Member

# useradd locks /etc/passwd: whoever makes accounts does so in one worker.
pytestmark = pytest.mark.xdist_group("accounts")


@pytest.fixture
def shared(place: Path, members: tuple[Member, Member]) -> Path:
    """A package cache of the group's, as docs/how-to/offline.md has it made."""
    path = place / "packages"
    group = str((place / "cache").stat().st_gid)
    subprocess.run(["install", "-d", "-m", "3775", "-g", group, path], check=True)
    for member in members:
        member.environment["CONDAINER_PACKAGE_CACHE"] = str(path)
    return path


def fetch(member: Member, *options: str) -> Any:
    (member.home / "environment.yml").write_text("dependencies: [probe-prefix, probe-files]\n")
    os.chown(member.home, *owner(member))
    return json.loads(member.cnd(*options, "fetch", "--json").stdout)


def owner(member: Member) -> tuple[int, int]:
    status = member.home.stat()
    return status.st_uid, status.st_gid


def as_member(member: Member, *command: str) -> int:
    account = (f"--reuid={member.name}", f"--regid={member.name}", "--init-groups")
    return subprocess.run(["setpriv", *account, *command], capture_output=True).returncode


def test_what_one_downloads_the_other_uses(shared: Path, members: tuple[Member, Member]) -> None:
    private, open_ = members
    first = fetch(private)
    assert first["downloaded"] == 2
    assert fetch(open_)["downloaded"] == 0
    files = [Path(file["path"]) for file in first["files"]]
    for path in files:
        assert path.is_relative_to(shared / "archives")
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
        for directory in (path.parent, path.parent.parent):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o3775
            assert directory.stat().st_gid == shared.stat().st_gid
    # What no hash vouches for is everybody's own.
    private.environment["CONDAINER_UNPACKED"] = "keep"
    private.build("probe-prefix, probe-files")
    assert [path.name for path in shared.iterdir()] == ["archives"]
    assert (private.home / ".cache" / "condainer" / "packages" / "unpacked").is_dir()
    # Nobody replaces what another added.
    assert as_member(open_, "rm", "-f", str(files[0])) != 0
    assert as_member(open_, "mv", str(files[0].parent), str(shared / "away")) != 0


def test_a_damaged_file_of_another_is_stepped_around(
    shared: Path, members: tuple[Member, Member]
) -> None:
    private, open_ = members
    path = Path(fetch(private)["files"][0]["path"])
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    again = fetch(open_)
    assert again["downloaded"] == 1
    own = Path(again["files"][0]["path"])
    assert own.is_relative_to(open_.home)
    assert fetch(open_)["downloaded"] == 0
    # Its owner mends it for all.
    assert fetch(private)["downloaded"] == 1
    assert path.stat().st_size == own.stat().st_size


def test_a_cache_for_reading_only(shared: Path, members: tuple[Member, Member]) -> None:
    site, user = members
    fetch(site)
    (shared / "archives").chmod(0o755)
    shared.chmod(0o755)
    before = sorted(shared.rglob("*"))
    user.environment["CONDAINER_READONLY_PACKAGE_CACHES"] = str(shared)
    del user.environment["CONDAINER_PACKAGE_CACHE"]
    assert fetch(user)["downloaded"] == 0
    built = user.build("probe-prefix, probe-files, probe-old")
    assert not built["hit"]
    own = user.home / ".cache" / "condainer" / "packages" / "archives"
    # What it lacks, and copies of what its owner could change while a build reads it.
    names = ["probe-files-1.0-0.conda", "probe-old-1.0-0.tar.bz2", "probe-prefix-1.0-0.conda"]
    assert sorted(path.name for path in own.rglob("probe-*")) == names
    # As the package cache that is configured, it is read just so.
    user.environment["CONDAINER_PACKAGE_CACHE"] = str(shared)
    del user.environment["CONDAINER_READONLY_PACKAGE_CACHES"]
    user.build("probe-prefix, probe-activate")
    assert sorted(shared.rglob("*")) == before
