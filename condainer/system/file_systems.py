"""What kind of file system a path is on."""

from __future__ import annotations

import os
from pathlib import Path

# As the kernel calls them: where a file costs a question to a server.
NETWORK = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "9p", "afs"),
        *("lustre", "gpfs", "beegfs", "ceph", "panfs", "wekafs", "pvfs2"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.juicefs"),
    )
)


def is_on_network(path: Path) -> bool:
    """Tell whether a path, which need not exist yet, is on a file system of a server."""
    real = os.path.realpath(path)
    longest, kind = "", ""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            _, place, found, *_ = line.split(" ")
            place = place.replace("\\040", " ")
            above = f"{real}/".startswith(f"{place.rstrip('/')}/")
            # A later mount lies on top of an earlier one.
            if above and len(place) >= len(longest):
                longest, kind = place, found
    return kind in NETWORK
