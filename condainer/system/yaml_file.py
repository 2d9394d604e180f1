"""YAML from users: plain data with the line of each item, and errors that name it."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from condainer.system.errors import CondainerError
from condainer.system.text import CONFLICT

# Far more than any real file has, far less than a few nested aliases can expand to.
MAX_BYTES = 4_000_000
MAX_NODES = 100_000
MAX_DEPTH = 50
MERGE = "tag:yaml.org,2002:merge"

# The loader in C where PyYAML was built with it: ten times faster.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Document:
    """A YAML file: its value, and the line of each item by its path of keys and indices.

    `texts` holds the text in the file for each text, number and boolean: YAML reads `12:30` as 750,
    `010` as 8 and `off` as false, which is seldom what was meant.
    """

    path: Path
    value: Any
    lines: dict[tuple[Hashable, ...], int] = field(default_factory=dict)
    texts: dict[tuple[Hashable, ...], str] = field(default_factory=dict)

    def where(self, *keys: Hashable) -> str:
        """Return `file:line` of the item at a path of keys, or of the nearest one around it."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{self.path}:{self.lines.get(keys, 1)}"


def load(path: Path, text: str, error: type[CondainerError]) -> Document:
    """Parse YAML text that was read from `path`; raises `error` with the line of what is wrong."""
    if len(text) > MAX_BYTES:
        raise error(f"{path}: larger than {MAX_BYTES} bytes", "Is it the right file?")
    loader = None
    try:
        _check_nesting(path, text, error)
        loader = Loader(text)
        node = loader.get_single_node()
        reader = _Reader(path, loader, error)
        value = None if node is None else reader.convert(node, ())
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        what = ", ".join(part for part in (problem.context, problem.problem) if part)
        raise error(f"{path}{place}: not valid YAML: {what}", _hint(text, mark)) from None
    except yaml.reader.ReaderError as problem:
        line = text.encode()[: problem.position].count(b"\n") + 1
        raise error(
            f"{path}:{line}: not valid YAML: {problem.reason}",
            "Remove the character: an editor may not show it.",
        ) from None
    except yaml.YAMLError as problem:
        raise error(f"{path}: not valid YAML: {problem}") from None
    finally:
        if loader is not None:
            loader.dispose()
    return Document(path, value, reader.lines, reader.texts)


def nested(text: str) -> Iterator[tuple[int, Any]]:
    """Yield the events of a YAML text, each with its depth; raises yaml.YAMLError.

    For this the parser in C needs no stack, which loading would overflow.
    """
    depth = end = 0
    try:
        for event in yaml.parse(text, Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            end = event.end_mark.index if event.end_mark else end
            yield depth, event
    except yaml.MarkedYAMLError as problem:
        # The scanner is up to 1024 characters ahead of the events, and some versions of it refuse
        # deep nesting in words of their own: show the caller the brackets in between first.
        if mark := problem.problem_mark:
            ahead = text[end : mark.index]
            depth += sum((bracket in "[{") - (bracket in "]}") for bracket in ahead)
            yield depth, yaml.SequenceStartEvent(None, None, True, mark, mark)
        raise


def _check_nesting(path: Path, text: str, error: type[CondainerError]) -> None:
    """Refuse what is nested so deeply that the parser in C, which recurses, would overflow."""
    for count, (depth, event) in enumerate(nested(text)):
        # A node is one event or two, and its document and stream are four.
        if depth > MAX_DEPTH or count > 2 * MAX_NODES + 4:
            raise _too_large(error, f"{path}:{event.start_mark.line + 1}")


def _too_large(error: type[CondainerError], place: str) -> CondainerError:
    return error(
        f"{place}: expands to too many or too deeply nested items",
        "Write the file without aliases (`*name`) that refer to each other.",
    )


def _hint(text: str, mark: Any) -> str:
    rows = text.split("\n")
    if mark and mark.line < len(rows) and re.match(r"[ -]*\t", rows[mark.line]):
        return "YAML is indented with blanks, not with tabs."
    if CONFLICT.search(text):
        return "git has left both sides of a merge in it: decide between them first."
    return "Check the indentation, and put texts with special characters in quotation marks."


class _Reader:
    """Turns nodes into plain data, and counts them as if every alias were written out."""

    def __init__(self, path: Path, loader: Any, error: type[CondainerError]) -> None:
        self.path = path
        self.loader = loader
        self.error = error
        self.count = 0
        self.lines: dict[tuple[Hashable, ...], int] = {}
        self.texts: dict[tuple[Hashable, ...], str] = {}

    def convert(self, node: yaml.Node, keys: tuple[Hashable, ...]) -> Any:
        self._count(node, len(keys))
        self.lines.setdefault(keys, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            self._tag(node, "seq")
            return [self.convert(item, (*keys, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            self._tag(node, "map")
            return self._mapping(node, keys)
        self.texts[keys] = node.value
        return self._scalar(node)

    def _count(self, node: yaml.Node, depth: int) -> None:
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            raise _too_large(self.error, self._place(node))

    def _scalar(self, node: yaml.Node) -> Any:
        # `=`, `<<` and dates mean nothing here: they are texts like any other.
        kind = self._tag(node, "str", "int", "float", "bool", "null", "timestamp", "value", "merge")
        if kind in ("timestamp", "value", "merge"):
            return node.value
        try:
            return self.loader.construct_object(node)
        except (ValueError, KeyError, IndexError):
            raise self.error(
                f"{self._place(node)}: {node.value[:40]!r} cannot be read as {kind}",
                "Put it in quotation marks, or remove the tag.",
            ) from None

    def _mapping(self, node: yaml.MappingNode, keys: tuple[Hashable, ...]) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        own: dict[Any, int] = {}
        # Merged keys come first, so that the mapping's own ones take their place.
        for key_node, value_node in sorted(node.value, key=lambda pair: pair[0].tag != MERGE):
            self._count(key_node, len(keys))
            if key_node.tag == MERGE:
                result |= self._merged(value_node, keys)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error(
                    f"{self._place(key_node)}: a key must be a word, not a list or mapping",
                    "Put texts that begin with `[`, `{` or `?` in quotation marks.",
                )
            key = self._scalar(key_node)
            line = key_node.start_mark.line + 1
            if key in own:
                raise self.error(
                    f"{self.path}:{line}: the key `{key}` is in line {own[key]} already",
                    "Put both together below one key.",
                )
            own[key] = line
            place = (*keys, key)
            result[key] = self.convert(value_node, place)
            self.lines[place] = line
        return result

    def _merged(self, node: yaml.Node, keys: tuple[Hashable, ...]) -> dict[Any, Any]:
        """Return what a merge key (`<<: *name`) brings; of several mappings the first wins."""
        inner = (*keys, "<<")
        value = self.convert(node, inner)
        result: dict[Any, Any] = {}
        for number, item in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(item, dict):
                raise self.error(
                    f"{self._place(node)}: `<<` needs a mapping or a list of mappings",
                    "Write `<<: *name`, where `&name` is before a mapping.",
                )
            source = (*inner, number) if isinstance(value, list) else inner
            for key in item.keys() - result.keys():
                result[key] = item[key]
                here, there = (*keys, key), (*source, key)
                self.lines[here] = self.lines[there]
                if there in self.texts:
                    self.texts[here] = self.texts[there]
        return result

    def _place(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"

    def _tag(self, node: yaml.Node, *known: str) -> str:
        """Return the kind of a node; raises unless it is one of the known ones."""
        prefix, _, kind = node.tag.rpartition(":")
        if kind not in known or prefix != "tag:yaml.org,2002":
            raise self.error(
                f"{self._place(node)}: the YAML tag {node.tag!r} is not allowed here",
                "Only plain lists, mappings, texts and numbers are read.",
            )
        return kind
