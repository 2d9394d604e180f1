"""The lockfiles that hold several platforms: their names, and what makes them."""

from __future__ import annotations

from condainer.settings.input_files import WORKSPACE_LOCKS

# The lockfile of conda-lock, in whose format we write one, too.
CONDA_LOCK = "conda-lock.yml"
# Those in the format of rattler, the first of which is taken, and the command that makes each.
RATTLER_LOCKS = WORKSPACE_LOCKS
MAKERS = dict(zip(RATTLER_LOCKS, ("pixi lock", "conda workspace lock"), strict=True))
# The environment that both tools make by default.
DEFAULT = "default"
