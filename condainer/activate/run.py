"""Become a command, or a shell, inside a mounted image."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from condainer.activate import shell
from condainer.cache import trust
from condainer.cache.entries import Entry
from condainer.lock.locks import Lock
from condainer.mount import mounts
from condainer.settings.config import Settings
from condainer.startup import command_environment, launch
from condainer.system.reporter import Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


@dataclass(frozen=True)
class Use:
    """An image to be used, its lock, and how; `verify` runs exactly the bytes of the manifest."""

    entry: Entry
    lock: Lock
    settings: Settings
    reporter: Reporter
    verify: bool = False


def command(
    argv: Sequence[str], use: Use, entered: Callable[[], object] = lambda: None
) -> NoReturn:
    """Replace this process by a command in the environment of an image.

    The image is mounted, and confirmed by its own address, before anything is started; it stays
    mounted until the last process that came from the command has ended. Parameters: `entered` is
    called when it is mounted. Raises CondainerError with the exit code that a shell would give if
    the command cannot be started.
    """
    environment = _enter(use)
    entered()
    image = (str(use.entry.prefix), use.entry.address)
    launch.execute(argv, environment, image, use.reporter.warn)


def subshell(use: Use) -> NoReturn:
    """Replace this process by the user's shell in the environment of an image."""
    environment = _enter(use)
    argv, more = shell.interactive_shell(environment, os.environ)
    launch.execute(argv, {**environment, **more})


def claim(use: Use) -> None:
    """Mount a trusted image, for as long as this process and its children live.

    Raises CondainerError.
    """
    entry, settings = use.entry, use.settings
    check_brought(entry, settings, use.reporter)
    options = mounts.Options.of(settings, lambda user: trust.trusts_user(user, entry, settings))
    mounts.hold(wanted(entry, settings, use.verify), options, use.reporter)


def mount(
    entry: Entry, settings: Settings, reporter: Reporter, verify: bool, shell: int | None
) -> Path | None:
    """Mount a trusted image; parameters and result are those of mounts.mount()."""
    image = wanted(entry, settings, verify)
    check_brought(entry, settings, reporter)
    return mounts.mount(image, mounts.Options.of(settings), reporter, shell)


def _enter(use: Use) -> dict[str, str]:
    """Claim the mount of an image that is trusted, and return what activation sets."""
    claim(use)
    return environment(use.entry, use.lock, use.settings, os.environ)


def environment(
    entry: Entry, lock: Lock, settings: Settings, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return what activation of a mounted image makes of an environment.

    Raises as shell.environment().
    """
    return shell.environment(
        entry.prefix,
        dict(lock.variables),
        environ,
        name=lock.name,
        address=entry.address,
        user_site=settings.user_site,
        on_output=command_environment.tell,
    )


def check_brought(entry: Entry, settings: Settings, reporter: Reporter) -> None:
    """Check an image of a cache that came with the project; raises as brought.demand()."""
    if settings.brought_caches:
        from condainer.cache import brought

        brought.demand(entry, settings, reporter)


def wanted(entry: Entry, settings: Settings, verify: bool) -> mounts.Image:
    """Return what to mount of an entry: the file, or the bytes that policy or user demand.

    Caches that are only read get no lease. Raises TrustError as trust.demand().
    """
    leased = entry.root not in settings.readonly_caches
    image = mounts.Image.of(entry, leased=leased)
    if not verify and mounts.is_inside(image):
        # It was trusted when it was mounted; in a user namespace, owners look alike.
        return image
    signed = trust.demand(entry, settings)
    return replace(image, sha256=signed or (entry.manifest.sha256 if verify else None))
