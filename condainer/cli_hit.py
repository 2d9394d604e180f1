"""`cnd build` where a cache has the image of a current lock: a fresh clone, or a small change.

It does without click, YAML and engines; whatever it does not know is for the long way.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from condainer import pipeline, project, stamping
from condainer.config import load_settings
from condainer.console import human_size, reporter_for
from condainer.pipeline import Built
from condainer.report import Attentive


def build(directory: str, quiet: bool, locked: bool, as_json: bool) -> int | None:
    """Find the image of a project and say so; None if it has to be made, or anything is unusual.

    Raises CondainerError.
    """
    place = Path(directory)
    if not place.is_dir():
        return None
    settings = load_settings(place.absolute(), ["locked=true"] if locked else [])
    reporter = Attentive(reporter_for(quiet))
    built = pipeline.found(settings, reporter)
    if built is None:
        return None
    stamping.remember(settings, built, reporter.told)
    tell(built, quiet, as_json)
    return 0


def tell(built: Built, quiet: bool, as_json: bool) -> None:
    """Print that an image was found or built."""
    if as_json:
        print(json.dumps(project.build_report(built)))
    elif not quiet:
        found = "Found" if built.hit else "Built"
        size = human_size(built.entry.manifest.size)
        text = f"{found} {built.entry.image} ({size}) in {built.seconds:.2f} s"
        print(text, file=sys.stderr, flush=True)
