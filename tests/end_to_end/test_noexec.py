"""Where no program may be run: the file system is named, and what to do, whatever needs one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

PYTHON = "channels: [conda-forge]\ndependencies: [python=3.11]\n"
PIP = "channels: [conda-forge]\ndependencies: [python=3.11, {pip: [tabulate==0.9.0]}]\n"


def within(project: Any, place: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script where a directory is a file system mounted noexec."""
    mount = f"mount -t tmpfs -o noexec,mode=1777 none '{place}' && {script}"
    done: subprocess.CompletedProcess[str] = project.bash(f'unshare -Urm bash -c "{mount}"')
    return done


def test_a_staging_directory(make_project: Any, tmp_path: Path) -> None:
    place = tmp_path / "no programs"
    place.mkdir()
    for name, text in (("conda", PYTHON), ("pip", PIP)):
        project = make_project(name=name, text=text, TMPDIR=str(place))
        project.cnd("lock", TMPDIR=str(tmp_path))
        done = within(project, place, "cnd build")
        assert done.returncode == 12, done.stderr
        assert f"{place}" in done.stderr
        assert "noexec" in done.stderr
        assert "staging_directory" in done.stderr
    # Where nothing of it is run, nothing is in the way.
    project = make_project(name="small", TMPDIR=str(place))
    done = within(project, place, "cnd build")
    assert done.returncode == 0, done.stderr


def test_a_place_to_resolve_in(make_project: Any, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    project = make_project(
        text=PIP, CONDAINER_STAGING=str(place), CONDAINER_PACKAGE_CACHE=str(place / "packages")
    )
    done = within(project, place, "cnd lock")
    assert done.returncode == 12, done.stderr
    assert f"{place} is on a file system that is mounted noexec" in done.stderr
