"""The writing of stamps: what the image of a project depends on, all of it."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from condainer import pipeline
from condainer.activate import default_variables, shell
from condainer.activate.scripts import names_of
from condainer.cache import entries, project_note, trust
from condainer.cache.entries import Entry
from condainer.lock.lock_paths import RATTLER_LOCKS, completed_path, conda_lock_path, lockfile_path
from condainer.lock.locks import Lock
from condainer.mount.safe_base import check_base
from condainer.pipeline import Built
from condainer.settings import config, input_files
from condainer.settings.config import Settings
from condainer.settings.load import load_settings
from condainer.solve import lock_state
from condainer.startup import stamp
from condainer.startup.stamp import CONTENT, DATED, DIGEST, FILE, LARGE, NUMBER, PLACE, TARGET
from condainer.system import ownership
from condainer.system.errors import CondainerError
from condainer.system.files import is_private_directory, make_directory, put
from condainer.system.machine import this_platform
from condainer.system.text import harmless, human_size

# Where a group may write, or another user's directory is on the way, membership decides on trust.
ACCOUNTS = ("/etc/passwd", "/etc/group")
# How long a stamp that is not renewed is kept, in seconds.
KEPT = 90 * 86400
# What stands between the seconds of a report that was printed and those of one to print.
SECONDS = '"seconds": '


def remember(
    settings: Settings,
    built: Built | None,
    told: bool = False,
    env: str = "",
    overrides: Sequence[str] = (),
) -> bool:
    """Write the stamp of a project whose image was found or built just now, if it can have one.

    Returns whether it was written. Parameters: without `built`, or when something was `told` that
    the next command has to tell, it serves to run commands only. The image of the name or address
    `env` has a stamp of its own for the settings `overrides` of the command line, and the settings
    its address. The image is looked up once more, and what it depends on is seen before and after
    that, so that the stamp holds what led to the image.
    """
    directory = stamp.named(str(settings.project), env, overrides, settings.asked)
    path = stamp.path_of(directory)
    # A signature is verified each time; a pin is a choice among all that a cache holds.
    pinned = settings.address is not None and not env
    if path is None or settings.trust == "signed" or pinned:
        return False
    # A ValueError is a path that this encoding cannot say.
    with suppress(OSError, ValueError, CondainerError):
        entry, lock = (
            (built.entry, built.lock) if built is not None else pipeline.current_entry(settings)
        )
        # Not every caller has: what runs inside of a private mount was trusted outside.
        trust.demand(entry, settings)
        plan = list(_plan(entry, lock, settings, Path(path).parent, env))
        known = dict(_known(plan, settings))
        seen = stamp.observed(directory, plan, known)
        again = load_settings(
            settings.project, overrides, files=settings.files, environment=settings.asked
        )
        if env:
            from condainer.cache import names

            again = replace(again, address=names.address(env, again))
        # What only forbids does not matter where nothing is made.
        freely = replace(settings, locked=again.locked, pull_only=again.pull_only)
        if again.of_user() != freely.of_user():
            # The command line, which a later call need not have, or the moment since then.
            return False
        if pipeline.current_entry(settings) != (entry, lock):
            return False
        facts = _facts(entry, lock, settings)
        if built is not None and not told:
            facts |= _as_told(built)
        # Without a lockfile, the lock was read from other files, which are not in the plan.
        locked = env or settings.files.is_file(lockfile_path(settings, this_platform()))
        same = stamp.observed(directory, plan, known) == seen
        if locked and same and _is_first(entry, settings):
            return _put(Path(path), stamp.render(facts, plan, seen))
    return False


def _known(plan: Sequence[bytes], settings: Settings) -> Iterator[tuple[bytes, bytes]]:
    """Yield what was seen of the project's files when they were read; they may differ by now."""
    for item in plan:
        kind, seen = item[:1], settings.files.seen(Path(os.fsdecode(item[1:])))
        if seen is None or kind not in (CONTENT, DIGEST, DATED):
            continue
        if seen.error is not None:
            yield item, stamp.absent(seen.error[0])
        elif kind == CONTENT:
            yield item, stamp.IS + seen.content
        elif kind == DIGEST:
            yield item, sha256(stamp.IS + seen.content).digest()
        elif seen.status is not None:
            yield item, stamp.dated(seen.status)


def _is_first(entry: Entry, settings: Settings) -> bool:
    """Tell whether an entry stands where it is looked for first, and nothing in caches before."""
    places = [entries.entry_directory(root, entry.address) for root in entries.roots(settings)]
    return next((place for place in places if os.path.lexists(place)), None) == entry.directory


def _plan(entry: Entry, lock: Lock, settings: Settings, stamps: Path, env: str) -> Iterator[bytes]:
    """Yield what to look at: all that decides which image a project has, and whether it is run.

    A user who may change the way to the stamps could put others in their place.
    """
    places = dict.fromkeys(_places(entry, settings))
    more = _leading_to(env, settings) if env else _of_project(lock, settings)
    places |= dict.fromkeys(more)
    places |= dict.fromkeys((PLACE, path) for path, _ in ownership.way_to(stamps))
    if any(kind in (PLACE, TARGET, DATED) and _is_shared(path) for kind, path in places):
        yield from (FILE + os.fsencode(path) for path in ACCOUNTS)
    for kind, path in places:
        large = kind == CONTENT and os.path.isfile(path) and os.path.getsize(path) > LARGE
        yield (DIGEST if large else kind) + os.fsencode(path)


def _is_shared(path: Path | str) -> bool:
    """Tell whether groups decide on a place: one may write it, or it belongs to another user."""
    try:
        states = [os.stat(path), os.lstat(path)]
    except OSError:
        return False
    if any(status.st_uid not in ownership.ours() for status in states):
        return True
    mode = states[0].st_mode
    return bool(mode & stat.S_IWGRP) and not mode & stat.S_IWOTH


def _of_project(lock: Lock, settings: Settings) -> Iterator[tuple[bytes, Path | str]]:
    """Yield what decides that this is the lock of the project, and its activation current."""
    where, scripts = settings.project, names_of(settings)
    yield DATED, where / scripts[0]
    if settings.wrappers is not None:
        yield PLACE, settings.wrappers / "bin"
    yield from ((CONTENT, path) for path in _inputs(lock, settings))
    yield PLACE, settings.requirements_txt
    yield from ((CONTENT, where / name) for name in scripts)


def _leading_to(env: str, settings: Settings) -> Iterator[tuple[bytes, Path | str]]:
    """Yield what decides to which address a name leads: the first cache that has it."""
    from condainer.cache import names

    for root in () if names.DIGITS.fullmatch(env) else entries.roots(settings):
        path = names.path_of(root, env)
        yield from ((kind, path) for kind in (PLACE, CONTENT))
        yield PLACE, path.parent
        if names.read(root, env) is not None:
            # It may be another cache than that of the image.
            yield from ((PLACE, place) for place, _ in ownership.way_to(root))
            yield TARGET, root
            break


def _places(entry: Entry, settings: Settings) -> Iterator[tuple[bytes, Path | str]]:
    where = settings.project
    real = Path(os.path.realpath(where))
    yield from ((NUMBER, path) for path in (where, real, real.parent))
    for path in (config.SITE_FILE, config.user_file(), where / config.PROJECT_FILE):
        yield CONTENT, path
        # Its owner decides which keys are taken from it; activate has to be younger.
        yield DATED, path
    yield DATED, config.user_file().parent
    for root in entries.roots(settings):
        if root == entry.root:
            break
        yield PLACE, entries.entry_directory(root, entry.address)
    yield from ((PLACE, path) for path, _ in ownership.way_to(entry.root))
    yield TARGET, entry.root
    if entry.root not in settings.named_caches:
        # One that is named may be a link to it, and what cannot be passed leads nowhere.
        for named in settings.named_caches:
            with suppress(OSError):
                yield from ((PLACE, path) for path, _ in ownership.way_to(named))
    for path in (entry.root / "images", entry.directory.parent, entry.directory):
        yield PLACE, path
    yield from ((FILE, path) for path in (entry.image, entry.explicit_lock))
    yield PLACE, entry.directory / entries.MANIFEST
    yield CONTENT, entry.directory / entries.MANIFEST
    note = project_note.place_of(entry, settings)
    if note is not None:
        yield PLACE, note
        yield CONTENT, note
    base = entry.prefix.parent
    yield from ((PLACE, path) for path, _ in ownership.way_to(base))
    yield TARGET, base


def _inputs(lock: Lock, settings: Settings) -> Iterator[Path]:
    yield lockfile_path(settings, this_platform())
    # What was looked up of another tool's lock.
    yield completed_path(settings, this_platform())
    # It has to agree with that.
    yield conda_lock_path(settings)
    yield from (settings.project / name for name in RATTLER_LOCKS)
    # One of the usual ones that appears can take the place of the other.
    usual = input_files.candidates(settings.project, settings.environment_yml, settings.files)
    yield from dict.fromkeys((settings.environment_yml, *usual))
    yield settings.requirements_txt
    yield from (source.place(settings.project) for source in lock.sources)
    there = settings.files.is_file(settings.environment_yml)
    if there and not lock_state.same_files(lock, settings):
        # Other bytes, or other files, that mean the same: they may name others in turn.
        from condainer.inputs.read import read_inputs

        inputs = read_inputs(settings, lock.platform)
        yield from (source.place(settings.project) for source in inputs.sources)


def _facts(entry: Entry, lock: Lock, settings: Settings) -> dict[str, str]:
    """Return what a command needs to know to run in the image."""
    facts = {
        "time": str(int(time.time())),
        "prefix": str(entry.prefix),
        "address": entry.address,
        "name": lock.name,
        "mount": settings.mount,
        "image": str(entry.image),
        "cache": "" if entry.root in settings.readonly_caches else str(entry.root),
        "linger": str(settings.linger),
        "tools": str(settings.of_user().tool_directory or ""),
        "copies": str(settings.staging_directory),
        "stage": _stage(entry, settings),
    }
    with suppress(CondainerError):
        check_base(entry.prefix.parent)
        facts["base"] = os.path.realpath(entry.prefix.parent)
    for name, value in shell.chosen(dict(lock.variables)).items():
        facts[f"variable {name}"] = value
    for variable, value, below, unless in default_variables.rows(settings.user_site):
        facts[f"default {variable}"] = "\n".join((value, below, *unless))
    return facts


def _stage(entry: Entry, settings: Settings) -> str:
    """Return whether a copy of the image has to be mounted, which only the long way makes."""
    if settings.stage == "never":
        return ""
    from condainer.mount import mount_work

    return "yes" if mount_work.wish_of(settings).wants(entry.image) else ""


def _as_told(built: Built) -> dict[str, str]:
    """Return what a build that finds the image again says."""
    again = replace(built, hit=True, locked=False, seconds=0.0)
    report = json.dumps(again.report())
    head, _, tail = report.partition(SECONDS)
    return {
        "text": harmless(f"Found {again.entry.image} ({human_size(again.entry.manifest.size)})"),
        "head": head + SECONDS,
        "tail": tail[tail.index(",") :],
    }


def _put(path: Path, content: bytes) -> bool:
    """Write a stamp where only we can; the first of a project takes the place of needless ones."""
    new = not path.exists()
    # Not the home directory of a user who has none.
    if not path.parent.is_dir() and path.parent.parent.parent.is_dir():
        make_directory(path.parent, 0o700)
    if not is_private_directory(path.parent):
        return False
    put(path, content)
    if new:
        oldest = time.time() - KEPT
        for item in path.parent.iterdir():
            with suppress(OSError):
                if item.lstat().st_mtime < oldest:
                    item.unlink()
    return True
