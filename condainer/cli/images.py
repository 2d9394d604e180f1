"""The commands about the images of a cache, and about sharing one with a group."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import click

from condainer.cli import complete
from condainer.cli.console import BOLD, RED, SIGNS, answer, print_json, show
from condainer.cli.main import JSON, Call, Place, cli

TYPE_CHECKING = False
if TYPE_CHECKING:
    from condainer.settings.config import Settings

LIST_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")


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
    The limits are written into its policy.yml, which `cnd gc` goes by.
    """
    from condainer.cli import tables
    from condainer.upkeep import policy, share

    done = share.share(directory, group, private, policy.policy_of(limits), call.dry)
    if call.dry:
        call.would(*tables.sharing_plan(done), as_json=as_json)
        return
    for line in tables.sharing(done):
        call.say(line)
    setting = f"export CONDAINER_CACHE={shlex.quote(str(done.root))}"
    if as_json:
        print_json(done.report(setting))
    else:
        answer(setting)


@cli.command("list")
@click.option(
    "--html",
    type=Place(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a report for a browser.",
)
@LIST_JSON
@click.pass_obj
def list_images(call: Call, html: Path | None, as_json: bool) -> None:
    """List the images of all caches.

    AGE is the time since the build, USED since the image was last used, as far as anybody noted
    it; MOUNTED tells of this machine, or `elsewhere`; PINNED is the number of projects that name
    it. What is not whole is `(broken)`. The report of --html is one file for everybody: images by
    size and use, who uses what, what `cnd gc` would take, and packages that several images have.
    """
    from condainer.cache import trust
    from condainer.cli import tables
    from condainer.images import inventory

    settings = call.settings()
    if html is not None:
        _report(call, html, settings, as_json)
        return
    items = inventory.inventory(settings)
    for problem in trust.warnings(settings):
        call.say(f"Warning: {problem}")
    if as_json:
        print_json([item.report() for item in items])
    elif items:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        titles, *rows = tables.images(items, width)
        show(titles, BOLD)
        for row in rows:
            show(row, RED if tables.BROKEN in row else "")
    else:
        call.say("No images yet: `cnd build` makes one")


def _report(call: Call, path: Path, settings: Settings, as_json: bool) -> None:
    from condainer.upkeep import report

    if as_json:
        raise click.UsageError("--html and --json are two forms: give one of them")
    if call.dry:
        call.would(f"write a report on all caches to {path}")
        return
    count = report.write(path, settings)
    call.say(f"Wrote {path}: {count} image{'s' * (count != 1)}")


@cli.command("show")
@click.argument("what", metavar="ADDRESS|FILE", shell_complete=complete.subjects)
@JSON
@click.pass_obj
def show_image(call: Call, what: str, as_json: bool) -> None:
    """Show what an image holds, and who made it.

    ADDRESS may be shortened, or be one of several environments of the project. FILE is an image, an
    entry's directory, or a lockfile. Four and more hexadecimal digits are an address; write ./FILE
    for a file of such a name.
    """
    from condainer.cli import tables
    from condainer.images import show as subject

    found = subject.subject_of(what, call.settings(), Path(os.curdir))
    if as_json:
        print_json(found.report())
    else:
        show("\n".join(tables.subject(found)))


@cli.command("diff")
@click.argument("old", metavar="A", shell_complete=complete.subjects)
@click.argument("new", metavar="B", shell_complete=complete.subjects)
@JSON
@click.pass_obj
def diff_images(call: Call, old: str, new: str, as_json: bool) -> None:
    """Show what changes from one environment to another.

    A and B are environments of the project, addresses, images or lockfiles, as for `cnd show`. The
    exit status is 0 whether they differ or not.
    """
    from condainer.cli import tables
    from condainer.images import show as subject
    from condainer.lock import contents

    settings = call.settings()
    one, other = (subject.subject_of(text, settings, Path(os.curdir)) for text in (old, new))
    difference = contents.difference(one.contents, other.contents)
    if as_json:
        print_json(subject.difference_report(one, other, difference))
    elif difference.is_empty:
        call.say("No difference")
    else:
        for line in tables.changes(difference):
            show(line, SIGNS[line[0]])


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
    """Give an image a name in the cache, by which everybody finds it.

    Without ADDRESS, the project's own image; another name may stand in its place. `cnd exec --env
    NAME` and all commands that take an address take the name then, from any directory. Only its
    owner can move a name or take it away; `cnd gc` keeps what has one.
    """
    from condainer import pipeline, project
    from condainer.cache import entries, names
    from condainer.cli import tables

    settings = call.settings()
    if listed or name is None:
        if delete or address is not None:
            raise click.UsageError("--list takes a name at most")
        if name is not None:
            chosen = [names.find(name, settings)]
        else:
            chosen = [item for root in entries.roots(settings) for item in names.read_all(root)]
        if as_json:
            print_json([item.report() for item in chosen])
        elif chosen:
            show("\n".join(tables.names(chosen)))
        else:
            call.say("No names yet: `cnd tag NAME` gives one to the project's image")
        return
    if delete:
        if address is not None:
            raise click.UsageError("--delete takes the name only")
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


@cli.command("rm")
@click.argument(
    "addresses", metavar="ADDRESS...", nargs=-1, required=True, shell_complete=complete.images
)
@click.option("--force", is_flag=True, help="Remove even what is mounted or being built.")
@LIST_JSON
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
    for item in items:
        removal.remove(item)
        call.say(f"Removed {item.directory}")
    if as_json:
        print_json([item.report() for item in items])
