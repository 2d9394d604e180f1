"""The activation scripts of a project, written when they are missing or out of date."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from condainer.cache.entries import Entry
from condainer.lock.lock_paths import lockfile_path
from condainer.lock.locks import Lock
from condainer.settings import config, environments
from condainer.settings.config import Settings
from condainer.system.files import publish_text, read_text
from condainer.system.machine import this_platform
from condainer.system.reporter import Reporter

# What a build writes into a project beside its lock.
SCRIPTS = ("activate", "deactivate", "activate.fish", "activate.csh", "deactivate.csh")


def names_of(settings: Settings) -> tuple[str, ...]:
    """Return the names of the scripts: those of another environment than `default` have its own."""
    variant = environments.variant(settings)
    if not variant:
        return SCRIPTS
    # Any `deactivate` leaves the active environment.
    return tuple(
        name.replace("activate", f"activate-{variant}") if name.startswith("a") else name
        for name in SCRIPTS
    )


def write_activation(entry: Entry, lock: Lock, settings: Settings, reporter: Reporter) -> None:
    """Write the activation scripts into the project, if they are missing or out of date.

    A project that cannot be written is a normal state; it only lacks these files.
    """
    from condainer.activate import bash, csh, fish

    names = names_of(settings)
    activated = bash.Activation(
        settings.project,
        entry.prefix,
        entry.address,
        dict(lock.variables),
        name=lock.name,
        cache=entry.root,
        user_site=settings.user_site,
        settled=_settled(settings),
        environment=settings.environment_name if settings.environments else "",
        script=names[0],
    )
    texts = (
        bash.activation_script(activated),
        bash.deactivation_script(settings.project),
        fish.activation_script(activated),
        csh.activation_script(activated),
        csh.deactivation_script(),
    )
    unwritten: dict[str, list[str]] = {}
    for name, text in zip(names, texts, strict=True):
        path = settings.project / name
        try:
            present = _read(path)
            if present is not None and not present.startswith(bash.OURS):
                reporter.warn(
                    f"{path} is not Condainer's, and is left as it is; `cnd exec` and `cnd shell` "
                    "do without it"
                )
                continue
            if present != text:
                publish_text(path, text, 0o644, durable=False)
            if name == names[0] and activated.settled:
                _make_younger(path, activated.settled, settings)
        except OSError as error:
            unwritten.setdefault(str(error.strerror), []).append(name)
    for reason, absent in unwritten.items():
        reporter.warn(f"{', '.join(absent)} in {settings.project} cannot be written: {reason}")


def _settled(settings: Settings) -> tuple[Path, ...]:
    """Return the files after whose change a shell asks `cnd` again; none if it always does."""
    if settings.trust == "signed" or settings.mount not in ("auto", "direct"):
        return ()
    lockfile = lockfile_path(settings, this_platform())
    inputs = (settings.environment_yml, settings.requirements_txt, lockfile)
    return (config.SITE_FILE, settings.project / config.PROJECT_FILE, *inputs)


def _make_younger(script: Path, settled: tuple[Path, ...], settings: Settings) -> None:
    """Give a script a later time than the files from which it was written."""
    user = config.user_file()
    # If we may not do that, shells go on asking.
    with contextlib.suppress(OSError):
        if any(settings.files.has_changed(path) for path in (*settled, user)):
            # Nothing is older than this, so that shells ask.
            os.utime(script, ns=(0, 0))
            return
        files = [path for path in (*settled, user, user.parent) if path.exists()]
        newest = max((path.stat().st_mtime_ns for path in files), default=0)
        if newest >= script.stat().st_mtime_ns:
            # The clock of a file system may not have ticked since.
            now = max(time.time_ns(), newest + 1)
            os.utime(script, ns=(now, now))


def _read(path: Path) -> str | None:
    try:
        return read_text(path, errors="surrogateescape")
    except FileNotFoundError:
        return None
