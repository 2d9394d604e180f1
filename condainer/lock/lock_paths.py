"""The names of lockfiles, what makes them, and where those of an environment stand.

Those of `default` are without its name.
"""

from __future__ import annotations

import re
from pathlib import Path

from condainer.settings import environments
from condainer.settings.config import Settings
from condainer.settings.input_files import WORKSPACE_LOCKS

# The lockfile of conda-lock, in whose format we write one, too.
CONDA_LOCK = "conda-lock.yml"
# Those in the format of rattler, the first of which is taken, and the command that makes each.
RATTLER_LOCKS = WORKSPACE_LOCKS
MAKERS = dict(zip(RATTLER_LOCKS, ("pixi lock", "conda workspace lock"), strict=True))
# The environment that both tools make by default.
DEFAULT = "default"
# An explicit lockfile, or its completed form, of any environment and platform.
LOCKFILE = re.compile(
    rf"conda(?P<completed>iner)?-((?P<environment>{environments.NAME.pattern})-)?"
    r"(?P<platform>[a-z0-9]+-[a-z0-9_]+)\.lock"
)


def lockfile_name(platform: str, variant: str = "") -> str:
    """Return the name of the explicit lockfile of a platform; `variant` is an environment's."""
    return f"conda-{variant}-{platform}.lock" if variant else f"conda-{platform}.lock"


def conda_lock_name(variant: str = "") -> str:
    """Return the name of the lockfile in conda-lock's format, whose tools go by the end of it."""
    return f"{variant}.{CONDA_LOCK}" if variant else CONDA_LOCK


def lockfile_path(settings: Settings, platform: str) -> Path:
    """Return where the explicit lockfile of a platform stands; raises as environments.variant()."""
    return settings.project / lockfile_name(platform, environments.variant(settings))


def completed_path(settings: Settings, platform: str) -> Path:
    """Return where the completed form of another tool's explicit lockfile stands."""
    name = lockfile_name(platform, environments.variant(settings))
    return settings.project / name.replace("conda-", "condainer-", 1)


def conda_lock_path(settings: Settings) -> Path:
    """Return where the lockfile in conda-lock's format stands."""
    return settings.project / conda_lock_name(environments.variant(settings))
