"""The first lines of the commands' help stand in a table, so that a list of them imports none."""

from __future__ import annotations

import click

from condainer.cli import main, words

WIDTH = 64


def test_the_table_says_what_the_commands_say() -> None:
    context = click.Context(main.cli)
    lines = {}
    for name in main.cli.list_commands(context):
        command = main.cli.get_command(context, name)
        assert command is not None
        if not command.hidden:
            lines[name] = command.get_short_help_str(WIDTH)
    assert lines == words.SUMMARIES
