"""The notes of users in a cache: leases of mounts, times of use, projects, names."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from condainer.cache import leases, names, project_register
from condainer.cache.leases import Lease
from condainer.cache.names import Name
from condainer.cache.project_register import PATIENCE, Project, Sight


@dataclass(frozen=True)
class Records:
    """The notes of one cache, by address; `gone` are the projects that no longer exist.

    `now` is the time in seconds from which ages are counted.
    """

    now: float
    leases: dict[str, list[Lease]] = field(default_factory=dict)
    uses: dict[str, float] = field(default_factory=dict)
    projects: dict[str, list[Project]] = field(default_factory=dict)
    gone: list[Project] = field(default_factory=list)
    names: dict[str, list[Name]] = field(default_factory=dict)

    def last_use(self, address: str) -> float:
        """Return when a use of an image was last noted, 0 for never."""
        refreshed = (lease.refreshed for lease in self.leases.get(address, []))
        return max(self.uses.get(address, 0.0), *refreshed, 0.0)


def read_records(root: Path, now: float, patience: float = PATIENCE) -> Records:
    """Return the notes in a cache, none of which is trusted to be well-formed.

    Parameters: `now` is a time in seconds; `patience` is as for project_register.sighted().
    """
    sighted = project_register.sighted(project_register.read_projects(root), patience)
    given: dict[str, list[Name]] = {}
    for name in names.read_all(root):
        given.setdefault(name.address, []).append(name)
    return Records(
        now,
        leases.live(root, now),
        leases.last_uses(root),
        project_register.named(sighted, now),
        [project for project, sight in sighted if sight is Sight.GONE],
        given,
    )


def clock(place: Path, dry: bool = False) -> float:
    """Return the time of a directory's file system, which that of this node need not be.

    Parameters: `dry` leaves no trace; where that is not possible, or nothing can be written, it is
    the time of this node.
    """
    with suppress(OSError):
        # A file without a name.
        descriptor = os.open(place, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            return os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
    if not dry:
        with suppress(OSError), tempfile.NamedTemporaryFile(dir=place, prefix=".now.") as stream:
            return os.fstat(stream.fileno()).st_mtime
    return time.time()
