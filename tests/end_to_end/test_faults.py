"""Full disks, failing calls, clocks that are off, purged caches: short, with fixed seeds."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from tests.helpers.needed import needs, needs_program
from tests.torture import calls, clocks, disk, purge, readonly
from tests.torture.bench import INTEGRITY, PYTHON, SMALL, STORAGE, Bench
from tests.torture.places import MIB, small_filesystem
from tests.torture.shims import Fault, Faulty

pytestmark = pytest.mark.long


@pytest.fixture
def mounts(tmp_path: Path) -> None:
    """File systems can be mounted here: root does so, and containers may not let it."""
    try:
        for kind in ("tmpfs", "ext4"):
            with small_filesystem(tmp_path / f"try-{kind}", 4 * MIB, kind):
                pass
    except (OSError, subprocess.CalledProcessError) as error:
        needs(f"small file systems that can be mounted: {error}")


@pytest.fixture(scope="module")
def lasting_bench(tmp_path_factory: pytest.TempPathFactory, channel: Path) -> Bench:
    """A small environment's bench, and a compiler for the libraries of the campaigns."""
    needs_program("gcc")
    return Bench(tmp_path_factory.mktemp("faults") / "bench", channel)


@pytest.fixture
def bench(lasting_bench: Bench) -> Bench:
    """A bench without an image."""
    lasting_bench.discard()
    return lasting_bench


@pytest.mark.usefixtures("mounts")
def test_disks_that_are_full_at_a_step(tmp_path: Path, channel: Path) -> None:
    # Each place on a file system of its own, so that nothing can be renamed between them.
    cases = (
        ("Linking", "staging"),
        ("Linking", "packages"),
        ("Compressing", "cache"),
        ("Publishing", "cache"),
    )
    with disk.bench_on_small_filesystems(tmp_path / "small", channel, SMALL) as bench:
        outcome = disk.at_steps(bench, cases)
        assert outcome.problems == []
        assert outcome.refused >= 2
        packages = disk.too_small(bench, "packages", [0, 40960])
        assert packages.problems == []
        # The second has room for the archives, but not for what is in them. Where the engine finds
        # none even for its lock, which depends on who comes first, it unpacks in the stage.
        assert packages.steps["Downloading"] == 1
        assert packages.steps["Linking"] + packages.succeeded == 1


@pytest.mark.usefixtures("mounts")
def test_a_disk_that_is_full_while_modules_are_compiled(tmp_path: Path, channel: Path) -> None:
    with disk.bench_on_small_filesystems(tmp_path / "python", channel, PYTHON, "ext4") as bench:
        outcome = disk.at_steps(bench, [("Compiling", "staging")])
        assert outcome.problems == []
        assert outcome.refused == 1


@pytest.mark.usefixtures("mounts")
def test_a_project_on_a_full_disk_keeps_its_old_lock(tmp_path: Path, channel: Path) -> None:
    outcome = disk.under_the_project(tmp_path / "project", channel, (0,))
    assert outcome.problems == []
    assert outcome.refused >= 1


def test_calls_that_fail(bench: Bench) -> None:
    assert calls.campaign(bench, 1, seed=3).problems == ()


def test_reads_that_fail(bench: Bench) -> None:
    assert calls.reading(bench, most=1).problems == ()


def test_an_image_that_cannot_be_read_inside_is_not_called_damaged(bench: Bench) -> None:
    bench.build()
    faulty = Faulty(bench.root, (bench.cache,))
    # The first read is ours, and takes the digests; the later ones are those of unsquashfs.
    fault = Fault(2, calls="read", name="image.squashfs", lasting=True)
    ended = bench.run("verify", **faulty.environment(fault))
    assert faulty.counted()[1] >= 1
    assert "Input/output error" in ended.stderr
    assert "need not be its own fault" in ended.stderr
    assert ended.status == INTEGRITY
    assert bench.build()["hit"]


@pytest.mark.parametrize("name", ["bin/probe-script", "share/probe/prefix.txt"])
def test_a_write_error_that_the_engine_overlooks_is_seen(bench: Bench, name: str) -> None:
    faulty = Faulty(bench.root, (bench.staging,))
    fault = Fault(1, errno.ENOSPC, "write", lasting=True, name=name)
    ended = bench.run("build", **faulty.environment(fault))
    assert faulty.counted()[1] >= 1
    assert ended.status == STORAGE, ended.stderr
    assert f"{name} was not written as its package says" in ended.stderr
    assert bench.entries() == []
    assert bench.recovery() == []


@pytest.mark.usefixtures("mounts")
def test_a_cache_that_is_mounted_read_only(bench: Bench) -> None:
    assert readonly.campaign(bench).problems == ()


def test_clocks_an_hour_off(bench: Bench) -> None:
    assert clocks.campaign(bench, 1, (clocks.HOUR,)).problems == ()


def test_claims_of_others(bench: Bench) -> None:
    assert clocks.claims_of_others(bench).problems == ()


def test_a_cache_that_is_purged_while_it_is_used(bench: Bench) -> None:
    assert purge.campaign(bench, 6, seed=1).problems == ()


def test_a_cache_that_is_removed_under_a_running_program(bench: Bench) -> None:
    assert purge.removed_while_running(bench).problems == ()
