"""Whether a project's lock is current, and how it becomes so."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from condainer.config import STAGE, Settings
from condainer.errors import InputError, LockfileError, StaleLockError
from condainer.explicit import OURS, REMEDY, checked, lockfile_path, read_explicit, render_explicit
from condainer.files import publish_text, read_text, storage_errors
from condainer.lock import (
    CondaPackage,
    Lock,
    PipPackage,
    Source,
    source_of,
    sources_unchanged,
    this_platform,
)
from condainer.report import Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from condainer.inputs import Inputs
    from condainer.solver import Solved

CONDA_LOCK = "conda-lock.yml"


@dataclass(frozen=True)
class LockState:
    """What the lock of a project is worth; `reason` says why it is not current."""

    status: Literal["current", "stale", "missing"]
    lock: Lock | None
    reason: str = ""


def read_inputs(settings: Settings, platform: str) -> Inputs:
    """Read the inputs, which is not needed, and YAML neither, while they have the locked bytes."""
    from condainer import inputs

    return inputs.read_inputs(settings, platform)


def lock_state(settings: Settings) -> LockState:
    """Compare the lock of a project with its inputs, without solving anything.

    Input files with the bytes that were locked are not even parsed. Raises LockfileError for a
    damaged lockfile, InputError for inputs that cannot be read.
    """
    platform = this_platform()
    path = lockfile_path(settings.project, platform)
    try:
        lock = read_explicit(path, platform)
    except FileNotFoundError:
        return _state_of_conda_lock(settings, platform)
    except OSError as error:
        raise LockfileError(f"{path}: cannot be read: {error.strerror}") from None
    if not lock.sources:
        if _is_ours(path):
            raise LockfileError(f"{path}: the header is incomplete", REMEDY)
        return LockState("current", _taken_over(lock, settings))
    if lock.origin:
        lock = replace(lock, post_link_scripts=settings.post_link_scripts)
        unchanged = sources_unchanged(lock, settings.project)
        return LockState("current", lock) if unchanged else _state_of_conda_lock(settings, platform)
    if lock.post_link_scripts != settings.post_link_scripts:
        return LockState("stale", lock, "`post_link_scripts` has changed")
    if sources_unchanged(lock, settings.project) and _same_files(lock, settings):
        return LockState("current", lock)
    inputs = read_inputs(settings, platform)
    if inputs.fingerprint() == lock.inputs:
        return LockState("current", replace(lock, name=inputs.name))
    return LockState("stale", lock, f"{_changed(lock, settings)} changed since it was locked")


def _same_files(lock: Lock, settings: Settings) -> bool:
    """Tell whether the files named by the settings are still the ones that were locked."""
    named = {source.path for source in lock.sources}
    wanted = (settings.environment_yml, settings.requirements_txt)
    return all(source_of(path, settings.project).path in named for path in wanted)


def _changed(lock: Lock, settings: Settings) -> str:
    changed = [
        source.path
        for source in lock.sources
        if source_of(settings.project / source.path, settings.project) != source
    ]
    return " and ".join(changed) or "The names of the input files"


def _state_of_conda_lock(settings: Settings, platform: str) -> LockState:
    """Take the lock from a conda-lock.yml: as it is if another tool wrote it."""
    path = settings.project / CONDA_LOCK
    if not path.is_file():
        return LockState("missing", None, f"there is no {lockfile_path(Path(), platform)}")
    from condainer import condalock

    lock = condalock.read(path, platform)
    if not _is_ours(path):
        return LockState("current", checked(_taken_over(lock, settings, CONDA_LOCK), str(path)))
    inputs = read_inputs(settings, platform)
    if condalock.content_hash(path, platform) != inputs.fingerprint():
        return LockState("stale", None, f"{CONDA_LOCK} was made from other inputs")
    return LockState("current", checked(_described(lock, inputs), str(path)))


def _taken_over(lock: Lock, settings: Settings, origin: str = "") -> Lock:
    """Complete another tool's lock with what such a file does not hold: name and variables."""
    inputs = read_inputs(settings, lock.platform) if settings.environment_yml.is_file() else None
    sources: tuple[Source, ...] = ()
    if origin:
        files = (settings.project / origin, settings.environment_yml)
        sources = tuple(source_of(path, settings.project) for path in files)
    return replace(
        lock,
        name=inputs.name if inputs else settings.project.name,
        variables=inputs.variables if inputs else (),
        post_link_scripts=settings.post_link_scripts,
        inputs=inputs.fingerprint() if inputs and origin else "0" * 64 if origin else "",
        sources=sources,
        origin=origin,
    )


def ensure_lock(settings: Settings, reporter: Reporter) -> tuple[Lock, bool]:
    """Return a current lock of the project, and whether it had to be solved for.

    Raises StaleLockError when solving is needed but `locked` forbids it.
    """
    state = lock_state(settings)
    if state.status == "current" and state.lock is not None:
        path = lockfile_path(settings.project, state.lock.platform)
        if state.lock.sources and not path.exists():
            try:
                publish_text(path, render_explicit(state.lock))
            except OSError as error:
                # It only spares reading conda-lock.yml the next time.
                reporter.warn(f"{path} cannot be written: {error.strerror}")
        return state.lock, False
    if settings.locked:
        raise StaleLockError(
            f"The lock of {settings.project} is {state.status}: {state.reason}",
            "Run `cnd lock` where solving is allowed, and commit the lockfiles.",
        )
    return make_lock(settings, reporter), True


def make_lock(settings: Settings, reporter: Reporter) -> Lock:
    """Solve for the project's inputs and write both lockfiles.

    Raises StaleLockError if `locked` forbids it, LockfileError if another tool's file would be
    overwritten.
    """
    from condainer.solver import solve

    if settings.locked:
        raise StaleLockError("Solving is forbidden by `locked`", "Unset CONDAINER_LOCKED.")
    _refuse_to_overwrite(settings)
    inputs = read_inputs(settings, this_platform())
    solved = solve(inputs, settings, reporter)
    pip = _resolve_pip(inputs, solved, settings, reporter) if inputs.requirements else ()
    packages = tuple(item.package for item in solved)
    lock = checked(_described(Lock(inputs.platform, packages, pip), inputs), "the solution")
    _write(lock, inputs, solved, settings, reporter)
    return lock


def _is_ours(path: Path) -> bool:
    try:
        return read_text(path, errors="replace").startswith(OURS)
    except OSError as error:
        raise LockfileError(f"{path}: cannot be read: {error.strerror}") from None


def _refuse_to_overwrite(settings: Settings) -> None:
    for path in (lockfile_path(settings.project, this_platform()), settings.project / CONDA_LOCK):
        if os.path.lexists(path) and not _is_ours(path):
            raise LockfileError(
                f"{path} was written by another tool, and is used as it is",
                "Delete it or move it away to let Condainer solve and write its own.",
            )


def _described(lock: Lock, inputs: Inputs) -> Lock:
    """Complete a solution with what the inputs say beside the packages."""
    return replace(
        lock,
        variables=inputs.variables,
        post_link_scripts=inputs.post_link_scripts,
        inputs=inputs.fingerprint(),
        sources=inputs.sources,
        name=inputs.name,
    )


def _resolve_pip(
    inputs: Inputs, solved: tuple[Solved, ...], settings: Settings, reporter: Reporter
) -> tuple[PipPackage, ...]:
    """Resolve the pip requirements against the conda packages, linked into a scratch prefix."""
    from condainer import packages, wheels
    from condainer.claims import claimed_directory

    conda: tuple[CondaPackage, ...] = tuple(item.package for item in solved)
    if not any(item.name == "python" for item in solved):
        raise InputError("The environment has pip requirements but no python")
    archives = packages.fetch(conda, settings, reporter)
    with storage_errors(f"work in {settings.staging_directory}"):
        settings.staging_directory.mkdir(parents=True, exist_ok=True)
        with claimed_directory(settings.staging_directory, STAGE) as scratch:
            prefix = scratch / "prefix"
            packages.link(archives, prefix, prefix, scratch, settings, reporter)
            resolved = wheels.resolve(inputs, prefix, scratch, reporter)
    if resolved.replaced:
        reporter.warn(
            "The pip requirements replace conda packages: " + ", ".join(resolved.replaced)
        )
    return resolved.packages


def _write(
    lock: Lock,
    inputs: Inputs,
    solved: tuple[Solved, ...],
    settings: Settings,
    reporter: Reporter,
) -> None:
    from condainer import condalock

    reporter.step("Writing the lockfiles")
    without_md5 = [item.name for item in solved if not item.md5]
    unified = settings.project / CONDA_LOCK
    path = lockfile_path(settings.project, lock.platform)
    remedy = f"Make it possible to write in {settings.project}, or lock in a copy of it."
    with storage_errors("write the lockfiles", remedy):
        if without_md5:
            reporter.warn(
                f"{CONDA_LOCK} is not written: its format needs an md5, which the channel does "
                f"not give for {', '.join(without_md5)}"
            )
            unified.unlink(missing_ok=True)
        else:
            condalock.write(unified, inputs, solved, lock.pip)
        publish_text(path, render_explicit(lock))
    reporter.finish()
