"""`cnd tag`: names of images."""

from __future__ import annotations

from dataclasses import replace

import click

from condainer.cli import complete, tables
from condainer.cli.call import Call
from condainer.cli.console import print_json, show
from condainer.cli.main import cli
from condainer.cli.options import JSON


@cli.command("tag")
@click.argument("name", metavar="[NAME[/VERSION]]", required=False, shell_complete=complete.names)
@click.argument("address", metavar="[ADDRESS]", required=False, shell_complete=complete.images)
@click.option("--list", "listed", is_flag=True, help="List the names, or this one.")
@click.option("--delete", is_flag=True, help="Take the name away.")
@JSON
@click.pass_obj
def tag(
    call: Call, name: str | None, address: str | None, listed: bool, delete: bool, as_json: bool
) -> None:
    """Give an image a name in the cache that all users can use.

    Without ADDRESS, the project's own image; another name may stand in its place. `cnd exec --env
    NAME` and all commands that take an address take the name then, from any directory. Only its
    owner can move a name or take it away; `cnd gc` keeps what has one.
    """
    from condainer import pipeline, project
    from condainer.cache import entries, names

    settings = call.settings()
    if delete and (listed or name is None or address is not None):
        raise click.UsageError("--delete takes one name, and nothing else")
    if listed or name is None:
        if address is not None:
            raise click.UsageError("--list takes a name at most")
        if name is not None:
            chosen = [names.find(name, settings)]
        else:
            chosen = [item for root in entries.roots(settings) for item in names.read_all(root)]
        if as_json:
            print_json([item.report() for item in chosen])
        elif chosen:
            show(*tables.names(chosen))
        else:
            call.say("No names yet: `cnd tag NAME` gives one to the project's image")
        return
    if delete:
        if call.dry:
            call.would(f"take the name {name} away", as_json=as_json)
            return
        gone = names.take_away(name, settings)
        call.say(f"Took the name {name} from {gone.address}")
        if as_json:
            print_json(gone.report())
        return
    names.check(name)
    if address is not None:
        settings = replace(settings, address=names.address(address, settings))
    if call.dry:
        plan = project.use_plan(settings)
        what = plan.entry.address if plan.entry else "the image"
        call.would(*plan.steps, f"give {what} the name {name}", as_json=as_json)
        return
    digits = pipeline.current_entry(settings)[0].address
    given = names.give(name, digits, settings)
    before = f" (before: {given.before[0].address[: tables.SHORT]})" if given.before else ""
    call.say(f"{name} is {given.address}{before}")
    if as_json:
        print_json(given.report())
