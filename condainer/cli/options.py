"""The types and options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from condainer.cli import complete


class Place(click.Path):
    """A path on the command line; an empty one, from an unset variable, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("an empty path", param, ctx)
        return super().convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Let the shell offer directories where the parameter says DIR, else files."""
        kind = "dir" if param.metavar == "DIR" else "file"
        return [CompletionItem(incomplete, type=kind)]


VERIFY = click.option(
    "--verify", is_flag=True, help="Run a private copy that has the manifest's sha256."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
JSON_ARRAY = click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
FROZEN = click.option(
    "--frozen", is_flag=True, help="Use the image of the lock, whatever the other files say."
)
ALL = click.option("--all", "everything", is_flag=True, help="For all environments of a project.")


def named_image(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that name an image of a cache; its Call has what they say."""
    command = click.option(
        "--env",
        metavar="NAME",
        shell_complete=complete.names,
        help="Use the image that has this name in a cache.",
    )(command)
    return click.option(
        "--address",
        metavar="ADDRESS",
        shell_complete=complete.images,
        help="Use this image of a cache.",
    )(command)
