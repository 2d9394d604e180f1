"""`cnd build`: the image of a project."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from condainer.cli import environments
from condainer.cli.call import Call
from condainer.cli.main import cli
from condainer.cli.options import ALL, JSON, Place


@cli.command()
@click.option("--locked", is_flag=True, help="Refuse a missing or stale lock, never solve.")
@click.option("--pull-only", is_flag=True, help="Take it from a cache or a registry, never build.")
@click.option(
    "--from",
    "source",
    type=Place(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Take lock and packages from what `cnd bundle` wrote; make no connection.",
)
@ALL
@JSON
@click.pass_obj
def build(
    call: Call, locked: bool, pull_only: bool, source: Path | None, everything: bool, as_json: bool
) -> None:
    """Make the image, if no cache and no registry has it yet.

    Solves if the lock is missing or stale, looks for its image in caches and registries, and
    downloads, installs and compresses only on a miss.
    """

    if everything and source is not None:
        raise click.UsageError("A bundle has one environment: --from and --all exclude each other.")
    more = ["locked=true"] * locked + ["pull_only=true"] * pull_only
    more += ["offline=true"] * (source is not None)
    if source is not None and _unpack(call, source, more, as_json):
        return
    environments.each(call, everything, as_json, functools.partial(_build, more, as_json))


def _build(more: list[str], as_json: bool, call: Call) -> None:
    from condainer import project
    from condainer.cli import hit

    settings = call.building(*more)
    if call.dry:
        from condainer.integrations import wrappers

        steps = (*project.build_plan(settings), *wrappers.plan(settings))
        call.would(*steps, as_json=as_json)
        return
    hit.make(settings, call.reporter(), call.quiet, as_json, not call.overrides)


def _unpack(call: Call, source: Path, overrides: list[str], as_json: bool) -> bool:
    """Unpack a bundle before a build; tell whether that is all, because it is a dry run."""
    from condainer.transfer import bundle_reader

    if call.dry:
        settings = call.building(*overrides)
        plan = bundle_reader.unpack_plan(source.absolute(), call.directory, settings)
        call.would(*plan, "build the image, unless a cache has it", as_json=as_json)
        return True
    load = functools.partial(call.building, *overrides)
    done = bundle_reader.unpack(source.absolute(), call.directory, load, call.reporter())
    for path in done.written:
        call.say(f"Wrote {path}")
    return False
