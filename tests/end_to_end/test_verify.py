"""Every damaged image is found, moved away and made anew; a rebuild proves what a lock gives."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from condainer.cache import entries, verify
from condainer.cache.papers import read_papers
from condainer.cache.squashfs import digests
from condainer.images import rebuild
from condainer.lock.locks import PipPackage
from condainer.settings.config import Settings
from condainer.settings.load import load_settings
from condainer.system.files import user_name
from condainer.system.reporter import Silent
from tests.helpers.projects import PYTHON, Project
from tests.torture import images
from tests.torture.images import address_in


def settings_of(project: Project) -> Settings:
    base = project.environment["CONDAINER_MOUNT_BASE"]
    values = (f"cache_directory={project.cache}", f"mount_base_directory={base}")
    return load_settings(project.path, values)


def rewrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def flip_one_bit(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    rewrite(path, bytes(content))


def change_manifest(directory: Path, **values: Any) -> None:
    path = directory / "manifest.json"
    rewrite(path, json.dumps({**json.loads(path.read_text()), **values}).encode())


@pytest.fixture
def entry(project: Project) -> Path:
    """The directory of the project's entry."""
    return Path(project.json("build")["image"]).parent


def test_a_whole_image_is_called_whole(project: Project, entry: Path) -> None:
    before = sorted(path.name for path in project.cache.iterdir())
    verdict = project.json("verify")
    assert verdict["ok"]
    assert verdict["problems"] == []
    assert verdict["address"] == entry.name
    assert verdict["size"] == (entry / "image.squashfs").stat().st_size
    assert verdict["mb_per_second"] > 0
    assert len(verdict["checked"]) == 4
    again = project.json("verify", entry.name[:8])
    assert {**again, "mb_per_second": 0} == {**verdict, "mb_per_second": 0}
    assert re.search(r"\d [kMG]B/s", project.cnd("verify").stderr)
    assert sorted(path.name for path in project.cache.iterdir()) == before


# Faults


@pytest.mark.long
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to unmount lazily")
def test_faults_are_all_found(
    make_project: Any, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    project = make_project(text=PYTHON)
    directory = Path(project.json("build")["image"]).parent
    settings, where = settings_of(project), tmp_path / "where"
    where.mkdir()
    for name, count in (("bit", 100), ("cut", 40), ("hole", 40)):
        damage = images.damaged(directory, settings, where, name, count)
        record_property(name, str(damage))
        print(damage)
        assert damage.verify == count
        # What is said of them beside it: neither would do in place of verification.
        assert damage.mount < count or name == "cut"
        assert damage.look_up == (count if name == "cut" else 0)
    assert not verify.verify_entry(directory, settings, Silent()).problems


def put(path: Path, how: str) -> None:
    """Put something else in the place of a file."""
    path.unlink()
    if how == "empty":
        path.touch()
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "directory":
        path.mkdir()


def test_what_is_no_file_is_found_and_moved_away(
    project: Project, entry: Path, tmp_path: Path
) -> None:
    settings, address = settings_of(project), address_in(entry)
    shutil.copytree(entry, tmp_path / "copy")
    for name in ("image.squashfs", "manifest.json", "explicit.lock"):
        for how in ("missing", "empty", "fifo", "directory"):
            put(entry / name, how)
            verdict = verify.verify_entry(entry, settings, Silent())
            assert verdict.problems, (name, how)
            assert verify.move_away(verdict, settings).quarantined, (name, how)
            assert entries.look_up(address, settings) is None
            shutil.copytree(tmp_path / "copy", entry)
    assert not verify.verify_entry(entry, settings, Silent()).problems
    put(entry / "explicit.lock", "fifo")
    assert str(entry) in project.cnd("verify", status=9).stderr
    assert not project.json("build")["hit"]


def test_a_manifest_that_disagrees_is_found(project: Project, entry: Path) -> None:
    settings = settings_of(project)
    original = (entry / "manifest.json").read_bytes()
    cases: tuple[tuple[str, Any, str], ...] = (
        ("sha256", "0" * 64, "sha256"),
        ("xxh3", "0" * 32, "XXH3"),
        ("recipe_sha256", "0" * 64, "recipe_sha256"),
        ("address", "0" * 32, "address"),
        ("prefix", "/elsewhere/condainer-x", "prefix"),
        ("prefix", "relative", "prefix"),
        ("size", "5", "size"),
        ("format", 99, "later version"),
    )
    for name, value, words in cases:
        change_manifest(entry, **{name: value})
        problems = verify.verify_entry(entry, settings, Silent()).problems
        assert any(words in problem for problem in problems), (name, value, problems)
        rewrite(entry / "manifest.json", original)
    change_manifest(entry, sha256="0" * 64)
    assert "sha256" in project.cnd("verify", status=9).stderr


def test_a_lock_that_gives_another_address_is_found(project: Project, entry: Path) -> None:
    lock = entry / "explicit.lock"
    rewrite(lock, lock.read_bytes().replace(b"hello", b"other"))
    assert "the lock gives the address" in project.cnd("verify", status=9).stderr


def test_another_image_under_a_right_looking_manifest_is_found(
    make_project: Any, project: Project, entry: Path
) -> None:
    other = make_project("other", "dependencies: [probe-prefix]\n").json("build")
    shutil.copyfile(other["image"], entry / "image.squashfs.new")
    os.replace(entry / "image.squashfs.new", entry / "image.squashfs")
    manifest = json.loads(Path(other["image"]).with_name("manifest.json").read_text())
    change_manifest(entry, **{key: manifest[key] for key in ("size", "sha256", "xxh3")})
    assert "recipe inside" in project.cnd("verify", status=9).stderr


# Quarantine


def test_a_damaged_entry_is_moved_away_and_made_anew(project: Project, entry: Path) -> None:
    project.cache.chmod(0o3775)
    good = (entry / "image.squashfs").read_bytes()
    flip_one_bit(entry / "image.squashfs")
    bad = (entry / "image.squashfs").read_bytes()
    assert project.json("build")["hit"]
    done = project.cnd("verify", "--json", status=9)
    verdict = json.loads(done.stdout)
    place = Path(verdict["quarantined"])
    assert not verdict["ok"]
    assert str(place) in done.stderr
    assert place.parent == project.cache / "quarantine"
    assert place.name.startswith(f"{entry.name}.")
    assert place.parent.stat().st_mode & 0o7777 == 0o3775
    assert (place / "image.squashfs").read_bytes() == bad
    assert not entry.exists()
    assert project.cnd("verify", status=15).stdout == ""
    project.cnd("--set", f"address={entry.name}", "build", status=15)
    again = project.json("build")
    assert not again["hit"]
    assert Path(again["image"]).read_bytes() == good


def test_a_cache_of_which_only_the_quarantine_is_left_is_a_cache(
    project: Project, entry: Path
) -> None:
    flip_one_bit(entry / "image.squashfs")
    project.cnd("verify", status=9)
    for path in project.cache.iterdir():
        if path.name != "quarantine":
            path.unlink() if path.is_file() else shutil.rmtree(path)
    assert not project.json("build")["hit"]


def test_keep_and_dryrun_move_nothing(project: Project, entry: Path) -> None:
    flip_one_bit(entry / "image.squashfs")
    assert json.loads(project.cnd("verify", "--keep", "--json", status=9).stdout)["problems"]
    would = json.loads(project.cnd("-y", "verify", "--json").stdout)["would"]
    assert str(entry) in would[0]
    assert entry.exists()
    assert not (project.cache / "quarantine").exists()


def test_a_linked_quarantine_is_not_followed(project: Project, entry: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (project.cache / "quarantine").symlink_to(tmp_path / "elsewhere")
    flip_one_bit(entry / "image.squashfs")
    assert "cannot be moved away" in project.cnd("verify", status=9).stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_good_entry_that_took_the_place_is_left(project: Project, entry: Path) -> None:
    settings = settings_of(project)
    flip_one_bit(entry / "image.squashfs")
    verdict = verify.verify_entry(entry, settings, Silent())
    shutil.move(entry, entry.with_name("old"))
    project.json("build")
    moved = verify.move_away(verdict, settings)
    assert moved.quarantined is None
    assert "meantime" in moved.notes[-1]
    assert project.json("verify")["ok"]


def test_a_read_only_cache_is_left_alone(make_project: Any, tmp_path: Path) -> None:
    writer = make_project("writer")
    directory = Path(writer.json("build")["image"]).parent
    flip_one_bit(directory / "image.squashfs")
    reader = make_project(
        "reader",
        CONDAINER_READONLY_CACHES=str(writer.cache),
        CONDAINER_CACHE=str(tmp_path / "own"),
    )
    reader.cnd("lock")
    done = reader.cnd("verify", status=9)
    assert user_name(os.getuid()) in done.stderr
    assert str(directory) in done.stderr
    assert directory.exists()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users reach, unlike those of pytest."""
    path = Path(tempfile.mkdtemp(prefix="condainer-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_another_members_entry_is_reported_with_its_owner(
    make_project: Any, open_directory: Path
) -> None:
    shared = open_directory / "cache"
    shared.mkdir()
    project = make_project(CONDAINER_CACHE=str(shared))
    shared.chmod(0o3775)
    directory = Path(project.json("build")["image"]).parent
    flip_one_bit(directory / "image.squashfs")
    settings = settings_of(project)
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            os.setresuid(12345, 12345, 12345)
            verdict = verify.verify_entry(directory, settings, Silent())
            verdict = verify.move_away(verdict, settings)
            told = "its owner, root," in verdict.notes[-1]
            status = 0 if told and verdict.problems and not verdict.quarantined else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert directory.exists()


# Several, files, and wrong use


def test_all_names_each_damaged_image(make_project: Any) -> None:
    texts = {f"p{number}": f"variables: {{N: '{number}'}}\n" for number in range(3)}
    built = [
        make_project(name, f"dependencies: [probe-prefix]\n{text}").json("build")
        for name, text in texts.items()
    ]
    project = make_project("project")
    for one in built[:2]:
        flip_one_bit(Path(one["image"]), 0.3)
    done = project.cnd("verify", "--all", "--json", status=9)
    verdicts = {verdict["address"]: verdict["ok"] for verdict in json.loads(done.stdout)}
    assert verdicts == {one["address"]: one is built[2] for one in built}
    for one in built[:2]:
        assert one["address"] in done.stderr
    assert "2 of 3 images damaged" in done.stderr
    assert [verdict["ok"] for verdict in project.json("verify", "--all")] == [True]
    shutil.rmtree(project.cache)
    assert project.json("verify", "--all") == []


def test_a_bare_image_is_recognised_and_compared(
    project: Project, entry: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.squashfs"
    shutil.copyfile(entry / "image.squashfs", bare)
    verdict = project.json("verify", str(bare))
    assert verdict["address"] == entry.name
    assert any("the same bytes as" in note for note in verdict["notes"])
    change_manifest(entry, sha256="0" * 64)
    assert any("OTHER BYTES" in note for note in project.json("verify", str(bare))["notes"])
    shutil.rmtree(project.cache)
    assert any("no cache" in note for note in project.json("verify", str(bare))["notes"])
    with bare.open("ab") as stream:
        stream.write(b"x" * 5000)
    assert "after its file system" in project.cnd("verify", str(bare), status=9).stderr


def test_the_image_of_an_entry_is_checked_with_what_stands_beside_it(
    project: Project, entry: Path
) -> None:
    assert len(project.json("verify", str(entry / "image.squashfs"))["checked"]) == 4
    flip_one_bit(entry / "image.squashfs")
    project.cnd("verify", str(entry / "image.squashfs"), status=9)
    assert not entry.exists()


def test_wrong_use_is_said_clearly(project: Project, entry: Path) -> None:
    project.cnd("verify", "--all", entry.name, status=3)
    assert "0123" in project.cnd("verify", "0123", status=15).stderr
    told = project.cnd("verify", "no-such-file", status=15).stderr
    assert "no-such-file is neither a file, a name, nor an address" in told
    assert "No such file" in project.cnd("verify", "./no-such-file", status=12).stderr
    assert "environment.yml" in project.cnd("verify", "environment.yml", status=9).stderr
    project.cnd("verify", "/dev/null", status=12)


# Rebuild


def test_a_rebuild_gives_the_same_bytes_with_the_settings_of_the_first(project: Project) -> None:
    project.cnd("--set", "compressor=gzip", "--set", "compression_level=5", "build")
    before = sorted(project.cache.rglob("*"))
    verdict = project.json("verify", "--rebuild")
    assert (verdict["ok"], verdict["rebuild"]) == (True, "identical")
    assert sorted(project.cache.rglob("*")) == before


def test_a_rebuild_compares_content_where_packing_differs(project: Project, entry: Path) -> None:
    change_manifest(entry, compression_level=1, tools={"mksquashfs": "0.1"})
    verdict = project.json("verify", "--rebuild")
    assert (verdict["ok"], verdict["rebuild"]) == (True, rebuild.SAME_TREE)
    assert "0.1" in verdict["compared"]


def test_a_rebuild_finds_an_image_that_its_lock_does_not_give(
    project: Project, entry: Path, tmp_path: Path
) -> None:
    image = entry / "image.squashfs"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", tmp_path / "t", image], check=True)
    (tmp_path / "t" / "bin" / "python").write_text("#!/bin/sh\necho evil\n")
    image.unlink()
    command = [
        "mksquashfs",
        str(tmp_path / "t"),
        str(image),
        "-comp",
        "zstd",
        "-quiet",
        "-no-progress",
    ]
    subprocess.run([*command, "-all-root"], check=True)
    sha256, xxh3 = digests(image)
    change_manifest(entry, size=image.stat().st_size, sha256=sha256, xxh3=xxh3)
    assert project.json("verify")["ok"]
    done = project.cnd("verify", "--rebuild", "--json", status=9)
    assert json.loads(done.stdout)["rebuild"] == "different"
    assert "bin/python" in done.stderr
    assert not entry.exists()


def test_what_was_built_from_source_is_not_called_damaged(project: Project, entry: Path) -> None:
    papers = read_papers(
        (entry / "manifest.json").read_bytes(), (entry / "explicit.lock").read_bytes(), "entry"
    )
    sdist = PipPackage("thing", "https://example.org/thing-1.0.tar.gz", "0" * 64)
    different = verify.Rebuilt(rebuild.DIFFERENT, "the content", ("lib/thing.so",))
    promised = rebuild.judged(verify.Verdict(entry), different, papers)
    assert "lib/thing.so" in promised.problems[0]
    lock = replace(papers.lock, pip=(sdist,))
    excused = rebuild.judged(verify.Verdict(entry), different, replace(papers, lock=lock))
    assert excused.problems == ()
    assert any("not promised: thing" in note for note in excused.notes)
    assert any("lib/thing.so" in note for note in excused.notes)


def test_an_image_of_another_compressor_that_does_not_exist_is_not_rebuilt(
    project: Project, entry: Path
) -> None:
    change_manifest(entry, compressor="-evil")
    assert "-evil" in project.cnd("verify", "--rebuild", status=9).stderr
