"""`cnd shell-hook`: an image in a shell's variables, for direnv."""

from __future__ import annotations

import os

import click

from condainer.cli.call import Call
from condainer.cli.console import answer
from condainer.cli.main import cli
from condainer.cli.options import named_image
from condainer.integrations import shell_hook


@cli.command("shell-hook")
@click.argument("shell", type=click.Choice(shell_hook.SHELLS), default=shell_hook.SHELLS[0])
@named_image
@click.pass_obj
def print_hook(call: Call, shell: str) -> None:
    """Print what a shell evaluates to be in the image.

    For direnv, write `eval "$(cnd shell-hook)"` into .envrc. The image stays mounted until that
    shell ends. In a shell of your own, `source ./activate` does more: it can be left.
    """
    from condainer import pipeline, project
    from condainer.activate import run
    from condainer.lock.lock_paths import lockfile_path
    from condainer.system.machine import this_platform

    settings = call.using(frozen=True)
    if call.dry:
        plan = project.use_plan(settings)
        call.would(*plan.steps, f"mount {plan.image} at {plan.prefix}, and print variables")
        return
    entry, lock = pipeline.current_entry(settings)
    if not call.names_image:
        call.warn_if_behind(entry)
    run.mount(entry, settings, call.reporter(), False, shell_hook.shell_of_caller())
    after = run.environment(entry, lock, settings, os.environ)
    lines = list(shell_hook.lines(os.environ, after, shell))
    if shell == "bash" and settings.address is None:
        lockfile = lockfile_path(settings, this_platform())
        inputs = (settings.environment_yml, settings.requirements_txt, lockfile)
        lines.append(shell_hook.watching(inputs))
    answer("\n".join(lines))
