"""The fault campaigns of `make torture`, short and with fixed seeds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from rattler.package_streaming import extract

from tests.channel.python import SHORT
from tests.helpers.needed import needs_program
from tests.slurm import Account, Cluster, Site
from tests.torture import collect, crowd, dead, kills, mounts, network, registry, slurm, storm
from tests.torture.bench import PYTHON, Bench

pytestmark = pytest.mark.long


def test_killed_builds(tmp_path: Path, channel: Path) -> None:
    bench = Bench(tmp_path / "bench", channel)
    result = kills.campaign(bench, 12, seed=1)
    assert result.problems == []
    assert result.total == 12
    assert result.absent + result.published == 12


def test_killed_builds_with_python(tmp_path: Path, channel: Path) -> None:
    result = kills.campaign(Bench(tmp_path / "bench", channel, PYTHON), 3, seed=2)
    assert result.problems == []


@pytest.mark.parametrize("how", crowd.HOWS)
def test_builders_at_once(tmp_path: Path, channel: Path, how: str) -> None:
    needs_program("gcc")
    bench = Bench(tmp_path / "bench", channel)
    outcome = crowd.campaign(bench, 8, **crowd.shim(bench, how))
    assert outcome.problems == ()
    assert (outcome.entries, outcome.images) == (1, 1)
    if how == "working":
        assert outcome.built == 1


@pytest.mark.xdist_group("accounts")
def test_steps_of_slurm(site: Site, users: list[Account], harsh: Cluster) -> None:
    try:
        result = slurm.campaign(site, users, harsh, 10, seed=5)
    finally:
        site.clear()
    assert result.problems == []
    assert result.total == 10


@pytest.mark.parametrize("way", ["direct", "private"])
def test_killed_mounts(tmp_path: Path, channel: Path, way: str) -> None:
    bench = Bench(tmp_path / "bench", channel, PYTHON)
    assert mounts.campaign(bench, 12, 2, 5, 1, way).problems == ()


@pytest.mark.parametrize(
    ("missing", "status"), [(f"lib/python{SHORT}", 1), ("lib/libpython*.so.1.0", 127)]
)
def test_a_damaged_python_of_the_channel_takes_nothing_from_elsewhere(
    tmp_path: Path, channel: Path, missing: str, status: int
) -> None:
    # As conda's; with another the next test would find what no user can.
    (archive,) = (channel / "linux-64").glob("python-3*.conda")
    extract(archive, tmp_path)
    python = [str(tmp_path / "bin/python"), "-c", "import encodings"]
    assert subprocess.run(python).returncode == 0
    for path in tmp_path.glob(missing):
        path.rename(tmp_path / "aside")
        assert subprocess.run(python).returncode == status


def test_no_other_python_while_daemons_are_dead(tmp_path: Path, channel: Path) -> None:
    figures = dead.campaign(Bench(tmp_path / "bench", channel, PYTHON), 16, seed=1)
    assert figures.problems == ()


def test_no_other_python_in_a_storm(tmp_path: Path, channel: Path) -> None:
    figures = storm.campaign(Bench(tmp_path / "bench", channel, PYTHON), 30, seed=1)
    assert figures.problems == ()
    assert "right" in figures.lines[0]
    assert "killed" in figures.lines[0]


def test_runs_against_collections(tmp_path: Path, channel: Path) -> None:
    yard = collect.campaign(collect.prepared(tmp_path, channel), 12, 3, seed=1)
    assert yard.problems == []
    assert yard.runs == 12
    assert yard.moved > 0


def test_mirrors_that_misbehave_at_random(tmp_path: Path) -> None:
    outcome = network.campaign(tmp_path, 12, seed=3)
    assert outcome.problems == []
    assert outcome.endings["whole"] > 0
    # Once for each file in each round would be without a fault.
    assert outcome.requests > 12 * network.FILES


def test_killed_transfers_and_a_registry_that_misbehaves(tmp_path: Path, channel: Path) -> None:
    bench = Bench(tmp_path / "bench", channel, PYTHON)
    pushes, pulls = registry.kills(bench, 2, seed=1)
    assert (pushes.problems, pulls.problems) == ([], [])
    assert (pushes.total, pulls.total) == (2, 2)
    outcome = registry.faults(bench, 6, seed=4)
    assert outcome.problems == []
    assert outcome.endings["whole"] in range(1, 6)
    assert registry.crowd(bench, 16) == (1, [])
