"""`cnd add` and `cnd remove`: packages of the environment."""

from __future__ import annotations

import click

from condainer.cli import complete
from condainer.cli.call import Call
from condainer.cli.console import SIGNS
from condainer.cli.main import cli
from condainer.cli.options import JSON
from condainer.inputs.edit import Change
from condainer.settings.config import Settings
from condainer.system.errors import ConfigError

PIP = click.option("--pip", is_flag=True, help="Packages of PyPI, not of conda channels.")


@cli.command("add")
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@PIP
@JSON
@click.pass_obj
def add(call: Call, specs: tuple[str, ...], pip: bool, as_json: bool) -> None:
    """Add packages to the environment, and build it.

    Writes them into environment.yml, or with --pip into requirements.txt if there is one. A version
    takes the place of what is asked of the same package there. Comments and order stay as they are,
    and nothing is written if it cannot be solved. The lock changes as little as possible.
    """
    from condainer.solve import package_edit

    settings = call.building()
    _make(call, package_edit.added(specs, pip, settings), settings, as_json)


@cli.command("remove")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete.wanted)
@PIP
@JSON
@click.pass_obj
def remove(call: Call, names: tuple[str, ...], pip: bool, as_json: bool) -> None:
    """Remove packages from the environment, and build it.

    As `cnd add`. Images are removed by `cnd rm`.
    """
    from condainer.solve import package_edit

    settings = call.building()
    _make(call, package_edit.removed(names, pip, settings), settings, as_json)


def _make(call: Call, changes: list[Change], settings: Settings, as_json: bool) -> None:
    """Lock what the inputs are to say, write both, and build."""
    from condainer.cli import hit, lock_tables
    from condainer.solve import package_edit

    if settings.address is not None:
        raise ConfigError(
            f"The project is pinned to the image {settings.address}, and goes on using that",
            "Remove `address:` from condainer.yml first.",
        )
    lines = [line for change in changes for line in change.lines()]
    if not changes:
        call.say("The environment asks for that already")
    if call.dry:
        steps = [f"write {change.path}" for change in changes]
        last = "solve, and build the image" if changes else "build the image if no cache has it"
        call.would(*steps, last, as_json=as_json)
        if not as_json:
            _show(call, lines)
        return
    reporter = call.reporter()
    if changes:
        relocked = package_edit.solved(changes, settings, reporter)
        package_edit.write(changes, relocked, settings, reporter)
        reporter.finish()
        _show(call, lines)
        call.say(*lock_tables.summary(relocked))
    hit.make(call.building(), call.reporter(), call.quiet, as_json, stamped=not call.overrides)


def _show(call: Call, lines: list[str]) -> None:
    for line in lines:
        call.say(line, colour=SIGNS[line.partition(": ")[2][0]])
