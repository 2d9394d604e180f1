"""An ordinary user, in whose name root measures what users get."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import command
from benchmarks.place import Place

NAME = "nobody"


def words() -> tuple[str, ...]:
    """Return what root writes before a command that an ordinary user shall run; else nothing."""
    if os.geteuid() != 0:
        return ()
    user = pwd.getpwnam(NAME)
    return ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")


def own(path: Path) -> Path:
    """Make a directory that belongs to that user, and return it."""
    path.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        user = pwd.getpwnam(NAME)
        os.chown(path, user.pw_uid, user.pw_gid)
    return path


def environment(place: Place) -> dict[str, str]:
    """Return the environment of that user, whose read-only cache is that of the suite."""
    home = own(place.root / "ordinary")
    # As /tmp is: root, who builds, does not trust a directory of that user.
    base = place.root / "everybody"
    base.mkdir(exist_ok=True)
    base.chmod(0o1777)
    return {
        **place.environment,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "CONDAINER_CACHE": str(home / "cache"),
        "CONDAINER_READONLY_CACHES": str(place.cache),
        "CONDAINER_PACKAGE_CACHE": str(home / "packages"),
        "CONDAINER_STAGING": str(home / "staging"),
        "CONDAINER_MOUNT_BASE": str(base),
    }


def project(place: Place, source: Path) -> tuple[Path, Path]:
    """Return a project of that user with the lock of another one, and the prefix of its image."""
    # A prefix is part of an address; root and that user cannot both have the same one.
    built = place.built(source, CONDAINER_MOUNT_BASE=environment(place)["CONDAINER_MOUNT_BASE"])
    path = own(place.root / "ordinary" / "projects" / source.name)
    for file in source.iterdir():
        if file.suffix in (".yml", ".txt", ".lock"):
            shutil.copy(file, path)
    cnd(place, path, "build", "--locked")()
    return path, Path(built["prefix"])


def cnd(place: Place, project: Path, *arguments: str) -> Callable[[], None]:
    """Return a function that runs cnd as that user; it raises RuntimeError if that fails."""
    return command([*words(), place.cnd, *arguments], project, environment(place))
