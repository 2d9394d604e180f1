"""docs/reference says what the program says: commands, configuration keys, exit codes."""

from __future__ import annotations

import inspect
import subprocess
import sys
from signal import SIGHUP, SIGINT, SIGPIPE, SIGTERM

import pytest

from condainer.system import errors, process
from tests import reference


@pytest.mark.parametrize("name", reference.MADE)
def test_pages_are_current(name: str) -> None:
    written = (reference.PAGES / name).read_text(encoding="utf-8")
    assert written == reference.page(name), "run `python -m tests.reference`"


def test_every_note_is_used() -> None:
    names = {f"{'-'.join(path)}.md" for path in reference.commands()} | set(reference.MADE)
    assert {path.name for path in reference.NOTES.iterdir()} <= names


def test_every_exit_code_is_documented() -> None:
    classes = [
        item
        for module in (errors, process)
        for _, item in inspect.getmembers(module, inspect.isclass)
        if issubclass(item, errors.CondainerError)
    ]
    used = {item.exit_code for item in classes} | {errors.EXEC_FAILED, 0, 2, 70, 126, 127}
    used |= {128 + number for number in (SIGHUP, SIGINT, SIGPIPE, SIGTERM)}
    codes = [code for code, _ in errors.documented()]
    assert codes == sorted(used)


def test_the_program_itself_prints_that_help() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "condainer", "build", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "98", "PATH": "/usr/bin:/bin"},
    ).stdout
    assert printed.strip() == reference.help_text("build")
