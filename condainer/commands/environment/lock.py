"""`cnd lock`: the lock of an environment updated, checked or exported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from condainer.cli import complete, environments
from condainer.cli.call import Call
from condainer.cli.console import answer, print_json, show
from condainer.cli.main import cli
from condainer.cli.options import ALL, JSON, Place
from condainer.settings.config import Settings

if TYPE_CHECKING:
    from condainer.solve.relock import Wish

# Those of solve.export, which a command without --export need not import.
FORMS = (
    *("requirements", "explicit", "environment", "pylock", "conda-lock", "pixi", "conda"),
    *("cyclonedx", "spdx"),
)


@cli.command("lock")
@click.argument("packages", metavar="[PKG]...", nargs=-1, shell_complete=complete.packages)
@click.option("--check", is_flag=True, help="Only say whether the lock is current.")
@click.option("--update", is_flag=True, help="Let only PKG... move, or all if none is named.")
@click.option("--upgrade", is_flag=True, help="Let everything move: solve from scratch.")
@click.option(
    "--platform", "platforms", multiple=True, metavar="P", help="Lock for P (repeatable)."
)
@click.option("--diff", is_flag=True, help="Show what changes; with -y without writing it.")
@click.option("--export", "form", type=click.Choice(FORMS), help="Print it in another format.")
@click.option(
    "-o",
    "--output",
    type=Place(path_type=Path, dir_okay=False),
    help="With --export: write a file.",
)
@ALL
@JSON
@click.pass_obj
def lock(
    call: Call,
    packages: tuple[str, ...],
    check: bool,
    update: bool,
    upgrade: bool,
    platforms: tuple[str, ...],
    diff: bool,
    form: str | None,
    output: Path | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Update the lock, changing as little as possible.

    Writes an explicit lockfile for each platform, from which images are built, and conda-lock.yml
    for other tools. All are meant to be committed. While the lock is current, nothing moves
    unless --update or --upgrade lets it. With --check, the exit status is 0 for a current lock
    and 7 for a stale or missing one; nothing is solved.
    """
    from condainer.solve.relock import Wish

    if packages and not update:
        raise click.UsageError("Packages are named with --update only.")
    if output is not None and form is None:
        raise click.UsageError("--output is for --export.")
    if sum((check, update or upgrade or diff, form is not None)) > 1:
        raise click.UsageError("--check and --export solve nothing: use each by itself.")
    if form is not None:
        if everything:
            raise click.UsageError("--export is of one environment: choose it with -e.")
        _export(call, call.building(), form, platforms, output, as_json)
        return
    wish = Wish(platforms, packages, upgrade or (update and not packages))

    def work(call: Call) -> None:
        if check:
            _check(call, call.building(), platforms, as_json)
        else:
            _relock(call, call.building(), wish, diff, as_json)

    environments.each(call, everything, as_json, work)


def _relock(call: Call, settings: Settings, wish: Wish, diff: bool, as_json: bool) -> None:
    from condainer.cli import lock_tables
    from condainer.solve import relock

    if call.dry and not diff:
        call.would(*relock.steps(settings, wish), as_json=as_json)
        return
    reporter = call.reporter()
    relocked = relock.relock(settings, wish, reporter)
    files = [] if call.dry else relock.write(relocked, settings, reporter)
    if as_json:
        print_json(lock_tables.report(relocked, files, settings))
    elif diff:
        show(*lock_tables.table(relocked))
    call.say(*lock_tables.summary(relocked, call.dry))


def _check(call: Call, settings: Settings, platforms: tuple[str, ...], as_json: bool) -> None:
    from condainer.cli import lock_tables
    from condainer.solve import relock

    states = relock.check(settings, relock.wanted_platforms(settings, platforms))
    if as_json:
        print_json(lock_tables.states_report(states))
    if settings.policy:
        from condainer.solve import allowed

        allowed.demand(states, settings)
    relock.demand(states, settings)
    call.say(*lock_tables.states_summary(states, settings))


def _export(
    call: Call,
    settings: Settings,
    form: str,
    platforms: tuple[str, ...],
    output: Path | None,
    as_json: bool,
) -> None:
    from condainer.solve import export

    exported = export.export(settings, form, platforms)
    if output is not None and call.dry:
        call.would(f"write {output}", as_json=as_json)
        return
    if output is not None:
        export.save(exported, output, settings)
    if as_json:
        print_json(export.report(exported, output))
    elif output is None:
        answer(exported.text.removesuffix("\n"))
    call.say(*exported.notes)
