"""Whether a project's lock is current."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from condainer.lock.explicit import (
    OURS,
    REMEDY,
    checked,
    is_ours,
    lockfile_path,
    read_explicit,
    render_explicit,
)
from condainer.lock.locks import (
    VCS,
    CondaPackage,
    Lock,
    Source,
    file_digest,
    source_of,
    sources_unchanged,
)
from condainer.settings.config import Settings
from condainer.system.errors import LockfileError, StaleLockError
from condainer.system.platforms import this_platform
from condainer.system.reporter import Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from condainer.inputs.environment_yml import Inputs

CONDA_LOCK = "conda-lock.yml"
# What git leaves in a file that two sides have changed.
CONFLICT = re.compile(r"^(<{7}|={7}|>{7})", re.MULTILINE)


@dataclass(frozen=True)
class LockState:
    """What the lock of a project is worth; `reason` says why it is not current.

    `partial` is a lock of another tool whose sha256s the next build has to look up.
    """

    status: Literal["current", "stale", "missing"]
    lock: Lock | None
    reason: str = ""
    partial: Lock | None = None


def read_inputs(settings: Settings, platform: str) -> Inputs:
    """Read the inputs, which is not needed, and YAML neither, while they have the locked bytes."""
    from condainer.inputs import environment_yml

    return environment_yml.read_inputs(settings, platform)


def lock_state(settings: Settings, platform: str = "") -> LockState:
    """Compare the lock of a project with its inputs, without solving anything.

    This decides for every command; a frozen lock is taken as it is. Input files with the bytes that
    were locked are not even parsed; conda-lock.yml, if it is there, must agree with the explicit
    lockfile, or a merge went wrong.
    Parameters: `platform` is this machine's by default. Raises LockfileError for a damaged
    lockfile, InputError for inputs that cannot be read.
    """
    platform = platform or this_platform()
    if settings.frozen and (frozen := _frozen(settings, platform)) is not None:
        return LockState("current", frozen)
    state = _state(settings, platform)
    lock, path = state.lock, settings.project / CONDA_LOCK
    if state.status != "current" or lock is None or not lock.sources or lock.origin:
        return state
    explicit = lockfile_path(settings.project, lock.platform)
    both = settings.files.is_file(explicit) and settings.files.is_file(path)
    if both and not _agrees(path, lock, settings):
        return LockState("stale", lock, f"{CONDA_LOCK} does not agree with {explicit.name}")
    return state


def _frozen(settings: Settings, platform: str) -> Lock | None:
    """Return the lock of our own file, without a look at what it was made from."""
    path = lockfile_path(settings.project, platform)
    with suppress(OSError):
        lock = read_explicit(path, platform, partial=True, read=settings.files.read)
        if lock.origin:
            lock = replace(lock, post_link_scripts=settings.post_link_scripts)
        return lock if lock.sources else None
    return None


def _agrees(path: Path, lock: Lock, settings: Settings) -> bool:
    if _plainly_agrees(settings.files.read_text(path, errors="replace"), lock):
        return True
    from condainer.solve import conda_lock_file

    return conda_lock_file.agrees(conda_lock_file.parse(path, settings.files.read), lock)


def _plainly_agrees(text: str, lock: Lock) -> bool:
    """Tell whether a conda-lock.yml is as we write it, with the packages of a lock.

    That is seen without YAML, which a hit does not need; where it is not, YAML decides.
    """
    head, _, rest = text.partition("\npackage:\n- ")
    same = f"\n    {lock.platform}: {lock.inputs}\n" in head and head.startswith(OURS)
    if not same or CONFLICT.search(text):
        return False
    found = set()
    for item in rest.split("\n- "):
        lines = item.split("\n")
        if f"  platform: {lock.platform}" in lines:
            url = "".join([line[7:] for line in lines if line.startswith("  url: ")])
            digest = "".join([line[12:] for line in lines if line.startswith("    sha256: ")])
            found.add((url, "" if url.startswith(VCS) else digest))
    wanted = {(package.url, package.sha256) for package in lock.conda}
    return found == wanted | {(package.url, package.sha256) for package in lock.pip}


def _state(settings: Settings, platform: str) -> LockState:
    path = lockfile_path(settings.project, platform)
    try:
        lock = read_explicit(path, platform, partial=True, read=settings.files.read)
    except FileNotFoundError:
        return _state_of_conda_lock(settings, platform)
    except OSError as error:
        raise LockfileError(f"{path}: cannot be read: {error.strerror}") from None
    if not lock.sources:
        if is_ours(path, settings.files.read):
            raise LockfileError(f"{path}: the header is incomplete", REMEDY)
        if lock.is_partial:
            return _partial(lock, settings, path.name)
        return LockState("current", _taken_over(lock, settings))
    if lock.origin:
        lock = replace(lock, post_link_scripts=settings.post_link_scripts)
        unchanged = _unchanged(lock, settings)
        return LockState("current", lock) if unchanged else _state_of_conda_lock(settings, platform)
    if lock.post_link_scripts != settings.post_link_scripts:
        return LockState("stale", lock, "`post_link_scripts` has changed")
    if same_files(lock, settings) and not (settings.virtual_packages or lock.virtual):
        return LockState("current", lock)
    inputs = read_inputs(settings, platform)
    if inputs.fingerprint() == lock.inputs:
        return LockState("current", replace(lock, name=inputs.name))
    return LockState("stale", lock, f"{_changed(lock, settings)} changed since it was locked")


def _partial(lock: Lock, settings: Settings, origin: str) -> LockState:
    """Take over a lock that has md5 sums, with what an earlier build found out."""
    from condainer.solve import completion

    found = completion.kept(replace(lock, origin=origin), settings)
    if found is not None and _unchanged(found, settings):
        whole = replace(found, post_link_scripts=settings.post_link_scripts)
        return LockState("current", whole)
    ours = _taken_over(lock, settings, origin)
    # Its URLs and names are held to the rules before anything is looked up.
    known = tuple(CondaPackage(package.url, package.sha256 or "0" * 64) for package in lock.conda)
    checked(replace(ours, conda=known), str(settings.project / origin))
    if found is not None:
        return LockState("current", replace(ours, conda=found.conda))
    return LockState("stale", None, f"{origin} has md5 sums only", ours)


def same_files(lock: Lock, settings: Settings) -> bool:
    """Tell whether the files named by the settings are, byte for byte, those that were locked."""
    if not _unchanged(lock, settings):
        return False
    named = {source.path for source in lock.sources}
    wanted = (settings.environment_yml, settings.requirements_txt)
    return all(os.path.relpath(path, settings.project) in named for path in wanted)


def _unchanged(lock: Lock, settings: Settings) -> bool:
    return sources_unchanged(lock, settings.project, settings.files.read)


def _changed(lock: Lock, settings: Settings) -> str:
    changed = [
        source.path
        for source in lock.sources
        if file_digest(source.place(settings.project), settings.files.read) != source.sha256
    ]
    if not changed and same_files(lock, settings):
        return "`virtual_packages`"
    return " and ".join(changed) or "The names of the input files"


def _state_of_conda_lock(settings: Settings, platform: str) -> LockState:
    """Take the lock from a conda-lock.yml: as it is if another tool wrote it."""
    path = settings.project / CONDA_LOCK
    if not settings.files.is_file(path):
        return LockState("missing", None, f"there is no {lockfile_path(Path(), platform)}")
    from condainer.lock import conda_lock
    from condainer.solve import conda_lock_file

    read = settings.files.read
    ours = is_ours(path, read)
    content = conda_lock_file.parse(path, read) if ours else {}
    if content and platform not in conda_lock_file.existing_hashes(content):
        return LockState("missing", None, f"{CONDA_LOCK} does not lock {platform}")
    lock = conda_lock.read(path, platform, partial=True, read=read)
    if not ours:
        if lock.is_partial:
            return _partial(lock, settings, CONDA_LOCK)
        return LockState("current", checked(_taken_over(lock, settings, CONDA_LOCK), str(path)))
    inputs = read_inputs(settings, platform)
    if conda_lock_file.existing_hashes(content).get(platform) != inputs.fingerprint():
        return LockState("stale", lock, f"{CONDA_LOCK} was made from other inputs")
    return LockState("current", checked(described(lock, inputs), str(path)))


def _taken_over(lock: Lock, settings: Settings, origin: str = "") -> Lock:
    """Complete another tool's lock with what such a file does not hold: name and variables."""
    there = settings.files.is_file(settings.environment_yml)
    inputs = read_inputs(settings, lock.platform) if there else None
    sources: tuple[Source, ...] = ()
    if origin:
        files = (settings.project / origin, settings.environment_yml)
        sources = tuple(source_of(path, settings.project, settings.files.read) for path in files)
    return replace(
        lock,
        name=inputs.name if inputs else settings.project.name,
        variables=inputs.variables if inputs else (),
        post_link_scripts=settings.post_link_scripts,
        inputs=inputs.fingerprint() if inputs and origin else "0" * 64 if origin else "",
        sources=sources,
        origin=origin,
    )


def _any(lock: Lock | None) -> None:
    """Take every lock."""


def ensure_lock(
    settings: Settings, reporter: Reporter, admit: Callable[[Lock | None], None] = _any
) -> tuple[Lock, bool]:
    """Return a current lock of the project, and whether it had to be solved for.

    Parameters: `admit` raises what speaks against writing a lock; it is also asked before there is
    one (None). Raises StaleLockError when solving is needed but `locked` forbids it.
    """
    state = lock_state(settings)
    if state.status == "current" and state.lock is not None:
        path = lockfile_path(settings.project, state.lock.platform)
        if state.lock.sources and not settings.files.is_there(path):
            admit(state.lock)
            try:
                settings.files.publish(path, render_explicit(state.lock))
            except OSError as error:
                # It only spares reading conda-lock.yml the next time.
                reporter.warn(f"{path} cannot be written: {error.strerror}")
        return state.lock, False
    if state.partial is not None:
        # Nothing is solved: the md5 sums say which packages they are.
        from condainer.solve import completion

        admit(None)
        return completion.complete(state.partial, settings, reporter), False
    if settings.locked:
        raise StaleLockError(
            f"The lock of {settings.project} is {state.status}: {state.reason}",
            "Run `cnd lock` where solving is allowed, and commit the lockfiles.",
        )
    from condainer.solve import relock

    admit(None)
    (made,) = relock.relock(settings, relock.Wish((this_platform(),)), reporter)
    admit(made.new)
    relock.write((made,), settings, reporter)
    return made.new, True


def described(lock: Lock, inputs: Inputs) -> Lock:
    """Complete a solution with what the inputs say beside the packages."""
    return replace(
        lock,
        variables=inputs.variables,
        post_link_scripts=inputs.post_link_scripts,
        inputs=inputs.fingerprint(),
        sources=inputs.sources,
        name=inputs.name,
    )
