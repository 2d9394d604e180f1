"""Sharing a cache, and looking at, comparing and removing what it holds."""

from __future__ import annotations

import fcntl
import grp
import json
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.needed import needs_root
from tests.helpers.projects import SMALL, Project

OTHER = "dependencies: [probe-prefix, probe-activate]\nvariables: {GREETING: salut, NEW: '1'}\n"
# A process of another account, which has imported all that it needs while it still could read it.
AS_USER = """
import os, sys
import condainer.commands.images.list, condainer.commands.images.rm, condainer.cli.tables
import condainer.commands.images.show, condainer.commands.sharing.share, condainer.cli.console
import condainer.upkeep.share, condainer.upkeep.removal, condainer.images.show, filelock
from condainer.__main__ import main
os.setgroups([int(word) for word in sys.argv[3].split(",")])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
sys.exit(main(sys.argv[4:]))
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def snapshot(root: Path) -> list[tuple[str, int, int, bytes]]:
    """Return modes, groups and contents of a directory and all that is below it."""
    return [
        (
            str(path),
            path.lstat().st_mode,
            path.lstat().st_gid,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted([root, *root.rglob("*")])
    ]


@pytest.fixture
def users() -> list[pwd.struct_passwd]:
    """Two ordinary accounts of this machine."""
    needs_root("to act as another user")
    return [pwd.getpwnam(name) for name in ("daemon", "nobody")]


@pytest.fixture
def team() -> grp.struct_group:
    """A group of which no account of the tests is by default."""
    return grp.getgrnam("games")


def as_user(
    user: pwd.struct_passwd, place: Path, *arguments: str, groups: tuple[int, ...] = (), **more: str
) -> subprocess.CompletedProcess[str]:
    numbers = ",".join(str(number) for number in (user.pw_gid, *groups))
    command = [sys.executable, "-c", AS_USER, str(user.pw_uid), str(user.pw_gid), numbers]
    source = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [*command, *arguments],
        cwd=place,
        env={"PATH": "/usr/bin:/bin", "HOME": str(place), "PYTHONPATH": source, **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        umask=0o077,
    )
    assert "Traceback" not in done.stderr
    return done


# Sharing


def test_a_shared_directory_has_what_the_layout_says(make_project: Any, tmp_path: Path) -> None:
    root = tmp_path / "not yet" / "a 'group'"
    project = make_project(CONDAINER_CACHE=str(root))
    done = project.cnd("share", str(root))
    assert shlex.split(done.stdout) == ["export", f"CONDAINER_CACHE={root}"]
    assert done.stdout.count("\n") == 1
    assert {mode(root / name) for name in ("", "images", "tmp", "locks")} == {0o3775}
    assert mode(root.parent) & 0o7020 == 0
    assert (root / "format").read_text() == "condainer-cache 1\n"
    assert (root / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172")
    before = snapshot(root)
    again = project.json("share", str(root))
    assert (again["repaired"], again["refused"], again["created"]) == ([], [], False)
    assert snapshot(root) == before
    assert shlex.split(again["setting"]) == shlex.split(done.stdout)
    assert not project.json("build")["hit"]
    assert project.json("share", str(root))["repaired"] == []
    # As a purge of old files leaves it.
    (root / "format").unlink()
    (root / "locks").rename(tmp_path / "locks")
    project.cnd("share", str(root))
    assert (root / "format").read_text() == "condainer-cache 1\n"
    assert mode(root / "locks") == 0o3775


def test_a_private_cache_is_not_opened_by_a_repair(project: Project) -> None:
    root = project.cache
    assert project.json("share", str(root), "--private")["mode"] == "3770"
    (root / "tmp").chmod(0o777)
    assert project.json("share", str(root))["mode"] == "3770"
    # One line for all of them, not for each.
    said = project.cnd("share", str(root), "--open").stderr
    assert said.count("Repaired") == 1
    assert re.search(rf"Repaired {root} and \d+ other places in {root}: mode 3770 to 3775", said)
    assert len(project.json("share", str(root), "--private")["repaired"]) > 256
    assert {mode(root / name) for name in ("", "images", "tmp", "locks")} == {0o3770}
    project.cnd("share", str(root), "--open")
    assert {mode(root / name) for name in ("", "images", "tmp", "locks")} == {0o3775}


def test_modes_that_drifted_are_repaired_and_named(project: Project) -> None:
    root = project.cache
    project.cnd("share", str(root))
    built = project.json("build")
    entry = Path(built["image"]).parent
    lock = root / "locks" / f"{built['address']}.lock"
    before = snapshot(root)
    drifted = {
        root: 0o700,
        root / "images": 0o755,
        entry.parent: 0o2755,
        entry: 0o700,
        Path(built["image"]): 0o600,
        lock: 0o600,
        root / "format": 0o400,
    }
    for path, bits in drifted.items():
        path.chmod(bits)
    plan = project.cnd("-y", "share", str(root))
    assert plan.stdout == ""
    assert snapshot(root) != before
    assert all(f"{path}: mode" in plan.stderr for path in drifted)
    done = project.cnd("share", str(root))
    assert snapshot(root) == before
    assert all(f"Repaired {path}: mode {bits:04o}" in done.stderr for path, bits in drifted.items())
    assert done.stderr.count("Repaired") == len(drifted)


def test_links_in_a_cache_are_named_and_not_followed(project: Project, tmp_path: Path) -> None:
    root = project.cache
    project.cnd("share", str(root))
    outside = tmp_path / "outside"
    (outside / ("ab" + "0" * 30)).mkdir(parents=True)
    secret = outside / "secret"
    secret.write_text("")
    (root / "images" / "ab").rmdir()
    (root / "images" / "ab").symlink_to(outside)
    entry = root / "images" / "cd" / ("cd" + "0" * 30)
    entry.mkdir(parents=True)
    (entry / "image.squashfs").symlink_to(secret)
    (entry / "manifest.json").hardlink_to(secret)
    os.mkfifo(entry / "explicit.lock")
    secret.chmod(0o600)
    before = snapshot(outside)
    done = project.json("share", str(root))
    assert snapshot(outside) == before
    refused = {Path(note["path"]).name for note in done["refused"]}
    assert refused == {"ab", "image.squashfs", "manifest.json", "explicit.lock"}


@pytest.mark.parametrize("name", ["thesis.tex", ".bashrc", "results"])
def test_a_directory_that_holds_something_else_is_left_alone(project: Project, name: str) -> None:
    home = project.path.parent / "home"
    (home / "images").mkdir(parents=True)
    (home / name).mkdir() if name == "results" else (home / name).write_text("mine")
    # Other tools have such a file as well.
    (home / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    before = snapshot(home)
    done = project.cnd("share", str(home), status=12)
    assert name in done.stderr
    assert "Name an empty or a new directory." in done.stderr
    assert snapshot(home) == before
    assert done.stdout == ""


def test_what_cannot_be_shared(project: Project, tmp_path: Path) -> None:
    project.cnd("share", str(project.path / "environment.yml"), status=12)
    assert (
        "no-such-group"
        in project.cnd("share", str(tmp_path / "new"), "--group", "no-such-group", status=3).stderr
    )
    later = tmp_path / "later"
    later.mkdir()
    (later / "format").write_text("condainer-cache 2\n")
    assert "condainer-cache 2" in project.cnd("share", str(later), status=12).stderr
    plan = project.json("-y", "share", str(tmp_path / "new"))
    assert str(tmp_path / "new") in plan["would"][0]
    assert not (tmp_path / "new").exists()


def test_members_of_a_group_share(
    place: Path, users: list[pwd.struct_passwd], team: grp.struct_group, project: Project
) -> None:
    root = place / "cache"
    first, second = users
    stranger = as_user(first, place, "share", str(root), "--group", team.gr_name)
    assert stranger.returncode == 12
    place.chmod(0o777)
    stranger = as_user(first, place, "share", str(root), "--group", team.gr_name)
    assert (stranger.returncode, root.exists()) == (12, False)
    assert team.gr_name in stranger.stderr
    shared = as_user(
        first, place, "share", str(root), "--group", team.gr_name, groups=(team.gr_gid,)
    )
    assert shared.returncode == 0, shared.stderr
    for name in ("", "images", "tmp", "locks", "signatures"):
        assert (mode(root / name), (root / name).stat().st_gid) == (0o3775, team.gr_gid)
    # What the first cannot change is named to the second, and no failure.
    (root / "tmp").chmod(0o755)
    other = as_user(second, place, "share", str(root), "--json", groups=(team.gr_gid,))
    assert other.returncode == 0, other.stderr
    (note,) = json.loads(other.stdout)["refused"]
    assert note["path"] == str(root / "tmp")
    assert first.pw_name in note["what"]
    root.chmod(0o755)
    other = as_user(second, place, "share", str(root), groups=(team.gr_gid,))
    assert other.returncode == 12
    assert first.pw_name in other.stderr
    # An administrator repairs it all, and the group with it.
    done = project.json("share", str(root), "--group", "root")
    repaired = {str(Path(note["path"]).relative_to(root)) for note in done["repaired"]}
    assert {".", "format", "CACHEDIR.TAG", "images", "images/7f", "tmp", "leases"} <= repaired
    assert all((root / name).stat().st_gid == 0 for name in ("", "images", "format"))


def test_directories_above_that_are_closed_are_named(project: Project, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    done = project.json("share", str(closed / "cache"))
    assert str(closed) in done["closed"]
    assert str(closed) in project.cnd("share", str(closed / "cache")).stderr


# Listing and showing


def test_list_names_whole_broken_and_mounted_images(make_project: Any, tmp_path: Path) -> None:
    project = make_project(text=f"name: small\n{SMALL}")
    assert project.json("list") == []
    assert project.cnd("list").stdout == ""
    built = project.json("build")
    (item,) = project.json("list")
    assert (item["address"], item["name"], item["whole"]) == (built["address"], "small", True)
    assert (item["sha256"], item["image"]) == (built["sha256"], built["image"])
    assert item["mounted"] is False
    # The image is written just before its manifest.
    used, created = (datetime.fromisoformat(item[key][:-1]) for key in ("last_used", "created"))
    assert used >= created - timedelta(seconds=60)
    project.cnd("mount")
    assert project.json("list")[0]["mounted"] is True
    Path(built["image"]).with_name("manifest.json").chmod(0o644)
    broken = project.cache / "images" / "ab" / ("ab" * 16)
    broken.mkdir(parents=True)
    header, line, last = project.cnd("list").stdout.splitlines()
    assert header.split() == [
        "ADDRESS",
        "NAME",
        "SIZE",
        "BUILDER",
        "AGE",
        "USED",
        "MOUNTED",
        "PINNED",
    ]
    assert line.split()[:2] == [built["address"][:12], "small"]
    assert line.split()[-2:] == ["yes", "1"]
    assert last.split()[:2] == ["abababababab", "(broken)"]
    readonly = project.cnd("list", CONDAINER_READONLY_CACHES=str(tmp_path / "none")).stdout
    assert readonly.splitlines()[0] == header


def test_a_list_fits_its_terminal(make_project: Any) -> None:
    project = make_project(text=f"name: {'long' * 30}\n{SMALL}")
    project.cnd("build")
    assert "long" * 30 in project.cnd("list").stdout
    # What sets the colour of a line takes no room.
    status, said = project.on_terminal("list", COLUMNS="80", NO_COLOR="1")
    assert status == 0
    lines = said.decode().splitlines()
    assert len(lines) == 2
    assert max(len(line) for line in lines) <= 80
    assert "…" in lines[1]


def test_show_knows_an_image_by_many_names(make_project: Any, tmp_path: Path) -> None:
    project = make_project(text=f"name: small\n{SMALL}")
    built = project.json("build")
    image = Path(built["image"])
    whole = project.json("show", built["address"])
    assert project.json("show") == whole
    assert whole["kind"] == "entry"
    assert whole["variables"] == {"GREETING": "hello"}
    names = {(package["kind"], package["name"]) for package in whole["packages"]}
    assert {("conda", f"probe-{name}") for name in ("prefix", "activate", "files")} <= names
    for text in (
        built["address"][:9].upper(),
        image,
        image.parent,
        image.with_name("explicit.lock"),
    ):
        assert project.json("show", str(text)) == whole
    assert project.json("show", os.path.relpath(image, project.path)) == whole
    copy = tmp_path / "copy.squashfs"
    shutil.copy(image, copy)
    for path, kind in ((copy, "image"), (project.lockfile, "lockfile")):
        other = project.json("show", str(path))
        assert (other["kind"], other["source"]) == (kind, str(path))
        for key in ("address", "prefix", "platform", "packages", "variables"):
            assert other[key] == whole[key]
    assert project.json("show", "conda-lock.yml")["packages"] == whole["packages"]
    text = project.cnd("show", built["address"]).stdout
    assert "small" in text
    assert "GREETING=hello" in text
    assert any(line.split()[:3] == ["conda", "probe-prefix", "1.0"] for line in text.splitlines())
    assert "sha256" not in project.cnd("show", str(copy)).stdout


def test_show_of_what_names_nothing(project: Project, tmp_path: Path) -> None:
    assert "`cnd lock`" in project.cnd("show", status=15).stderr
    project.cnd("lock")
    assert project.json("show")["source"] == str(project.lockfile)
    built = project.json("build")
    wrong = built["address"][:6] + "0000"
    assert built["address"] in project.cnd("show", wrong, status=15).stderr
    assert "neither" in project.cnd("show", "no-such-file", status=15).stderr
    project.cnd("show", ".", status=15)
    project.cnd("show", "", status=2)
    project.cnd("show", "environment.yml", status=8)
    junk = tmp_path / "junk"
    junk.write_bytes(b"\xff" * 100)
    assert "neither an image nor a lockfile" in project.cnd("show", str(junk), status=8).stderr
    junk.write_bytes(b"hsqs" + bytes(1000))
    project.cnd("show", str(junk), status=9)
    os.mkfifo(tmp_path / "fifo")
    project.cnd("show", str(tmp_path / "fifo"), status=12)
    Path(built["image"]).unlink()
    assert "not whole" in project.cnd("show", built["address"], status=15).stderr


def test_a_lockfile_of_another_platform_can_be_shown(project: Project) -> None:
    name = "https://conda.example/c/linux-aarch64/tool-1.0-0.conda"
    project.write(f"@EXPLICIT\n{name}#sha256:{'0' * 64}\n", "conda-linux-aarch64.lock")
    shown = project.json("show", "conda-linux-aarch64.lock")
    assert shown["platform"] == "linux-aarch64"


# Comparing


def test_diff_of_addresses_images_and_lockfiles(make_project: Any) -> None:
    one, two = make_project("one"), make_project("two", OTHER)
    old, new = one.json("build"), two.json("build")
    difference = one.json("diff", old["address"], str(two.lockfile))
    assert difference["equal"] is False
    assert [package["name"] for package in difference["removed"]] == ["probe-files"]
    assert (difference["added"], difference["changed"], difference["settings"]) == ([], [], [])
    assert difference["variables"] == [
        {"name": "GREETING", "old": "hello", "new": "salut"},
        {"name": "NEW", "old": None, "new": "1"},
    ]
    back = one.json("diff", new["image"], old["image"])
    assert [package["name"] for package in back["added"]] == ["probe-files"]
    lines = [
        line.split() for line in one.cnd("diff", old["image"], new["address"]).stdout.splitlines()
    ]
    assert ["-", "conda", "probe-files", "1.0", "0"] in lines
    assert ["~", "variable", "GREETING", "hello", "->", "salut"] in lines
    assert ["+", "variable", "NEW", "1"] in lines
    same = one.cnd("diff", old["address"], str(one.lockfile))
    assert (same.stdout, "No difference" in same.stderr) == ("", True)
    one.cnd("diff", old["address"], "0000000", status=15)


# Removing


def test_a_removed_image_is_gone_and_can_be_built_again(project: Project) -> None:
    built = project.json("build")
    entry = Path(built["image"]).parent
    assert project.json("-y", "rm", built["address"][:8])["would"] == [f"remove {entry}"]
    assert entry.exists()
    # A directory that is not ours to make sense of goes as well: it is in the entry's place.
    entry.with_name(f"{entry.name}.1").mkdir()
    done = project.cnd("rm", built["address"][:8])
    assert (done.stdout, str(entry) in done.stderr) == ("", True)
    assert not list(entry.parent.iterdir())
    assert not list((project.cache / "tmp").iterdir())
    assert project.json("list") == []
    project.cnd("rm", built["address"], status=15)
    assert project.json("build")["sha256"] == built["sha256"]


def test_a_mounted_image_is_kept_unless_forced(make_project: Any) -> None:
    one, two = make_project("one"), make_project("two", OTHER)
    kept, other = one.json("build"), two.json("build")
    one.cnd("mount")
    done = one.cnd("rm", other["address"], kept["address"], status=14)
    assert kept["prefix"] in done.stderr
    assert Path(kept["image"]).exists()
    assert Path(other["image"]).exists()
    assert [item["address"] for item in one.json("rm", "--force", kept["address"])] == [
        kept["address"]
    ]
    assert not Path(kept["image"]).exists()
    assert (Path(kept["prefix"]) / "bin/probe-prefix").is_file()


def test_an_image_that_is_being_built_is_kept(project: Project) -> None:
    built = project.json("build")
    with (project.cache / "locks" / f"{built['address']}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "being built" in project.cnd("rm", built["address"], status=1).stderr
        assert Path(built["image"]).exists()
        project.cnd("rm", "--force", built["address"])
    assert not Path(built["image"]).exists()


def test_images_of_read_only_caches_are_kept(make_project: Any, tmp_path: Path) -> None:
    project = make_project()
    built = project.json("build")
    done = project.cnd(
        "rm",
        built["address"],
        status=12,
        CONDAINER_CACHE=str(tmp_path / "own"),
        CONDAINER_READONLY_CACHES=str(project.cache),
    )
    assert "only read" in done.stderr
    assert Path(built["image"]).exists()


def test_only_its_owner_removes_an_image(
    place: Path, users: list[pwd.struct_passwd], team: grp.struct_group, make_project: Any
) -> None:
    first, second = users
    root = place / "cache"
    project = make_project(CONDAINER_CACHE=str(root))
    project.cnd("share", str(root), "--group", team.gr_name)
    built = project.json("build")
    entry = Path(built["image"]).parent
    for path in (entry, *entry.iterdir()):
        os.chown(path, first.pw_uid, team.gr_gid)
    arguments = ("rm", "--force", built["address"])
    environment = {"CONDAINER_CACHE": str(root)}
    other = as_user(second, place, *arguments, groups=(team.gr_gid,), **environment)
    assert other.returncode == 12
    assert first.pw_name in other.stderr
    assert entry.exists()
    ours = as_user(first, place, *arguments, groups=(team.gr_gid,), **environment)
    assert ours.returncode == 0, ours.stderr
    assert not entry.exists()
    assert not list((root / "tmp").iterdir())
