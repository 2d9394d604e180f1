"""`cnd export` and `cnd import`: an image as one file."""

from __future__ import annotations

from pathlib import Path

import click

from condainer.cli import complete
from condainer.cli.call import Call
from condainer.cli.console import print_json
from condainer.cli.main import cli
from condainer.cli.options import JSON, Place
from condainer.system.text import human_size

FILE = Place(path_type=Path, dir_okay=False)


@cli.command()
@click.argument("address", shell_complete=complete.images)
@click.argument("file", type=FILE)
@JSON
@click.pass_obj
def export(call: Call, address: str, file: Path, as_json: bool) -> None:
    """Write an image with its manifest and lock into one file.

    The file is a squashfs image that can be mounted as it is; `cnd import` puts it into the cache
    of another system. It appears when all of it is written and checked.
    """
    from condainer.cache import entries, names
    from condainer.transfer import exchange

    settings = call.settings()
    address = names.address(address, settings)
    if call.dry:
        image = entries.find(address, settings).image
        call.would(f"write {image} with its manifest and lock to {file}", as_json=as_json)
        return
    moved = exchange.export(address, file.absolute(), settings, call.reporter())
    if as_json:
        print_json(moved.report())
    call.say(f"Exported {moved.entry.address} to {file} ({human_size(moved.size)})")


@cli.command("import")
@click.argument("file", type=FILE)
@JSON
@click.pass_obj
def import_image(call: Call, file: Path, as_json: bool) -> None:
    """Put an exported image into the cache.

    Everything in the file is checked before anything of it appears there.
    """
    from condainer.transfer import exchange

    settings = call.settings()
    if call.dry:
        call.would(*exchange.import_plan(file.absolute(), settings), as_json=as_json)
        return
    moved = exchange.receive(file.absolute(), settings, call.reporter())
    if as_json:
        print_json(moved.report())
    verb = "Already there:" if moved.present else "Imported"
    call.say(f"{verb} {moved.entry.image} ({human_size(moved.entry.manifest.size)})")
