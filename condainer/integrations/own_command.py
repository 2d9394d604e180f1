"""The command line of this `cnd`, for programs that know neither PATH nor project."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from condainer.cache.entries import Entry
from condainer.settings import config

# The keys that say where images are, and those that say how they are run.
FINDING = ("cache_directory", "readonly_caches", "mount_base_directory")
RUNNING = ("tool_directory", "mount", "user_site", "linger")


def exec_in_project(project: Path, environment: str = "") -> list[str]:
    """Return the words before a command that runs it in the image of a project's lock.

    Parameters: `environment` is which one of several it is, where there are several.
    """
    chosen = ["-e", environment] if environment else []
    return [*_cnd(), "--quiet", "-d", str(project), *chosen, "exec", "--frozen", "--"]


def exec_in(directory: Path, cache: Path, image: Sequence[str]) -> list[str]:
    """Return the words before a command that runs it in an image, from any directory.

    Parameters: `directory` is one whose configuration counts, and need not have any; `cache` has
    the image, or its name, and `image` is the option that says which it is.
    """
    return [*_of_cache(directory, cache), "exec", *image, "--"]


def mount_for_shell(directory: Path, entry: Entry) -> list[str]:
    """Return the words before the number of a shell that mount an image until that ends.

    Parameters: as for exec_in().
    """
    return [*_of_cache(directory, entry.root), "mount", "--address", entry.address, "--shell"]


def _of_cache(directory: Path, cache: Path) -> list[str]:
    return [*_cnd(), "--quiet", "-d", str(directory), "--set", f"cache_directory={cache}"]


def environment(keys: Sequence[str] = (*FINDING, *RUNNING)) -> dict[str, str]:
    """Return the environment variables that set some keys now, for a program that lacks them."""
    named = (config.KEYS[key].metadata["variable"] for key in keys)
    return {name: os.environ[name] for name in named if os.environ.get(name)}


def _cnd() -> list[str]:
    started = Path(sys.argv[0]).absolute()
    for program in (started, Path(sys.executable).with_name("cnd")):
        if program.name == "cnd" and os.access(program, os.X_OK):
            return [str(program)]
    return [sys.executable, "-m", "condainer"]
