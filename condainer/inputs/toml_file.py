"""TOML files that others write, with the line of each key: the parser of Python tells none."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer.system.errors import InputError
from condainer.system.files import Read, reading

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

loads = tomllib.loads
Keys = tuple[str | int, ...]
# No manifest or lockfile is larger, in bytes.
LARGEST = 64 << 20
HEADER = re.compile(r"\[(?P<many>\[)?(?P<keys>[^\[\]]+)\]")
ENTRY = re.compile(r"(?P<keys>(?:[\w.\s-]|\"[^\"]*\"|'[^']*')+?)\s*=")
PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([\w-]+)")
MULTILINE = re.compile(r'"""|\'\'\'')


@dataclass(frozen=True)
class Toml:
    """The content of a TOML file."""

    path: Path
    text: str
    value: Mapping[str, Any]

    @functools.cached_property
    def places(self) -> list[tuple[int, Keys]]:
        """The line of each header and entry, with the keys that lead to it."""
        return list(_places(self.text))

    def where(self, *keys: str | int) -> str:
        """Return the place of a key, as near as it can be found: `pixi.toml:7`.

        Parameters: `keys` lead to it from the top; a number counts the tables of a list from 0.
        """
        best, line = 0, 0
        for number, place in self.places:
            common = 0
            while common < min(len(place), len(keys)) and place[common] == keys[common]:
                common += 1
            # A table beside what is looked for is not its place; one around it, or in it, is.
            if common > best and common in (len(place), len(keys)):
                best, line = common, number
        return f"{self.path}:{line}" if line else str(self.path)

    def at(self, *keys: str) -> Any:
        """Return the value at a path of keys, None where there is none."""
        value: Any = self.value
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def table(self, *keys: str) -> Mapping[str, Any]:
        """Return the table at a path of keys, an empty one where there is none.

        Raises InputError, with its place, for another value.
        """
        table = self.value
        for number, key in enumerate(keys, 1):
            table = table.get(key, {})
            if not isinstance(table, dict):
                raise InputError(
                    f"{self.where(*keys[:number])}: `{key}` must be a table",
                    f"Write `[{'.'.join(keys[:number])}]`.",
                )
        return table


def load(path: Path, read: Read) -> Toml:
    """Return the content of a TOML file; raises InputError, and FileNotFoundError."""
    with reading(path, InputError, "Name a text file."):
        data = read(path)
        if len(data) > LARGEST:
            raise InputError(f"{path}: larger than {LARGEST} bytes", "Is it the right file?")
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    return parsed(path, text)


def parsed(path: Path, text: str) -> Toml:
    """Return the content of the text of a TOML file; raises InputError where it is not valid."""
    try:
        return Toml(path, text, loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        told = str(error) or "too deeply nested"
        match = re.search(r"\(at line (\d+), column \d+\)", told)
        place = f"{path}:{match[1]}" if match else str(path)
        problem = told[: match.start()].strip() if match else told
        raise InputError(f"{place}: not TOML 1.0: {problem}", "Correct the file.") from None


def items(value: Any, key: str, where: str) -> list[Any]:
    """Return the items of the list at `key`; raises InputError for another value."""
    if not isinstance(value, list):
        raise InputError(
            f"{where}: `{key}` must be a list, not {value!r}", f'Write `{key} = ["…"]`.'
        )
    return value


def _places(text: str) -> Iterator[tuple[int, Keys]]:
    """Yield the line of each header and entry of a file, with the keys that lead to it."""
    table: Keys = ()
    counts: dict[Keys, int] = {}
    closing = ""
    for number, row in enumerate(text.split("\n"), 1):
        line = row.strip()
        if closing:
            closing = "" if closing in line else closing
            continue
        if match := HEADER.match(line):
            table = _keys(match["keys"])
            if match["many"]:
                counts[table] = counts.get(table, -1) + 1
            table = _counted(table, counts)
            yield number, table
        elif match := ENTRY.match(line):
            yield number, (*table, *_keys(match["keys"]))
        marks = MULTILINE.findall(line)
        closing = marks[-1] if len(marks) % 2 else ""


def _keys(text: str) -> tuple[str, ...]:
    return tuple(a or b or c for a, b, c in PART.findall(text))


def _counted(table: Keys, counts: Mapping[Keys, int]) -> Keys:
    """Return the keys of a table with the number of each list of tables on the way to it."""
    counted: Keys = ()
    for length in range(1, len(table) + 1):
        counted = (*counted, table[length - 1])
        if table[:length] in counts:
            counted = (*counted, counts[table[:length]])
    return counted
