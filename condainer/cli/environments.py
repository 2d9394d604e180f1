"""`--all`: the same for every environment of a project."""

from __future__ import annotations

from collections.abc import Callable

import click

from condainer.cli.call import Call
from condainer.cli.console import gathered, print_json, show_error
from condainer.startup.find_project import DEFAULT
from condainer.system.errors import CondainerError


def each(call: Call, everything: bool, as_json: bool, work: Callable[[Call], None]) -> None:
    """Do some work for the chosen environment, or for all of them, one after the other.

    A failure of one is told, and the others go on; the exit status is that of the first. As JSON,
    the answers and failures are one object with the names of the environments.
    """
    if not everything:
        work(call)
        return
    if call.environment is not None:
        raise click.UsageError("-e chooses one environment, and --all means all: give one of them")
    names = [name for name, _ in call.settings().environments] or [DEFAULT]
    context = click.get_current_context()
    answers: dict[str, object] = {}
    first: CondainerError | None = None
    for name in names:
        call.say(f"Environment {name}:")
        # What a reporter shows ends with its environment.
        with gathered() as said, click.Context(context.command, context):
            try:
                work(call.with_options(environment=name))
            except CondainerError as error:
                first = first or error
                show_error(error, ("--json",))
        answers[name] = said[0] if said else None
    if as_json:
        print_json(answers)
    if first is not None:
        raise SystemExit(first.exit_code)
