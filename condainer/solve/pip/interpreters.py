"""A linked Python kept in the package cache, for uv to ask: linked once, looked at before each use.

To link one takes longer than uv needs to resolve, and a program that stays where it is lets uv keep
its answers. Those depend on the packages and on the machine: the path that uv is given names both.
What is kept gets into no lock and no image; a changed one is noticed, and linked again.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from condainer.lock.locks import CondaPackage
from condainer.package_cache.archives import (
    keeps_unpacked,
    partials,
    private_root,
    publish_directory,
)
from condainer.packages import conda_packages
from condainer.settings.config import Settings
from condainer.system.errors import BuildError, StorageError
from condainer.system.reporter import Reporter

# What was not used for so many seconds is removed when another one is linked.
UNUSED = 60 * 24 * 3600
# Programs are given their prefix in place of one of 255 characters.
LONGEST = 200


@dataclass(frozen=True)
class Interpreter:
    """A kept Python, below `place`: `prefix/`, and in `state` what that was when it was linked."""

    place: Path

    @property
    def prefix(self) -> Path:
        """Where its packages are linked."""
        return self.place / "prefix"

    @property
    def state(self) -> Path:
        """The file that its tree is held to."""
        return self.place / "state"

    @property
    def program(self) -> Path:
        """The path by which uv knows it: another one on each kind of machine."""
        return self.place / _machine() / "bin" / "python"

    def is_whole(self) -> bool:
        """Tell whether it is there, and nothing was written into it since."""
        try:
            return self.state.read_text(encoding="ascii") == _state(self.prefix)
        except (OSError, ValueError):
            return False


def kept(
    members: Sequence[CondaPackage], settings: Settings, reporter: Reporter
) -> Interpreter | None:
    """Return the interpreter of some packages, linked now if it is not kept yet.

    None where one cannot be kept: there is no room for its many files, or nothing may be run there.
    Parameters: `members` are Python and what it needs to run. Raises what
    conda_packages.fetch() does.
    """
    if not keeps_unpacked(settings):
        return None
    root = private_root(settings)
    interpreter = Interpreter(root / "interpreters" / _key(members, root))
    try:
        root.mkdir(0o755, parents=True, exist_ok=True)
        if len(str(interpreter.prefix)) > LONGEST or os.statvfs(root).f_flag & os.ST_NOEXEC:
            return None
        if not interpreter.is_whole():
            _make(interpreter, members, settings, reporter)
        with suppress(FileExistsError):
            os.symlink("prefix", interpreter.place / _machine())
        os.utime(interpreter.state)
    except (OSError, BuildError, StorageError):
        # It only spares work the next time.
        return None
    return interpreter


def _make(
    wanted: Interpreter, members: Sequence[CondaPackage], settings: Settings, reporter: Reporter
) -> None:
    archives = conda_packages.fetch(members, settings, reporter)
    parent = wanted.place.parent
    with partials(private_root(settings)) as scratch:
        draft = Interpreter(scratch / "kept")
        conda_packages.link(archives, draft.prefix, wanted.prefix, scratch, settings, reporter)
        draft.state.write_text(_state(draft.prefix), encoding="ascii")
        parent.mkdir(exist_ok=True)
        _remove_unused(parent, scratch)
        if not wanted.is_whole():
            with suppress(FileNotFoundError):
                os.rename(wanted.place, scratch / "changed")
        publish_directory(draft.place, wanted.place)


def _remove_unused(parent: Path, scratch: Path) -> None:
    for number, place in enumerate(parent.iterdir()):
        with suppress(OSError):
            if time.time() - Interpreter(place).state.stat().st_mtime > UNUSED:
                os.rename(place, scratch / f"unused-{number}")


def _key(members: Sequence[CondaPackage], root: Path) -> str:
    # Their files name the place where they were linked.
    named = sorted(f"{package.filename} {package.sha256}" for package in members)
    return hashlib.sha256("\n".join([str(root), *named]).encode()).hexdigest()[:32]


def _machine() -> str:
    """Return a name of all that an interpreter's answers take from the machine.

    uv keeps them as long as the path and the release of the kernel are the same; but they tell of
    the C library as well, and several systems on one machine can share a cache.
    """
    system, c_library = os.uname(), " ".join(platform.libc_ver())
    told = [system.sysname, system.release, system.version, system.machine, c_library]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _state(prefix: Path) -> str:
    """Return a digest of all names below a prefix, and of when and how each file was last changed.

    The time of change (ctime) shows what was written even where the time of modification was reset.
    """
    lines = []
    todo = [str(prefix)]
    while todo:
        for entry in os.scandir(todo.pop()):
            status = entry.stat(follow_symlinks=False)
            told = f"{entry.path}\0{status.st_mode}"
            if stat.S_ISDIR(status.st_mode):
                todo.append(entry.path)
            else:
                told += f" {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
            lines.append(told.removeprefix(str(prefix)))
    return hashlib.sha256(os.fsencode("\n".join(sorted(lines)))).hexdigest()
