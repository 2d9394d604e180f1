"""`cnd kernel`: Jupyter kernels that run in an image."""

from __future__ import annotations

from pathlib import Path

import click

from condainer.cli import complete, tables
from condainer.cli.call import Call
from condainer.cli.console import print_json, reports, show
from condainer.cli.main import Command, cli
from condainer.cli.options import JSON_ARRAY, Place, named_image

PREFIX = click.option(
    "--prefix", type=Place(path_type=Path), metavar="DIR", help="Below DIR, not for you alone."
)


@cli.group("kernel")
def kernel() -> None:
    """Make Jupyter kernels of images, list and remove them."""


@kernel.command("install", cls=Command)
@click.option("--name", metavar="NAME", help="The name for Jupyter; by default the environment's.")
@click.option("--display-name", metavar="TEXT", help="What JupyterLab shows.")
@click.option("--user", is_flag=True, help="For you alone, which is the default.")
@PREFIX
@named_image
@JSON_ARRAY
@click.pass_obj
def install(
    call: Call,
    name: str | None,
    display_name: str | None,
    user: bool,
    prefix: Path | None,
    as_json: bool,
) -> None:
    """Make a kernel of the project's image, or of the one named by --env or --address.

    It starts the image's own kernels (ipykernel, IRkernel, …) by `cnd exec`, with absolute paths.
    That of a project follows its lock: after the next build, it starts the new image.
    """
    from condainer import pipeline
    from condainer.cache import names
    from condainer.integrations import jupyter
    from condainer.integrations.own_command import exec_in, exec_in_project
    from condainer.settings import environments

    if user and prefix is not None:
        raise click.UsageError("--user and --prefix both say where: give one of them")
    settings = call.using(frozen=True)
    entry, lock = pipeline.current_entry(settings)
    place = jupyter.directory_of(prefix)
    if call.dry:
        read = f"read which kernels {entry.image} has"
        call.would(read, f"write them below {place}", as_json=as_json)
        return
    kernels = jupyter.kernels_of(entry, settings)
    title = lock.name
    if not call.names_image and not title.endswith(f"-{settings.environment_name}"):
        # Several environments can be of one file, which has one name.
        title = environments.suffixed(title, settings)
    chosen = jupyter.chosen_names(kernels, name, title)
    for own in chosen:
        jupyter.demand_free(place / own)
    with reports(as_json) as done:
        for item, own in zip(kernels, chosen, strict=True):
            directory = place / own
            # A kernel's own directory has no configuration; that of the notebook must not count.
            if not call.names_image:
                of = settings.environment_name if settings.environments else ""
                before = exec_in_project(call.directory, of)
            elif call.env is None or names.DIGITS.fullmatch(call.env):
                before = exec_in(directory, entry.root, ["--address", entry.address])
            else:
                root = names.find(call.env, settings).root
                before = exec_in(directory, root, ["--env", call.env])
            shown = display_name or f"{item.spec.get('display_name', item.name)} [{title}]"
            made = jupyter.install(item, directory, shown, before, entry.address)
            done.append(made.report())
            call.say(f"Wrote {directory}: {shown}")


@kernel.command("list", cls=Command)
@PREFIX
@JSON_ARRAY
@click.pass_obj
def list_kernels(call: Call, prefix: Path | None, as_json: bool) -> None:
    """List the kernels that run in images."""
    from condainer.integrations import jupyter

    kernels = list(jupyter.installed(jupyter.directory_of(prefix)))
    if as_json:
        print_json([item.report() for item in kernels])
    elif kernels:
        rows = [["NAME", "ADDRESS", "SHOWN AS", "DIRECTORY"]]
        for item in kernels:
            address = item.address[: tables.SHORT]
            rows.append([item.name, address, item.display_name, str(item.directory)])
        show(*tables.aligned(rows))
    else:
        call.say("No kernels yet: `cnd kernel install` makes one")


@kernel.command("remove", cls=Command)
@click.argument("name", metavar="NAME", shell_complete=complete.kernels)
@PREFIX
@click.pass_obj
def remove(call: Call, name: str, prefix: Path | None) -> None:
    """Remove a kernel that `cnd kernel install` has made."""
    from condainer.integrations import jupyter

    place = jupyter.directory_of(prefix)
    if call.dry:
        call.would(f"remove {place / name}")
        return
    call.say(f"Removed {jupyter.remove(place, name).directory}")
