"""Wrappers: scripts by whose names the programs of an image run, from wherever they are called.

`DIR/bin` leads to `DIR/.condainer-wrappers/ADDRESS/bin`, in which each script is for one program of
one image. Beside that `bin` there are links to the other directories of the image, because Python
looks for its library there, by the name that it is called by. Scripts of other images stay, for
the virtual environments made with them, as long as their image is in its cache.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from condainer.cache import entries, squashfs
from condainer.cache.entries import Entry
from condainer.integrations import own_command
from condainer.settings.config import Settings
from condainer.startup.command_environment import SENTINEL
from condainer.system.errors import ConfigError, InputError
from condainer.system.files import make_directory, publish_text, remove_tree, storage_errors

KEPT = ".condainer-wrappers"
BIN = "bin"
# What programs find from their own place, as Python its library; conda-meta would make the place
# a conda environment for editors, which then activate it.
BESIDE = ("etc", "include", "lib", "lib64", "libexec", "share", "ssl")
# The link to the image in its cache.
IMAGE = "image"
# What is sourced: a wrapper would take the place of the shell.
SOURCED = ("activate", "deactivate", "conda")
PYTHON = re.compile(r"(python|pypy)[0-9.]*")
# Under this name the link `bin` is made before it takes its place.
NEXT = "next"

# With -p, bash reads no file named by BASH_ENV; unlike other shells, it hands on all variables.
TEXT = """\
#!/bin/bash -p
# Made by `cnd wrap`: runs a program of the image @address.
@named
# Nobody but us and root can have mounted this; a directory there may be anybody's.
if [ "${CONDAINER_ADDRESS-}" = @address ] &&
    command grep -qsE @mount"user_id=$EUID(,|\\$))" /proc/self/mountinfo &&
    { IFS= read -r __condainer_found <@sentinel; } 2>/dev/null &&
    [ "$__condainer_found" = @address ]; then
    unset __condainer_found
    exec @direct "$@"
fi
# What mounts the image must not be looked for among these scripts.
PATH=:$PATH:
for __condainer_bin in @directories; do PATH=${PATH//":$__condainer_bin:"/:}; done
PATH=${PATH#:}
PATH=${PATH%:}
unset __condainer_bin __condainer_found
@settings
exec @before @within "$@"
"""
# A virtual environment is found by the name that Python is called by.
NAMED = """\
__condainer_name=@own
[ ! -f "${0%/*}/../pyvenv.cfg" ] || __condainer_name=$0"""


@dataclass(frozen=True)
class Wrapped:
    """What was written: where, for which programs, and those of which images went."""

    directory: Path
    address: str
    programs: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def path(self) -> Path:
        """What belongs into PATH."""
        return self.directory / BIN

    def report(self) -> dict[str, object]:
        """Return what `--json` prints of it."""
        return {
            "directory": str(self.directory),
            "path": str(self.path),
            "address": self.address,
            "programs": list(self.programs),
            "removed": list(self.removed),
        }


def write(
    entry: Entry, directory: Path, project: Path, only: Collection[str], settings: Settings
) -> Wrapped:
    """Write the wrappers of an image's programs, and let `DIR/bin` lead to them.

    Parameters: `project` is the directory whose configuration counts, `only` the programs to write
    them for, all if it is empty. Raises InputError for a program that the image does not
    have, ConfigError where something else is, StorageError, ToolError.
    """
    _check_place(directory)
    found = [name for name in squashfs.programs(entry.image, settings) if name not in SOURCED]
    if absent := sorted({*only} - {*found}):
        raise InputError(
            f"The image {entry.address} has no program {', '.join(absent)}",
            f"It has {', '.join(found) or 'none'}.",
        )
    programs = tuple(name for name in found if not only or name in only)
    before = own_command.exec_in(project, ["--address", entry.address])
    own = Path(KEPT, entry.address)
    place = directory / own
    with storage_errors(f"write {place}"):
        # A link in a project that was cloned could lead anywhere.
        if os.path.realpath(place / BIN) != os.path.join(os.path.realpath(directory), own / BIN):
            raise ConfigError(f"{place} leads elsewhere by links", "Remove it.")
        make_directory(place / BIN, 0o755)
        _link(entry.directory, place / IMAGE)
        for name in BESIDE:
            _link(entry.prefix / name, place / name)
        for name in programs:
            text = script(name, entry, directory, before)
            publish_text(place / BIN / name, text, 0o755, durable=False, follow=False)
        for path in (place / BIN).iterdir():
            if path.name not in programs:
                path.unlink()
        _link(own / BIN, directory / BIN)
        removed = tuple(_removed(directory / KEPT))
    return Wrapped(directory, entry.address, programs, removed)


def check(directory: Path, project: Path) -> None:
    """Refuse a directory that a project names, but that is outside of it; raises ConfigError."""
    if not Path(os.path.realpath(directory)).is_relative_to(os.path.realpath(project)):
        raise ConfigError(
            f"`wrappers: {directory}` is outside of the project",
            "Name a directory in it; `cnd wrap DIR` writes elsewhere.",
        )


def of_project(entry: Entry, directory: Path, settings: Settings) -> Wrapped | None:
    """Write the wrappers that a project asks for, unless they are there; None then.

    Raises as write().
    """
    link = directory / BIN
    if link.is_symlink() and os.readlink(link) == str(Path(KEPT, entry.address, BIN)):
        return None
    return write(entry, directory, settings.project.absolute(), (), settings)


def _check_place(directory: Path) -> None:
    path = directory / BIN
    if os.path.lexists(path) and not (path.is_symlink() and os.readlink(path).startswith(KEPT)):
        raise ConfigError(
            f"{path} is there, and not from `cnd wrap`",
            "Choose another directory, or move it away.",
        )


def script(program: str, entry: Entry, directory: Path, before: Sequence[str]) -> str:
    """Return the text of the wrapper of a program."""
    place, path = directory / KEPT / entry.address / BIN, str(entry.prefix / BIN / program)
    if PYTHON.fullmatch(program):
        named = NAMED.replace("@own", shlex.quote(str(place / program)))
        direct = f'-a "$__condainer_name" {shlex.quote(path)}'
        again = f'exec -a "$0" {shlex.quote(path)} "$@"'
        within = f'/bin/bash -pc {shlex.quote(again)} "$__condainer_name"'
    else:
        named, direct, within = ":", shlex.quote(path), shlex.quote(path)
    variables = own_command.environment().items()
    words = {
        "@address": entry.address,
        "@named": named,
        "@mount": shlex.quote(
            f" {re.escape(str(entry.prefix))} .* - (squashfs |fuse[^ ]* [^ ]* ([^ ]*,)?"
        ),
        "@sentinel": shlex.quote(str(entry.prefix / SENTINEL)),
        "@directories": shlex.join((str(directory / BIN), str(place))),
        "@direct": direct,
        "@settings": "\n".join(
            f"export {name}=${{{name}-{shlex.quote(value)}}}" for name, value in variables
        ),
        "@before": shlex.join(before),
        "@within": within,
    }
    return re.sub(r"@\w+", lambda match: words[match[0]], TEXT)


def _link(target: Path, path: Path) -> None:
    """Let a path be a link, at once; raises OSError."""
    if path.is_symlink() and os.readlink(path) == str(target):
        return
    new = path.with_name(f".{path.name}.{NEXT}-{os.getpid()}")
    new.symlink_to(target)
    os.replace(new, path)


def _removed(kept: Path) -> list[str]:
    """Remove the wrappers of images that have left their cache, and return their addresses."""
    gone = []
    for path in sorted(kept.iterdir()):
        with suppress(OSError):
            image = Path(os.readlink(path / IMAGE))
            # A cache that is not to be seen may come back.
            if entries.root_of(image).is_dir() and not os.path.lexists(image):
                remove_tree(path)
                gone.append(path.name)
    return gone
