"""Collections among real builds and mounts: nothing that runs breaks, and what went comes back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from condainer.cache import leases
from tests.helpers.entries import grow_old, snapshot
from tests.helpers.members import CND, Member
from tests.helpers.mounting import processes
from tests.helpers.projects import SMALL, Project, build_at_once
from tests.helpers.waiting import until

OTHERS = ("probe-prefix", "probe-activate", "probe-files", "probe-old")


def forget(project: Project) -> None:
    """Let a project be none any more."""
    for path in project.path.iterdir():
        path.unlink()


def test_a_whole_life(project: Project, tmp_path: Path) -> None:
    built = project.json("build")
    image = Path(built["image"])
    grow_old(project.cache)
    done = project.json("gc", "--max-size", "1")
    (kept,) = done["kept"]
    assert (kept["why"], done["too_large"]) == ("project", True)
    assert str(project.path) in kept["detail"]
    (item,) = project.json("list")
    assert item["pinned_by"] == [str(project.path)]
    shutil.copytree(project.path, tmp_path / "saved")
    forget(project)
    planned = project.cnd("gc", "--older-than", "30d", "--dry-run")
    assert "Would move" in planned.stderr
    assert planned.stdout == ""
    assert image.exists()
    assert project.cnd("-y", "gc", "--older-than", "30d").stderr == planned.stderr
    done = project.json("gc", "--older-than", "30d")
    assert [moved["address"] for moved in done["moved"]] == [built["address"]]
    assert not image.exists()
    assert project.json("list") == []
    # A build takes it back: the same file, without any work.
    inode = Path(done["moved"][0]["trash"], "image.squashfs").stat().st_ino
    shutil.copytree(tmp_path / "saved", project.path, dirs_exist_ok=True)
    again = project.json("build")
    assert (again["hit"], again["sha256"]) == (True, built["sha256"])
    assert image.stat().st_ino == inode
    assert project.cnd("exec", "probe-prefix").stdout.strip() == built["prefix"]
    assert list((project.cache / "trash").iterdir()) == []
    # Without grace, it is gone and built anew.
    project.cnd("umount", status=None)
    until(lambda: not list((project.cache / "leases").iterdir()))
    grow_old(project.cache)
    forget(project)
    done = project.json("gc", "--max-size", "1", "--grace", "0s")
    assert done["freed"] >= built["size"]
    shutil.copytree(tmp_path / "saved", project.path, dirs_exist_ok=True)
    assert project.json("build")["hit"] is False


def test_what_is_in_the_trash_must_be_the_right_one(project: Project, tmp_path: Path) -> None:
    built = project.json("build")
    grow_old(project.cache)
    shutil.copytree(project.path, tmp_path / "saved")
    forget(project)
    (moved,) = project.json("gc", "--max-size", "1")["moved"]
    manifest = Path(moved["trash"], "manifest.json")
    manifest.chmod(0o644)
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "recipe_sha256": "0" * 64}))
    shutil.copytree(tmp_path / "saved", project.path, dirs_exist_ok=True)
    again = project.json("build")
    assert (again["hit"], again["sha256"]) == (False, built["sha256"])
    assert manifest.exists()


def test_a_mounted_image_stays(project: Project) -> None:
    built = project.json("build")
    project.cnd("mount")
    grow_old(project.cache)
    forget(project)
    for path in project.cache.glob("leases/*"):
        path.unlink()
    (kept,) = project.json("gc", "--max-size", "1", "--grace", "0")["kept"]
    assert (kept["why"], kept["detail"]) == ("mounted", built["prefix"])
    subprocess.run(["fusermount3", "-u", built["prefix"]], check=True)
    # Its keeper notes the end of the use.
    until(lambda: not processes(built["prefix"], "condainer.mount.keep"))
    for path in project.cache.glob("leases/*"):
        path.unlink()
    grow_old(project.cache)
    assert len(project.json("gc", "--max-size", "1")["moved"]) == 1


def test_to_verify_is_not_to_use(project: Project) -> None:
    built = project.json("build")
    image = Path(built["image"])
    grow_old(project.cache)
    before = image.stat().st_atime_ns
    project.cnd("verify", built["address"])
    project.cnd("show", str(image))
    project.cnd("export", built["address"], str(project.path / "exported"))
    assert image.stat().st_atime_ns == before
    project.cnd("cache")
    # Reading it is; as far as the file system records that.
    probe = project.cache / "probe"
    probe.write_bytes(b"x")
    os.utime(probe, (1e9, 1e9))
    probe.read_bytes()
    records = probe.stat().st_atime > 1e9
    probe.unlink()
    assert (image.stat().st_atime_ns > before) is records


def test_policies_are_written_by_share_and_used(project: Project) -> None:
    project.json("build")
    plan = project.json("-y", "share", str(project.cache), "--max-size", "1")
    assert any("policy.yml" in step for step in plan["would"])
    assert not (project.cache / "policy.yml").exists()
    shared = project.json("share", str(project.cache), "--max-size", "1", "--grace", "2w")
    assert shared["policy"] == {"older_than": None, "max_size": 1, "grace": 14 * 86400}
    assert len(list((project.cache / "images").iterdir())) == 256
    assert {path.stat().st_mode & 0o7777 for path in (project.cache / "images").iterdir()} == {
        0o3775
    }
    grow_old(project.cache)
    forget(project)
    done = project.json("gc", "--dry-run", "--grace", "1h")
    assert done["policy"] == {"older_than": None, "max_size": 1, "grace": 3600}
    assert len(done["moved"]) == 1
    assert project.json("gc", "--dry-run", "--max-size", "1G")["moved"] == []
    (project.cache / "policy.yml").write_text("max_sise: 1\n")
    failed = project.cnd("gc", status=3)
    assert f"{project.cache / 'policy.yml'}:1" in failed.stderr
    assert "max_sise" in failed.stderr
    assert "'30'" in project.cnd("gc", "--older-than", "30", status=3).stderr


def test_two_collections_at_once(make_project: Any) -> None:
    projects = [make_project(f"p{n}", f"dependencies: [{name}]\n") for n, name in enumerate(OTHERS)]
    build_at_once(projects)
    images = [Path(project.json("build")["image"]) for project in projects]
    cache = projects[0].cache
    template = images[0].parent
    for number in range(60):
        # As many as it takes for both to be at work together.
        address = f"{number:032x}"
        entry = cache / "images" / "00" / address
        shutil.copytree(template, entry)
        manifest = entry / "manifest.json"
        content = json.loads(manifest.read_text())
        manifest.chmod(0o644)
        manifest.write_text(json.dumps({**content, "address": address}))
    grow_old(cache)
    for project in projects[1:]:
        forget(project)
    command = [*CND, "gc", "--max-size", "1", "--grace", "0s", "--json"]
    children = [
        subprocess.Popen(
            command,
            cwd=projects[0].path,
            env=projects[0].environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    reports, errors = zip(*(child.communicate() for child in children), strict=True)
    assert [child.returncode for child in children] == [0, 0], errors
    done = [json.loads(report) for report in reports]
    moved = [image["address"] for report in done for image in report["moved"]]
    assert len(moved) == len(set(moved)) == 63
    deleted = [left["path"] for report in done for left in report["deleted"]]
    assert len(deleted) == len(set(deleted)) == 63
    assert [path.exists() for path in images] == [True, False, False, False]
    assert [list((cache / name).iterdir()) for name in ("trash", "tmp")] == [[], []]


@pytest.mark.xdist_group("accounts")
def test_members_collect_their_own_and_root_collects_all(
    members: tuple[Member, Member], place: Path
) -> None:
    private, open_ = members
    cache = place / "cache"
    first = private.build("probe-prefix")
    (note,) = (cache / "projects").iterdir()
    lease = cache / "leases" / f"{'0' * 32}.node-0.1.x"
    lease.touch()
    shutil.chown(lease, private.name)
    account = (f"--reuid={open_.name}", f"--regid={open_.name}", "--init-groups")
    for path in (note, lease):
        done = subprocess.run(
            ["setpriv", *account, "rm", "-f", str(path)], capture_output=True, check=False
        )
        assert done.returncode != 0
    (cache / "policy.yml").write_text("max_size: 1\n")
    shutil.chown(cache / "policy.yml", open_.name)
    ignored = private.cnd("gc", "--json")
    assert "policy.yml is ignored" in ignored.stderr
    assert json.loads(ignored.stdout)["policy"]["max_size"] is None
    second = open_.build("probe-activate")
    for member in members:
        (member.home / "environment.yml").unlink()
        for path in member.home.glob("conda-*"):
            path.unlink()
    grow_old(cache)
    collected = json.loads(open_.cnd("gc", "--max-size", "1", "--json").stdout)
    assert [image["address"] for image in collected["moved"]] == [second["address"]]
    kept = [(image["address"], image["why"], image["detail"]) for image in collected["kept"]]
    assert kept == [(first["address"], "owner", private.name)]
    # The other's is back when he builds, and not when somebody else does.
    assert Path(first["image"]).exists()
    again = private.build("probe-activate")
    assert not again["hit"]
    assert len(list((cache / "trash").iterdir())) == 1
    grow_old(cache)
    (private.home / "environment.yml").unlink()
    for path in private.home.glob("conda-*"):
        path.unlink()
    environment = {**os.environ, "CONDAINER_CACHE": str(cache), "HOME": str(place)}
    collected = json.loads(
        subprocess.run(
            [*CND, "gc", "--max-size", "1", "--grace", "0", "--json"],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert len(collected["moved"]) == 2
    assert len(collected["deleted"]) == 3
    assert list((cache / "trash").iterdir()) == []


def test_a_dry_run_leaves_a_real_cache_alone(project: Project) -> None:
    project.json("build")
    grow_old(project.cache)
    forget(project)
    before = snapshot(project.cache)
    project.cnd("gc", "--max-size", "1", "--dry-run")
    project.cnd("-y", "gc", "--max-size", "1", "--json")
    assert snapshot(project.cache) == before


def test_a_build_that_runs_is_not_robbed(make_project: Any) -> None:
    project: Project = make_project(text=SMALL)
    child = subprocess.Popen(
        [*CND, "build"], cwd=project.path, env=project.environment, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: any((project.cache / "tmp").glob("*")) or child.poll() is not None)
        while child.poll() is None:
            project.cnd("gc", "--max-size", "1", "--grace", "0s")
    finally:
        child.wait()
    assert child.returncode == 0
    assert project.json("build")["hit"]


def test_a_lease_that_is_held_keeps_on_any_node(project: Project) -> None:
    built = project.json("build")
    lease = leases.take(project.cache, built["address"])
    assert lease is not None
    grow_old(project.cache)
    forget(project)
    (kept,) = project.json("gc", "--max-size", "1", "--grace", "0")["kept"]
    assert kept["why"] == "lease"
    (item,) = project.json("list")
    assert [found["process"] for found in item["leases"]] == [os.getpid()]
    assert "elsewhere" in project.cnd("list").stdout
    assert "leased" in project.cnd("show", built["address"]).stdout
    other = lease.with_name(f"{built['address']}.node7-00000000.1.x")
    other.write_text("")
    refused = project.cnd("rm", built["address"], status=14)
    assert "on node7" in refused.stderr
    other.unlink()
    leases.end(lease)
    grow_old(project.cache)
    assert len(project.json("gc", "--max-size", "1")["moved"]) == 1
