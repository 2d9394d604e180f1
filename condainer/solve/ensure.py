"""A current lock of the project, which is solved for if need be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from condainer.lock.explicit import is_ours, render_explicit
from condainer.lock.lock_paths import lockfile_path
from condainer.lock.locks import Lock
from condainer.settings.config import Settings
from condainer.solve.lock_state import lock_state, not_current
from condainer.solve.other_locks import disagreeing
from condainer.system.errors import StaleLockError
from condainer.system.machine import this_platform
from condainer.system.reporter import Reporter


def ensure_lock(
    settings: Settings, reporter: Reporter, admit: Callable[[Lock | None], None] = lambda lock: None
) -> tuple[Lock, bool]:
    """Return a current lock of the project, and whether it had to be solved for.

    Parameters: `admit` raises what speaks against writing a lock; it is also asked before there is
    one (None). Raises StaleLockError when solving is needed but `locked` forbids it.
    """
    state = lock_state(settings)
    if state.status == "current" and state.lock is not None:
        path = lockfile_path(settings, state.lock.platform)
        if state.lock.sources and _is_to_write(path, state.lock, settings):
            admit(state.lock)
            _tell_disagreeing(state.lock, settings, reporter)
            try:
                settings.files.publish(path, render_explicit(state.lock))
            except OSError as error:
                # It only spares reading conda-lock.yml the next time.
                reporter.warn(f"{path} cannot be written: {error.strerror}")
        return state.lock, False
    if state.partial is not None:
        # Nothing is solved: the md5 sums say which packages they are.
        from condainer.solve import completion

        admit(None)
        _tell_disagreeing(state.partial, settings, reporter)
        return completion.complete(state.partial, settings, reporter), False
    if settings.locked:
        command = f"cnd lock{settings.option}"
        hint = f"Run `{command}` where solving is allowed, and commit the lockfiles."
        raise not_current(state, settings, hint, StaleLockError)
    # Imported here because most builds find a current lock.
    from condainer.solve import relock

    admit(None)
    if state.status == "stale":
        reporter.note(f"The lock is stale: {state.reason}")
    (relocked,) = relock.relock(settings, relock.Wish((this_platform(),)), reporter)
    admit(relocked.new)
    relock.write((relocked,), settings, reporter)
    return relocked.new, True


def _is_to_write(path: Path, lock: Lock, settings: Settings) -> bool:
    """Tell whether an explicit lockfile is missing, or is what we took from another tool before."""
    files = settings.files
    if not files.is_there(path) or not lock.origin:
        return not files.is_there(path)
    return is_ours(path, files.read) and files.read(path) != render_explicit(lock).encode()


def _tell_disagreeing(lock: Lock, settings: Settings, reporter: Reporter) -> None:
    """Tell what another lockfile says otherwise, when one is taken over."""
    for problem in disagreeing(lock, settings):
        reporter.warn(problem)
