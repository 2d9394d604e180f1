"""`cnd build` and `cnd exec` without options that are seldom given.

They do without click, and where a cache has the image of a current lock without YAML and engines;
whatever they do not know is for the long way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from condainer import pipeline
from condainer.cli.console import reporter_for, say
from condainer.pipeline import Built
from condainer.settings.config import Settings, load_settings
from condainer.system.errors import EXEC_FAILED, CommandNotStarted, CondainerError
from condainer.system.reporter import Attentive, Reporter
from condainer.system.text import human_size


def build(directory: str, quiet: bool, locked: bool, as_json: bool) -> int | None:
    """Find or make the image of a project and say so; None if there is no such directory.

    Raises CondainerError.
    """
    place = Path(directory)
    if not place.is_dir():
        return None
    settings = load_settings(place.absolute(), ["locked=true"] if locked else [])
    make(settings, reporter_for(quiet), quiet, as_json)
    return 0


def make(
    settings: Settings, reporter: Reporter, quiet: bool, as_json: bool, stamped: bool = True
) -> None:
    """Find or make the image of a project, write its stamp if it is to be `stamped`, and say so.

    Raises CondainerError.
    """
    told = Attentive(reporter)
    try:
        built = pipeline.ensure(settings, told)
    finally:
        reporter.close()
    from condainer import project, remember

    if stamped:
        remember.remember(settings, built, told.told)
    tell(built, quiet, as_json)
    if not (built.hit or quiet or as_json):
        use = f"Use it: {project.activation_command()}, or cnd exec -- COMMAND"
        say(use)


def execute(argv: Sequence[str], directory: str, quiet: bool, stamped: bool) -> None:
    """Become a command in the image of a project; return if anything is unusual.

    Parameters: without `stamped`, a stamp is written, so that it is quicker the next time. Raises
    CondainerError.
    """
    place = Path(directory)
    if not place.is_dir():
        return
    from condainer.activate import run

    try:
        settings = load_settings(place.absolute()).of_user()
        entry, lock = pipeline.current_entry(settings)
        use = run.Use(entry, lock, settings, reporter_for(quiet))
        run.command(argv, use, lambda: None if stamped else _stamp(settings))
    except CommandNotStarted:
        raise
    except CondainerError as error:
        error.exit_code = EXEC_FAILED
        raise


def _stamp(settings: Settings) -> None:
    from condainer import remember

    remember.remember(settings, None)


def tell(built: Built, quiet: bool, as_json: bool) -> None:
    """Print that an image was found or built."""
    if as_json:
        from condainer import project

        print(json.dumps(project.build_report(built)))
    elif not quiet:
        found = "Found" if built.hit else "Built"
        size = human_size(built.entry.manifest.size)
        text = f"{found} {built.entry.image} ({size}) in {built.seconds:.2f} s"
        say(text)
