"""`cnd list`: the images of all caches."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from condainer.cli import tables
from condainer.cli.call import Call
from condainer.cli.console import BOLD, RED, print_json, show
from condainer.cli.main import cli
from condainer.cli.options import JSON_ARRAY, Place
from condainer.system.text import counted


@cli.command("list")
@click.option(
    "--html",
    type=Place(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a report for a browser.",
)
@JSON_ARRAY
@click.pass_obj
def list_images(call: Call, html: Path | None, as_json: bool) -> None:
    """List the images of all caches.

    AGE is the time since the build, USED since the image was last used, as far as anybody noted
    it; MOUNTED tells of this machine, or `elsewhere`; PINNED is the number of projects that name
    it. What is not whole is `(broken)`. The report of --html is one file for everybody: images by
    size and use, who uses what, what `cnd gc` would take, and packages that several images have.
    """
    from condainer.cache import trust
    from condainer.images import inventory

    settings = call.settings()
    if html is not None:
        if as_json:
            raise click.UsageError("--html and --json are two forms: give one of them")
        if call.dry:
            call.would(f"write a report on all caches to {html}")
            return
        from condainer.upkeep import report

        count = report.write(html, settings)
        call.say(f"Wrote {html}: {counted(count, 'images')}")
        return
    items = inventory.inventory(settings)
    for problem in trust.warnings(settings):
        call.say(f"Warning: {problem}")
    if as_json:
        print_json([item.report() for item in items])
    elif items:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        titles, *rows = tables.images(items, width)
        show(titles, colour=BOLD)
        for row in rows:
            show(row, colour=RED if tables.BROKEN in row else "")
    else:
        call.say("No images yet: `cnd build` makes one")
