"""Man pages from the commands, as text; a build of the package writes them.

click-man makes such, too, but escapes neither backslashes nor dots at the beginning of a line,
runs programs of ours into the text unmarked, and knows nothing of groups, keys and exit codes.
"""

from __future__ import annotations

import inspect
import os
import re
import textwrap
import time
from collections.abc import Iterator

import click

from condainer import __version__
from condainer.cli import main, words
from condainer.settings import config
from condainer.system import errors

DATE = "%Y-%m-%d"
# Of a line of roff, in characters.
WIDTH = 78
CODE = re.compile(r"`([^`]+)`")


def pages() -> dict[str, str]:
    """Return the man page of `cnd` and of each of its commands, by the name of its file."""
    context = click.Context(main.cli, info_name="cnd", help_option_names=["-h", "--help"])
    return {f"{name}.1": "\n".join(lines) + "\n" for name, lines in _pages(context)}


def _pages(context: click.Context) -> Iterator[tuple[str, list[str]]]:
    name = context.command_path.replace(" ", "-")
    yield name, list(_page(name, context))
    for word, command in _commands(context):
        yield from _pages(click.Context(command, parent=context, info_name=word))


def _commands(context: click.Context) -> list[tuple[str, click.Command]]:
    if not isinstance(context.command, click.Group):
        return []
    commands = []
    for word in context.command.list_commands(context):
        command = context.command.get_command(context, word)
        if command is not None and not command.hidden:
            commands.append((word, command))
    return commands


def _page(name: str, context: click.Context) -> Iterator[str]:
    command = context.command
    first, *rest = _paragraphs(command)
    # So that packages of one version are the same.
    now = float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    date = time.strftime(DATE, time.gmtime(now))
    yield f'.TH {_text(name.upper())} 1 "{date}" "condainer {__version__}" "Condainer"'
    yield ".SH NAME"
    yield rf"{_text(name)} \- {_text(first.removesuffix('.'))}"
    yield ".SH SYNOPSIS"
    yield rf"\fB{_text(context.command_path)}\fP"
    yield _text(" ".join(command.collect_usage_pieces(context)))
    yield ".SH DESCRIPTION"
    yield _text(first)
    for paragraph in rest:
        yield ".PP"
        yield _text(paragraph)
    yield ".SH OPTIONS"
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            yield from _item(record[0], record[1])
    if context.parent is None:
        yield from _of_all()
        return
    if commands := _commands(context):
        yield ".SH COMMANDS"
        for word, sub in commands:
            yield from _item(f"{name}-{word}(1)", _paragraphs(sub)[0])
    yield ".SH SEE ALSO"
    yield r"\fBcnd\fP(1), which has the options that all commands take,"
    yield "the configuration, and the exit status."


def _of_all() -> Iterator[str]:
    """Yield the sections that only the page of `cnd` has."""
    yield ".SH COMMANDS"
    for title, commands in words.GROUPS.items():
        yield f'.SS "{_text(title)}"'
        for word, (_, summary) in commands.items():
            yield from _item(f"cnd-{word}(1)", summary)
    yield ".SH CONFIGURATION"
    yield _text("Keys of condainer.yml, and the variables that set them:")
    for key, default, variable, doc in config.documented():
        told = f"{doc.removesuffix('.')}."
        told += f" The default is {default}." if default else ""
        told += f" Variable: {variable}." if variable else ""
        yield from _item(key, told)
    yield ".SH EXIT STATUS"
    for code, said in errors.documented():
        yield from _item(str(code), said)


def _paragraphs(command: click.Command) -> list[str]:
    return inspect.cleandoc(command.help or "").partition("\f")[0].split("\n\n")


def _item(name: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield rf"\fB{_text(name)}\fP"
    yield _text(text)


def _text(text: str) -> str:
    """Return a paragraph in roff, with what is in backquotes in bold."""
    escaped = text.replace("\\", "\\e").replace("-", r"\-")
    marked = CODE.sub(r"\\fB\1\\fP", " ".join(escaped.split()))
    lines = textwrap.wrap(marked, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in lines)
