"""The projects that name images of a cache: each leaves a note there, for collections.

Anybody may have written these files, and the directories that they name may be anywhere.
"""

from __future__ import annotations

import enum
import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from condainer.cache.entries import UNREADABLE
from condainer.cache.leases import ADDRESS, DAY
from condainer.cache.project_note import LIMIT, PROJECTS
from condainer.lock.lock_paths import CONDA_LOCK, RATTLER_LOCKS, conda_lock_name, lockfile_name
from condainer.settings import environments
from condainer.settings.config import PROJECT_FILE
from condainer.settings.input_files import ENVIRONMENT_FILES, PYLOCK, UV_LOCK, WORKSPACES
from condainer.system.errors import ConfigError
from condainer.system.files import read_small, user_name
from condainer.system.text import printable

NAME = re.compile(r"[0-9a-f]{32}\.[0-9]+")
# How long a project counts that cannot be seen from here, in seconds since its last build.
UNSEEN = 30 * DAY
# How long a file system may take to answer, in seconds.
PATIENCE = 10.0
# One of these makes a directory a project; beside them, the lockfile of a platform.
SIGNS = (
    *(*ENVIRONMENT_FILES, *WORKSPACES, PYLOCK, UV_LOCK),
    *(PROJECT_FILE, CONDA_LOCK, *RATTLER_LOCKS),
)


class Sight(enum.Enum):
    """What is seen of a project: there, gone, or nothing from here."""

    THERE = enum.auto()
    GONE = enum.auto()
    UNSEEN = enum.auto()


@dataclass(frozen=True)
class Project:
    """A project that named an image when it was last built.

    `note` is the file that says so, and `user` the number of its owner; `inode` and `parent` are
    those of the directory and of the one above it, `built` the time in seconds; `environment` is
    which one of several it is about, empty for `default`.
    """

    note: Path
    directory: Path
    address: str
    platform: str
    host: str
    inode: int
    parent: int
    user: int
    built: float
    environment: str = ""

    def __str__(self) -> str:
        named = f", environment {self.environment}" if self.environment else ""
        return printable(f"{self.directory} ({user_name(self.user)}{named})")


def read_projects(root: Path) -> list[Project]:
    """Return the projects that are noted in a cache; what is no such note is left out."""
    projects = []
    with suppress(OSError), os.scandir(root / PROJECTS) as notes:
        for item in notes:
            if NAME.fullmatch(item.name):
                with suppress(OSError, *UNREADABLE):
                    projects.append(_read(Path(item.path)))
    return projects


def _read(path: Path) -> Project:
    text, status = read_small(path, LIMIT)
    content = json.loads(text)
    texts = [content[name] for name in ("project", "address", "platform", "host")]
    numbers = [content[name] for name in ("inode", "parent")]
    if not all(type(value) is str for value in texts):
        raise TypeError("not a text")
    if not all(type(value) is int for value in numbers):
        raise TypeError("not a number")
    directory, address, platform, host = texts
    if not ADDRESS.fullmatch(address) or not os.path.isabs(directory) or "\0" in directory:
        raise ValueError("not an address, or not a path")
    os.fsencode(directory)
    if not re.fullmatch(r"[a-z0-9_-]+", platform):
        raise ValueError("not a platform")
    environment = content.get("environment", "")
    if environment != "" and not environments.NAME.fullmatch(environment):
        raise ValueError("not the name of an environment")
    user, built = status.st_uid, min(status.st_mtime, status.st_ctime)
    inode, parent = numbers
    return Project(
        path, Path(directory), address, platform, host, inode, parent, user, built, environment
    )


def sighted(projects: Iterable[Project], patience: float = PATIENCE) -> list[tuple[Project, Sight]]:
    """Look for projects, and return each with what is seen of it.

    A file system that does not answer for `patience` seconds hides all projects of the user who
    named it, and those alone.
    """
    rest = sorted(projects, key=lambda project: project.user)
    known: list[tuple[Project, Sight]] = []
    while rest:
        seen = _look_until_it_hangs(rest, patience)
        known += zip(rest, seen, strict=False)
        rest = rest[len(seen) :]
        if rest:
            hidden = rest[0].user
            known += [(project, Sight.UNSEEN) for project in rest if project.user == hidden]
            rest = [project for project in rest if project.user != hidden]
    return known


def _look_until_it_hangs(projects: Sequence[Project], patience: float) -> list[Sight]:
    """Return what is seen of the first projects, up to one without an answer."""
    import queue
    import threading

    answers: queue.SimpleQueue[Sight] = queue.SimpleQueue()

    def look() -> None:
        for project in projects:
            answers.put(_sight(project))

    # A thread of its own, because one that waits for a dead file server cannot be woken.
    threading.Thread(target=look, daemon=True).start()
    seen: list[Sight] = []
    with suppress(queue.Empty):
        while len(seen) < len(projects):
            seen.append(answers.get(timeout=patience))
    return seen


def _sight(project: Project) -> Sight:
    """Tell what is seen of a project. Only what is certain ends its claim on the image."""
    lockfile = lockfile_name(project.platform, project.environment)
    try:
        for name in (*SIGNS, lockfile):
            with suppress(FileNotFoundError):
                os.lstat(project.directory / name)
                return Sight.THERE if _has_environment(project, lockfile) else Sight.GONE
        # Other nodes have directories of the same names, and so has the place of a mount.
        elsewhere = project.host != os.uname().nodename
        try:
            inode, noted = os.stat(project.directory).st_ino, project.inode
        except FileNotFoundError:
            inode, noted = os.stat(project.directory.parent).st_ino, project.parent
    except OSError:
        return Sight.UNSEEN
    return Sight.UNSEEN if elsewhere or inode != noted else Sight.GONE


def _has_environment(project: Project, lockfile: str) -> bool:
    """Tell whether a project that is there has an environment still: its lock, or its name.

    The name alone is of one that is pinned. Raises OSError for what cannot be read.
    """
    names = (lockfile, conda_lock_name(project.environment))
    if not project.environment or any(os.path.lexists(project.directory / n) for n in names):
        return True
    from condainer.system import yaml_file

    path = project.directory / PROJECT_FILE
    try:
        content = yaml_file.load(path, read_small(path, LIMIT)[0], ConfigError).value or {}
        declared = content.get(environments.FIELD) or {}
    except FileNotFoundError:
        return False
    except (ConfigError, AttributeError, *UNREADABLE):
        # A mistake in the file takes no environment away.
        return True
    return not isinstance(declared, dict) or project.environment in declared


def counts(project: Project, sight: Sight, now: float) -> bool:
    """Tell whether a project still names its image.

    Parameters: `now` is the time of the cache's file system, in seconds.
    """
    return sight is Sight.THERE or (sight is Sight.UNSEEN and now - project.built < UNSEEN)


def named(known: Iterable[tuple[Project, Sight]], now: float) -> dict[str, list[Project]]:
    """Return the projects that name each address."""
    pins: dict[str, list[Project]] = {}
    for project, sight in known:
        if counts(project, sight, now):
            pins.setdefault(project.address, []).append(project)
    return pins
