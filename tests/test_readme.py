"""The README says what the program says: help texts, configuration keys, exit codes.

`python -m tests.test_readme` writes the generated blocks anew.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click
import pytest

from condainer.cli import main
from condainer.settings import config
from condainer.system import errors, process

TOP = Path(__file__).resolve().parents[1]
README = TOP / "README.md"
BLOCK = re.compile(r"(<!-- (?P<name>[\w -]+) -->\n)(?P<text>.*?)(\n<!-- end -->)", re.DOTALL)
CONTEXT = click.Context(main.cli)
COMMANDS = [name for name in main.cli.list_commands(CONTEXT) if name != "help"]


def help_text(name: str) -> str:
    """Return what `cnd [NAME] --help` prints at a width of 96."""
    parent = click.Context(
        main.cli,
        info_name="cnd",
        terminal_width=96,
        max_content_width=96,
        help_option_names=main.cli.context_settings["help_option_names"],
    )
    if not name:
        text = main.cli.get_help(parent)
    else:
        context, command = parent, main.cli.get_command(parent, name.split()[0])
        for word in name.split():
            if context is not parent:
                assert isinstance(command, click.Group)
                command = command.get_command(context, word)
            assert command is not None
            context = click.Context(command, parent=context, info_name=word)
        assert command is not None
        text = command.get_help(context)
    return f"```\n{text}\n```"


def key_table() -> str:
    """Return the configuration keys as a table."""
    rows = ["| key | default | environment variable | meaning |", "| --- | --- | --- | --- |"]
    for name, default, variable, doc in config.documented():
        shown = f"`{default}`" if default else ""
        rows.append(f"| `{name}` | {shown} | {variable and f'`{variable}`'} | {doc} |")
    return "\n".join(rows)


def expected(name: str) -> str:
    """Return what a generated block must contain."""
    if name == "keys":
        return key_table()
    assert name.startswith("help")
    return help_text(name.removeprefix("help").strip())


def blocks() -> dict[str, str]:
    """Return the generated blocks of the README."""
    text = README.read_text(encoding="utf-8")
    return {match["name"]: match["text"] for match in BLOCK.finditer(text)}


@pytest.mark.parametrize("name", ["keys", "help", *(f"help {name}" for name in COMMANDS)])
def test_generated_blocks(name: str) -> None:
    assert blocks().get(name) == expected(name), "run `python -m tests.test_readme`"


def test_every_exit_code_is_in_the_table() -> None:
    table = README.read_text(encoding="utf-8").partition("## Exit codes")[2].partition("\n## ")[0]
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    classes = [
        item
        for module in (errors, process)
        for _, item in inspect.getmembers(module, inspect.isclass)
        if issubclass(item, errors.CondainerError)
    ]
    used = {item.exit_code for item in classes} | {errors.EXEC_FAILED, 0, 2, 70, 126, 127, 130, 143}
    assert documented == used


def test_it_opens_with_the_two_commands() -> None:
    opening = README.read_text(encoding="utf-8").partition("\n## ")[0]
    assert "make demo" in opening
    assert "make test" in opening


def test_the_program_itself_prints_that_help() -> None:
    import subprocess
    import sys

    printed = subprocess.run(
        [sys.executable, "-m", "condainer", "build", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "98", "PATH": "/usr/bin:/bin"},
    ).stdout
    assert printed.strip() in expected("help build")


def write() -> None:
    """Write the generated blocks of the README anew."""
    text = README.read_text(encoding="utf-8")
    README.write_text(
        BLOCK.sub(lambda match: f"{match[1]}{expected(match['name'])}{match[4]}", text),
        encoding="utf-8",
    )


if __name__ == "__main__":
    write()
