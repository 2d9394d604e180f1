"""What a collection takes and what it keeps, in caches of small files; clocks are shifted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from condainer.cache import entries, leases, publish, trash
from condainer.cache.leases import DAY
from condainer.cli import tables
from condainer.images import notes
from condainer.settings.config import STAGE, Settings
from condainer.system import private_directory
from condainer.system.errors import StorageError
from condainer.upkeep import collection, policy
from condainer.upkeep.collection import Collected
from tests.helpers.entries import age, digest, make_entry, noted, snapshot

HOUR = 3600.0
SIZE = 100


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish.prepare(tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def settings(load: Callable[..., Settings], root: Path, tmp_path: Path) -> Settings:
    (tmp_path / "staging").mkdir()
    return load(f"cache_directory={root}", f"staging_directory={tmp_path / 'staging'}")


@pytest.fixture
def shift(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the clock of file systems be so many seconds ahead, as if they had passed."""

    def shift(seconds: float) -> None:
        monkeypatch.setattr(collection, "clock", lambda *any: notes.clock(*any) + seconds)

    return shift


def image(root: Path, number: int, days: float = 100, **values: Any) -> Path:
    """Put an image of 100 bytes into the cache that was made and last used some days ago."""
    directory = make_entry(root, digest(number), size=SIZE, **values)
    (directory / entries.IMAGE).write_bytes(b"x" * SIZE)
    age(directory, days)
    return directory


def collect(settings: Settings, dry: bool = False, **limits: str) -> Collected:
    return collection.collect(settings, policy.policy_of(limits), dry)


def moved(done: Collected) -> list[str]:
    return [image.item.address for image in done.moved]


def kept(done: Collected) -> dict[str, str]:
    return {image.item.directory.name: image.why for image in done.kept}


# Limits


def test_the_least_recently_used_go_first(root: Path, settings: Settings) -> None:
    for number, days in enumerate((5, 1, 4, 2, 3)):
        image(root, number, days)
    done = collect(settings, max_size=str(2 * SIZE + 1))
    assert moved(done) == [digest(number) for number in (0, 2, 4)]
    assert [item.why for item in done.moved] == ["space"] * 3
    assert (done.before, done.after, done.too_large) == (5 * SIZE, 2 * SIZE, False)
    assert kept(done) == {digest(1): "limits", digest(3): "limits"}
    assert collect(settings, max_size=str(2 * SIZE)).moved == []


def test_every_note_of_use_counts(root: Path, settings: Settings) -> None:
    for number in range(4):
        image(root, number, 10)
    # Read, used, and used by somebody else: in this order after the one that was not.
    then = time.time() - 9 * DAY
    os.utime(entries.entry_directory(root, digest(1)) / entries.IMAGE, (then, then - 9 * DAY))
    for number, days in ((2, 8), (3, 7)):
        path = root / leases.USES / f"{digest(number)}.{number}"
        path.touch()
        os.utime(path, (time.time() - days * DAY,) * 2)
    assert moved(collect(settings, dry=True, max_size="0")) == [digest(n) for n in range(4)]
    assert moved(collect(settings, older_than="204h")) == [digest(0), digest(1)]


def test_without_a_limit_no_whole_image_goes(root: Path, settings: Settings) -> None:
    image(root, 1, 3000)
    assert kept(collect(settings)) == {digest(1): "limits"}
    assert collect(settings, older_than="100w").moved != []


# Reasons to stay


def lease_of(root: Path, host: str = "node7-00000000", seconds: float = 0) -> Path:
    path = root / leases.LEASES / f"{digest(1)}.{host}.1.x"
    path.touch()
    os.utime(path, (time.time() + seconds,) * 2)
    return path


def test_a_lease_of_any_node_keeps(root: Path, settings: Settings) -> None:
    image(root, 1)
    lease_of(root)
    done = collect(settings, max_size="0")
    assert kept(done) == {digest(1): "lease"}
    assert "node7" in done.kept[0].detail
    assert done.too_large
    assert any("node7" in line for line in tables.collection(done))


@pytest.mark.parametrize(
    ("seconds", "stays"),
    [(-HOUR, True), (HOUR, True), (1e9, True), (-3 * HOUR, False), (-1e9, False)],
)
def test_leases_with_old_and_future_times(
    root: Path, settings: Settings, seconds: float, stays: bool, shift: Callable[[float], None]
) -> None:
    image(root, 1)
    lease = lease_of(root, seconds=seconds)
    done = collect(settings, max_size="0")
    assert (kept(done) == {digest(1): "lease"}) is stays
    # One that has ended is cleared away.
    assert lease.exists() is stays
    # None of them holds the image for ever.
    shift(5 * HOUR)
    collect(settings, max_size="0")
    assert not entries.entry_directory(root, digest(1)).exists()
    assert not lease.exists()


@pytest.mark.parametrize("off", [-HOUR, HOUR])
def test_a_clock_an_hour_off_takes_nothing_that_lives(
    root: Path, settings: Settings, off: float, shift: Callable[[float], None], tmp_path: Path
) -> None:
    for number in range(1, 4):
        image(root, number)
    leases.take(root, digest(1))
    leases.use(root, digest(2))
    builder = root / "tmp" / f"{digest(3)}.otherhost-00000000.1.x"
    builder.mkdir()
    stage = tmp_path / "staging" / f"{STAGE}.otherhost-00000000.1.x"
    stage.mkdir()
    shift(off)
    done = collect(settings, max_size="0", grace="0")
    assert kept(done) == {digest(1): "lease", digest(2): "recent", digest(3): "building"}
    assert builder.is_dir()
    assert stage.is_dir()


def test_a_project_keeps_until_it_is_gone(root: Path, settings: Settings, tmp_path: Path) -> None:
    image(root, 1)
    directory = tmp_path / "work"
    directory.mkdir()
    (directory / "environment.yml").touch()
    note = noted(root, directory, address=digest(1))
    done = collect(settings, max_size="0")
    assert kept(done) == {digest(1): "project"}
    assert str(directory) in done.kept[0].detail
    (directory / "environment.yml").unlink()
    done = collect(settings, dry=True, max_size="0")
    assert (moved(done), note.exists()) == ([digest(1)], True)
    assert moved(collect(settings, max_size="0")) == [digest(1)]
    assert not note.exists()


def test_what_is_used_or_made_just_now_stays(root: Path, settings: Settings) -> None:
    read, written, made, used = (image(root, number) for number in range(4))
    now = time.time()
    os.utime(read / entries.IMAGE, (now, now - 9 * DAY))
    os.utime(written / entries.IMAGE, (now - 9 * DAY, now))
    os.utime(made, (now, now))
    leases.use(root, entries.address_in(used))
    done = collect(settings, max_size="0")
    assert set(kept(done).values()) == {"recent"}
    assert len(done.kept) == 4


def test_a_time_to_come_does_not_keep_for_ever(
    root: Path, settings: Settings, shift: Callable[[float], None]
) -> None:
    directory = image(root, 1)
    os.utime(directory / entries.IMAGE, (time.time() + 1e9,) * 2)
    assert kept(collect(settings, max_size="0")) == {digest(1): "recent"}
    shift(3 * HOUR)
    assert moved(collect(settings, max_size="0")) == [digest(1)]


BUILDER = (
    "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire()\n"
    "print('held', flush=True); sys.stdin.read()\n"
)


@pytest.fixture
def builder(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the first address."""
    lock = str(root / "locks" / f"{digest(1)}.lock")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", BUILDER, lock], stdin=pipe, stdout=pipe, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def test_what_is_being_built_stays(
    root: Path, settings: Settings, builder: subprocess.Popen[str]
) -> None:
    image(root, 1)
    assert kept(collect(settings, max_size="0")) == {digest(1): "building"}
    builder.kill()
    builder.wait()
    assert moved(collect(settings, max_size="0")) == [digest(1)]


def test_a_builder_of_another_host_keeps_until_it_is_abandoned(
    root: Path, settings: Settings, shift: Callable[[float], None]
) -> None:
    image(root, 1)
    builder = root / "tmp" / f"{digest(1)}.otherhost-00000000.{os.getpid()}.x"
    (builder / "deep").mkdir(parents=True)
    shift(6 * DAY)
    assert kept(collect(settings, max_size="0")) == {digest(1): "building"}
    (builder / "deep" / "file").touch()
    assert builder.is_dir()
    shift(8 * DAY)
    assert moved(collect(settings, max_size="0")) == [digest(1)]
    assert not builder.exists()


def test_broken_entries_go_after_a_day(
    root: Path, settings: Settings, shift: Callable[[float], None]
) -> None:
    broken = image(root, 1)
    (broken / entries.IMAGE).unlink()
    later = image(root, 2, format=2)
    assert collect(settings).moved == []
    shift(2 * DAY)
    lease = leases.take(root, digest(1))
    assert lease is not None
    (root / leases.USES / f"{digest(1)}.{os.geteuid()}").unlink()
    os.utime(lease)
    shift(DAY + HOUR)
    assert moved(collect(settings)) == [digest(1)]
    assert kept(collect(settings)) == {digest(2): "unknown"}
    assert later.is_dir()


def test_a_place_before_one_that_stays_is_not_emptied(
    root: Path, settings: Settings, shift: Callable[[float], None], tmp_path: Path
) -> None:
    first = image(root, 1)
    (first / entries.IMAGE).unlink()
    second = first.with_name(f"{digest(1)}.1")
    first.rename(tmp_path / "first")
    image(root, 1).rename(second)
    (tmp_path / "first").rename(first)
    shift(2 * DAY)
    done = collect(settings)
    assert kept(done) == {digest(1): "order", f"{digest(1)}.1": "limits"}
    assert moved(collect(settings, max_size="0")) == [digest(1), digest(1)]


# Two phases


def test_what_was_moved_is_deleted_after_the_time_of_grace(
    root: Path, settings: Settings, shift: Callable[[float], None]
) -> None:
    directory = image(root, 1)
    done = collect(settings, max_size="0")
    (place,) = (root / "trash").iterdir()
    assert not directory.exists()
    assert re.fullmatch(digest(1) + r"\.\d{8}T\d{6}\.\d{6}Z", place.name)
    assert entries.read_entry(place) is not None
    assert (done.freed, done.later > 0) == (0, True)
    shift(23 * HOUR)
    assert collect(settings).deleted == []
    # Mounted where it was found before.
    shift(25 * HOUR)
    lease_of(root, seconds=25 * HOUR)
    os.utime(root / leases.LEASES / f"{digest(1)}.node7-00000000.1.x")
    shift(HOUR)
    assert collect(settings, grace="0").deleted == []
    shift(25 * HOUR)
    done = collect(settings)
    assert [left.path for left in done.deleted] == [place]
    assert done.freed > SIZE
    assert list((root / "trash").iterdir()) == []
    assert list((root / "tmp").iterdir()) == []


def test_no_grace_frees_at_once(root: Path, settings: Settings) -> None:
    image(root, 1)
    done = collect(settings, max_size="0", grace="0")
    assert (len(done.deleted), done.later) == (1, 0)
    assert done.freed >= SIZE


@pytest.mark.parametrize("how", ["lease", "use", "project"])
def test_an_image_that_somebody_begins_to_use_is_put_back(
    root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, how: str, tmp_path: Path
) -> None:
    directory = image(root, 1)
    image(root, 2)
    throw = trash.throw
    (tmp_path / "environment.yml").touch()

    def throw_late(*arguments: Path) -> Path:
        place = throw(*arguments)
        if how == "lease":
            lease_of(root)
        elif how == "use":
            leases.use(root, digest(1))
        else:
            noted(root, tmp_path, address=digest(1))
        return place

    monkeypatch.setattr(trash, "throw", throw_late)
    done = collect(settings, max_size="0")
    assert [item.item.directory for item in done.back] == [directory]
    assert done.back[0].why == {"use": "recent"}.get(how, how)
    assert entries.read_entry(directory) is not None
    assert moved(done) == [digest(2)]


def test_an_image_that_a_build_made_again_is_not_replaced(
    root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = image(root, 1)
    throw = trash.throw

    def throw_late(*arguments: Path) -> Path:
        place = throw(*arguments)
        image(root, 1, name="another")
        lease_of(root)
        return place

    monkeypatch.setattr(trash, "throw", throw_late)
    collect(settings, max_size="0")
    entry = entries.read_entry(directory)
    assert entry is not None
    assert entry.manifest.name == "another"


# Leftovers


def test_private_directories_of_dead_and_unseen_processes(
    root: Path, settings: Settings, shift: Callable[[float], None], tmp_path: Path
) -> None:
    places = {root / "tmp": digest(1), tmp_path / "staging": STAGE}
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead: list[Path] = []
    reused: list[Path] = []
    other: list[Path] = []
    for place, purpose in places.items():
        for found, host, pid in (
            (dead, private_directory.this_host(), ended.pid),
            (reused, private_directory.this_host(), os.getpid()),
            (other, "otherhost-00000000", 1),
        ):
            path = place / f"{purpose}.{host}.{pid}.x"
            (path / "prefix" / "lib").mkdir(parents=True)
            (path / "prefix" / "lib" / "file").write_bytes(b"x" * 10_000)
            found.append(path)
    foreign = tmp_path / "staging" / f"other.{private_directory.this_host()}.{ended.pid}.x"
    foreign.mkdir()
    with private_directory.claimed_directory(root / "tmp", "x") as alive:
        before = snapshot(root / "tmp"), snapshot(tmp_path / "staging")
        planned = collect(settings, dry=True).cleared
        assert (snapshot(root / "tmp"), snapshot(tmp_path / "staging")) == before
        assert {left.path for left in planned} == set(dead)
        done = collect(settings)
        assert [left.path for left in done.cleared] == [left.path for left in planned]
        assert done.freed >= 20_000
        assert not any(path.exists() for path in dead)
        assert all(path.is_dir() for path in reused + other)
        shift(6 * DAY)
        assert collect(settings).cleared == []
        shift(8 * DAY)
        assert {left.path for left in collect(settings).cleared} == {*reused, *other}
        assert alive.is_dir()
    assert foreign.is_dir()


def test_what_was_staged_at_a_mount_point(
    load: Callable[..., Settings], root: Path, tmp_path: Path, shift: Callable[[float], None]
) -> None:
    base = tmp_path / "m"
    staged = base / f"condainer-{digest(1)}"
    (staged / "lib").mkdir(parents=True)
    point = base / f"condainer-{digest(2)}"
    for path in (staged, point, base / "mine"):
        path.mkdir(exist_ok=True)
        path.chmod(0o700)
    (base / "mine" / "file").touch()
    settings = load(f"cache_directory={root}", f"mount_base_directory={base}")
    shift(6 * DAY)
    assert collect(settings).cleared == []
    shift(8 * DAY)
    assert [left.path for left in collect(settings).cleared] == [staged]
    assert sorted(path.name for path in base.iterdir()) == [point.name, "mine"]


def test_old_quarantine_and_old_notes(
    root: Path, settings: Settings, shift: Callable[[float], None]
) -> None:
    image(root, 1)
    damaged = publish.quarantine(image(root, 2), root)
    for number in (1, 3):
        leases.use(root, digest(number))
    (root / "projects" / f".{'0' * 32}.0.abc").touch()
    (root / "tmp" / "broken-x.y").mkdir()
    shift(6 * DAY)
    done = collect(settings)
    assert sorted(path.name[:32] for path in (root / leases.USES).iterdir()) == [digest(1)]
    assert list((root / "projects").iterdir()) == []
    assert damaged.is_dir()
    shift(29 * DAY)
    assert damaged not in [left.path for left in collect(settings).cleared]
    shift(31 * DAY)
    done = collect(settings)
    assert [left.path for left in done.cleared] == [damaged]
    assert list((root / "tmp").iterdir()) == []


# Hostile content, and what is no cache


def test_hostile_content_neither_breaks_nor_hangs(
    root: Path, settings: Settings, tmp_path: Path, shift: Callable[[float], None]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("text")
    os.utime(mine, (1, 1))
    image(root, 1)
    stamp = "20200101T000000.000000Z"
    for name in ("leases", "uses", "projects", "trash", "tmp", "quarantine"):
        place = root / name
        place.mkdir(exist_ok=True)
        (place / f"{digest(2)}.{stamp}").symlink_to(mine)
        (place / f"{digest(3)}.h.1.x").symlink_to(mine)
        os.mkfifo(place / f"{digest(4)}.0")
        (place / "\x1b[2J\n\udcff").mkdir()
        with (place / f"{digest(5)}.9").open("w") as huge:
            huge.truncate(1 << 30)
    deep = root / "tmp" / f"{digest(6)}.otherhost-00000000.1.x"
    deep.mkdir()
    descriptor = os.open(deep, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    shift(40 * DAY)
    done = collect(settings, max_size="0", grace="0")
    assert moved(done) == [digest(1)]
    assert (mine / "file").read_text() == "text"
    assert json.dumps(done.report())
    assert all(line.isprintable() for line in tables.collection(done))
    subprocess.run(["rm", "-rf", *(root / "tmp").iterdir()], check=True)


def test_places_that_are_links_are_not_followed(
    root: Path, settings: Settings, tmp_path: Path, shift: Callable[[float], None]
) -> None:
    mine = tmp_path / "mine"
    trashed = mine / f"{digest(1)}.20200101T000000.000000Z"
    trashed.mkdir(parents=True)
    for name in ("leases", "uses", "projects", "trash"):
        (root / name).rmdir()
        (root / name).symlink_to(mine)
    directory = image(root, 1)
    shift(40 * DAY)
    done = collect(settings, max_size="0", grace="0")
    assert kept(done) == {digest(1): "refused"}
    assert directory.is_dir()
    assert list(mine.iterdir()) == [trashed]


def test_only_caches_that_we_write_are_collected(
    load: Callable[..., Settings], root: Path, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="only read"):
        collect(load(f"cache_directory={root}", f"readonly_caches={root}"))
    (root / "format").write_text("condainer-cache 2\n")
    with pytest.raises(StorageError, match="condainer-cache 2"):
        collect(load(f"cache_directory={root}"))
    with pytest.raises(StorageError, match="something else"):
        collect(load(f"cache_directory={tmp_path}"))
    assert collect(load(f"cache_directory={tmp_path / 'absent'}"), max_size="0").moved == []
    assert not (tmp_path / "absent").exists()


def test_a_dry_run_touches_nothing(
    root: Path, settings: Settings, shift: Callable[[float], None]
) -> None:
    image(root, 1)
    broken = image(root, 2)
    (broken / entries.IMAGE).unlink()
    trash.throw(image(root, 3), root)
    publish.quarantine(image(root, 4), root)
    (root / "tmp" / f"{digest(5)}.otherhost-00000000.1.x").mkdir()
    lease_of(root, seconds=-5 * HOUR)
    leases.use(root, digest(6))
    shift(40 * DAY)
    before = snapshot(root)
    planned = collect(settings, dry=True, max_size="0")
    assert snapshot(root) == before
    done = collect(settings, max_size="0")
    assert moved(done) == moved(planned)
    assert sorted(left.path for left in done.cleared) == sorted(
        left.path for left in planned.cleared
    )
    assert len(done.cleared) == 4
    (thrown,) = (left.path for left in planned.deleted if left.path.parent.name == "trash")
    assert thrown in [left.path for left in done.deleted]


def test_what_people_are_told(root: Path, settings: Settings) -> None:
    for number in range(30):
        image(root, number, name="\x1b[2J")
        (root / leases.LEASES / f"{digest(number)}.n-0.1.x").touch()
    image(root, 30, days=200, name="demo")
    lines = list(tables.collection(collect(settings, dry=True, max_size="1K")))
    assert lines[0] == (
        f"Would move {digest(30)} to the trash: least recently used (demo, 100 B, used 200 d ago)"
    )
    assert "30 mounted on some node (3.0 kB)" in " ".join(lines)
    assert "3.0 kB cannot be removed; the limit is 1.0 kB" in " ".join(lines)
    assert lines[-1] == "  and 10 smaller ones (`--json` names all)"
    assert all(line.isprintable() for line in lines)
