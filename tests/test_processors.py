"""What limits the processors of a build."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from condainer.system import processors

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
    assert processors.available({}, system(tmp_path, groups, files)) == 1


@pytest.mark.parametrize("text", ["max 100000", "", "-1 100000", "5", "100000 0", "nonsense"])
def test_what_is_no_quota_does_not_count(tmp_path: Path, text: str) -> None:
    place = system(tmp_path, "0::/job\n3:cpu:/old\n", {"job/cpu.max": text})
    assert processors.available({}, place) == ALL


def test_without_control_groups(tmp_path: Path) -> None:
    assert processors.available({}, tmp_path) == ALL


def test_the_scheduler_counts(tmp_path: Path) -> None:
    assert processors.available({"SLURM_CPUS_PER_TASK": "1"}, tmp_path) == 1
    # Of a node with more processors, a task has as many as it asked for.
    both = {"SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "64"}
    assert processors.available(both, tmp_path) == 1
    assert processors.available({"SLURM_CPUS_ON_NODE": "1"}, tmp_path) == 1
    assert processors.available({"NSLOTS": "1"}, tmp_path) == 1
    assert processors.available({"NCPUS": "100000"}, tmp_path) == ALL
    assert processors.available({"NSLOTS": "0", "NCPUS": "many"}, tmp_path) == ALL
