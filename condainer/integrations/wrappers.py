"""Wrappers: scripts that run the programs of an image under their names, from any directory.

`DIR/bin` leads to `DIR/.condainer-wrappers/ADDRESS/bin`, where each script runs one program of one
image. Beside that `bin` there are links to the other directories of the image, because Python
looks for its library there, by the name that it is called by. Scripts of other images stay, for
the virtual environments made with them, as long as their image is in its cache.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from condainer.cache import entries, squashfs
from condainer.cache.entries import Entry
from condainer.integrations import own_command
from condainer.settings.config import Settings
from condainer.startup.command_environment import SENTINEL
from condainer.startup.tool_paths import WRAPPER
from condainer.system.errors import ConfigError, InputError
from condainer.system.files import (
    UNFINISHED,
    make_directory,
    publish_link,
    publish_text,
    read_text,
    remove_tree,
    storage_errors,
)

KEPT = ".condainer-wrappers"
BIN = "bin"
# What programs find relative to themselves, as Python does its library; conda-meta is left out,
# because editors would take the place for a conda environment and activate it.
BESIDE = (
    *("etc", "fonts", "include", "lib", "lib64", "libexec", "man", "opt", "sbin", "share", "ssl"),
    *("usr", "var", f"{os.uname().machine}-conda-linux-gnu"),
)
# The link to the image in its cache.
IMAGE = "image"
# The file with the names of all scripts, one per line.
LIST = "programs"
# Programs that are sourced: a wrapper would replace the shell.
SOURCED = ("activate", "deactivate", "conda")
PYTHON = re.compile(r"(python|pypy)[0-9.]*")

# With -p, bash reads no file named by BASH_ENV; unlike other shells, it hands on all variables.
TEXT = (
    WRAPPER.decode()
    + """: runs a program of the image @address.
@named
# Nobody but us and root can have mounted this; a directory there may be anybody's. Without other
# programs, any of which may be a wrapper.
__condainer_found=
if [ "${CONDAINER_ADDRESS-}" = @address ]; then
    __condainer_mount=@mount"user_id=$EUID(,|\\$))"
    while IFS= read -r __condainer_line; do
        [[ $__condainer_line =~ $__condainer_mount ]] || continue
        { IFS= read -r __condainer_found <@sentinel; } 2>/dev/null
        break
    done </proc/self/mountinfo
    unset __condainer_mount __condainer_line
fi
if [ "$__condainer_found" = @address ]; then
    unset __condainer_found
    exec @direct "$@"
fi
unset __condainer_found
if [ ! -d @project ]; then
    printf '%s\n' @moved >&2
    exit @status
fi
@settings
exec @before @within "$@"
"""
)
# A virtual environment is found by the name that Python is called by.
NAMED = """\
__condainer_name=@own
[ ! -f "${0%/*}/../pyvenv.cfg" ] || __condainer_name=$0"""
# Its own programs come before those of the image, which `cnd exec` puts first.
WITHIN = '''
case $0 in /*) __condainer_bin=${0%/*} ;; *) __condainer_bin=$PWD/${0%/*} ;; esac
[ ! -f "$__condainer_bin/../pyvenv.cfg" ] || PATH=$__condainer_bin:$PATH
unset __condainer_bin
exec -a "$0" @program "$@"'''


@dataclass(frozen=True)
class Wrapped:
    """What was written, for which programs, and the images whose wrappers were removed."""

    directory: Path
    address: str
    programs: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The directory for PATH."""
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
    check_place(directory)
    available = [name for name in squashfs.programs(entry.image, settings) if name not in SOURCED]
    if absent := sorted({*only} - {*available}):
        raise InputError(
            f"The image {entry.address} has no program {', '.join(absent)}",
            f"It has {', '.join(available) or 'none'}.",
        )
    programs = tuple(name for name in available if not only or name in only)
    place = directory / KEPT / entry.address
    with storage_errors(f"write {place}", "Choose another directory, or repair this one."):
        # A link in a project that was cloned could lead anywhere.
        if os.path.realpath(place / BIN) != os.path.join(
            os.path.realpath(directory), KEPT, entry.address, BIN
        ):
            raise ConfigError(f"{place} leads elsewhere by links", "Remove it.")
        make_directory(place / BIN, 0o755)
        publish_link(place / IMAGE, entry.directory)
        for name in BESIDE:
            publish_link(place / name, entry.prefix / name)
        for name in programs:
            text = script(name, entry, directory, project, settings)
            publish_text(place / BIN / name, text, 0o755, durable=False, follow=False)
        for path in (place / BIN).iterdir():
            # Another `cnd` may be writing the same.
            if path.name not in programs and not path.name.startswith(UNFINISHED):
                path.unlink(missing_ok=True)
        publish_text(place / LIST, "".join(f"{name}\n" for name in programs), durable=False)
        publish_link(directory / BIN, Path(KEPT, entry.address, BIN))
        removed = tuple(_removed(directory / KEPT, settings))
    return Wrapped(directory, entry.address, programs, removed)


def check(settings: Settings) -> None:
    """Refuse a directory that a project names but cannot have wrappers; raises ConfigError."""
    directory, project = settings.wrappers, settings.project
    if directory is None:
        return
    if not Path(os.path.realpath(directory)).is_relative_to(os.path.realpath(project)):
        raise ConfigError(
            f"`wrappers: {directory}` is outside of the project",
            "Name a directory in it; `cnd wrap DIR` writes elsewhere.",
        )
    check_place(directory)


def plan(settings: Settings) -> list[str]:
    """Return what of_project() would do; raises as check()."""
    check(settings)
    return [f"write its wrappers into {settings.wrappers}"] if settings.wrappers else []


def of_project(entry: Entry, settings: Settings) -> Wrapped | None:
    """Write the wrappers that a project asks for, unless they are there; None then.

    Raises as write().
    """
    if settings.wrappers is None:
        return None
    directory, project = settings.wrappers, settings.project.absolute()
    if _is_current(directory, entry, settings):
        return None
    return write(entry, directory, project, (), settings)


def _is_current(directory: Path, entry: Entry, settings: Settings) -> bool:
    """Tell whether all wrappers of a project are what they would be if they were written now."""
    place, project = directory / KEPT / entry.address, settings.project.absolute()
    with suppress(OSError, ValueError):
        if os.readlink(directory / BIN) != str(Path(KEPT, entry.address, BIN)):
            return False
        names = read_text(place / LIST).splitlines()
        return sorted(names) == sorted(os.listdir(place / BIN)) and all(
            read_text(place / BIN / name, errors="surrogateescape")
            == script(name, entry, directory, project, settings)
            for name in names
        )
    return False


def check_place(directory: Path) -> None:
    """Refuse a directory that cannot hold wrappers; raises ConfigError."""
    path = directory / BIN
    if os.pathsep in str(directory):
        raise ConfigError(
            f"{directory} has a colon in it: nothing there can be in PATH",
            "Choose another directory.",
        )
    if os.path.lexists(path) and not (path.is_symlink() and os.readlink(path).startswith(KEPT)):
        raise ConfigError(
            f"{path} is there, and not from `cnd wrap`",
            "Choose another directory, or move it away.",
        )


def script(program: str, entry: Entry, directory: Path, project: Path, settings: Settings) -> str:
    """Return the text of the wrapper of a program."""
    place, path = directory / KEPT / entry.address / BIN, str(entry.prefix / BIN / program)
    if PYTHON.fullmatch(program):
        named = NAMED.replace("@own", shlex.quote(str(place / program)))
        direct = f'-a "$__condainer_name" {shlex.quote(path)}'
        again = WITHIN.replace("@program", shlex.quote(path))
        within = f'/bin/bash -pc {shlex.quote(again)} "$__condainer_name"'
    else:
        named, direct, within = ":", shlex.quote(path), shlex.quote(path)
    variables = own_command.environment(own_command.RUNNING).items()
    words = {
        "@address": entry.address,
        "@named": named,
        "@mount": shlex.quote(
            f" {re.escape(str(entry.prefix))} .* - (squashfs |fuse[^ ]* [^ ]* ([^ ]*,)?"
        ),
        "@sentinel": shlex.quote(str(entry.prefix / SENTINEL)),
        "@direct": direct,
        "@settings": "\n".join(
            f"export {name}=${{{name}-{shlex.quote(value)}}}" for name, value in variables
        ),
        "@before": shlex.join(
            own_command.exec_in(project, entry.root, ["--address", entry.address])
        ),
        "@within": within,
        "@project": shlex.quote(str(project)),
        "@moved": shlex.quote(_moved(entry, directory, project, settings)),
        "@status": str(ConfigError.exit_code),
    }
    return re.sub(r"@\w+", lambda match: words[match[0]], TEXT)


def _moved(entry: Entry, directory: Path, project: Path, settings: Settings) -> str:
    """Return what a wrapper says when its project is gone, and how to make it again."""
    option = settings.option
    if directory == project:
        option = ""
        words = ["--address", entry.address, str(directory)]
    elif directory.is_relative_to(project):
        words = [str(directory.relative_to(project))]
    else:
        words = [str(directory)]
    return (
        f"cnd: {project}, whose wrapper this is, has moved or is gone\n"
        f"     Where it is now, run `cnd wrap{option} {shlex.join(words)}`."
    )


def _removed(kept: Path, settings: Settings) -> list[str]:
    """Remove the wrappers of images that have left all caches, and return their addresses."""
    gone = []
    for path in sorted(kept.iterdir()):
        with suppress(OSError):
            image = Path(os.readlink(path / IMAGE))
            # A cache that cannot be seen now may come back.
            if entries.root_of(image).is_dir() and not _is_in(path.name, image, settings):
                remove_tree(path)
                gone.append(path.name)
    return gone


def _is_in(address: str, image: Path, settings: Settings) -> bool:
    """Tell whether an image is where it was, or in another cache."""
    others = (entries.entry_directory(root, address) for root in entries.roots(settings))
    return any(os.path.lexists(path) for path in (image, *others))
