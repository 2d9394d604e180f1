"""`cnd lock` without options, which does without click as well; its whole self is in `cli_lock`."""

from __future__ import annotations

from pathlib import Path

from condainer import lockreport, relock
from condainer.config import load_settings
from condainer.console import reporter_for, say


def lock(directory: str, quiet: bool) -> int | None:
    """Make the lock of a project current, and say so; None if there is no such directory.

    Raises CondainerError.
    """
    place = Path(directory)
    if not place.is_dir():
        return None
    settings = load_settings(place.absolute())
    reporter = reporter_for(quiet)
    try:
        made = relock.relock(settings, relock.Wish(), reporter)
        relock.write(made, settings, reporter)
    finally:
        reporter.close()
    for line in () if quiet else lockreport.summary(made):
        say(line)
    return 0
