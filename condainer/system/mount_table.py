"""The mount table of this process's view: what is mounted where, by whom, and what kind it is."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# What a private mount lies on.
PLACE = "tmpfs"
MOUNTINFO = Path("/proc/self/mountinfo")
# As the kernel calls them: where a file costs a question to a server.
NETWORK = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "9p", "afs"),
        *("lustre", "gpfs", "beegfs", "ceph", "panfs", "wekafs", "pvfs2"),
    )
)
# File systems of FUSE that show what is on this machine; all others may ask a server.
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


def mount_table() -> Iterator[Mounted]:
    """Yield the mounts that this process sees, oldest first."""
    text = MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
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


def mounts_at(prefix: Path) -> list[Mounted]:
    """Return the mounts exactly at `prefix`, oldest first; the path itself is not touched."""
    real = os.path.join(os.path.realpath(prefix.parent), prefix.name)
    return [entry for entry in mount_table() if entry.path == real]


def mounted_at(prefix: Path) -> Mounted | None:
    """Return the topmost mount exactly at `prefix`, or None."""
    stack = mounts_at(prefix)
    covered = {entry.parent for entry in stack}
    return next((entry for entry in reversed(stack) if entry.id not in covered), None)


def holder(path: Path) -> Mounted | None:
    """Return the mount that a path, which need not exist yet, is on."""
    real, found = f"{os.path.realpath(path)}/", None
    for entry in mount_table():
        above = real.startswith(f"{entry.path.rstrip('/')}/")
        # A later mount lies on top of an earlier one.
        if above and (found is None or len(entry.path) >= len(found.path)):
            found = entry
    return found


def has_place(prefix: Path) -> bool:
    """Tell whether the place of a private mount lies at `prefix`, mounted on or not."""
    return any(entry.kind == PLACE for entry in mounts_at(prefix))


def is_on_network(path: Path) -> bool:
    """Tell whether a path, which need not exist yet, is on a file system of a server."""
    kind = _kind_of(path)
    fuse = kind == "fuse" or kind.startswith("fuse.")
    return kind in NETWORK or (fuse and kind not in LOCAL)


def is_in_memory(path: Path) -> bool:
    """Tell whether what is written to a path takes memory."""
    return _kind_of(path) in MEMORY


def _kind_of(path: Path) -> str:
    found = holder(path)
    return found.kind if found else ""


def wait_for_change(seconds: float) -> None:
    """Wait until something is mounted or unmounted in our view, or for so many seconds."""
    with suppress(OSError), MOUNTINFO.open("rb", buffering=0) as table:
        # Only a table that has been read tells of changes.
        while table.read(1 << 16):
            pass
        poll = select.poll()
        poll.register(table, select.POLLPRI | select.POLLERR)
        poll.poll(seconds * 1000)
