"""`cnd wrap`: the programs of an image in a directory for PATH."""

from __future__ import annotations

import os
from pathlib import Path

import click

from condainer.cli.call import Call
from condainer.cli.console import print_json
from condainer.cli.main import cli
from condainer.cli.options import JSON, Place, named_image


@cli.command("wrap")
@click.argument("directory", metavar="DIR", type=Place(path_type=Path, file_okay=False))
@click.option("--only", metavar="NAMES", help="These programs, with commas between.")
@named_image
@JSON
@click.pass_obj
def wrap(call: Call, directory: Path, only: str | None, as_json: bool) -> None:
    """Write scripts into DIR/bin that run the image's programs.

    With DIR/bin in PATH, they run from anywhere, and mount the image while they do; DIR/bin/python
    is an interpreter for editors and virtual environments. They stay those of this image: run it
    again after a build, or set `wrappers: DIR` in condainer.yml.
    """
    from condainer import pipeline
    from condainer.integrations import wrappers

    settings = call.using(frozen=True)
    entry, _ = pipeline.current_entry(settings)
    place = Path(os.path.abspath(directory))
    wrappers.check_place(place)
    if call.dry:
        call.would(f"write scripts for the programs of {entry.image} into {place}", as_json=as_json)
        return
    names = [name.strip() for name in (only or "").split(",") if name.strip()]
    if only and not names:
        raise click.UsageError("--only names no program")
    done = wrappers.write(entry, place, call.directory_for(place), names, settings)
    if as_json:
        print_json(done.report())
        return
    call.say(f"Wrote {len(done.programs)} wrappers into {done.path}")
    for gone in done.removed:
        call.say(f"Removed those of {gone}, whose image has left its cache")
