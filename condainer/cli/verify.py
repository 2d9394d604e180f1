"""Commands that prove images and move them between systems: verify, export, import."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from condainer.cli import complete
from condainer.cli.console import GREEN, print_json
from condainer.cli.main import JSON, Call, Place, cli
from condainer.system.text import human_size

FILE = Place(path_type=Path, dir_okay=False)


@cli.command()
@click.argument(
    "what", metavar="[ADDRESS|FILE]", required=False, shell_complete=complete.images_or_files
)
@click.option("--all", "everything", is_flag=True, help="Check every entry of every cache.")
@click.option("--rebuild", is_flag=True, help="Build it again in a private place and compare.")
@click.option("--keep", is_flag=True, help="Leave damaged entries where they are.")
@JSON
@click.pass_obj
def verify(
    call: Call, what: str | None, everything: bool, rebuild: bool, keep: bool, as_json: bool
) -> None:
    """Check that an image is what its lock says.

    Reads every byte: image against manifest, manifest against lock, lock against address, and the
    recipe inside against the lock. Without an argument, the project's own image. A damaged entry
    is moved to quarantine, so that it is never served and the next build makes it anew.
    """
    from condainer import project
    from condainer.cache import verify
    from condainer.images import verification

    settings = call.settings()
    choose = partial(verification.choose, what, everything, settings)
    if call.dry:
        before, chosen = project.planned(choose, what is not None, settings)
        call.would(*before, *verification.plan(chosen, rebuild, keep), as_json=as_json)
        return
    verdicts = verification.run(choose(), rebuild, keep, settings, call.reporter())
    reports = [verdict.report() for verdict in verdicts]
    if as_json:
        print_json(reports if everything else reports[0])
    for line in verification.lines(verdicts):
        call.say(line, GREEN if line == verification.OK else "")
    verify.demand(verdicts)


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
