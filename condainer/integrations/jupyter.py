"""Jupyter kernels that run in an image: written where JupyterLab and JupyterHub look for them.

https://jupyter-client.readthedocs.io/en/stable/kernels.html says what a kernel specification is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer.cache import squashfs
from condainer.cache.entries import Entry
from condainer.integrations.own_command import environment
from condainer.settings.config import Settings
from condainer.system.errors import ConfigError, InputError, LockfileError
from condainer.system.files import (
    make_directory,
    publish_text,
    published_file,
    read_bytes,
    read_text,
    remove_tree,
    storage_errors,
)

# Where packages put the specifications of kernels.
BELOW = "share/jupyter/kernels"
SPEC = "kernel.json"
# What Jupyter takes as the name of a kernel, but for the directories `.` and `..`.
NAME = re.compile(r"(?!\.+$)[a-z0-9._-]+", re.IGNORECASE)
# The key of a specification that holds our part.
OURS = "condainer"


@dataclass(frozen=True)
class Kernel:
    """A kernel in an image: its name there, its specification, and its logos by file name."""

    name: str
    spec: dict[str, Any]
    logos: dict[str, bytes]


@dataclass(frozen=True)
class Installed:
    """A kernel of ours, as Jupyter sees it; `address` is that of the image that it was made of."""

    directory: Path
    display_name: str
    address: str

    @property
    def name(self) -> str:
        """The name that Jupyter knows it by."""
        return self.directory.name

    def report(self) -> dict[str, str]:
        """Return what `--json` prints of it."""
        return {
            "name": self.name,
            "display_name": self.display_name,
            "directory": str(self.directory),
            "address": self.address,
        }


def kernels_of(entry: Entry, settings: Settings) -> list[Kernel]:
    """Return the kernels that an image has.

    Raises InputError with the remedy if there is none, ToolError without unsquashfs.
    """
    with squashfs.parts(entry.image, settings, (BELOW,)) as tree:
        kernels = [_read(path.parent) for path in sorted(tree.glob(f"{BELOW}/*/{SPEC}"))]
    if not kernels:
        raise InputError(
            f"The image {entry.address} has no Jupyter kernel",
            f"Add the package of one, for Python `cnd add{settings.option} ipykernel`.",
        )
    return kernels


def _read(directory: Path) -> Kernel:
    path = directory / SPEC
    try:
        spec = json.loads(read_text(path))
        argv = spec["argv"]
        if not argv or not all(isinstance(word, str) for word in argv):
            raise TypeError("argv")
    except (ValueError, TypeError, KeyError, RecursionError):
        raise LockfileError(
            f"{BELOW}/{directory.name}/{SPEC} in the image is not a kernel specification",
            "Choose another version of the package that has it.",
        ) from None
    logos = {item.name: read_bytes(item) for item in directory.glob("logo-*") if item.is_file()}
    return Kernel(directory.name, spec, logos)


def directory_of(prefix: Path | None) -> Path:
    """Return where kernels are installed: below a prefix, or else the user's own place."""
    if prefix is not None:
        return prefix.absolute() / BELOW
    own = os.environ.get("JUPYTER_DATA_DIR")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return (Path(own) if own else Path(data, "jupyter")) / "kernels"


def chosen_names(kernels: Sequence[Kernel], wish: str | None, environment: str) -> list[str]:
    """Return the names under which kernels are installed; several of one image add their own.

    Raises ConfigError for a wish that Jupyter would not take.
    """
    if wish is not None and NAME.fullmatch(wish) is None:
        raise ConfigError(f"{wish!r} is not the name of a kernel", "Use letters, digits and . _ -")
    name = re.sub(r"[^a-z0-9._-]+", "-", environment.lower()).strip("-")
    base = wish or (name if NAME.fullmatch(name) else OURS)
    return [base if len(kernels) == 1 else f"{base}-{kernel.name}" for kernel in kernels]


def demand_free(directory: Path) -> None:
    """Raise ConfigError where a kernel that is not ours has the name."""
    if directory.is_dir() and _ours(directory) is None:
        raise ConfigError(
            f"{directory} is a kernel that `cnd` has not made", "Choose another name by `--name`."
        )


def install(
    kernel: Kernel, directory: Path, display_name: str, before: Sequence[str], address: str
) -> Installed:
    """Write the specification of a kernel that is started by `before` and its own command.

    Raises StorageError.
    """
    metadata, variables = (
        value if isinstance(value := kernel.spec.get(key), dict) else {}
        for key in ("metadata", "env")
    )
    spec = {
        # The command becomes the kernel: a signal to its process is one to the kernel.
        "interrupt_mode": "signal",
        **kernel.spec,
        "argv": [*before, *kernel.spec["argv"]],
        # The program that starts the kernel may lack the settings of this shell.
        "env": {**environment(), **variables},
        "display_name": display_name,
        "metadata": {**metadata, OURS: {"address": address}},
    }
    with storage_errors(f"write {directory}"):
        make_directory(directory, 0o755)
        for name, content in kernel.logos.items():
            with published_file(directory / name, 0o644) as stream:
                stream.write(content)
        publish_text(directory / SPEC, json.dumps(spec, indent=1) + "\n", 0o644)
    return Installed(directory, display_name, address)


def installed(place: Path) -> Iterator[Installed]:
    """Yield the kernels of ours in a directory of kernels."""
    for directory in sorted(place.glob("*")):
        if kernel := _ours(directory):
            yield kernel


def remove(place: Path, name: str) -> Installed:
    """Remove a kernel of ours; raises ConfigError if there is no such one."""
    kernel = next((item for item in installed(place) if item.name == name), None)
    if kernel is None:
        raise ConfigError(
            f"{place} has no kernel {name} that `cnd` has made", "`cnd kernel list` shows all."
        )
    with storage_errors(f"remove {kernel.directory}"):
        remove_tree(kernel.directory)
    return kernel


def _ours(directory: Path) -> Installed | None:
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        spec = json.loads(read_text(directory / SPEC))
        return Installed(
            directory, str(spec["display_name"]), str(spec["metadata"][OURS]["address"])
        )
    return None
