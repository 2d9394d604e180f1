"""A lock in the formats of other tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from condainer.lock.lock_paths import RATTLER_LOCKS, conda_lock_path, lockfile_path
from condainer.settings.config import Settings
from condainer.solve import conda_lock_file
from condainer.solve.formats import bills, plain, pylock, rattler_lock
from condainer.solve.formats.exported import Exported, Known
from condainer.solve.other_locks import rattler_lock_of
from condainer.solve.relock import check, demand, wanted_platforms
from condainer.system.errors import InputError, LockfileError
from condainer.system.files import publish_text, writing
from condainer.system.machine import this_platform


def export(settings: Settings, form: str, platforms: Sequence[str]) -> Exported:
    """Return the lock of a project in another format; nothing is solved.

    Parameters: `form` is one of FORMS; `platforms` are those of the lock, by default all for a
    format that holds several, else this machine's. Raises StaleLockError unless the lock is
    current, ToolError if a library that writes the format is missing.
    """
    make, several = FORMS[form]
    chosen = wanted_platforms(settings, platforms if platforms or several else [this_platform()])
    states = check(settings, chosen)
    demand(states, settings)
    if not several and len(chosen) > 1:
        raise InputError(
            f"The format `{form}` holds one platform, not {', '.join(chosen)}",
            "Export each by itself, or in a format for several: "
            + ", ".join(f"`--export {name}`" for name, (_, many) in FORMS.items() if many)
            + ".",
        )
    locks = tuple(state.lock for _, state in states if state.lock is not None)
    details = conda_lock_file.details(conda_lock_path(settings), settings.files.read)
    return make(Known(settings, locks, details))


def save(exported: Exported, path: Path, settings: Settings) -> None:
    """Write an exported lock into a file.

    Raises InputError for a file that the lock is made from, StorageError if it cannot be written.
    """
    inputs = (settings.environment_yml, settings.requirements_txt, conda_lock_path(settings))
    theirs = [p for name in RATTLER_LOCKS if not _free(p := settings.project / name, settings)]
    ours = (*inputs, *theirs, lockfile_path(settings, exported.platform or this_platform()))
    if os.path.realpath(path) in [os.path.realpath(item) for item in ours]:
        raise InputError(
            f"{path} is an input or a lockfile of the project itself", "Name another file."
        )
    with writing(path):
        publish_text(path, exported.text)


def _free(path: Path, settings: Settings) -> bool:
    """Tell whether a pixi.lock or conda.lock is not used, and no work of another tool."""
    files = settings.files
    if rattler_lock_of(settings) is not None or not files.is_file(settings.environment_yml):
        return False
    return not files.is_there(path) or files.read(path).startswith(rattler_lock.HEAD.encode())


def report(exported: Exported, path: Path | None) -> dict[str, Any]:
    """Return what `cnd lock --export --json` prints."""
    return {**asdict(exported), "output": str(path) if path else None}


def _conda_lock(known: Known) -> Exported:
    path, read = conda_lock_path(known.settings), known.settings.files.read
    if not known.settings.files.is_file(path):
        raise LockfileError(
            f"{path}: there is none",
            "`cnd lock` writes it, unless a channel gives no md5 of its packages; an explicit "
            "lockfile of another tool cannot be exported to it.",
        )
    content = conda_lock_file.parse(path, read)
    platforms = [lock.platform for lock in known.locks]
    if set(conda_lock_file.existing_hashes(content)) <= set(platforms):
        return Exported("conda-lock", "", known.settings.files.read_text(path), ())
    return Exported("conda-lock", "", conda_lock_file.only(content, platforms), ())


# What makes each format, and whether it holds several platforms.
FORMS: dict[str, tuple[Callable[[Known], Exported], bool]] = {
    "requirements": (plain.requirements, False),
    "explicit": (plain.explicit, False),
    "environment": (plain.environment, False),
    "pylock": (pylock.pylock, False),
    "conda-lock": (_conda_lock, True),
    "pixi": (rattler_lock.pixi, True),
    "conda": (rattler_lock.conda, True),
    "cyclonedx": (bills.as_cyclonedx, False),
    "spdx": (bills.as_spdx, False),
}
