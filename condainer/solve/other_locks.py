"""The lockfiles beside our own: which of them is taken, and which says otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from condainer.lock.explicit import is_ours
from condainer.lock.lock_paths import DEFAULT, RATTLER_LOCKS, conda_lock_path, lockfile_path
from condainer.lock.locks import Lock
from condainer.settings.config import Settings
from condainer.system.errors import ConfigError, LockfileError


def rattler_lock_of(settings: Settings) -> Path | None:
    """Return the pixi.lock or conda.lock that is used where no other lockfile comes first.

    An environment file is what the project itself is made from, unless `environment` chooses; the
    manifests of other tools are what such locks are made from.
    """
    there = settings.files.is_file(settings.environment_yml)
    if there and settings.environment is None and not is_of_another_tool(settings):
        return None
    return next(iter(_rattler_locks(settings)), None)


def is_of_another_tool(settings: Settings) -> bool:
    """Tell whether a project is made from a manifest, or a lock of pip packages, in TOML."""
    path = settings.environment_yml
    return path.suffix == ".toml" and settings.files.is_file(path)


def unused_rattler_lock(settings: Settings) -> str:
    """Return what is said of a pixi.lock or conda.lock that an environment file keeps from use."""
    unused = _rattler_locks(settings)
    if not unused or rattler_lock_of(settings) is not None:
        return ""
    return (
        f"{unused[0].name} is not used, because {settings.environment_yml.name} is there: "
        f"`environment: {DEFAULT}` in condainer.yml chooses it"
    )


def _rattler_locks(settings: Settings) -> list[Path]:
    paths = [settings.project / name for name in RATTLER_LOCKS]
    return [path for path in paths if settings.files.is_file(path)]


def environment_of(settings: Settings) -> str:
    """Return the name of the environment that is taken from a pixi.lock or conda.lock."""
    return settings.environment or DEFAULT


def check_choice(lock: Lock | None, settings: Settings) -> None:
    """Refuse an `environment` that chooses nothing in a lock; raises ConfigError."""
    if settings.environment is None or (lock is not None and lock.environment):
        return
    if lock is None and is_of_another_tool(settings):
        # Reading it tells whether it has that one.
        return
    chosen = f"`environment: {settings.environment}` chooses from {' or '.join(RATTLER_LOCKS)}"
    if not _rattler_locks(settings):
        raise ConfigError(
            f"{chosen}, or from the manifest of a workspace, but none is there",
            "Remove the key, or lock with pixi.",
        )
    raise ConfigError(
        f"{chosen}, but another lockfile comes first",
        "Delete conda-*.lock and conda-lock.yml, or remove the key.",
    )


def disagreeing(lock: Lock, settings: Settings) -> Iterator[str]:
    """Yield what is said of each other lockfile in a project that has other packages."""
    used = lock.origin or lockfile_path(settings, lock.platform).name
    unified = conda_lock_path(settings).name
    for name in (unified, *RATTLER_LOCKS):
        path = settings.project / name
        if name == lock.origin or not settings.files.is_file(path):
            continue
        if name == unified and not lock.origin and is_ours(path, settings.files.read):
            # lock_state() compares it.
            continue
        try:
            other = lock_in(path, lock.platform, settings)
        except LockfileError as error:
            yield f"{name} is not used, because {used} comes first, and cannot be: {error.message}"
            continue
        if _files_of(other) != _files_of(lock):
            yield f"{name} is not used, because {used} comes first, and locks other packages"


def lock_in(path: Path, platform: str, settings: Settings) -> Lock:
    """Return what a lockfile of several platforms has for one; it can lack sums of packages.

    Raises LockfileError, FileNotFoundError.
    """
    if path == conda_lock_path(settings):
        from condainer.lock import conda_lock

        return conda_lock.read(path, platform, partial=True, read=settings.files.read)
    from condainer.lock import rattler_lock

    environment = environment_of(settings)
    return rattler_lock.read(path, platform, environment, True, settings.files.read)


def _files_of(lock: Lock) -> set[tuple[str, str]]:
    """Return the packages of a lock, without their hashes, of which one can be unknown."""
    files = {(package.subdir, package.filename) for package in lock.conda}
    return files | {("", package.filename) for package in lock.pip}
