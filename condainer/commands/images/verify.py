"""`cnd verify`: images checked byte by byte."""

from __future__ import annotations

from functools import partial

import click

from condainer.cli import complete
from condainer.cli.call import Call
from condainer.cli.console import GREEN, print_json
from condainer.cli.main import cli
from condainer.cli.options import JSON


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
    is moved to quarantine, where it is never served; the next build makes a new one.
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
        call.say(line, colour=GREEN if line == verification.OK else "")
    verify.demand(verdicts)
