"""`cnd exec` and `cnd shell`: a command or a shell in an image."""

from __future__ import annotations

import shlex

import click

from condainer.cli import complete
from condainer.cli.call import Call
from condainer.cli.main import cli
from condainer.cli.options import FROZEN, VERIFY, named_image


@cli.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@FROZEN
@named_image
@VERIFY
@click.argument(
    "command", nargs=-1, required=True, type=click.UNPROCESSED, shell_complete=complete.command_line
)
@click.pass_obj
def execute(call: Call, command: tuple[str, ...], frozen: bool, verify: bool) -> None:
    """Run a command in the environment.

    Write `--` before a command that has options. The exit status is the command's own; 127 if it
    was not found, 126 if it cannot be executed, 125 if the environment could not be made available.
    """
    from condainer import pipeline, project
    from condainer.activate import run

    settings = call.using(frozen=frozen)
    if call.dry:
        plan = project.use_plan(settings)
        mounted = f"mount {plan.image} at {plan.prefix}"
        call.would(*plan.steps, mounted, f"run {shlex.join(command)}")
        return
    entry, lock = pipeline.current_entry(settings)
    run.command(command, run.Use(entry, lock, settings, call.reporter(), verify))


@cli.command("shell")
@FROZEN
@named_image
@VERIFY
@click.pass_obj
def subshell(call: Call, frozen: bool, verify: bool) -> None:
    """Start a shell with the environment active."""
    from condainer import pipeline, project
    from condainer.activate import run

    settings = call.using(frozen=frozen)
    if call.dry:
        plan = project.use_plan(settings)
        call.would(*plan.steps, f"mount {plan.image} at {plan.prefix} and start a shell")
        return
    entry, lock = pipeline.current_entry(settings)
    run.subshell(run.Use(entry, lock, settings, call.reporter(), verify))
