"""`cnd fetch` and `cnd bundle`: packages for machines without network."""

from __future__ import annotations

from pathlib import Path

import click

from condainer.cli.call import Call
from condainer.cli.console import print_json
from condainer.cli.main import cli
from condainer.cli.options import JSON, Place
from condainer.system.text import counted, human_size

PLATFORM = click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="NAME",
    help="Of which platform's lock, such as linux-aarch64; may be repeated.",
)


@cli.command()
@PLATFORM
@JSON
@click.pass_obj
def fetch(call: Call, platforms: tuple[str, ...], as_json: bool) -> None:
    """Download everything that the lock needs.

    Conda packages, wheels, sdists and repositories go into the package cache, from where
    `cnd --offline build` installs them. Solves first if the lock is missing or stale.
    """
    from condainer.transfer import fetching

    settings = call.building()
    if call.dry:
        plan = fetching.plan(settings, platforms)
        call.would(*plan, as_json=as_json)
        return
    fetched = fetching.fetch(settings, platforms, call.reporter())
    if as_json:
        print_json(fetched.report(settings))
    count = len(fetched.needs.files) + len(fetched.needs.repositories)
    size = human_size(fetched.size)
    call.say(f"{counted(count, 'packages')} ({size}), {fetched.downloaded} of them downloaded now")


@cli.command()
@click.argument("file", type=Place(path_type=Path, dir_okay=False))
@PLATFORM
@JSON
@click.pass_obj
def bundle(call: Call, file: Path, platforms: tuple[str, ...], as_json: bool) -> None:
    """Write the lock with all its packages into one file.

    For a machine without network: `cnd build --from FILE` builds there. The environment and
    requirements files and condainer.yml are in it, too. Fetches what is missing.
    """
    from condainer.transfer import bundle_writer, fetching

    settings = call.building()
    if call.dry:
        plan = fetching.plan(settings, platforms)
        call.would(*plan, f"write the lock and its packages to {file}", as_json=as_json)
        return
    packed = bundle_writer.pack(file.absolute(), settings, platforms, call.reporter())
    report = packed.report()
    if as_json:
        print_json(report)
    call.say(
        f"Wrote {counted(report['packages'], 'packages')} to {file} ({human_size(report['size'])})"
    )
