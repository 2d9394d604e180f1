"""`cnd sign`: signatures of images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from condainer.cli import complete
from condainer.cli.call import Call
from condainer.cli.console import reports
from condainer.cli.main import cli
from condainer.cli.options import JSON_ARRAY, Place


@cli.command()
@click.argument("addresses", metavar="[ADDRESS]...", nargs=-1, shell_complete=complete.images)
@click.option("--all", "everything", is_flag=True, help="Sign every image of `cache_directory`.")
@click.option("--rebuild", is_flag=True, help="Build it again first, and sign the same bytes only.")
@click.option(
    "--key",
    metavar="FILE",
    type=Place(path_type=Path, dir_okay=False),
    help="An SSH key, private or public part; by default `signing_key`, or else the usual one.",
)
@JSON_ARRAY
@click.pass_obj
def sign(
    call: Call,
    addresses: tuple[str, ...],
    everything: bool,
    rebuild: bool,
    key: Path | None,
    as_json: bool,
) -> None:
    """Vouch for images with an SSH key.

    Checks every byte of an image, then signs its manifest, which has the sha256 of the image.
    Without an argument, the project's own image. Users who have `trust: signed` and your key among
    the allowed signers run what you sign.
    """
    from condainer import project
    from condainer.images import signatures

    settings = call.settings()
    choose = partial(signatures.choose, addresses, everything, settings)
    if call.dry:
        before, chosen = project.planned(choose, bool(addresses), settings)
        call.would(*before, *signatures.plan(chosen, key, rebuild, settings), as_json=as_json)
        return
    with reports(as_json) as done:
        for vouched in signatures.run(choose(), key, rebuild, settings, call.reporter()):
            done.append(vouched.report())
            call.say(f"Signed {vouched.entry.image} with {vouched.key}")
