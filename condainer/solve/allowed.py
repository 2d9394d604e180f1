"""What the policy says of a project's channels, before anything is solved, fetched or built."""

from __future__ import annotations

from collections.abc import Sequence

from condainer.inputs.read import read_inputs
from condainer.packages import by_url, forbidden
from condainer.settings.config import Settings
from condainer.solve import conda_solver
from condainer.solve.lock_state import LockState


def demand(states: Sequence[tuple[str, LockState]], settings: Settings) -> None:
    """Refuse forbidden channels in the locks of platforms, or in what has to be solved.

    Raises PolicyError, and InputError for inputs that cannot be read.
    """
    for platform, state in states:
        lock = state.partial or (state.lock if state.status == "current" else None)
        if lock is not None:
            forbidden.demand_lock(lock, str(settings.project), settings)
            continue
        if state.status == "missing" and not settings.files.is_there(settings.environment_yml):
            # Nothing is asked for where nothing is: the state of the lock says so.
            continue
        inputs = read_inputs(settings, platform)
        archives = by_url.named(inputs)
        forbidden.demand_channels(((item.url, item.where) for item in archives), settings)
        specs = conda_solver.match_specs(inputs.specs)
        conda_solver.asked_channels(inputs, specs, settings)
