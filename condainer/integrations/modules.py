"""Module files: an image as `module load` has it, for Lmod in Lua, or for all systems in Tcl.

https://lmod.readthedocs.io/en/latest/050_lua_modulefiles.html and
https://modules.readthedocs.io/en/stable/modulefile.html say what stands in them.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from condainer.activate import default_variables
from condainer.startup.command_environment import SHELL_OWN
from condainer.system.errors import ConfigError
from condainer.system.files import make_directory, publish_text, read_text, storage_errors

PART = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
NAME = re.compile(rf"{PART}(/{PART})+")
MADE = "Made by `cnd module`"
# The directory of the wrappers in that of the modules; no module system looks into it.
BESIDE = ".condainer"
# What restores at unload what was there before, where it does: environment-modules since 5.1. Lmod
# 8.6 restores in Lua; in Tcl it leaves what was pushed.
PUSHED = """\
set pushed setenv
if {[info exists ModuleTool] && $ModuleTool eq "Modules" && [llength [info commands pushenv]]} {
    set pushed pushenv
}"""
# Without this first line, no module system reads a file in Tcl.
COOKIE = "#%Module1.0"


@dataclass(frozen=True)
class Module:
    """What a module does: which words it has for people, and what becomes of the environment.

    `paths` go before those in PATH, `variables` get values, or go if that is None, and `command`,
    unless it is empty, is run by the shell that loads it.
    """

    name: str
    description: str
    address: str
    paths: tuple[str, ...]
    variables: Mapping[str, str | None]
    command: str

    @property
    def family(self) -> str:
        """What only one version of can be loaded."""
        return self.name.rpartition("/")[0]


def check_name(name: str) -> None:
    """Refuse what no module can be called; raises ConfigError."""
    if NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} is not the name of a module", "Use NAME/VERSION, of letters, digits, . _ + -"
        )


def activated(
    before: Mapping[str, str], after: Mapping[str, str], prefix: Path
) -> tuple[Sequence[str], dict[str, str | None]]:
    """Return what activation puts first in PATH, and what it makes of other variables.

    What is for one user only is left out: directories of their own, and stand-ins.
    """
    own = {default.variable for default in default_variables.ALWAYS if default.below}
    paths = [path for path in after["PATH"].split(os.pathsep) if path.startswith(f"{prefix}/")]
    changed = {
        name: after.get(name)
        for name in sorted({*before, *after} - {"PATH", *own, *SHELL_OWN})
        if before.get(name) != after.get(name)
    }
    return paths, changed


def mounting(before: Sequence[str]) -> str:
    """Return the command by which the shell that loads a module mounts the image for itself."""
    # Shells name their own number differently; that of its parent each sh knows.
    inner = f'exec {shlex.join(before)} "$PPID"'
    return f"sh -c {shlex.quote(inner)} >/dev/null"


def write(module: Module, directory: Path, tcl: bool) -> Path:
    """Write the file of a module below a directory of modules, and return its path.

    Raises ConfigError where a file that we have not made has the name, StorageError.
    """
    in_tcl, in_lua = directory / module.name, directory / f"{module.name}.lua"
    path, other = (in_tcl, in_lua) if tcl else (in_lua, in_tcl)
    for present in (path, other):
        if os.path.lexists(present) and not _is_ours(present):
            raise ConfigError(
                f"{present} is there, and not from `cnd module`",
                "Choose another name, or move it away.",
            )
    text = "\n".join(_tcl(module) if tcl else _lua(module)) + "\n"
    with storage_errors(f"write {path}"):
        make_directory(path.parent, 0o755)
        publish_text(path, text, 0o644)
        # Lmod would take the one in Lua of two.
        other.unlink(missing_ok=True)
    return path


def _is_ours(path: Path) -> bool:
    return MADE in read_text(path, errors="surrogateescape")


def _lua(module: Module) -> Iterator[str]:
    yield f"-- {MADE}: the image {module.address}."
    yield f"help({_lua_word(module.description)})"
    for key, value in _whatis(module):
        yield f"whatis({_lua_word(f'{key}: {value}')})"
    yield f"conflict({_lua_word(module.family)})"
    for name, text in module.variables.items():
        value = "false" if text is None else _lua_word(text)
        yield f"pushenv({_lua_word(name)}, {value})"
    for path in reversed(module.paths):
        yield f'prepend_path("PATH", {_lua_word(path)})'
    if module.command:
        yield f"local command = {_lua_word(module.command)}"
        # It has looked into the directories in PATH before the image was mounted.
        yield 'if myShellName():find("csh") then command = command .. "; rehash" end'
        yield 'execute{cmd=command, modeA={"load"}}'


def _tcl(module: Module) -> Iterator[str]:
    yield COOKIE
    yield f"# {MADE}: the image {module.address}."
    yield f"proc ModulesHelp {{}} {{ puts stderr {_tcl_word(module.description)} }}"
    for key, value in _whatis(module):
        yield f"module-whatis {_tcl_word(f'{key}: {value}')}"
    yield f"conflict {_tcl_word(module.family)}"
    if module.variables:
        yield PUSHED
    for name, text in module.variables.items():
        if text is None:
            yield f"unsetenv {_tcl_word(name)}"
        else:
            yield f"$pushed {_tcl_word(name)} {_tcl_word(text)}"
    for path in reversed(module.paths):
        yield f"prepend-path PATH {_tcl_word(path)}"
    if module.command:
        yield "if {[module-info mode load]} {"
        yield f"    puts stdout {_tcl_word(f'{module.command};')}"
        yield "    if {[module-info shelltype csh] in {1 csh}} { puts stdout {rehash;} }"
        yield "}"


def _whatis(module: Module) -> Iterator[tuple[str, str]]:
    yield "Name", module.family
    yield "Version", module.name.rpartition("/")[2]
    yield "Description", module.description.partition("\n")[0]


def _lua_word(text: str) -> str:
    return '"' + "".join(_escaped(letter, '\\"') for letter in text) + '"'


def _tcl_word(text: str) -> str:
    # Module systems read files in encodings of their own.
    letters = (
        letter if letter.isascii() or ord(letter) > 0xFFFF else f"\\u{ord(letter):04x}"
        for letter in (_escaped(letter, '\\"$[]{};') for letter in text)
    )
    return '"' + "".join(letters) + '"'


def _escaped(letter: str, special: str) -> str:
    if letter == "\n":
        return "\\n"
    return f"\\{letter}" if letter in special else letter
