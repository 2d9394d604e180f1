"""What limits the processors of a build, and the memory that a copy may take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from condainer.system import machine

ALL = len(os.sched_getaffinity(0))


def system(tmp_path: Path, groups: str, files: dict[str, str]) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/job/step\n", {"job/cpu.max": "100000 100000\n", "job/step/cpu.max": "max 100000\n"}),
        ("0::/\n", {"cpu.max": "30000 100000\n"}),
        (
            "4:cpu,cpuacct:/job\n",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "100000\n",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            },
        ),
    ],
)
def test_the_quota_of_a_control_group_counts(
    tmp_path: Path, groups: str, files: dict[str, str]
) -> None:
    assert machine.processors({}, system(tmp_path, groups, files)) == 1


@pytest.mark.parametrize("text", ["max 100000", "", "-1 100000", "5", "100000 0", "nonsense"])
def test_what_is_no_quota_does_not_count(tmp_path: Path, text: str) -> None:
    place = system(tmp_path, "0::/job\n3:cpu:/old\n", {"job/cpu.max": text})
    assert machine.processors({}, place) == ALL


def test_without_control_groups(tmp_path: Path) -> None:
    assert machine.processors({}, tmp_path) == ALL


def test_the_scheduler_counts(tmp_path: Path) -> None:
    assert machine.processors({"SLURM_CPUS_PER_TASK": "1"}, tmp_path) == 1
    # Of a node with more processors, a task has as many as it asked for.
    both = {"SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "64"}
    assert machine.processors(both, tmp_path) == 1
    assert machine.processors({"SLURM_CPUS_ON_NODE": "1"}, tmp_path) == 1
    assert machine.processors({"NSLOTS": "1"}, tmp_path) == 1
    assert machine.processors({"NCPUS": "100000"}, tmp_path) == ALL
    assert machine.processors({"NSLOTS": "0", "NCPUS": "many"}, tmp_path) == ALL


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/job/step\n", {"job/memory.max": "5000\n", "job/memory.current": "4900\n"}),
        (
            "7:memory:/job\n",
            {
                "memory/job/memory.limit_in_bytes": "5000\n",
                "memory/job/memory.usage_in_bytes": "4900\n",
            },
        ),
    ],
)
def test_the_memory_that_a_control_group_leaves_counts(
    tmp_path: Path, groups: str, files: dict[str, str]
) -> None:
    place = system(tmp_path, groups, {**files, "memory.max": "max\n"})
    (place / "proc/meminfo").write_text("MemTotal: 64 kB\nMemAvailable: 32 kB\n")
    assert machine.memory(place) == 100
    (place / "proc/self/cgroup").write_text("1:cpu:/job\n")
    assert machine.memory(place) == 32 * 1024
