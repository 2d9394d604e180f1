"""What `cnd lock` does: which platforms need solving, what may move, and what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer.inputs.read import declared_platforms, read_inputs
from condainer.lock.explicit import is_ours, is_taken_over, render_explicit
from condainer.lock.lock_paths import CONDA_LOCK, LOCKFILE, MAKERS, conda_lock_path, lockfile_path
from condainer.lock.locks import CondaPackage, Lock, PipPackage, pip_name
from condainer.settings.config import Settings
from condainer.solve import conda_lock_file
from condainer.solve.conda_lock_file import Solution
from condainer.solve.lock_state import LockState, lock_state, not_current
from condainer.solve.other_locks import rattler_lock_of, unused_rattler_lock
from condainer.system.errors import InputError, LockfileError, SolveError, StaleLockError
from condainer.system.files import stand_somewhere, storage_errors
from condainer.system.machine import this_platform
from condainer.system.reporter import Reporter
from condainer.system.text import did_you_mean

# In an explicit lockfile, so that solving again does not try to make it.
WITHOUT = f"# without {CONDA_LOCK}:"
PLATFORMS = (
    *("linux-64", "linux-aarch64", "linux-ppc64le", "linux-riscv64", "linux-s390x"),
    *("linux-32", "linux-armv6l", "linux-armv7l"),
    *("osx-64", "osx-arm64", "win-64", "win-arm64", "win-32"),
)


@dataclass(frozen=True)
class Wish:
    """What the user wants of a lock.

    `platforms` are those to lock, by default the project's; `update` names packages that may move
    while all others stay; `upgrade` lets everything move.
    """

    platforms: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    upgrade: bool = False


@dataclass(frozen=True)
class Relocked:
    """The lock of one platform, before and after; `solved` is None if there was nothing to do."""

    platform: str
    reason: str
    old: Lock | None
    new: Lock
    solved: Solution | None


def wanted_platforms(settings: Settings, named: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the platforms to lock: those named, else those of environment.yml.

    Where that names none, it is this machine's and all that the project has lockfiles of ours for.
    Raises InputError for what is no platform.
    """
    if named:
        platforms = tuple(dict.fromkeys(named))
    else:
        this = this_platform()
        there = settings.files.is_there(settings.environment_yml)
        declared = declared_platforms(settings, this) if there else ()
        platforms = declared or tuple(dict.fromkeys((this, *_locked_platforms(settings))))
    for platform in platforms:
        if platform not in PLATFORMS:
            known = f"Known are {', '.join(PLATFORMS)}."
            where = "" if named else f"{settings.environment_yml}: `platforms`: "
            raise InputError(
                f"{where}{platform!r} is not a platform", did_you_mean(platform, PLATFORMS, known)
            )
    return platforms


def _locked_platforms(settings: Settings) -> list[str]:
    platforms = set(conda_lock_file.existing_hashes(_unified(settings)))
    for path in settings.project.glob("conda-*.lock"):
        match = LOCKFILE.fullmatch(path.name)
        # Each environment has its own.
        if not match or path != lockfile_path(settings, match["platform"]):
            continue
        if settings.files.is_file(path) and is_ours(path, settings.files.read):
            platforms.add(match["platform"])
    return sorted(platforms)


def _unified(settings: Settings) -> Mapping[str, Any]:
    return conda_lock_file.parse(conda_lock_path(settings), settings.files.read)


def check(settings: Settings, platforms: Sequence[str]) -> list[tuple[str, LockState]]:
    """Return the state of the lock of each platform, without solving."""
    return [(platform, lock_state(settings, platform)) for platform in platforms]


def demand(states: Sequence[tuple[str, LockState]], settings: Settings) -> None:
    """Raise StaleLockError, with the reasons, unless all platforms are locked."""
    bad = [(platform, state) for platform, state in states if state.status != "current"]
    if bad:
        reasons = [f"{platform} is {state.status}: {state.reason}" for platform, state in bad]
        # The lock of another tool is completed, and not solved again.
        command = "build" if all(state.partial for _, state in bad) else "lock"
        hint = f"Run `cnd {command}{settings.option}`."
        raise not_current(bad[0][1], settings, hint, StaleLockError, "; for ".join(reasons))


def relock(settings: Settings, wish: Wish, reporter: Reporter) -> tuple[Relocked, ...]:
    """Return the locks of a project as they should be; nothing is written into it.

    What an older lock has and what still fits stays. Raises StaleLockError if solving is needed
    but `locked` forbids it, LockfileError if another tool's file would be overwritten.
    """
    stand_somewhere(settings.project)
    platforms = wanted_platforms(settings, wish.platforms)
    states = {platform: _state_or_none(settings, platform) for platform in platforms}
    reasons = {p: _reason(state, wish, settings) for p, state in states.items()}
    others = _of_another_tool(settings, platforms)
    if settings.locked and (others or any(reasons.values())):
        raise StaleLockError("Solving is forbidden by `locked`", "Unset CONDAINER_LOCKED.")
    if others:
        raise _used_as_it_is(others[0])
    if any(reasons.values()):
        if unused := unused_rattler_lock(settings):
            reporter.warn(unused)
        # conda-lock.yml is written as a whole.
        there = conda_lock_file.existing_hashes(_unified(settings))
        name = conda_lock_path(settings).name
        for platform in platforms:
            absent = "" if platform in there else f"{name} does not have it"
            reasons[platform] = reasons[platform] or absent
    relocked = tuple(
        _relocked(platform, reasons[platform], state.lock, wish, settings, reporter)
        for platform, state in states.items()
    )
    _check_names(wish.update, [lock for item in relocked for lock in (item.old, item.new) if lock])
    return relocked


def steps(settings: Settings, wish: Wish) -> list[str]:
    """Return what relock() and write() would do, without solving; raises LockfileError as they."""
    platforms = wanted_platforms(settings, wish.platforms)
    if others := _of_another_tool(settings, platforms):
        raise _used_as_it_is(others[0])
    result = []
    for platform in platforms:
        state = _state_or_none(settings, platform)
        path = lockfile_path(settings, platform)
        if reason := _reason(state, wish, settings):
            result.append(f"solve for {platform}, because {reason}, and write {path}")
        else:
            result.append(f"keep {path}, which is current")
    if any(step.startswith("solve") for step in result):
        result.append(f"write {conda_lock_path(settings)}")
    return result


def _state_or_none(settings: Settings, platform: str) -> LockState:
    """Return the state of a lock; a damaged one of ours counts as missing."""
    try:
        return lock_state(settings, platform)
    except LockfileError as error:
        return LockState("missing", None, error.message)


def _reason(state: LockState, wish: Wish, settings: Settings) -> str:
    """Return why there is something to solve, or nothing if there is not."""
    if state.status != "current":
        return state.reason
    if wish.upgrade:
        return "everything may be upgraded"
    if wish.update:
        return f"{', '.join(wish.update)} may move"
    # What it holds beside the explicit lockfile is known to the channels only.
    if settings.locked or settings.files.is_there(conda_lock_path(settings)):
        return ""
    path = lockfile_path(settings, state.lock.platform) if state.lock else None
    files = settings.files
    known = path is not None and files.is_file(path) and f"\n{WITHOUT}".encode() in files.read(path)
    return "" if known else f"there is no {conda_lock_path(settings).name}"


def _check_names(names: Sequence[str], locks: Sequence[Lock]) -> None:
    known = {package.name for lock in locks for package in lock.conda}
    known |= {pip_name(package.name) for lock in locks for package in lock.pip}
    for name in names:
        if name.lower() not in known and pip_name(name) not in known:
            hint = "`cnd show` of a lockfile lists them."
            raise InputError(
                f"The lock has no package {name!r}",
                did_you_mean(name.lower(), sorted(known), hint),
            )


def _relocked(
    platform: str,
    reason: str,
    old: Lock | None,
    wish: Wish,
    settings: Settings,
    reporter: Reporter,
) -> Relocked:
    if not reason and old is not None:
        return Relocked(platform, "", old, old, None)
    # A lock that is current needs neither the network nor the engines.
    from condainer.solve.solution import solution

    inputs = read_inputs(settings, platform)
    conda, pip = _held(old, wish)
    noted = old.references if old is not None else ()
    try:
        solved = solution(inputs, settings, reporter, conda, pip, noted)
    except (InputError, SolveError) as error:
        if platform != this_platform():
            error.message = f"For {platform}: {error.message}"
            own = f"cnd lock{settings.option} --platform {this_platform()}"
            error.hint += f" `{own}` locks for this machine only."
        raise
    return Relocked(platform, reason, old, solved.lock, solved)


def _held(old: Lock | None, wish: Wish) -> tuple[tuple[CondaPackage, ...], tuple[PipPackage, ...]]:
    """Return the packages of an old lock that should stay where they are."""
    if old is None or wish.upgrade:
        return (), ()
    free = {pip_name(name) for name in wish.update} | {name.lower() for name in wish.update}
    return (
        tuple(package for package in old.conda if package.name not in free),
        tuple(package for package in old.pip if pip_name(package.name) not in free),
    )


def _of_another_tool(settings: Settings, platforms: Sequence[str]) -> list[Path]:
    files = [lockfile_path(settings, platform) for platform in platforms]
    files.append(conda_lock_path(settings))
    seen = settings.files
    foreign = [path for path in files if seen.is_there(path) and not is_ours(path, seen.read)]
    theirs = rattler_lock_of(settings)
    if theirs is not None and not foreign:
        ours = [seen.read(path) for path in files if seen.is_file(path)]
        return [theirs] if all(map(is_taken_over, ours)) else []
    return foreign


def _used_as_it_is(path: Path) -> LockfileError:
    hint = "Delete it or move it away to let Condainer solve and write its own."
    if path.name in MAKERS:
        hint = f"`{MAKERS[path.name]}` makes it; `cnd build` takes what it has."
    return LockfileError(f"{path} was written by another tool, and is used as it is", hint)


def write(relocked: Sequence[Relocked], settings: Settings, reporter: Reporter) -> list[Path]:
    """Write the lockfiles of what was solved, each atomically; return those that are there."""
    solutions = [item.solved for item in relocked if item.solved is not None]
    remark = ""
    remedy = f"Make it possible to write in {settings.project}, or lock in a copy of it."
    with storage_errors("write the lockfiles", remedy):
        if solutions:
            reporter.step("Writing the lockfiles")
            remark = _write_unified(settings, solutions, reporter)
        for item in relocked:
            path = lockfile_path(settings, item.platform)
            if item.solved is not None or not settings.files.is_there(path):
                text = render_explicit(item.new)
                text = text.replace("\n@EXPLICIT\n", f"\n{remark}@EXPLICIT\n", 1)
                settings.files.publish(path, text)
        reporter.finish()
    paths = [lockfile_path(settings, item.platform) for item in relocked]
    there = settings.files.is_there
    return [path for path in (*paths, conda_lock_path(settings)) if there(path)]


def _write_unified(settings: Settings, solutions: Sequence[Solution], reporter: Reporter) -> str:
    """Write conda-lock.yml if that can be; else return the remark for the explicit lockfiles."""
    path = conda_lock_path(settings)
    without_md5 = [item.name for solved in solutions for item in solved.conda if not item.md5]
    if not without_md5:
        settings.files.publish(path, conda_lock_file.render(solutions, _unified(settings)))
        return ""
    names = ", ".join(dict.fromkeys(without_md5))
    reporter.warn(
        f"{path.name} is not written: its format needs an md5, which the channel does "
        f"not give for {names}"
    )
    settings.files.remove(path)
    return f"{WITHOUT} the channel gives no md5 of {names}\n"
