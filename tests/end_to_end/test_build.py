"""Lock, address, build on a miss, hit without one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from condainer.lock.address import address_of
from condainer.lock.explicit import read_explicit
from tests.channel import ChannelServer
from tests.helpers.projects import PYTHON, SMALL, Project, build_at_once


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Return modification time and size of everything below a directory."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in sorted(root.rglob("*"))
    }


def test_a_miss_builds_and_the_next_build_hits_without_a_write(project: Project) -> None:
    first = project.json("build")
    assert (first["hit"], first["locked"]) == (False, True)
    image = Path(first["image"])
    assert image.is_file()
    assert first["address"] in first["prefix"]
    before = tree(project.cache), tree(project.path)
    second = project.json("build")
    assert (second["hit"], second["locked"]) == (True, False)
    assert second["address"] == first["address"]
    assert (tree(project.cache), tree(project.path)) == before


def test_a_hit_asks_the_channel_for_nothing(
    make_project: Any, server: ChannelServer, tmp_path: Path
) -> None:
    mirror = f"conda-forge={server.url}/conda-forge"
    packages = str(tmp_path / "fresh-packages")
    project = make_project(CONDAINER_MIRRORS=mirror, CONDAINER_PACKAGE_CACHE=packages)
    project.cnd("build")
    assert server.downloads
    asked = len(server.requests)
    assert project.json("build")["hit"]
    assert len(server.requests) == asked


def test_the_entry_holds_what_the_layout_says(project: Project) -> None:
    built = project.json("build")
    directory = Path(built["image"]).parent
    assert directory == project.cache / "images" / built["address"][:2] / built["address"]
    assert sorted(path.name for path in directory.iterdir()) == [
        "explicit.lock",
        "image.squashfs",
        "manifest.json",
    ]
    assert {path.stat().st_mode & 0o7777 for path in directory.iterdir()} == {0o444}
    manifest = json.loads((directory / "manifest.json").read_text())
    content = Path(built["image"]).read_bytes()
    assert manifest["sha256"] == hashlib.sha256(content).hexdigest() == built["sha256"]
    assert manifest["size"] == len(content)
    lock = read_explicit(directory / "explicit.lock", "linux-64")
    address = address_of(lock, Path(built["prefix"]).parent)
    assert address.digest == built["address"]
    assert manifest["recipe_sha256"] == address.sha256
    recipe = subprocess.run(
        ["unsquashfs", "-cat", built["image"], ".condainer/recipe"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert recipe == address.text
    assert (project.cache / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172")
    assert not list((project.cache / "tmp").iterdir())


def test_a_fresh_clone_with_the_lock_finds_the_image(make_project: Any) -> None:
    first = make_project("first")
    built = first.json("build")
    clone = make_project("clone")
    clone.write(first.lockfile.read_text(), first.lockfile.name)
    found = clone.json("build", "--locked", CONDAINER_MIRRORS="conda-forge=http://127.0.0.1:9/x")
    assert (found["hit"], found["locked"]) == (True, False)
    assert found["image"] == built["image"]


def test_other_words_for_the_same_packages_are_a_hit(make_project: Any) -> None:
    first = make_project("first").json("build")
    second = make_project(
        "second",
        "# otherwise\nname: other\nchannels: [conda-forge]\nvariables:\n  GREETING: hello\n"
        "dependencies:\n- probe-files\n- probe-activate =1.0\n- conda-forge::probe-prefix\n",
    ).json("build")
    assert second["hit"]
    assert second["locked"]
    assert second["address"] == first["address"]


@pytest.mark.parametrize(
    "change",
    [
        "dependencies: [probe-prefix, probe-activate]\nvariables: {GREETING: hello}\n",
        "dependencies: [probe-prefix, probe-activate, probe-files]\nvariables: {GREETING: ho}\n",
    ],
)
def test_a_change_that_matters_makes_another_image(project: Project, change: str) -> None:
    first = project.json("build")
    project.write(change)
    assert project.json("status")["lock"] == "stale"
    second = project.json("build")
    assert (second["hit"], second["locked"]) == (False, True)
    assert second["address"] != first["address"]
    assert Path(first["image"]).exists()


def test_a_build_says_why_it_solves_again(project: Project) -> None:
    assert "stale" not in project.cnd("build").stderr
    project.write("dependencies: [probe-prefix]\n")
    checked = json.loads(project.cnd("lock", "--check", "--json", status=7).stdout)
    (reason,) = [item["reason"] for item in checked["platforms"]]
    assert f"The lock is stale: {reason}\n" in project.cnd("build").stderr


def test_a_change_that_does_not_matter_does_not_make_the_lock_stale(project: Project) -> None:
    first = project.json("build")
    project.write(
        "# a comment\nname: renamed\ndependencies: [probe-files, probe-activate, probe-prefix]\n"
        "variables: {GREETING: 'hello'}\n"
    )
    again = project.json("build", CONDAINER_LOCKED="1")
    assert (again["hit"], again["locked"]) == (True, False)
    assert again["address"] == first["address"]


def test_locked_refuses_to_solve(project: Project) -> None:
    done = project.cnd("build", "--locked", status=7)
    assert "missing" in done.stderr
    assert "cnd lock" in done.stderr
    project.cnd("lock")
    project.cnd("build", "--locked")
    project.write(SMALL + "# only a comment\n")
    project.cnd("build", "--locked")
    project.write("dependencies: [probe-prefix]\n")
    assert "stale" in project.cnd("build", status=7, CONDAINER_LOCKED="1").stderr


def test_a_new_requirements_file_makes_the_lock_stale(make_project: Any) -> None:
    project = make_project(text=PYTHON)
    project.cnd("lock")
    assert project.json("status")["lock"] == "current"
    project.write("tabulate\n", "requirements.txt")
    assert project.json("status")["lock"] == "stale"


def test_a_changed_included_file_makes_the_lock_stale(make_project: Any) -> None:
    project = make_project(text=PYTHON)
    project.write("-r more.txt\n", "requirements.txt")
    project.write("tabulate==0.9.0\n", "more.txt")
    project.cnd("lock")
    assert "tabulate-0.9.0" in project.lockfile.read_text()
    assert project.json("status")["lock"] == "current"
    project.write("# a comment\ntabulate==0.9.0\n", "more.txt")
    assert project.json("status")["lock"] == "current"
    project.write("tabulate==0.8.10\n", "more.txt")
    assert project.json("status")["lock"] == "stale"


def test_locking_again_gives_the_same_bytes(project: Project) -> None:
    project.cnd("lock")
    files = [project.lockfile, project.path / "conda-lock.yml"]
    before = [path.read_bytes() for path in files]
    project.cnd("lock")
    assert [path.read_bytes() for path in files] == before


def test_conda_lock_yml_of_ours_gives_the_lock_without_solving(project: Project) -> None:
    first = project.json("build")
    lock = project.lockfile.read_text()
    project.lockfile.unlink()
    again = project.json("build", "--locked")
    assert (again["hit"], again["address"]) == (True, first["address"])
    assert sorted(project.lockfile.read_text().splitlines()) == sorted(lock.splitlines())
    project.lockfile.unlink()
    project.write("dependencies: [probe-prefix]\n")
    project.cnd("build", "--locked", status=7)


def test_lockfiles_of_other_tools_are_used_as_they_are(make_project: Any) -> None:
    ours = make_project("ours")
    address = ours.json("build")["address"]
    packages = [line for line in ours.lockfile.read_text().splitlines() if line[0] != "#"]
    explicit = make_project("explicit", text="variables: {GREETING: hello}\n")
    explicit.write("dependencies: [nothing-of-this-is-solved]\nvariables: {GREETING: hello}\n")
    explicit.write("\n".join(["# platform: linux-64", *packages]), ours.lockfile.name)
    assert explicit.json("build", "--locked")["address"] == address
    unified = make_project("unified", text="")
    text = (ours.path / "conda-lock.yml").read_text().partition("\n")[2]
    unified.write(text, "conda-lock.yml")
    found = unified.json("build", "--locked")
    assert not found["hit"], "without environment.yml there are no variables"
    assert unified.json("build")["hit"]


def test_a_second_builder_waits_and_then_hits(make_project: Any) -> None:
    projects = [make_project(name) for name in ("one", "two", "three")]
    for project in projects:
        project.cnd("lock")
    results = build_at_once(projects)
    assert sorted(result["hit"] for result in results) == [False, True, True]
    assert len({result["image"] for result in results}) == 1


def test_an_incomplete_entry_is_a_miss_and_is_replaced(project: Project) -> None:
    built = project.json("build")
    image = Path(built["image"])
    for loss in ("image.squashfs", "manifest.json", "explicit.lock"):
        (image.parent / loss).unlink()
        again = project.json("build")
        assert not again["hit"], loss
        assert again["sha256"] == built["sha256"]
    with image.open("r+b") as stream:
        stream.truncate(1000)
    assert not project.json("build")["hit"], "a truncated image is none"


def test_another_recipe_under_the_address_is_refused(project: Project) -> None:
    built = project.json("build")
    manifest = Path(built["image"]).parent / "manifest.json"
    content = json.loads(manifest.read_text())
    content["recipe_sha256"] = "0" * 64
    manifest.chmod(0o644)
    manifest.write_text(json.dumps(content))
    done = project.cnd("build", status=13)
    assert "another environment" in done.stderr
    project.cnd("exec", "--", "true", status=125)


def test_a_pin_selects_another_image(project: Project) -> None:
    old = project.json("build")
    project.write("dependencies: [probe-prefix]\n")
    new = project.json("build")
    assert old["address"] != new["address"]
    project.write(f"address: '{old['address'][:12]}'\n", "condainer.yml")
    status = project.json("status")
    assert (status["address"], status["pinned"]) == (old["address"], True)
    assert project.json("build")["address"] == old["address"]
    assert project.cnd("exec", "--", "printenv", "GREETING").stdout == "hello\n"
    project.write("address: 'abcdef123456'\n", "condainer.yml")
    assert "abcdef123456" in project.cnd("build", status=15).stderr


def test_dry_run_touches_nothing(project: Project) -> None:
    before = tree(project.path)
    commands = ("init", "build", "lock")
    for command in commands:
        done = project.cnd("-y", command)
        assert "ould" in done.stdout + done.stderr, command
    assert tree(project.path) == before
    assert not project.cache.exists()
    project.cnd("build")
    built = tree(project.path), tree(project.cache)
    for arguments in (["exec", "--", "touch", "x"], ["mount"], ["umount"], ["cache"], ["shell"]):
        done = project.cnd("-y", *arguments)
        assert done.stderr.startswith("Would "), arguments
        assert done.stdout == ""
    assert "is there" in project.cnd("-y", "build").stderr
    assert "is there" in project.json("-y", "build")["would"][0]
    assert (tree(project.path), tree(project.cache)) == built


def test_quiet_prints_nothing_and_plain_progress_is_lines(project: Project) -> None:
    done = project.cnd("-q", "build")
    assert (done.stdout, done.stderr) == ("", "")
    project.write("dependencies: [probe-prefix]\n")
    done = project.cnd("build")
    assert done.stdout == ""
    assert re.search(r"^Compressing the image: done \(\d+\.\d s\)$", done.stderr, re.MULTILINE)
    assert "\x1b" not in done.stderr


def test_a_read_only_project_and_cache_still_hit(make_project: Any, tmp_path: Path) -> None:
    project = make_project()
    project.cnd("build")
    readonly = make_project(
        "other",
        CONDAINER_CACHE=str(tmp_path / "elsewhere"),
        CONDAINER_READONLY_CACHES=str(project.cache),
    )
    readonly.write(project.lockfile.read_text(), project.lockfile.name)
    found = readonly.json("build")
    assert found["hit"]
    assert Path(found["image"]).is_relative_to(project.cache)
    assert not (tmp_path / "elsewhere").exists()


def test_new_directories_of_a_shared_cache_keep_its_mode(project: Project) -> None:
    project.cache.mkdir()
    project.cache.chmod(0o3775)
    old = os.umask(0o077)
    try:
        built = project.json("build")
    finally:
        os.umask(old)
    image = Path(built["image"])
    for directory in (project.cache / "tmp", project.cache / "locks", image.parent.parent):
        assert directory.stat().st_mode & 0o7777 == 0o3775
    assert image.parent.stat().st_mode & 0o7777 == 0o755
    lock = next((project.cache / "locks").iterdir())
    assert lock.stat().st_mode & 0o7777 == 0o664


def test_a_wait_for_another_builder_names_it_and_is_bounded(project: Project) -> None:
    project.cnd("lock")
    address = json.loads(project.cnd("lock", "--json").stdout)["address"]
    locks = project.cache / "locks"
    locks.mkdir(parents=True)
    pulling = project.cache / "tmp" / f"{address}.elsewhere.4711.x_3-pull"
    pulling.mkdir(parents=True)
    hold = ["flock", str(locks / f"{address}.lock"), "sh", "-c", "echo held; read word"]
    with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        done = project.cnd("--set", "lock_timeout=1", "build")
        holder.communicate()
    told = r"Waiting for \S+ on elsewhere \(process 4711\), who has been pulling this image since"
    assert re.search(told, done.stderr)
    assert "building as well" in done.stderr
