"""A linked Python kept in the package cache, for uv to ask: linked once, checked at each use.

To link one takes longer than uv needs to resolve, and a program that stays where it is lets uv keep
its answers. Those depend on the packages and on the machine: the path that uv is given names both.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from condainer import packages
from condainer.archives import partials, private_root
from condainer.config import Settings
from condainer.errors import BuildError, StorageError
from condainer.lock import CondaPackage
from condainer.report import Reporter

# What was not used for so many seconds is removed when another one is linked.
UNUSED = 60 * 24 * 3600
# Programs are given their prefix in place of one of 255 characters.
LONGEST = 200


@dataclass(frozen=True)
class Interpreter:
    """A kept Python, below `place`: `prefix/`, and in `digest` what that was when it was linked."""

    place: Path

    @property
    def prefix(self) -> Path:
        """Where its packages are linked."""
        return self.place / "prefix"

    @property
    def program(self) -> Path:
        """The path by which uv knows it: another one on each kind of machine."""
        return self.place / _machine() / "bin" / "python"

    def is_whole(self) -> bool:
        """Tell whether all its files are as they were linked; every byte of them is read."""
        try:
            return (self.place / "digest").read_text(encoding="ascii") == _digest(self.prefix)
        except (OSError, ValueError):
            return False

    def discard(self, settings: Settings) -> None:
        """Remove one that is damaged; somebody else's new one can go with it."""
        with suppress(OSError), partials(private_root(settings)) as draft:
            os.rename(self.place, draft / "damaged")

    def offer(self) -> None:
        """Give it its path for this machine, and note that it is used; raises OSError."""
        with suppress(FileExistsError):
            os.symlink("prefix", self.place / _machine())
        os.utime(self.place / "digest")


def kept(
    members: Sequence[CondaPackage], settings: Settings, reporter: Reporter
) -> Interpreter | None:
    """Return the interpreter of some packages, linked now if it is not kept yet.

    None where one cannot be kept: then there is no room for it, or nothing may be run there.
    Parameters: `members` are Python and what it needs to run. Raises what packages.fetch() does.
    """
    root = private_root(settings)
    found = Interpreter(root / "interpreters" / _key(members, root))
    try:
        root.mkdir(parents=True, exist_ok=True)
        if len(str(found.prefix)) > LONGEST or os.statvfs(root).f_flag & os.ST_NOEXEC:
            return None
        if not (found.place / "digest").is_file():
            _make(found, members, settings, reporter)
        found.offer()
    except (OSError, BuildError, StorageError):
        # It only spares work the next time.
        return None
    return found


def _make(
    wanted: Interpreter, members: Sequence[CondaPackage], settings: Settings, reporter: Reporter
) -> None:
    archives = packages.fetch(members, settings, reporter)
    parent = wanted.place.parent
    with partials(private_root(settings)) as scratch:
        draft = Interpreter(scratch / "kept")
        packages.link(archives, draft.prefix, wanted.prefix, scratch, settings, reporter)
        (draft.place / "digest").write_text(_digest(draft.prefix), encoding="ascii")
        parent.mkdir(exist_ok=True)
        _remove_unused(parent, scratch)
        # Somebody else's can stand there by now, and is as good.
        with suppress(FileExistsError):
            _publish(draft.place, wanted.place)


def _publish(draft: Path, place: Path) -> None:
    try:
        os.rename(draft, place)
    except OSError as error:
        if place.is_dir():
            raise FileExistsError from error
        raise


def _remove_unused(parent: Path, scratch: Path) -> None:
    for number, place in enumerate(parent.iterdir()):
        with suppress(OSError):
            if time.time() - (place / "digest").stat().st_mtime > UNUSED:
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
    system = os.uname()
    told = [system.sysname, system.release, system.version, system.machine, _c_library()]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def _c_library() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return ""


def _digest(prefix: Path) -> str:
    import xxhash

    digest = xxhash.xxh3_128()
    for path, status in _entries(str(prefix)):
        digest.update(os.fsencode(f"{os.path.relpath(path, prefix)}\0{status.st_mode}\0"))
        if stat.S_ISLNK(status.st_mode):
            digest.update(os.fsencode(os.readlink(path)))
        elif stat.S_ISREG(status.st_mode):
            digest.update(f"{status.st_size}\0".encode())
            with open(path, "rb") as stream:
                digest.update(stream.read())
    return digest.hexdigest()


def _entries(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """Return all that is in a directory, each directory before what is in it, sorted."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        yield entry.path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path)
