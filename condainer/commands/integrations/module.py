"""`cnd module`: an image for `module load`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from condainer.cli.call import Call
from condainer.cli.console import print_json
from condainer.cli.main import cli
from condainer.cli.options import JSON, Place, named_image


@cli.command("module")
@click.argument("name", metavar="NAME/VERSION")
@click.option(
    "--dir",
    "directory",
    type=Place(path_type=Path, file_okay=False),
    required=True,
    metavar="MODULEPATH",
    help="The directory of modules.",
)
@click.option("--tcl", is_flag=True, help="In Tcl, for every module system; else for Lmod, in Lua.")
@click.option("--activate", is_flag=True, help="Set all that activation does, and mount at load.")
@named_image
@JSON
@click.pass_obj
def module(
    call: Call, name: str, directory: Path, tcl: bool, activate: bool, as_json: bool
) -> None:
    """Write a module file of an image.

    Loading it puts wrappers of the image's programs (`cnd wrap`) before the others in PATH: nothing
    is mounted until one runs. With --activate, the image stays mounted until the shell ends.
    """
    from condainer import pipeline
    from condainer.activate import run
    from condainer.integrations import modules, own_command, wrappers

    modules.check_name(name)
    settings = call.using(frozen=True)
    entry, lock = pipeline.current_entry(settings)
    place = Path(os.path.abspath(directory))
    modules.check_place(name, place, tcl)
    if tcl and any(letter.isspace() for letter in str(place)):
        call.reporter().warn(
            f"Lmod reads no module in Tcl below {place}, whose path has blanks: choose another "
            "directory, or leave out --tcl, where users have Lmod"
        )
    beside = modules.beside(place, name)
    wrappers.check_place(beside)
    if call.dry:
        call.would(f"write the module {name} of {entry.image} into {place}", as_json=as_json)
        return
    packages = f"{len(lock.conda)} conda and {len(lock.pip)} pip packages"
    text = f"The environment {lock.name}: {packages}\nThe image {entry.address}, by Condainer."
    if activate:
        run.claim(run.Use(entry, lock, settings, call.reporter()))
        after = run.environment(entry, lock, settings, modules.BEFORE)
        paths, variables = modules.activated(after, entry.prefix)
        command = modules.mounting(own_command.mount_for_shell(place, entry))
    else:
        done = wrappers.write(entry, beside, call.directory_for(place), (), settings)
        paths, variables, command = {"PATH": [str(done.path)]}, {}, ""
    written = modules.Module(name, text, entry.address, paths, variables, command)
    path = modules.write(written, place, tcl)
    if as_json:
        print_json({"name": name, "module": str(path), "address": entry.address})
    else:
        use = shlex.join(["module", "use", str(place)])
        call.say(f"Wrote {path}: `{use}`, `module load {name}`")
