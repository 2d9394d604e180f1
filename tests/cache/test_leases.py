"""Leases and times of use: what counts, for how long, and that nothing hostile matters."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from condainer.cache import leases
from condainer.system import private_directory

ADDRESS = "ab" * 16


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (leases.LEASES, leases.USES):
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_lease_counts_until_it_ends(root: Path) -> None:
    now = time.time()
    umask = os.umask(0o077)
    lease = leases.take(root, ADDRESS)
    os.umask(umask)
    assert lease is not None
    assert lease.stat().st_mode & 0o777 == 0o644
    assert lease.read_text().count("\n") == 1
    assert private_directory.read_claim(lease) == private_directory.Claim(
        ADDRESS, private_directory.this_host(), os.getpid()
    )
    (found,) = leases.live(root, now)[ADDRESS]
    assert (found.host, found.pid, found.user) == (
        private_directory.this_host(),
        os.getpid(),
        os.geteuid(),
    )
    assert str(found).endswith(f" on {private_directory.this_host().rpartition('-')[0]}")
    assert leases.last_uses(root)[ADDRESS] >= now - 1
    use = root / leases.USES / f"{ADDRESS}.{os.geteuid()}"
    os.utime(use, (1, 1))
    leases.end(lease)
    assert leases.live(root, now) == {}
    assert leases.last_uses(root)[ADDRESS] >= now - 1
    leases.end(lease)


@pytest.mark.parametrize(
    ("age", "lives"),
    [(0, True), (3600, True), (leases.LIVE - 60, True), (leases.LIVE + 60, False), (1e9, False)],
)
def test_only_its_age_tells_whether_a_lease_lives(root: Path, age: float, lives: bool) -> None:
    # This process lives, but another can have had its number before, or on another host.
    now = time.time()
    lease = leases.take(root, ADDRESS)
    assert lease is not None
    os.utime(lease, (now - age, now - age))
    assert (ADDRESS in leases.live(root, now)) is lives


def test_a_time_to_come_does_not_count_for_ever(root: Path) -> None:
    now = time.time()
    lease = leases.take(root, ADDRESS)
    assert lease is not None
    use = root / leases.USES / f"{ADDRESS}.{os.geteuid()}"
    for path in (lease, use):
        os.utime(path, (now + 1e9, now + 1e9))
    assert ADDRESS in leases.live(root, now)
    # Of a node whose clock is an hour ahead.
    assert ADDRESS in leases.live(root, now - 3600)
    assert leases.live(root, now + leases.LIVE + 60) == {}
    assert leases.last_uses(root)[ADDRESS] < now + 60


def test_a_refresh_makes_what_was_deleted_again(root: Path) -> None:
    lease = leases.take(root, ADDRESS)
    assert lease is not None
    use = root / leases.USES / f"{ADDRESS}.{os.geteuid()}"
    os.utime(lease, (1, 1))
    os.utime(use, (2, 2))
    leases.refresh(lease)
    assert lease.stat().st_mtime > 1e9
    assert use.stat().st_mtime > 1e9
    fresh = use.stat().st_mtime - 3600
    os.utime(use, (fresh, fresh))
    lease.unlink()
    leases.refresh(lease)
    assert ADDRESS in leases.live(root, time.time())
    assert use.stat().st_mtime == fresh


def test_caches_without_a_place_for_leases(tmp_path: Path) -> None:
    assert leases.take(tmp_path, ADDRESS) is None
    assert leases.take(tmp_path / "absent", ADDRESS) is None
    assert list(tmp_path.iterdir()) == []
    gone = tmp_path / leases.LEASES / f"{ADDRESS}.host.1.x"
    leases.refresh(gone)
    leases.end(gone)
    assert leases.live(tmp_path, 0) == {}
    assert leases.last_uses(tmp_path) == {}


def test_hostile_names_and_kinds_of_files(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    os.utime(target, (1, 1))
    places = root / leases.LEASES, root / leases.USES
    for place, name in zip(places, (f"{ADDRESS}.h.1.x", f"{ADDRESS}.7"), strict=True):
        (place / name).symlink_to(target)
        (place / "notes").write_text("")
        (place / f"{'zz' * 16}.h.1.x").write_text("")
        (place / f"{ADDRESS}.h.{'9' * 200}.x").mkdir()
        os.mkfifo(place / f"{ADDRESS}.h.2.x")
    os.mkfifo(root / leases.USES / f"{ADDRESS}.{os.geteuid()}")
    assert leases.live(root, time.time()) == {}
    assert leases.last_uses(root) == {}
    leases.use(root, ADDRESS)
    leases.refresh(root / leases.LEASES / f"{ADDRESS}.h.1.x")
    assert target.stat().st_mtime == 1
    with (root / leases.LEASES / f"{ADDRESS}.h.{'9' * 180}.x").open("w") as huge:
        huge.truncate(1 << 30)
    assert len(leases.live(root, time.time())[ADDRESS]) == 1


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in (leases.LEASES, leases.USES):
        (tmp_path / name).symlink_to(elsewhere)
    assert leases.take(tmp_path, ADDRESS) is None
    assert list(elsewhere.iterdir()) == []


def test_ten_thousand_leases_are_read_at_once(root: Path) -> None:
    start = time.process_time()
    for number in range(10_000):
        (root / leases.LEASES / f"{number:032x}.h.1.x").touch()
        (root / leases.USES / f"{number:032x}.1").touch()
    written = time.process_time()
    assert len(leases.live(root, time.time())) == 10_000
    assert len(leases.last_uses(root)) == 10_000
    # About a third of the time.
    assert time.process_time() - written < 2 * (written - start)
