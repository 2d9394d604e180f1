"""`cnd rm`: images removed from a cache."""

from __future__ import annotations

import click

from condainer.cli import complete
from condainer.cli.call import Call
from condainer.cli.console import reports
from condainer.cli.main import cli
from condainer.cli.options import JSON_ARRAY


@cli.command("rm")
@click.argument(
    "addresses", metavar="ADDRESS...", nargs=-1, required=True, shell_complete=complete.images
)
@click.option("--force", is_flag=True, help="Remove even what is mounted or being built.")
@JSON_ARRAY
@click.pass_obj
def remove_images(call: Call, addresses: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Remove images from the cache.

    Only the owner of an image can. If one of them has to stay, none is removed.
    """
    from condainer.upkeep import removal

    items = removal.chosen(addresses, call.settings(), force)
    if call.dry:
        call.would(*(f"remove {item.directory}" for item in items), as_json=as_json)
        return
    with reports(as_json) as done:
        for item in items:
            removal.remove(item)
            done.append(item.report())
            call.say(f"Removed {item.directory}")
