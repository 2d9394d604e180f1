"""Who uses a mount: the processes with open files, directories or claims below a prefix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from condainer.mount.mount_locks import Locks
from condainer.system.files import user_name
from condainer.system.mount_table import real


@dataclass(frozen=True)
class User:
    """A process that uses a mount."""

    pid: int
    name: str
    command: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.name}): {self.command}"


def users_of(
    prefix: Path,
    locks: Locks | None = None,
    shells: frozenset[int] = frozenset(),
    everywhere: bool = False,
) -> list[User]:
    """Return the processes that use a mount or have claimed it, as far as we may see them.

    Parameters: `shells` are the numbers of processes that have claimed it by a file; `everywhere`
    includes other mount namespaces, which have the same files, but not the same mounts.
    """
    view = os.readlink("/proc/self/ns/mnt")
    place = real(prefix)
    claimed, kept = (real(locks.users), real(locks.keeper)) if locks else ("", "")
    users = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            if not everywhere and os.readlink(process / "ns/mnt") != view:
                continue
            paths = set(_paths(process))
            if kept in paths:
                continue
            inside = any(f"{path}/".startswith(f"{place}/") for path in paths)
            if inside or claimed in paths or int(process.name) in shells:
                words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                command = os.fsdecode(b" ".join(words)).replace("\n", " ")
                users.append(User(int(process.name), user_name(process.stat().st_uid), command))
        except OSError:
            continue
    return sorted(users, key=lambda user: user.pid)


def _paths(process: Path) -> Iterator[str]:
    """Yield the paths of the files that a process has open, mapped, or as a directory."""
    for name in ("cwd", "root", "exe"):
        yield os.readlink(process / name)
    for descriptor in (process / "fd").iterdir():
        yield os.readlink(descriptor)
    maps = (process / "maps").read_text(encoding="utf-8", errors="surrogateescape")
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6:
            yield fields[5]
