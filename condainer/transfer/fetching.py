"""What `cnd fetch` does: everything that a project's locks need, into the package cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer.build.needs import Needs, demand_local, missing, needs_of
from condainer.lock.lock_paths import conda_lock_path, lockfile_path
from condainer.lock.locks import Lock
from condainer.network import client_settings
from condainer.packages import admission, downloads, git_repositories
from condainer.pypi import build_requirements
from condainer.settings.config import Settings
from condainer.solve import completion
from condainer.solve.ensure import ensure_lock
from condainer.solve.lock_state import LockState, lock_state
from condainer.system.errors import LockfileError, StaleLockError
from condainer.system.files import stand_somewhere
from condainer.system.machine import this_platform
from condainer.system.reporter import Reporter


@dataclass(frozen=True)
class Fetched:
    """Where everything that locks need stands, and how much of it was downloaded now."""

    locks: tuple[Lock, ...]
    needs: Needs
    paths: tuple[Path, ...]
    downloaded: int
    size: int

    def report(self, settings: Settings) -> dict[str, Any]:
        """Return what `cnd fetch --json` prints."""
        files = zip(self.needs.files, self.paths, strict=True)
        return {
            "package_cache": str(settings.package_cache),
            "platforms": [lock.platform for lock in self.locks],
            "downloaded": self.downloaded,
            "size": self.size,
            "files": [
                {"filename": file.filename, "sha256": file.sha256, "path": str(path)}
                for file, path in files
            ],
            "repositories": [
                {"name": p.name, "path": str(git_repositories.mirror_path(p, settings))}
                for p in self.needs.repositories
            ],
        }


def fetch(settings: Settings, platforms: Sequence[str], reporter: Reporter) -> Fetched:
    """Download what the locks of some platforms need, by default of this one.

    Solves for this platform if its lock is missing or stale. Raises what downloads.fetch() does,
    LockfileError as admission.admit().
    """
    stand_somewhere(settings.project)
    wanted = list(dict.fromkeys(platforms)) or [this_platform()]
    locks = tuple(lock_for(settings, platform, reporter) for platform in wanted)
    for lock in locks:
        admission.admit(lock, settings)
    client_settings.prepare(settings, reporter)
    needs = needs_of(locks, settings)
    present = downloads.find(needs.files, settings)
    files = tuple(file for file, path in present.items() if path is None)
    lacking = Needs(files, tuple(git_repositories.missing(needs.repositories, settings)))
    if settings.offline:
        demand_local(lacking)
    fetched = downloads.fetch(files, settings, reporter, "Downloading packages")
    git_repositories.fetch(lacking.repositories, settings, reporter)
    for lock in locks:
        build_requirements.fetch(lock, settings, reporter)
    reporter.finish()
    new = dict(zip(files, fetched, strict=True))
    paths = tuple(present[file] or new[file] for file in needs.files)
    size = sum(path.stat().st_size for path in paths)
    count = len(lacking.files) + len(lacking.repositories)
    return Fetched(locks, needs, paths, count, size)


def lock_for(settings: Settings, platform: str, reporter: Reporter) -> Lock:
    """Return the lock of a platform; another platform's has to be there, and current.

    Raises LockfileError when it is not there, StaleLockError when it is stale, and for one with
    md5 sums what completion.complete() does.
    """
    if platform == this_platform():
        return ensure_lock(settings, reporter)[0]
    state = lock_state(settings, platform)
    if state.partial is not None:
        return completion.complete(state.partial, settings, reporter)
    return _current(state, platform, settings)


def _current(state: LockState, platform: str, settings: Settings) -> Lock:
    if state.status == "current" and state.lock is not None:
        return state.lock
    hint = f"Lock for it first: `cnd lock{settings.option} --platform {platform}`."
    if state.status == "stale":
        raise StaleLockError(f"The lock for {platform} is stale: {state.reason}", hint)
    path = lockfile_path(settings, platform)
    raise LockfileError(
        f"There is no lock for {platform}: neither {path.name} nor "
        f"{conda_lock_path(settings).name} in {settings.project} has one",
        hint,
    )


def plan(settings: Settings, platforms: Sequence[str]) -> list[str]:
    """Return what `cnd fetch` would do, without doing any of it."""
    locks = []
    for platform in dict.fromkeys(platforms or [this_platform()]):
        state = lock_state(settings, platform)
        if state.partial is not None:
            return [f"look up sha256s, because {state.reason}", "download all"]
        if platform != this_platform():
            locks.append(_current(state, platform, settings))
        elif state.status != "current" or state.lock is None:
            return [f"lock, because the lock is {state.status}: {state.reason}", "download all"]
        else:
            locks.append(state.lock)
    lacking = missing(needs_of(locks, settings), settings)
    steps = [f"download {file.filename} into {settings.package_cache}" for file in lacking.files]
    steps += [f"mirror the repository of {package.name}" for package in lacking.repositories]
    return steps or ["download nothing: everything is in the package cache"]
