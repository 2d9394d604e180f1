"""`cnd tree` and `cnd why`: what needs what in an image."""

from __future__ import annotations

from contextlib import suppress

import click

from condainer.cli import complete
from condainer.cli.call import Call
from condainer.cli.console import print_json, show
from condainer.cli.main import cli
from condainer.cli.options import JSON_ARRAY, named_image
from condainer.images import dependencies


@cli.command("tree")
@click.argument("package", metavar="[PKG]", required=False, shell_complete=complete.packages)
@named_image
@JSON_ARRAY
@click.pass_obj
def tree(call: Call, package: str | None, as_json: bool) -> None:
    """Show what each package needs, or what PKG needs.

    It begins with those that no other one needs. Conda and PyPI packages stand in one tree; `(*)`
    marks what was shown before.
    """
    graph = _graph(call, as_json)
    if graph is None:
        return
    chosen = None if package is None else graph.find(package)
    if as_json:
        print_json(graph.report([chosen] if chosen else list(graph.packages.values())))
        return
    show(*dependencies.tree(graph, chosen))


@cli.command("why")
@click.argument("package", metavar="PKG", shell_complete=complete.packages)
@named_image
@JSON_ARRAY
@click.pass_obj
def why(call: Call, package: str, as_json: bool) -> None:
    """Show what needs a package, and what that asks of it."""
    graph = _graph(call, as_json)
    if graph is None:
        return
    chosen = graph.find(package)
    if as_json:
        print_json(graph.report(graph.above(chosen)))
        return
    show(*dependencies.why(graph, chosen))


def _graph(call: Call, as_json: bool) -> dependencies.Graph | None:
    """Return what the packages of an image need, None if that is not to be read now."""
    from condainer import pipeline
    from condainer.inputs.read import read_inputs
    from condainer.system.errors import CondainerError

    settings = call.using(frozen=True)
    entry, lock = pipeline.current_entry(settings)
    if call.dry:
        # It takes a directory to unpack into.
        call.would(f"read what the packages in {entry.image} need", as_json=as_json)
        return None
    wanted: list[str] = []
    if settings.address is None:
        # A lock that another tool wrote, or a file that was changed since, may not be readable.
        with suppress(CondainerError):
            lines = read_inputs(settings, lock.platform).requirements
            wanted = [line.text for line in lines if not line.constraint]
    return dependencies.graph(dependencies.metadata(entry, settings), lock, wanted)
