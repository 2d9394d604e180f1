"""`cnd completion`: what a shell reads to complete the words of `cnd`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from condainer.cli.call import Call
from condainer.cli.complete import VARIABLE
from condainer.cli.console import answer
from condainer.cli.main import cli

SHELLS = ("bash", "zsh", "fish")


def script(shell: str) -> str:
    """Return the script by which a shell, one of SHELLS, completes the words of `cnd`."""
    kind = get_completion_class(shell)
    assert kind is not None
    completion = kind(cli, {}, "cnd", VARIABLE)
    # Not source(), which runs bash to ask for its version.
    return (completion.source_template % completion.source_vars()).rstrip() + "\n"


@cli.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_obj
def completion(call: Call, shell: str) -> None:
    """Print what lets a shell complete the words of cnd.

    In ~/.bashrc or ~/.zshrc (after compinit), `eval "$(cnd completion bash)"` or zsh; for fish,
    `cnd completion fish >~/.config/fish/completions/cnd.fish`. Names and addresses of images,
    packages, and the programs of an image are completed as well.
    """
    if call.dry:
        call.would(f"print how {shell} completes the words of cnd")
        return
    answer(script(shell).removesuffix("\n"))
