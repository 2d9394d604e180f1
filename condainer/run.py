"""Become a command, or a shell, inside a mounted image."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from condainer import mount, shell, trust
from condainer.cache import Entry
from condainer.config import Settings
from condainer.errors import MountError
from condainer.lock import Lock


def command(argv: Sequence[str], entry: Entry, lock: Lock, settings: Settings) -> NoReturn:
    """Replace this process by a command in the environment of an image.

    The image is mounted, and confirmed by its own address, before anything is started; it stays
    mounted until the last process that came from the command has ended. Raises CondainerError
    with the exit code that a shell would give if the command cannot be started.
    """
    environment = _enter(entry, lock, settings)
    shell.execute(argv, environment)


def subshell(entry: Entry, lock: Lock, settings: Settings) -> NoReturn:
    """Replace this process by the user's shell in the environment of an image."""
    if os.environ.get("CONDAINER_ADDRESS") == entry.address:
        raise MountError("The environment is active already in this shell")
    environment = _enter(entry, lock, settings)
    argv, more = shell.interactive_shell(environment, os.environ)
    shell.execute(argv, {**environment, **more})


def _enter(entry: Entry, lock: Lock, settings: Settings) -> dict[str, str]:
    """Claim the mount of an image that is trusted, and return what activation sets."""
    options = mount.Options.of(settings, lambda user: trust.trusts_user(user, entry, settings))
    mount.hold(mount.Image.of(entry, trust.demand(entry, settings)), options)
    return shell.environment(
        entry.prefix,
        dict(lock.variables),
        os.environ,
        name=lock.name,
        address=entry.address,
        user_site=settings.user_site,
        on_output=lambda text: print(text, end="", file=sys.stderr),
    )
