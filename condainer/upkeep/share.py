"""The cache of a group: made from a directory, and repaired when its modes have drifted."""

from __future__ import annotations

import grp
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condainer.cache import entries, publish
from condainer.system.errors import ConfigError, StorageError
from condainer.system.files import make_directory, read_text, storage_errors, user_name
from condainer.upkeep import policy
from condainer.upkeep.policy import Policy

# Setgid and sticky: members add, and nobody replaces what another added.
OPEN, PRIVATE = 0o3775, 0o3770
# What the line in the file `format` of a later version may have, in bytes.
LARGEST_FORMAT = 4096
ENTRY_MODE, FILE_MODE, POLICY_MODE = 0o755, 0o444, 0o644


@dataclass(frozen=True)
class Level:
    """Names in a directory of the cache, their mode, and what is below; None for a file."""

    pattern: str
    mode: int
    below: tuple[Level, ...] | None = ()


@dataclass(frozen=True)
class Note:
    """A place below the cache, and what was changed there or could not be."""

    path: Path
    what: str

    def report(self) -> dict[str, str]:
        """Return what `--json` prints of it."""
        return {"path": str(self.path), "what": self.what}


@dataclass
class Shared:
    """A cache that a group shares, and what was done, or would be, to make it so.

    `closed` are the directories above it through which members may not pass, `policy` is what its
    collections go by.
    """

    root: Path
    dry: bool
    created: bool
    gid: int
    mode: int
    policy: Policy
    repaired: list[Note] = field(default_factory=list)
    refused: list[Note] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)

    @property
    def group(self) -> str:
        """The name of the group."""
        return _group_name(self.gid)

    def report(self, setting: str) -> dict[str, Any]:
        """Return what `cnd share --json` prints; `setting` is the line that members need."""
        return {
            "cache": str(self.root),
            "group": self.group,
            "mode": f"{self.mode:04o}",
            "created": self.created,
            "repaired": [note.report() for note in self.repaired],
            "refused": [note.report() for note in self.refused],
            "closed": [str(path) for path in self.closed],
            "policy": self.policy.report(),
            "setting": setting,
        }


def share(
    directory: Path, group: str | None, private: bool | None, limits: Policy, dry: bool
) -> Shared:
    """Make a directory the cache of a group, or repair one that is.

    Parameters: `group` is a name, None for the group that the directory has; `private` closes it
    to all others, None leaves it as it is; `limits`, if any, are written for its
    collections; `dry` touches nothing and says what would be changed.
    Raises StorageError, with the directory untouched, if it holds something else or may not be
    changed, ConfigError for a group that does not exist.
    """
    root = Path(os.path.realpath(directory))
    number = None if group is None else _group_number(group)
    if root.exists():
        with storage_errors(f"use {root} as a cache"):
            # Hidden files as well: a home directory must not be given to a group.
            check_content(root, hidden=True)
    gid, mode = os.getegid() if number is None else number, PRIVATE if private else OPEN
    done = Shared(root, dry, not root.exists(), gid, mode, limits)
    if done.created and dry:
        done.repaired.append(Note(root, "make it"))
        return done
    with storage_errors(f"make {root} a cache of a group"):
        if done.created:
            root.parent.mkdir(parents=True, exist_ok=True)
            root.mkdir(0o700)
        status = root.stat()
        done.gid = status.st_gid if number is None else number
        if private is None and stat.S_IMODE(status.st_mode) == PRIVATE:
            # A repair must not open a private cache.
            done.mode = PRIVATE
        try:
            _tend_root(done)
        except StorageError:
            if done.created:
                root.rmdir()
            raise
        if done.created:
            done.repaired.clear()
        _complete(done)
        with _held(root, None) as descriptor:
            _tend_below(descriptor, root, _layout(done.mode), done)
    done.closed = [path for path in root.parents if not _passable(path, done.gid)]
    done.policy = policy.read(root)
    return done


def _complete(done: Shared) -> None:
    """Make missing directories, and write the limits of collections.

    The owner of a sticky directory may rename what others put there, so members make none.
    """
    root, limits = done.root, done.policy
    groups = [root / "images" / f"{number:02x}" for number in range(256)]
    absent = [path for path in groups if not os.path.lexists(path)]
    if done.dry:
        done.repaired.extend(Note(path, "make it") for path in publish.missing(root))
        if absent:
            done.repaired.append(Note(root / "images", f"make {len(absent)} directories in it"))
        if limits.texts:
            done.repaired.append(Note(root / publish.POLICY, "write it"))
        return
    publish.prepare(root)
    place = root / publish.QUARANTINE
    for path in [*absent, *([] if os.path.lexists(place) else [place])]:
        try:
            make_directory(path, done.mode)
        except OSError as error:
            done.refused.append(Note(path, f"cannot be made: {error.strerror}"))
            break
    if limits.texts:
        policy.write(root, limits)


def _group_number(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        ours = ", ".join(sorted(_group_name(number) for number in {os.getegid(), *os.getgroups()}))
        raise ConfigError(f"There is no group {name!r}", f"You are in: {ours}.") from None


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return f"group {number}"


def check_content(root: Path, hidden: bool = False) -> None:
    """Refuse what is neither a cache of a version that we know nor empty.

    Parameters: `hidden` is as for publish.refuse_other_content(). Raises StorageError, OSError.
    """
    try:
        line = read_text(root / "format", errors="replace", limit=LARGEST_FORMAT)
    except FileNotFoundError:
        publish.refuse_other_content(root, hidden)
        return
    if line != publish.FORMAT_LINE:
        raise StorageError(
            f"{root} is no cache that this version knows: its format is {line.strip()[:80]!r}",
            "Use the version of Condainer that made it, or name another directory.",
        )


def _passable(path: Path, group: int) -> bool:
    """Tell whether members of a group may pass through a directory; access lists do not count."""
    status = path.stat()
    needed = stat.S_IXGRP if status.st_gid == group else stat.S_IXOTH
    return bool(status.st_mode & needed)


def _tend_root(done: Shared) -> None:
    with _held(done.root, None) as descriptor:
        _tend(descriptor, done.root, Level("", done.mode), done)
    if done.refused:
        owner = user_name(done.root.stat().st_uid)
        raise StorageError(
            f"{done.root} cannot be shared: {done.refused[0].what}",
            f"Its owner ({owner}) can do it as a member of that group, or else an administrator.",
        )


def _layout(mode: int) -> tuple[Level, ...]:
    """Return what is repaired below the cache's own directory; cache_layout.md has it all."""
    entry = Level(entries.ENTRY.pattern, ENTRY_MODE, (Level(".+", FILE_MODE, None),))
    return (
        Level("CACHEDIR[.]TAG|format", FILE_MODE, None),
        Level(re.escape(publish.POLICY), POLICY_MODE, None),
        Level("|".join(("tmp", publish.QUARANTINE, *publish.NOTES)), mode),
        Level("locks", mode, (Level(".+[.]lock", mode & 0o666, None),)),
        Level(publish.SIGNATURES, mode, (Level(".+[.]sig", FILE_MODE, None),)),
        Level(publish.NAMES, mode, (Level("[A-Za-z0-9].*", FILE_MODE, None),)),
        Level("images", mode, (Level("[0-9a-f]{2}", mode, (entry,)),)),
    )


def _tend_below(parent: int, path: Path, levels: tuple[Level, ...], done: Shared) -> None:
    """Repair what the layout knows in a directory, and leave the rest alone.

    Paths are not used: between a look and a change, a member could replace a directory by a link,
    and an administrator would change what it points to.
    """
    try:
        names = sorted(os.listdir(f"/proc/self/fd/{parent}"))
    except OSError as error:
        done.refused.append(Note(path, f"cannot be read: {error.strerror}"))
        return
    for name in names:
        level = next((level for level in levels if re.fullmatch(level.pattern, name)), None)
        if level is not None:
            with suppress(FileNotFoundError), _held(name, parent) as descriptor:
                right = _tend(descriptor, path / name, level, done)
                if right and level.below:
                    _tend_below(descriptor, path / name, level.below, done)


@contextmanager
def _held(name: Path | str, parent: int | None) -> Iterator[int]:
    # O_PATH, because a file that has lost its modes cannot be opened for reading.
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _tend(descriptor: int, path: Path, level: Level, done: Shared) -> bool:
    """Give a directory or file the group and mode that it should have; False if it is neither."""
    status = os.fstat(descriptor)
    is_file = level.below is None
    if not (stat.S_ISREG if is_file else stat.S_ISDIR)(status.st_mode):
        done.refused.append(Note(path, f"is not a {'file' if is_file else 'directory'}"))
        return False
    what = _drift(status, level.mode, done.gid)
    if not what:
        return True
    if is_file and status.st_nlink > 1:
        # The other name may be another user's file.
        done.refused.append(Note(path, f"{what}: it has more than one name"))
    elif done.dry:
        done.repaired.append(Note(path, what))
    else:
        _change(descriptor, path, level.mode, what, done)
    return True


def _drift(status: os.stat_result, wanted: int, group: int) -> str:
    """Say what has to change, or nothing."""
    changes = []
    if status.st_gid != group:
        changes.append(f"group {_group_name(status.st_gid)} to {_group_name(group)}")
    mode = stat.S_IMODE(status.st_mode)
    if mode != wanted:
        changes.append(f"mode {mode:04o} to {wanted:04o}")
    return ", ".join(changes)


def _change(descriptor: int, path: Path, mode: int, what: str, done: Shared) -> None:
    held = f"/proc/self/fd/{descriptor}"
    try:
        if os.fstat(descriptor).st_gid != done.gid:
            os.chown(held, -1, done.gid)
        os.chmod(held, mode)
    except OSError as error:
        owner = user_name(os.fstat(descriptor).st_uid)
        done.refused.append(Note(path, f"{what}: {error.strerror} (it belongs to {owner})"))
        return
    left = _drift(os.fstat(descriptor), mode, done.gid)
    if left:
        # The kernel drops setgid silently if the user is not in the group.
        done.refused.append(Note(path, f"{left}: you are not in the group"))
    else:
        done.repaired.append(Note(path, what))
