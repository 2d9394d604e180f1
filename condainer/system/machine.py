"""This machine: its platform, and what of it the kernel, a container or a scheduler leave us."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from condainer.startup.find_project import this_platform as this_platform

# The processors of a job, as schedulers tell them; of Slurm's, the first that is set counts.
SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
OTHERS = ("NSLOTS", "NCPUS", "LSB_DJOB_NUMPROC")
SYSTEM = Path("/")


def processors(environ: Mapping[str, str] | None = None, system: Path = SYSTEM) -> int:
    """Return the number of processors that affinity, control groups and the scheduler leave us.

    Parameters: `system` is the root below which /proc and /sys are looked into.
    """
    environ = os.environ if environ is None else environ
    limits = [len(os.sched_getaffinity(0)), *_quotas(system), *_scheduled(environ)]
    return max(1, min(limits))


def memory(system: Path = SYSTEM) -> int:
    """Return the free memory in bytes: the least of what the machine and control groups leave.

    Parameters: as of processors().
    """
    return max(0, min((*_free(system), *_left(system)), default=0))


def give_back_memory() -> None:
    """Return freed memory to the system: glibc keeps that of busy threads."""
    import ctypes

    with suppress(AttributeError, OSError):
        # Only glibc has this function.
        ctypes.CDLL(None).malloc_trim(0)


def _scheduled(environ: Mapping[str, str]) -> Iterator[int]:
    slurm = next((environ[name] for name in SLURM if environ.get(name)), "")
    for text in (slurm, *(environ.get(name, "") for name in OTHERS)):
        if text.isdecimal() and int(text) > 0:
            yield int(text)


def _quotas(system: Path) -> Iterator[int]:
    """Yield the processors that each control group above us grants, rounded up."""
    for group, is_new in _groups(system, "cpu"):
        if is_new:
            quota, _, period = _read(group / "cpu.max").partition(" ")
        else:
            quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        # -1 and `max` are no quota.
        if quota.isdecimal() and period.isdecimal() and int(period):
            yield -(-int(quota) // int(period))


def _free(system: Path) -> Iterator[int]:
    for line in _read(system / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            yield int(rest.split()[0]) * 1024


def _left(system: Path) -> Iterator[int]:
    """Yield the memory that each control group above us leaves."""
    new, old = ("max", "current"), ("limit_in_bytes", "usage_in_bytes")
    for group, is_new in _groups(system, "memory"):
        limit, taken = (_read(group / f"memory.{name}") for name in (new if is_new else old))
        # `max` is no limit.
        if limit.isdecimal() and taken.isdecimal():
            yield int(limit) - int(taken)


def _groups(system: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield each control group above us with a controller, and whether it is of version 2."""
    mounted = system / "sys/fs/cgroup"
    for line in _read(system / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        group = Path(path.lstrip("/"))
        for place in (group, *group.parents):
            if not controllers:
                yield mounted / place, True
            elif controller in controllers.split(","):
                yield mounted / controllers / place, False


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError:
        return ""
