"""Who owns a file and the directories above it, and which others could replace it."""

from __future__ import annotations

import errno
import functools
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

WRITABLE = stat.S_IWGRP | stat.S_IWOTH
# Linux follows as many links in a path.
LINKS = 40


def ours() -> frozenset[int]:
    """Return the numbers of this user and of root."""
    return frozenset((0, os.geteuid()))


def is_above(user: int) -> bool:
    """Tell whether a user may own the directories above a file of ours: only this one and root may.

    In a user namespace that does not map root, root's directories show the overflow user.
    """
    return user in ours() or user == _unmapped_root()


def _unmapped_root() -> int | None:
    known = Path("/proc/self/uid_map").read_bytes().splitlines()
    return None if any(line.split()[0] == b"0" for line in known) else _overflow("uid")


@functools.cache
def _overflow(kind: str) -> int:
    """Return the number of all users or groups that a user namespace does not map."""
    return int(Path(f"/proc/sys/kernel/overflow{kind}").read_bytes())


def our_groups() -> frozenset[int]:
    """Return the groups of this process, without the number that several groups may have."""
    return frozenset((os.getegid(), *os.getgroups())) - {_overflow("gid")}


def is_private(group: int) -> bool:
    """Tell whether a group is the private one that many systems give to each user."""
    try:
        user = pwd.getpwuid(os.geteuid())
        entry = grp.getgrgid(group)
    except KeyError:
        return False
    return (
        group == user.pw_gid
        and entry.gr_name == user.pw_name
        and not {*entry.gr_mem} - {user.pw_name}
    )


def is_member(user: int, groups: Iterable[int]) -> bool:
    """Tell whether a user is in one of some groups, as far as this machine knows."""
    try:
        account = pwd.getpwuid(user)
    except KeyError:
        return False
    for group in groups:
        with suppress(KeyError):
            if account.pw_gid == group or account.pw_name in grp.getgrgid(group).gr_mem:
                return True
    return False


def others_write(status: os.stat_result) -> bool:
    """Tell whether users other than this one and root may write a file or directory."""
    if status.st_mode & stat.S_IWOTH:
        return True
    shared = status.st_mode & stat.S_IWGRP and status.st_gid != 0
    return bool(shared) and not is_private(status.st_gid)


def is_guarded(status: os.stat_result) -> bool:
    """Tell whether only this user and root can have written a file."""
    return is_above(status.st_uid) and not others_write(status)


def way_to(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield every directory and symbolic link on the way to a path, without the path itself.

    A user who may change one of them can replace what is at the path. The way ends where nothing
    exists. Raises OSError for what cannot be passed.
    """
    here = Path("/")
    rest = list(reversed(path.parts[1:]))
    links = 0
    status = here.lstat()
    while rest:
        yield here, status
        name = rest.pop()
        if name == os.pardir:
            here = here.parent
            status = here.lstat()
            continue
        try:
            status = (here / name).lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISLNK(status.st_mode):
            here /= name
            continue
        yield here / name, status
        links += 1
        if links > LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = Path(os.readlink(here / name))
        if target.is_absolute():
            here = Path("/")
        rest.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
        status = here.lstat()
