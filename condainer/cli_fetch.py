"""The commands for machines without network: what is fetched beforehand, and carried over."""

from __future__ import annotations

import json

import click

from condainer.cli import JSON, Call, cli
from condainer.console import human_size


@cli.command()
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="NAME",
    help="Of which platform's lock, such as linux-aarch64; may be repeated.",
)
@JSON
@click.pass_obj
def fetch(call: Call, platforms: tuple[str, ...], as_json: bool) -> None:
    """Download everything that the lock needs.

    Conda packages, wheels, sdists and repositories go into the package cache, from where
    `cnd --offline build` installs them. Solves first if the lock is missing or stale.
    """
    from condainer import fetching

    settings = call.settings()
    if call.dry:
        plan = fetching.plan(settings, platforms, call.reporter())
        call.would(*plan, as_json=as_json)
        return
    fetched = fetching.fetch(settings, platforms, call.reporter())
    if as_json:
        print(json.dumps(fetched.report(settings)))
    count = len(fetched.needs.files) + len(fetched.needs.repositories)
    size = human_size(fetched.size)
    call.say(f"{count} packages ({size}), {fetched.downloaded} of them downloaded now")
