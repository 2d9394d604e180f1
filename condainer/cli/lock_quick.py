"""`cnd lock` without options, which does without click as well; its whole self is in `cli_lock`."""

from __future__ import annotations

from pathlib import Path

from condainer.cli import lock_tables
from condainer.cli.console import reporter_for, say
from condainer.settings.config import load_settings
from condainer.solve import relock


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
    for line in () if quiet else lock_tables.summary(made):
        say(line)
    return 0
