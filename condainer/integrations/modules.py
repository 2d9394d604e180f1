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

from condainer.startup.command_environment import SHELL_OWN
from condainer.system.errors import ConfigError
from condainer.system.files import make_directory, publish_text, read_text, writing

PART = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
NAME = re.compile(rf"{PART}(/{PART})+")
# Parts of names that mean something else to a module system.
RESERVED = re.compile(r".*\.lua|modulerc|default")
MADE = "Made by `cnd module`"
# The directory of the wrappers in that of the modules; no module system looks into it.
BESIDE = ".condainer"
# A stand-in for each user's own directories, in the environment in which activation is tried.
THEIRS = "/nonexistent/of-the-user"
# Scripts of packages add directories to these.
PATHS = (
    *("LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "PKG_CONFIG_PATH", "CMAKE_PREFIX_PATH"),
    *("MANPATH", "INFOPATH", "XDG_DATA_DIRS", "PYTHONPATH", "PERL5LIB", "GI_TYPELIB_PATH"),
)
BEFORE = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": f"{THEIRS}/home",
    **dict.fromkeys(PATHS, THEIRS),
}
# What restores at unload what was there before, where it does: environment-modules since 5.1. Lmod
# 8.6 restores in Lua; in Tcl it leaves what was pushed.
PUSHED = """\
set pushed setenv
if {[info exists ModuleTool] && $ModuleTool eq "Modules" && [llength [info commands pushenv]]} {
    set pushed pushenv
}"""
# Characters as a word of Lua has them.
LUA = {**{n: f"\\{n:03d}" for n in range(32)}, ord('"'): '\\"', ord("\\"): "\\\\"}
# Without this first line, no module system reads a file in Tcl.
COOKIE = "#%Module1.0"


@dataclass(frozen=True)
class Module:
    """What a module does: its texts for people, and its changes of the environment.

    `paths` are the directories that go before others in variables, `variables` get values, or go
    if that is None, and `command`, unless it is empty, is run by the shell that loads it.
    """

    name: str
    description: str
    address: str
    paths: Mapping[str, Sequence[str]]
    variables: Mapping[str, str | None]
    command: str

    @property
    def family(self) -> str:
        """The name without the version; only one version can be loaded."""
        return self.name.rpartition("/")[0]


def beside(directory: Path, name: str) -> Path:
    """Return where the wrappers of a module are, below a directory of modules."""
    return directory / BESIDE / name.replace("/", "@")


def check_name(name: str) -> None:
    """Refuse what no module can be called; raises ConfigError."""
    if NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} is not the name of a module", "Use NAME/VERSION, of letters, digits, . _ + -"
        )
    if any(RESERVED.fullmatch(part) for part in name.split("/")):
        raise ConfigError(
            f"{name} means something else to module systems",
            "No part can be `default` or `modulerc`, or end in .lua.",
        )


def activated(
    after: Mapping[str, str], prefix: Path
) -> tuple[dict[str, Sequence[str]], dict[str, str | None]]:
    """Return the paths that activation added to BEFORE, and the other variables that it changed.

    Paths in the user's own directories, and stand-ins, are left out.
    """
    paths: dict[str, Sequence[str]] = {}
    for name in ("PATH", *PATHS):
        parts = after.get(name, "").split(os.pathsep)
        paths[name] = [path for path in parts if path.startswith(f"{prefix}/")]
    changed = {
        name: after.get(name)
        for name in sorted({*BEFORE, *after} - {*paths, *SHELL_OWN})
        if BEFORE.get(name) != after.get(name) and THEIRS not in after.get(name, "")
    }
    return paths, changed


def mounting(before: Sequence[str]) -> str:
    """Return the command by which the shell that loads a module mounts the image for itself."""
    # Shells name their own number differently, but every sh knows that of its parent.
    inner = f'exec {shlex.join(before)} "$PPID"'
    return f"sh -c {shlex.quote(inner)} >/dev/null"


def check_place(name: str, directory: Path, tcl: bool) -> None:
    """Refuse a place where something else has the name of a module; raises ConfigError."""
    path, other = _places(name, directory, tcl)
    # Beside a file in Lua, there can be a directory of modules.
    for present in (path,) if other.is_dir() and not tcl else (path, other):
        if os.path.lexists(present) and not _is_ours(present):
            raise ConfigError(
                f"{present} is there, and not from `cnd module`",
                "Choose another name, or move it away.",
            )


def _places(name: str, directory: Path, tcl: bool) -> tuple[Path, Path]:
    """Return where the file of a module is, and where it would be in the other language."""
    in_tcl, in_lua = directory / name, directory / f"{name}.lua"
    return (in_tcl, in_lua) if tcl else (in_lua, in_tcl)


def write(module: Module, directory: Path, tcl: bool) -> Path:
    """Write the file of a module below a directory of modules, and return its path.

    Raises as check_place(), StorageError.
    """
    check_place(module.name, directory, tcl)
    path, other = _places(module.name, directory, tcl)
    text = "\n".join(_tcl(module) if tcl else _lua(module)) + "\n"
    with writing(path):
        make_directory(path.parent, 0o755)
        publish_text(path, text, 0o644)
        # Lmod would take the one in Lua of two.
        if not other.is_dir():
            other.unlink(missing_ok=True)
    return path


def _is_ours(path: Path) -> bool:
    return path.is_file() and MADE in read_text(path, errors="surrogateescape")


def _lua(module: Module) -> Iterator[str]:
    yield f"-- {MADE}: the image {module.address}."
    yield f"help({_lua_word(module.description)})"
    for key, value in _whatis(module):
        yield f"whatis({_lua_word(f'{key}: {value}')})"
    yield f"conflict({_lua_word(module.family)})"
    for name, text in module.variables.items():
        value = "false" if text is None else _lua_word(text)
        yield f"pushenv({_lua_word(name)}, {value})"
    for name, path in _prepended(module):
        yield f'prepend_path("{name}", {_lua_word(path)})'
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
    for name, path in _prepended(module):
        yield f"prepend-path {name} {_tcl_word(path)}"
    if module.command:
        yield "if {[module-info mode load]} {"
        yield f"    puts stdout {_tcl_word(f'{module.command};')}"
        yield "    if {[module-info shelltype csh] in {1 csh}} { puts stdout {rehash;} }"
        yield "}"


def _whatis(module: Module) -> Iterator[tuple[str, str]]:
    yield "Name", module.family
    yield "Version", module.name.rpartition("/")[2]
    yield "Description", module.description.partition("\n")[0]


def _prepended(module: Module) -> Iterator[tuple[str, str]]:
    for name, paths in module.paths.items():
        yield from ((name, path) for path in reversed(paths))


def _lua_word(text: str) -> str:
    return f'"{text.translate(LUA)}"'


def _tcl_word(text: str) -> str:
    return '"' + "".join(_in_tcl(letter) for letter in text) + '"'


def _in_tcl(letter: str) -> str:
    # Module systems read files in encodings of their own.
    if " " <= letter <= "~" or ord(letter) > 0xFFFF:
        return f"\\{letter}" if letter in '\\"$[]{};' else letter
    return f"\\u{ord(letter):04x}"
