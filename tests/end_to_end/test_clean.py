"""What builds leave behind, and `cnd clean`, which removes it."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest

from condainer.system.private_directory import this_host
from tests.helpers.projects import PYTHON, Project

SMALL = "dependencies: [probe-prefix, probe-files]\n"


def files_below(place: Path) -> int:
    return sum(not path.is_dir() or path.is_symlink() for path in place.rglob("*"))


@pytest.fixture
def at_home(make_project: Any, isolated_user: Path, tmp_path: Path) -> Project:
    """A project of a user who has not said where packages are kept: in the home directory."""
    project: Project = make_project(
        text=SMALL, HOME=str(isolated_user), TMPDIR=str(tmp_path), UV_CACHE_DIR=""
    )
    for name in ("CONDAINER_PACKAGE_CACHE", "UV_CACHE_DIR"):
        del project.environment[name]
    return project


def test_a_home_directory_gets_no_unpacked_packages(
    at_home: Project, isolated_user: Path, tmp_path: Path
) -> None:
    packages = isolated_user / ".cache/condainer/packages"
    at_home.cnd("build")
    assert not (packages / "unpacked").exists()
    assert list(packages.glob("archives/*/*/*.conda"))
    assert not list(tmp_path.glob("condainer-stage.*"))
    # The same bytes, whether they were unpacked here or there.
    first = at_home.json("status")["image"]
    content = Path(first).read_bytes()
    for kept in ("keep", "remove"):
        Path(first).parent.joinpath("manifest.json").unlink()
        at_home.cnd("build", CONDAINER_UNPACKED=kept)
        assert Path(first).read_bytes() == content
    assert (packages / "unpacked").is_dir()
    assert at_home.json("build")["hit"]


@pytest.mark.long
def test_ten_builds_leave_few_files(at_home: Project, isolated_user: Path) -> None:
    at_home.write("click\nsix\n", "requirements.txt")
    for number in range(10):
        at_home.write(f"{PYTHON}variables: {{NUMBER: '{number}'}}\n")
        at_home.cnd("-q", "build")
    assert files_below(isolated_user) <= 300


def test_clean(at_home: Project, isolated_user: Path) -> None:
    packages = isolated_user / ".cache/condainer/packages"
    at_home.cnd("build", CONDAINER_UNPACKED="keep")
    count, archives = files_below(packages / "unpacked"), files_below(packages / "archives")
    assert count
    before = files_below(packages)
    for options in (("-y", "clean"), ("clean", "--dry-run"), ("clean", "--dry-run", "--all")):
        said = at_home.cnd(*options).stderr
        assert f"Would remove {packages}/unpacked: {count} files, " in said
        assert (f"Would remove {packages}/archives: {archives} files" in said) == (
            "--all" in options
        )
    assert files_below(packages) == before
    report = at_home.json("clean")
    assert report["removed"][0] == {
        "path": f"{packages}/unpacked",
        "files": count,
        "size": report["removed"][0]["size"],
    }
    assert not (packages / "unpacked").exists()
    assert files_below(packages / "archives") == archives
    assert "Removed 0 files, 0 B" in at_home.cnd("clean").stderr
    image = Path(at_home.json("status")["image"])
    at_home.cnd("clean", "--packages")
    assert files_below(packages) <= 1
    # The project's image is in nobody's way, and was used just now.
    at_home.cnd("clean", "--all")
    assert image.exists()
    image.unlink()
    at_home.cnd("build")
    assert "cnd clean" in at_home.cnd("gc").stderr


def test_clean_touches_what_is_its_own(at_home: Project, isolated_user: Path) -> None:
    packages = isolated_user / ".cache/condainer/packages"
    at_home.cnd("build")
    (packages / "mine").mkdir()
    # What a project says, nobody else's directories go by.
    there = isolated_user / "work"
    for name in ("git", "archives", "uv"):
        (there / name).mkdir(parents=True)
    (there / ".in-use").touch()
    at_home.write(f"package_cache: {there}\n", "condainer.yml")
    at_home.cnd("clean", "--all")
    assert sorted(path.name for path in there.iterdir()) == [".in-use", "archives", "git", "uv"]
    assert [path.name for path in packages.iterdir() if path.name != ".in-use"] == ["mine"]
    # Nor is a directory cleaned in which no build has worked.
    (there / ".in-use").unlink()
    at_home.cnd("clean", "--all", CONDAINER_PACKAGE_CACHE=str(there))
    assert sorted(path.name for path in there.iterdir()) == ["archives", "git", "uv"]


def test_a_cache_that_is_only_read_is_refused_before_anything_is_removed(
    at_home: Project, isolated_user: Path
) -> None:
    packages = isolated_user / ".cache/condainer/packages"
    at_home.cnd("build", CONDAINER_UNPACKED="keep")
    before = files_below(packages)
    read_only = {"CONDAINER_READONLY_CACHES": str(at_home.cache)}
    for option in ("--images", "--all"):
        assert "only read" in at_home.cnd("clean", option, status=12, **read_only).stderr
    assert files_below(packages) == before


def test_clean_waits_for_no_build_and_breaks_none(at_home: Project, isolated_user: Path) -> None:
    packages = isolated_user / ".cache/condainer/packages"
    at_home.cnd("build", CONDAINER_UNPACKED="keep")
    before = files_below(packages)
    with (packages / ".in-use").open() as stream:
        # As a build has it.
        fcntl.flock(stream, fcntl.LOCK_SH)
        said = at_home.cnd("clean", "--all", status=12).stderr
    assert f"A build is using {packages}" in said
    assert files_below(packages) == before
    at_home.cnd("clean")


def test_what_killed_builds_left_is_removed(at_home: Project, tmp_path: Path) -> None:
    left = tmp_path / f"condainer-stage.{this_host()}.4194999.abcdefgh"
    left.mkdir()
    (left / "file").write_text("x")
    at_home.cnd("build")
    left.mkdir(exist_ok=True)
    (left / "file").write_text("x")
    assert f"Removed {left}: 1 file, 1 B" in at_home.cnd("clean").stderr
    assert not left.exists()


def limit(home: Path, text: str) -> None:
    path = home / ".config/condainer/condainer.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def archives_in(home: Path) -> set[str]:
    return {path.name for path in home.glob(".cache/condainer/packages/archives/*/*/*")}


def test_a_build_keeps_the_limits_of_the_package_cache(
    at_home: Project, isolated_user: Path
) -> None:
    packages = isolated_user / ".cache/condainer/packages"
    at_home.cnd("build", CONDAINER_UNPACKED="keep")
    first = archives_in(isolated_user)
    assert len(first) == 2
    # What was not used for long goes; what this build uses stays.
    for path in packages.rglob("*"):
        os.utime(path, (time.time() - 100 * 86400,) * 2, follow_symlinks=False)
    at_home.write("dependencies: [probe-prefix, probe-activate]\n")
    told = at_home.cnd("build").stderr
    assert "files for 90d" in told
    second = archives_in(isolated_user)
    assert {name.rsplit("-", 2)[0] for name in second} == {"probe-prefix", "probe-activate"}
    assert not list((packages / "unpacked").iterdir())
    # A limit by number: what was used last stays.
    for path in packages.glob("archives/*/*/probe-prefix*"):
        os.utime(path, (time.time() - 9, path.stat().st_mtime - 9))
    limit(isolated_user, "packages_max_files: 1\n")
    at_home.write("dependencies: [probe-activate]\n")
    assert "Removed 1 file, " in at_home.cnd("build").stderr
    (last,) = archives_in(isolated_user)
    assert last.startswith("probe-activate-")
    assert at_home.json("build")["hit"]
    # By size, and none at all.
    limit(isolated_user, "packages_max_size: 1K\n")
    at_home.write("dependencies: [probe-files]\n")
    assert "which keeps 1K in 1000000 files for 90d" in at_home.cnd("build").stderr
    assert sum(path.stat().st_size for path in packages.rglob("*") if path.is_file()) <= 1024
    at_home.write("dependencies: [probe-files, probe-prefix]\n")
    at_home.cnd("build")


def test_another_build_keeps_the_package_cache_as_it_is(
    at_home: Project, isolated_user: Path
) -> None:
    limit(isolated_user, "packages_max_files: 0\n")
    packages = isolated_user / ".cache/condainer/packages"
    packages.mkdir(parents=True)
    with (packages / ".in-use").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        at_home.cnd("build")
        assert archives_in(isolated_user)
    at_home.write("dependencies: [probe-files]\n")
    at_home.cnd("build")
    assert not archives_in(isolated_user)


@pytest.mark.parametrize(
    ("text", "told"),
    [("packages_max_size: big", "is not a size"), ("packages_older_than: 1y", "is not an age")],
)
def test_limits_that_mean_nothing(
    at_home: Project, isolated_user: Path, text: str, told: str
) -> None:
    limit(isolated_user, f"{text}\n")
    said = at_home.cnd("build", status=3).stderr
    assert f"condainer.yml:1: {text.partition(':')[0]}" in said
    assert told in said
