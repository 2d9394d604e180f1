"""Projects that name images: what is believed, what ends it, and what hostile members can do."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from condainer.cache import entries, project_note, project_register
from condainer.cache.leases import DAY
from condainer.cache.project_register import Sight
from condainer.images import notes
from condainer.settings.config import Settings
from tests.helpers.entries import digest, make_entry, noted

ADDRESS = digest(1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "cache" / "projects").mkdir(parents=True)
    return tmp_path / "cache"


@pytest.fixture
def entry(root: Path) -> entries.Entry:
    entry = entries.read_entry(make_entry(root, ADDRESS))
    assert entry is not None
    return entry


def sight(root: Path) -> Sight:
    ((_, seen),) = project_register.sighted(project_register.read_projects(root))
    return seen


def test_a_build_notes_its_project_once(
    root: Path, entry: entries.Entry, project: Path, load: Callable[..., Settings]
) -> None:
    (project / "environment.yml").write_text("")
    settings = load(f"cache_directory={root}")
    project_note.note(entry, settings)
    (path,) = (root / "projects").iterdir()
    assert path.stat().st_mode & 0o777 == 0o644
    (found,) = project_register.read_projects(root)
    assert (found.directory, found.address, found.user) == (project, ADDRESS, os.geteuid())
    before = path.stat()
    project_note.note(entry, settings)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino
    # Another node that sees the same directory has nothing to add.
    path.write_text(path.read_text().replace(socket.gethostname(), "other"))
    project_note.note(entry, settings)
    assert "other" in path.read_text()
    os.utime(path, (1, 1))
    project_note.note(entry, settings)
    assert time.time() - path.stat().st_mtime < DAY
    path.write_text(path.read_text().replace(ADDRESS, digest(2)))
    project_note.note(entry, settings)
    assert ADDRESS in path.read_text()
    # The same project for another base is another one: both images are used.
    project_note.note(entry, load(f"cache_directory={root}", "mount_base_directory=/other"))
    assert len(list((root / "projects").iterdir())) == 2


def test_caches_that_are_only_read_stay_as_they_are(
    root: Path, entry: entries.Entry, project: Path, load: Callable[..., Settings], tmp_path: Path
) -> None:
    project_note.note(entry, load(f"readonly_caches={root}"))
    assert list((root / "projects").iterdir()) == []
    (root / "projects").rmdir()
    project_note.note(entry, load(f"cache_directory={root}"))
    (root / "projects").symlink_to(tmp_path)
    project_note.note(entry, load(f"cache_directory={root}"))
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "project"}


def test_a_link_in_place_of_the_note_is_replaced(
    root: Path, entry: entries.Entry, project: Path, load: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = load(f"cache_directory={root}")
    project_note.note(entry, settings)
    (path,) = (root / "projects").iterdir()
    path.unlink()
    mine = tmp_path / "mine"
    mine.write_text("text")
    path.symlink_to(mine)
    project_note.note(entry, settings)
    assert mine.read_text() == "text"
    assert not path.is_symlink()


@pytest.mark.parametrize("sign", [*project_register.SIGNS, "conda-linux-64.lock"])
def test_a_project_counts_while_it_is_one(root: Path, tmp_path: Path, sign: str) -> None:
    directory = tmp_path / "work"
    directory.mkdir()
    noted(root, directory)
    (directory / sign).touch()
    assert sight(root) is Sight.THERE
    (directory / sign).unlink()
    assert sight(root) is Sight.GONE
    directory.rmdir()
    noted(root, directory, parent=tmp_path.stat().st_ino)
    assert sight(root) is Sight.GONE


def test_what_cannot_be_seen_from_here_counts_for_a_time(root: Path, tmp_path: Path) -> None:
    now = time.time()
    directory = tmp_path / "work"
    directory.mkdir()
    unseen: list[dict[str, Any]] = [
        # Another node's directory of the same name; an empty place of a mount; no such parent.
        {"host": "other"},
        {"inode": 1},
        {"project": str(tmp_path / "gone"), "parent": 1},
        {"project": str(tmp_path / "not" / "mounted")},
        {"project": str(tmp_path / ("long" * 100))},
    ]
    for number, values in enumerate(unseen):
        noted(root, directory, f"{number:032x}", **values)
    sighted = project_register.sighted(project_register.read_projects(root))
    assert [seen for _, seen in sighted] == [Sight.UNSEEN] * len(unseen)
    assert len(project_register.named(sighted, now + 29 * DAY)[ADDRESS]) == len(unseen)
    assert project_register.named(sighted, now + 31 * DAY) == {}
    # One that is seen counts for ever.
    (directory / "environment.yml").touch()
    sighted = project_register.sighted(project_register.read_projects(root))
    assert ADDRESS in project_register.named(sighted, now + 1e9)


def test_a_closed_directory_cannot_be_seen(root: Path, tmp_path: Path) -> None:
    directory = tmp_path / "closed" / "work"
    directory.mkdir(parents=True)
    noted(root, directory)
    directory.parent.chmod(0)
    if os.geteuid() == 0:
        # Root may look anywhere; an ordinary user may not.
        child = os.fork()
        if child == 0:
            try:
                os.setuid(65534)
                os._exit(0 if sight_of_closed(directory) is Sight.UNSEEN else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    else:
        assert sight(root) is Sight.UNSEEN


def sight_of_closed(directory: Path) -> Sight:
    host = socket.gethostname()
    project = project_register.Project(
        Path("x"), directory, ADDRESS, "linux-64", host, 1, 1, 0, 0.0
    )
    return project_register._sight(project)


@pytest.mark.parametrize(
    "values",
    [
        {"project": 5},
        {"project": "relative"},
        {"project": "/nul\0"},
        {"project": "/\ud800"},
        {"address": ADDRESS[:-1]},
        {"address": ["x"]},
        {"platform": "../../etc"},
        {"inode": "1"},
        {"parent": True},
        {"host": None},
    ],
)
def test_notes_that_say_what_they_should_not(
    root: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    noted(root, tmp_path, "1" * 32)
    noted(root, tmp_path, **values)
    assert [project.note.name[:1] for project in project_register.read_projects(root)] == ["1"]


def test_hostile_files_neither_break_nor_hang(root: Path, tmp_path: Path) -> None:
    noted(root, tmp_path, "1" * 32)
    place = root / "projects"
    os.mkfifo(place / f"{'2' * 32}.0")
    (place / f"{'3' * 32}.0").symlink_to(place / f"{'1' * 32}.0")
    (place / f"{'4' * 32}.0").mkdir()
    for number, text in enumerate((b"", b"[]", b"5", b"\xff\xfe", b"{" * 20_000, b"[" * 20_000)):
        (place / f"{number:032x}.9").write_bytes(text)
    with (place / f"{'5' * 32}.0").open("w") as huge:
        huge.truncate(1 << 30)
    assert len(project_register.read_projects(root)) == 1


def test_a_file_system_that_hangs_hides_the_projects_of_one_user(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "environment.yml").touch()
    noted(root, tmp_path)
    (good,) = project_register.read_projects(root)
    dead = Path("/dead/work")
    users: dict[int, list[project_register.Project | None]] = {
        1: [good],
        2: [good, None, good],
        3: [good],
    }
    projects = [
        project_register.Project(
            good.note, project.directory if project else dead, ADDRESS, "linux-64", "h", 1, 1, u, 0
        )
        for u, owned in users.items()
        for project in owned
    ]
    lstat, wake = os.lstat, threading.Event()

    def hangs(path: Any) -> os.stat_result:
        if str(path).startswith("/dead"):
            wake.wait()
        return lstat(path)

    monkeypatch.setattr(os, "lstat", hangs)
    sighted = project_register.sighted(projects, 2)
    wake.set()
    seen = sorted((project.user, sight is Sight.THERE) for project, sight in sighted)
    assert seen == [(1, True), (2, False), (2, False), (2, True), (3, True)]


def test_the_clock_is_that_of_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    before = (tmp_path / "tmp").stat().st_mtime_ns
    time.sleep(0.02)
    assert abs(notes.clock(tmp_path / "tmp", dry=True) - time.time()) < 5
    assert (tmp_path / "tmp").stat().st_mtime_ns == before
    assert abs(notes.clock(tmp_path / "tmp") - time.time()) < 5
    assert abs(notes.clock(tmp_path / "absent") - time.time()) < 5
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_environment_of_a_project_counts_while_its_lock_or_its_name_is_there(
    root: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    noted(root, project, environment="gpu")
    lock, settings = project / "conda-gpu-linux-64.lock", project / "condainer.yml"
    (project / "environment.yml").touch()
    # There is a project, but no such environment in it any more.
    assert sight(root) is Sight.GONE
    lock.touch()
    assert sight(root) is Sight.THERE
    lock.unlink()
    settings.write_text("environments: {gpu: {address: abcd}}\n")
    assert sight(root) is Sight.THERE
    # The same letters elsewhere are not its name; a mistake in the file takes none away.
    for text in ("environments: {cpu: {}, gpu-two: {}}  # no gpu\n", "stage: /gpu\n", ""):
        settings.write_text(text)
        assert sight(root) is Sight.GONE
    for content in (b"\xff", b"environments: [", b"- gpu", b"environments: gpu"):
        settings.write_bytes(content)
        assert sight(root) is Sight.THERE
    settings.unlink()
    settings.symlink_to("elsewhere")
    assert sight(root) is Sight.UNSEEN


@pytest.mark.parametrize("name", ["../x", "a b", "", 7, None])
def test_a_note_with_what_names_no_environment(root: Path, tmp_path: Path, name: Any) -> None:
    noted(root, tmp_path, environment=name)
    left = project_register.read_projects(root)
    # The empty one is what a note without it has.
    assert [project.environment for project in left] == ([""] if name == "" else [])


def test_environments_of_a_project_have_notes_of_their_own(
    entry: entries.Entry, tmp_path: Path
) -> None:
    several = (("default", ()), ("gpu", ()))
    settings = Settings(tmp_path, cache_directory=entry.root, environments=several)
    for asked in ("", "gpu"):
        project_note.note(entry, replace(settings, asked=asked))
    noted = project_register.read_projects(entry.root)
    assert sorted(project.environment for project in noted) == ["", "gpu"]
    # What a project without several environments has noted stays where it is.
    alone = project_note.place_of(entry, replace(settings, environments=()))
    assert alone == project_note.place_of(entry, settings)
