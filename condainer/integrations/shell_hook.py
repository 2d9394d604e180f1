"""Variables that a shell evaluates to be in an image, as in direnv's `.envrc`.

direnv itself resets them when the directory is left.
"""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from condainer.activate.shell import fish_word
from condainer.startup.command_environment import SHELL_OWN, is_identifier

SHELLS = ("bash", "zsh", "fish")
DIRENV = "direnv"


def lines(before: Mapping[str, str], after: Mapping[str, str], shell: str) -> Iterator[str]:
    """Yield, in the words of a shell, what leads from one environment to another."""
    for name in sorted({*before, *after}):
        if before.get(name) == after.get(name) or name in SHELL_OWN or not is_identifier(name):
            continue
        value = after.get(name)
        if shell != "fish":
            yield f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"
        elif value is None:
            yield f"set -e {name}"
        else:
            words = value.split(os.pathsep) if name == "PATH" else [value]
            yield f"set -gx {name} {' '.join(map(fish_word, words))}"


def watching(paths: Sequence[Path]) -> str:
    """Return the line that makes direnv evaluate its file again when one of the paths changes."""
    return f"! type watch_file >/dev/null 2>&1 || watch_file {shlex.join(map(str, paths))}"


def shell_of_caller() -> int:
    """Return the number of the process that is the user's shell.

    direnv is a child of it, which starts a shell of its own; a command substitution is a copy of
    it, with the same command line.
    """
    ancestors = list(_ancestors())
    for number, pid in enumerate(ancestors[:-1]):
        if _read(pid, "comm").strip() == DIRENV:
            return ancestors[number + 1]
    commands = [_read(pid, "cmdline") for pid in ancestors]
    copies = itertools.takewhile(lambda command: command == commands[0], commands)
    return ancestors[len(list(copies)) - 1]


def _ancestors() -> Iterator[int]:
    pid = os.getppid()
    while pid > 1:
        yield pid
        # The name, in parentheses, may hold anything.
        pid = int((_read(pid, "stat").rpartition(")")[2].split() or ["", "0"])[1])


def _read(pid: int, what: str) -> str:
    try:
        return Path(f"/proc/{pid}/{what}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
