"""`cnd gc`: unneeded images collected."""

from __future__ import annotations

import click

from condainer.cli import tables
from condainer.cli.call import Call
from condainer.cli.console import print_json
from condainer.cli.main import cli
from condainer.cli.options import JSON


@cli.command("gc")
@click.option("--older-than", metavar="AGE", help="Take what was not used for AGE: 30d, 12h, 2w.")
@click.option("--max-size", metavar="SIZE", help="Leave no more than SIZE: 500G, 1.5T.")
@click.option("--grace", metavar="AGE", help="Delete what was in the trash for AGE; default 1d.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, as `cnd -y gc` does.")
@JSON
@click.pass_obj
def collect(call: Call, /, dry_run: bool, as_json: bool, **limits: str | None) -> None:
    """Collect images that nobody needs, the least recently used first.

    Keeps what a project names, what is mounted on any node, what is being built, and what was
    used in the last two hours. An image goes into the trash, from where a build takes it back,
    and is deleted after a grace period. Without a limit, by an option or the cache's policy.yml,
    no image goes, but what broken builds and old trash left. May run on several nodes at once.
    """
    from condainer.upkeep import collection, policy

    settings = call.settings()
    chosen = policy.in_force(settings.cache_directory, policy.policy_of(limits))
    done = collection.collect(settings, chosen, call.dry or dry_run)
    if as_json:
        print_json(done.report())
    call.say(*tables.collection(done))
    call.say("Downloaded packages are not part of it: see `cnd clean`.")
