"""The first lines of the commands' help stand in a table, so that a list of them imports none.

`python -m tests.cli.test_summaries` writes it again.
"""

from __future__ import annotations

from pathlib import Path

import click

from condainer.cli import main, summaries

WIDTH = 64
HEAD = '''\
"""What each command is for, in a line; written by `python -m tests.cli.test_summaries`."""

SUMMARIES = {
'''


def expected() -> dict[str, str]:
    """Return the first line of the help of each command that is shown."""
    context = click.Context(main.cli)
    lines = {}
    for name in main.cli.list_commands(context):
        command = main.cli.get_command(context, name)
        assert command is not None
        if not command.hidden:
            lines[name] = command.get_short_help_str(WIDTH)
    return lines


def test_the_table_says_what_the_commands_say() -> None:
    assert expected() == summaries.SUMMARIES, "run `python -m tests.cli.test_summaries`"


def write() -> None:
    """Write the table again."""
    lines = (f'    "{name}": "{summary}",\n' for name, summary in expected().items())
    assert summaries.__file__ is not None
    Path(summaries.__file__).write_text(f"{HEAD}{''.join(lines)}}}\n", encoding="utf-8")


if __name__ == "__main__":
    write()
