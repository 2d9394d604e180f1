"""`cnd share`: the cache of a group."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from condainer.cli import complete, tables
from condainer.cli.call import Call
from condainer.cli.console import answer, print_json
from condainer.cli.main import cli
from condainer.cli.options import JSON, Place


@cli.command()
@click.argument("directory", metavar="DIR", type=Place(path_type=Path))
@click.option(
    "--group",
    metavar="NAME",
    shell_complete=complete.groups,
    help="The group; by default the one DIR has.",
)
@click.option(
    "--private/--open",
    default=None,
    help="Close it to everybody else, or let others read. By default, a cache stays as it is, "
    "and a new one is open.",
)
@click.option("--older-than", metavar="AGE", help="Let `cnd gc` take what was not used so long.")
@click.option("--max-size", metavar="SIZE", help="Let `cnd gc` take what is more than that.")
@click.option("--grace", metavar="AGE", help="How long `cnd gc` keeps it in the trash.")
@JSON
@click.pass_obj
def share(
    call: Call,
    /,
    directory: Path,
    group: str | None,
    private: bool | None,
    as_json: bool,
    **limits: str | None,
) -> None:
    """Make a directory the cache of a group.

    Members add images, and nobody replaces or deletes those of others. Run it again to repair
    groups and modes that have drifted. A directory that holds something else is left untouched.
    The limits are written into its policy.yml, which `cnd gc` follows.
    """
    from condainer.upkeep import policy, share

    done = share.share(directory, group, private, policy.policy_of(limits), call.dry)
    if call.dry:
        call.would(*tables.sharing_plan(done), as_json=as_json)
        return
    call.say(*tables.sharing(done))
    setting = f"export CONDAINER_CACHE={shlex.quote(str(done.root))}"
    if as_json:
        print_json(done.report(setting))
    else:
        answer(setting)
