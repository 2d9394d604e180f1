"""The command line of this `cnd`, for programs that know neither PATH nor project."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from condainer.cache.entries import Entry
from condainer.settings import config


def exec_in(project: Path, options: Sequence[str] = ()) -> list[str]:
    """Return the words before a command that runs it in an image, from any directory.

    Parameters: `project` is the directory whose configuration counts, `options` those of `exec`.
    """
    return [*_cnd(), "--quiet", "-d", str(project), "exec", *options, "--"]


def mount_for_shell(directory: Path, entry: Entry) -> list[str]:
    """Return the words before the number of a shell that mount an image until that ends.

    Parameters: `directory` is one without a project.
    """
    where = ["-d", str(directory), "--set", f"cache_directory={entry.root}"]
    return [*_cnd(), "--quiet", *where, "mount", "--address", entry.address, "--shell"]


def environment() -> dict[str, str]:
    """Return the variables by which this command has its settings, for a program without them."""
    named = (item.metadata.get("variable") for item in config.KEYS.values())
    return {name: os.environ[name] for name in named if name and os.environ.get(name)}


def _cnd() -> list[str]:
    started = Path(sys.argv[0]).absolute()
    for program in (started, Path(sys.executable).with_name("cnd")):
        if program.name == "cnd" and os.access(program, os.X_OK):
            return [str(program)]
    return [sys.executable, "-m", "condainer"]
