"""The pages of docs/reference that the program makes: `python -m tests.reference` writes them.

What the program cannot say about itself stands in docs/reference/notes: one file of each page,
in which a marker stands for what is made, and one of a command, which follows its help.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from condainer.cli import main, words
from condainer.settings import config
from condainer.system import errors

TOP = Path(__file__).resolve().parents[1]
PAGES = TOP / "docs/reference"
NOTES = PAGES / "notes"
MARKER = "<!-- generated -->"
WARNING = (
    "<!-- `python -m tests.reference` writes this page from the program and from notes/{}. -->\n"
)
WIDTH = 96


def help_text(*path: str) -> str:
    """Return what `cnd PATH… --help` prints at a width of 96."""
    context = click.Context(
        main.cli,
        info_name="cnd",
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=main.cli.context_settings["help_option_names"],
    )
    command: click.Command = main.cli
    for word in path:
        assert isinstance(command, click.Group)
        found = command.get_command(context, word)
        assert found is not None, f"There is no command {' '.join(path)}."
        command, context = found, click.Context(found, parent=context, info_name=word)
    return command.get_help(context)


def commands() -> Iterator[tuple[str, ...]]:
    """Yield every command and subcommand, in the order of `cnd --help`."""
    context = click.Context(main.cli)
    for names in words.GROUPS.values():
        for name in names:
            yield (name,)
            command = main.cli.get_command(context, name)
            if isinstance(command, click.Group):
                for below in command.list_commands(context):
                    yield name, below


def page(name: str) -> str:
    """Return the text of a page, such as `commands.md`."""
    note = _note(name)
    assert note.count(f"{MARKER}\n") == 1, f"{NOTES / name}: one line {MARKER} is needed"
    return WARNING.format(name) + note.replace(f"{MARKER}\n", MADE[name]())


def write() -> None:
    """Write all pages."""
    for name in MADE:
        (PAGES / name).write_text(page(name), encoding="utf-8")


def _note(name: str) -> str:
    """Return a note with its links as they have to be in the page, one directory higher."""
    path = NOTES / name
    if not path.exists():
        return ""
    return re.sub(r"(\]\()\.\./", r"\1", path.read_text(encoding="utf-8"))


def _commands() -> str:
    parts = [f"```text\n{help_text()}\n```\n"]
    first = {next(iter(names)): title for title, names in words.GROUPS.items()}
    for path in commands():
        if len(path) == 1 and path[0] in first:
            parts.append(f"## {first[path[0]]}\n")
        parts.append(f"### cnd {' '.join(path)}\n\n```text\n{help_text(*path)}\n```\n")
        if note := _note(f"{'-'.join(path)}.md"):
            parts.append(note)
    return "\n".join(parts)


def _keys() -> str:
    rows = ["| key, environment variable | default | meaning |", "| --- | --- | --- |"]
    for name, default, variable, doc in config.documented():
        shown = f"`{default}`" if default else ""
        rows.append(f"| `{name}`{variable and f'<br>`{variable}`'} | {shown} | {doc} |")
    return "\n".join(rows) + "\n"


def _exit_codes() -> str:
    rows = ["| code | meaning |", "| --- | --- |"]
    rows += [f"| {code} | {meaning} |" for code, meaning in errors.documented()]
    return "\n".join(rows) + "\n"


MADE = {"commands.md": _commands, "configuration.md": _keys, "exit-codes.md": _exit_codes}

if __name__ == "__main__":
    write()
