"""How many processors a build may use here: what the kernel, a container and a scheduler allow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

# What schedulers say of the job that we run in; of Slurm's, the first that is set counts.
SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
OTHERS = ("NSLOTS", "NCPUS", "LSB_DJOB_NUMPROC")
SYSTEM = Path("/")


def available(environ: Mapping[str, str] | None = None, system: Path = SYSTEM) -> int:
    """Return the least of what affinity, quotas of control groups and the scheduler leave us.

    Parameters: `system` is the root below which /proc and /sys are looked into.
    """
    environ = os.environ if environ is None else environ
    limits = [len(os.sched_getaffinity(0)), *_quotas(system), *_scheduled(environ)]
    return max(1, min(limits))


def _scheduled(environ: Mapping[str, str]) -> Iterator[int]:
    slurm = next((environ[name] for name in SLURM if environ.get(name)), "")
    for text in (slurm, *(environ.get(name, "") for name in OTHERS)):
        if text.isdecimal() and int(text) > 0:
            yield int(text)


def _quotas(system: Path) -> Iterator[int]:
    """Yield the processors that each control group above us grants, rounded up."""
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    mounted = system / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        group = Path(path.lstrip("/"))
        for place in (group, *group.parents):
            if not controllers:
                yield from _quota(mounted / place / "cpu.max")
            elif "cpu" in controllers.split(","):
                yield from _old_quota(mounted / controllers / place)


def _quota(file: Path) -> Iterator[int]:
    quota, _, period = _read(file).partition(" ")
    if quota.isdecimal() and period.isdecimal() and int(period):
        yield -(-int(quota) // int(period))


def _old_quota(group: Path) -> Iterator[int]:
    quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    # -1 is no quota.
    if quota.isdecimal() and period.isdecimal() and int(period):
        yield -(-int(quota) // int(period))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
