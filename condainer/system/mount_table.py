"""The mount table of this process: what is mounted where, by which user, and of what kind."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# The kind of file system that a private mount is made on.
PLACE = "tmpfs"
MOUNTINFO = Path("/proc/self/mountinfo")
# The kernel's names of file systems on servers.
NETWORK = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "9p", "afs"),
        *("lustre", "gpfs", "beegfs", "ceph", "panfs", "wekafs", "pvfs2"),
    )
)
# FUSE file systems of local files; all others may ask a server.
LOCAL = frozenset(
    f"fuse.{name}"
    for name in ("squashfuse", "squashfuse_ll", "fuse-overlayfs", "bindfs", "ntfs-3g", "snapfuse")
)
MEMORY = frozenset(("tmpfs", "ramfs"))


@dataclass(frozen=True)
class Mounted:
    """A line of the mount table; `owner` is the user of a FUSE mount, `peers` its peer group."""

    id: int
    parent: int
    device: int
    path: str
    kind: str
    owner: int | None
    peers: str


def mount_table(table: Path = MOUNTINFO) -> Iterator[Mounted]:
    """Yield the mounts that this process sees, or the one whose table is given, oldest first."""
    text = table.read_text(encoding="utf-8", errors="surrogateescape")
    for line in text.splitlines():
        own, _, rest = line.partition(" - ")
        fields = own.split(" ")
        kind, _, options = rest.split(" ", 2)
        major, minor = fields[2].split(":")
        owner = [o[8:] for o in options.split(",") if o.startswith("user_id=")]
        yield Mounted(
            id=int(fields[0]),
            parent=int(fields[1]),
            device=os.makedev(int(major), int(minor)),
            path=_unescape(fields[4]),
            kind=kind,
            owner=int(owner[0]) if owner and kind.startswith("fuse") else None,
            peers=next((f[7:] for f in fields[6:] if f.startswith("shared:")), ""),
        )


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def real(path: Path) -> str:
    """Return a path as the kernel tells it, below links; what is there is not touched."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def mounts_at(prefix: Path) -> list[Mounted]:
    """Return the mounts exactly at `prefix`, oldest first; the path itself is not touched."""
    place = real(prefix)
    return [entry for entry in mount_table() if entry.path == place]


def mounted_at(prefix: Path) -> Mounted | None:
    """Return the topmost mount exactly at `prefix`, or None."""
    stack = mounts_at(prefix)
    covered = {entry.parent for entry in stack}
    return next((entry for entry in reversed(stack) if entry.id not in covered), None)


def holder(path: Path) -> Mounted | None:
    """Return the mount that a path, which need not exist yet, is on."""
    real, nearest = f"{os.path.realpath(path)}/", None
    for entry in mount_table():
        above = real.startswith(f"{entry.path.rstrip('/')}/")
        # A later mount covers an earlier one.
        if above and (nearest is None or len(entry.path) >= len(nearest.path)):
            nearest = entry
    return nearest


def has_place(prefix: Path) -> bool:
    """Tell whether the place of a private mount is at `prefix`, with or without the mount."""
    return any(entry.kind == PLACE for entry in mounts_at(prefix))


def is_on_network(path: Path) -> bool:
    """Tell whether a path, which need not exist yet, is on a file system of a server."""
    kind = _kind_of(path)
    fuse = kind == "fuse" or kind.startswith("fuse.")
    return kind in NETWORK or (fuse and kind not in LOCAL)


def is_in_memory(path: Path) -> bool:
    """Tell whether files at a path are in memory."""
    return _kind_of(path) in MEMORY


def _kind_of(path: Path) -> str:
    mount = holder(path)
    return mount.kind if mount else ""


def wait_for_change(seconds: float) -> None:
    """Wait until something is mounted or unmounted in our view, or for a number of seconds."""
    with suppress(OSError), MOUNTINFO.open("rb", buffering=0) as table:
        # The kernel tells of changes only after the table was read.
        while table.read(1 << 16):
            pass
        poll = select.poll()
        poll.register(table, select.POLLPRI | select.POLLERR)
        poll.poll(seconds * 1000)
