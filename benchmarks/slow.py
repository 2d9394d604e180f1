"""A disk that gives few reads a second, as a parallel file system does that many use at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
NAME = "condainer-benchmark"


@contextlib.contextmanager
def slow_disk(path: Path, reads: int) -> Iterator[None]:
    """Limit the disk of a file to so many reads a second, for us and what we start meanwhile.

    Raises OSError where control groups cannot do that, as everywhere but for root.
    """
    older = CGROUPS / "blkio"
    above = older if older.is_dir() else CGROUPS
    group = above / NAME
    if not older.is_dir():
        (CGROUPS / "cgroup.subtree_control").write_text("+io\n")
    group.mkdir(exist_ok=True)
    try:
        if older.is_dir():
            (group / "blkio.throttle.read_iops_device").write_text(f"{_disk(path)} {reads}\n")
        else:
            (group / "io.max").write_text(f"{_disk(path)} riops={reads}\n")
        (group / "cgroup.procs").write_text(f"{os.getpid()}\n")
        yield
    finally:
        (above / "cgroup.procs").write_text(f"{os.getpid()}\n")
        # A daemon may still be ending in it.
        with contextlib.suppress(OSError):
            group.rmdir()


def _disk(path: Path) -> str:
    """Return the numbers of the disk of a file, be it in a partition."""
    device = path.stat().st_dev
    place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    whole = place.parent if (place / "partition").exists() else place
    return (whole / "dev").read_text().strip()
