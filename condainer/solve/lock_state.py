"""Whether a project's lock is current."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from condainer.inputs.missing import no_environment_file
from condainer.lock.explicit import (
    OURS,
    REMEDY,
    checked,
    is_ours,
    read_explicit,
)
from condainer.lock.lock_paths import conda_lock_path, lockfile_path
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
from condainer.settings.environments import name_in
from condainer.settings.input_files import ENVIRONMENT_FILES
from condainer.solve.other_locks import (
    check_choice,
    environment_of,
    is_of_another_tool,
    lock_in,
    rattler_lock_of,
    unused_rattler_lock,
)
from condainer.system.environments import package_places
from condainer.system.errors import CondainerError, LockfileError, NotBuiltError
from condainer.system.machine import this_platform
from condainer.system.text import CONFLICT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from condainer.inputs.inputs import Inputs


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
    from condainer.inputs import read

    return read.read_inputs(settings, platform)


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
    check_choice(state.lock or state.partial, settings)
    lock, path = state.lock, conda_lock_path(settings)
    if state.status != "current" or lock is None or not lock.sources or lock.origin:
        return state
    explicit = lockfile_path(settings, lock.platform)
    both = settings.files.is_file(explicit) and settings.files.is_file(path)
    if both and not _agrees(path, lock, settings):
        return LockState("stale", lock, f"{path.name} does not agree with {explicit.name}")
    return state


def demanded(settings: Settings, command: str) -> Lock:
    """Return the lock of a project, current or not; raises NotBuiltError that names a command."""
    state = lock_state(settings)
    if state.lock is None:
        raise not_current(state, settings, f"Run `cnd {command}{settings.option}` first.")
    return state.lock


def not_current(
    state: LockState,
    settings: Settings,
    hint: str,
    error: type[CondainerError] = NotBuiltError,
    told: str = "",
) -> CondainerError:
    """Return the error of a lock that is missing or stale, or of no inputs to make one from.

    Parameters: `told` says it of platforms by their names, where `state` is that of the first.
    """
    if state.status == "missing" and not settings.files.is_there(settings.environment_yml):
        nothing = no_environment_file(settings.environment_yml)
        return error(f"{nothing.message}, and no lock", nothing.hint)
    if told:
        return error(f"The lock of {settings.title} for {told}", hint)
    return error(f"The lock of {settings.title} is {state.status}: {state.reason}", hint)


def _frozen(settings: Settings, platform: str) -> Lock | None:
    """Return the lock of our own file, without a look at what it was made from."""
    path = lockfile_path(settings, platform)
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
    theirs = set()
    for item in rest.split("\n- "):
        lines = item.split("\n")
        if f"  platform: {lock.platform}" in lines:
            url = "".join([line[7:] for line in lines if line.startswith("  url: ")])
            digest = "".join([line[12:] for line in lines if line.startswith("    sha256: ")])
            theirs.add((url, "" if url.startswith(VCS) else digest))
    wanted = {(package.url, package.sha256) for package in lock.conda}
    return theirs == wanted | {(package.url, package.sha256) for package in lock.pip}


def _state(settings: Settings, platform: str) -> LockState:
    path = lockfile_path(settings, platform)
    try:
        lock = read_explicit(path, platform, partial=True, read=settings.files.read)
    except FileNotFoundError:
        return _state_of_others(settings, platform)
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
        if _unchanged(lock, settings) and lock.environment in ("", environment_of(settings)):
            return LockState("current", lock)
        return _state_of_others(settings, platform)
    if lock.post_link_scripts != settings.post_link_scripts:
        return LockState("stale", lock, "`post_link_scripts` has changed")
    if moved := _moved(lock):
        return LockState("stale", lock, f"{moved} changed since it was locked")
    same = same_files(lock, settings) and _is_of_environment(lock, settings)
    if same and not (settings.virtual_packages or lock.virtual):
        return LockState("current", lock)
    theirs = rattler_lock_of(settings) if is_of_another_tool(settings) else None
    if theirs is not None and not same:
        return _state_of_another_tool(theirs, settings, platform)
    inputs = read_inputs(settings, platform)
    if inputs.fingerprint() == lock.inputs:
        return LockState("current", replace(lock, name=inputs.name))
    return LockState("stale", lock, f"{_changed(lock, settings)} changed since it was locked")


def _moved(lock: Lock) -> str:
    """Return the variable that names other places of pip packages than those of a lock.

    One that is not set names none: a clone elsewhere has the lock's own URLs.
    """
    known = dict(lock.places)
    now = package_places() if lock.pip else ()
    return next((name for name, value in now if value != known.get(name)), "")


def _is_of_environment(lock: Lock, settings: Settings) -> bool:
    """Tell whether a lock of ours is of the environment that is chosen, if there are several."""
    if not lock.environment:
        return settings.environment is None
    return lock.environment == environment_of(settings)


def _partial(lock: Lock, settings: Settings, origin: str) -> LockState:
    """Take over a lock that has md5 sums, with what an earlier build found out."""
    from condainer.solve import completion

    completed = completion.kept(replace(lock, origin=origin), settings)
    if completed is not None and _unchanged(completed, settings):
        whole = replace(completed, post_link_scripts=settings.post_link_scripts)
        return LockState("current", whole)
    ours = _taken_over(lock, settings, origin)
    # Its URLs and names are held to the rules before anything is looked up.
    known = tuple(CondaPackage(package.url, package.sha256 or "0" * 64) for package in lock.conda)
    checked(replace(ours, conda=known), str(settings.project / origin))
    if completed is not None:
        return LockState("current", replace(ours, conda=completed.conda))
    return LockState("stale", None, f"{origin} has md5 sums only", ours)


def same_files(lock: Lock, settings: Settings) -> bool:
    """Tell whether the files named by the settings are, byte for byte, those that were locked."""
    return _unchanged(lock, settings) and not _unlocked(lock, settings)


def _unlocked(lock: Lock, settings: Settings) -> list[str]:
    """Return the files named by the settings that a lock was not made from."""
    named = {source.path for source in lock.sources}
    wanted = [settings.environment_yml]
    if settings.environment_yml.suffix != ".toml":
        wanted.append(settings.requirements_txt)
    paths = [os.path.relpath(path, settings.project) for path in wanted]
    return [path for path in paths if path not in named]


def _unchanged(lock: Lock, settings: Settings) -> bool:
    return sources_unchanged(lock, settings.project, settings.files.read)


def _changed(lock: Lock, settings: Settings) -> str:
    changed = [
        source.path
        for source in lock.sources
        if file_digest(source.place(settings.project), settings.files.read) != source.sha256
    ]
    if not changed and same_files(lock, settings):
        same = _is_of_environment(lock, settings)
        return "`virtual_packages`" if same else "`environment`"
    return " and ".join(dict.fromkeys((*changed, *_unlocked(lock, settings))))


def _state_of_others(settings: Settings, platform: str) -> LockState:
    """Take the lock from the first lockfile there is that holds several platforms."""
    path = conda_lock_path(settings)
    if settings.files.is_file(path):
        return _state_of_conda_lock(path, settings, platform)
    theirs = rattler_lock_of(settings)
    if theirs is not None:
        return _state_of_another_tool(theirs, settings, platform)
    reason = f"there is no {lockfile_path(settings, platform).name}"
    if unused := unused_rattler_lock(settings):
        reason += f", and {unused}"
    return LockState("missing", None, reason)


def _state_of_another_tool(path: Path, settings: Settings, platform: str) -> LockState:
    """Take the lock from a file that another tool wrote, as it is."""
    lock = lock_in(path, platform, settings)
    if lock.is_partial:
        return _partial(lock, settings, path.name)
    return LockState("current", checked(_taken_over(lock, settings, path.name), str(path)))


def _state_of_conda_lock(path: Path, settings: Settings, platform: str) -> LockState:
    """Take the lock from a conda-lock.yml, ours or another tool's."""
    from condainer.solve import conda_lock_file

    read = settings.files.read
    if not is_ours(path, read):
        return _state_of_another_tool(path, settings, platform)
    content = conda_lock_file.parse(path, read)
    hashes = conda_lock_file.existing_hashes(content)
    if content and platform not in hashes:
        return LockState("missing", None, f"{path.name} does not lock {platform}")
    lock = lock_in(path, platform, settings)
    inputs = read_inputs(settings, platform)
    if hashes.get(platform) != inputs.fingerprint():
        return LockState("stale", lock, f"{path.name} was made from other inputs")
    return LockState("current", checked(described(lock, inputs), str(path)))


def _taken_over(lock: Lock, settings: Settings, origin: str = "") -> Lock:
    """Complete another tool's lock with what such a file does not hold: name and variables."""
    path = settings.environment_yml
    if path.suffix == ".toml":
        # It has nothing that goes with a lock; but an environment file that appears would.
        path = settings.project / ENVIRONMENT_FILES[0]
    there = settings.files.is_file(path)
    inputs = read_inputs(settings, lock.platform) if there else None
    sources: tuple[Source, ...] = ()
    if origin:
        files = (settings.project / origin, path)
        sources = tuple(source_of(path, settings.project, settings.files.read) for path in files)
    return replace(
        lock,
        name=inputs.name if inputs else name_in(settings.project, settings),
        variables=inputs.variables if inputs else (),
        extras=inputs.extras if inputs else (),
        post_link_scripts=settings.post_link_scripts,
        inputs=inputs.fingerprint() if inputs and origin else "0" * 64 if origin else "",
        sources=sources,
        origin=origin,
    )


def described(lock: Lock, inputs: Inputs) -> Lock:
    """Complete a solution with what inputs and variables say beside the packages."""
    return replace(
        lock,
        variables=inputs.variables,
        post_link_scripts=inputs.post_link_scripts,
        inputs=inputs.fingerprint(),
        sources=inputs.sources,
        name=inputs.name,
        environment=inputs.environment,
        extras=inputs.extras,
        places=package_places() if lock.pip else (),
    )
