"""`cnd cache` with a profile: what programs read, and only that, is read ahead."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.needed import needs_program
from tests.helpers.projects import SMALL, Project, mounted
from tests.helpers.waiting import wait_until


@pytest.fixture
def built(make_project: Any) -> Project:
    needs_program("fincore")
    project: Project = make_project(text=SMALL)
    project.cnd("-q", "build")
    return project


def in_memory(prefix: Path, names: list[str]) -> set[str]:
    argv = ["fincore", "--json", "--output", "PAGES,FILE", *names]
    said = subprocess.run(argv, cwd=prefix, check=True, capture_output=True, text=True).stdout
    return {row["file"] for row in json.loads(said)["fincore"] if int(row["pages"])}


def test_what_was_read_is_recorded_and_read_ahead(built: Project) -> None:
    prefix = Path(built.json("status")["prefix"])
    profile = built.path / "condainer.profile"
    assert "cnd mount" in built.cnd("cache", "--record", status=14).stderr
    built.cnd("mount")
    built.cnd("exec", "--", "cat", f"{prefix}/conda-meta/state")
    assert "Would write" in built.cnd("-y", "cache", "--record").stderr
    assert not profile.exists()
    built.cnd("cache", "--record")
    built.cnd("umount")
    names = [line for line in profile.read_text().splitlines() if not line.startswith("#")]
    assert "conda-meta/state" in names
    everything = [str(p.relative_to(prefix)) for p in prefix.rglob("*")]
    assert not everything
    # In another image of this project some may be missing; and one that is named is not needed.
    profile.write_text(profile.read_text() + "\nno/such/file\n")
    done = built.cnd("cache", CONDAINER_LINGER="5").stderr
    assert f"Read {len(names)} files" in done
    assert "1 are not in it" in done
    assert mounted(prefix)
    there = [str(p.relative_to(prefix)) for p in prefix.rglob("*") if p.is_file()]
    assert in_memory(prefix, there) >= set(names)
    assert len(in_memory(prefix, there)) < len(there)
    built.cnd("umount", "--force")
    assert wait_until(lambda: not mounted(prefix))
    assert "Read /" in built.cnd("cache", "--all").stderr
    assert not mounted(prefix)


@pytest.mark.parametrize("line", ["/etc/passwd", "../../etc/passwd", "a/../../b", "bin/a\0b"])
def test_a_profile_does_not_lead_out_of_the_image(built: Project, line: str) -> None:
    (built.path / "condainer.profile").write_text(f"# a list\nbin/python\n{line}\n")
    said = built.cnd("cache", status=4).stderr
    assert "condainer.profile:3" in said
    assert "relative to the prefix" in said


def test_a_profile_that_is_no_small_text_is_refused(built: Project) -> None:
    profile = built.path / "condainer.profile"
    profile.write_bytes(b"\xff\xfe")
    assert "--record" in built.cnd("cache", status=4).stderr
    with profile.open("wb") as stream:
        stream.truncate(3_000_000_000)
    assert "larger than" in built.cnd("cache", status=4).stderr
    profile.unlink()
    profile.symlink_to("/etc/passwd")
    assert str(profile) in built.cnd("cache", status=4).stderr


def test_a_good_profile_is_not_replaced_by_nothing_nor_what_a_link_leads_to(
    built: Project, tmp_path: Path
) -> None:
    profile = built.path / "condainer.profile"
    profile.write_text("bin/python\n")
    built.cnd("mount")
    assert "Nothing has been read" in built.cnd("cache", "--record", status=14).stderr
    assert profile.read_text() == "bin/python\n"
    precious = tmp_path / "precious"
    precious.write_text("precious")
    profile.unlink()
    profile.symlink_to(precious)
    prefix = Path(built.json("status")["prefix"])
    built.cnd("exec", "--", "cat", f"{prefix}/conda-meta/state")
    built.cnd("cache", "--record")
    assert precious.read_text() == "precious"
    assert "conda-meta/state" in profile.read_text()
    built.cnd("umount")
