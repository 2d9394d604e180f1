"""Edits of environment.yml and requirements files: a package more, or one less, and no more.

What is replaced is found by where YAML says that it stands, so that comments, order, quotation
marks and indentation stay as they are; what comes out is read again before it is believed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from condainer.inputs import conda_specs
from condainer.inputs.conda_specs import PACKAGE_URL
from condainer.lock.locks import pip_name
from condainer.system import yaml_file
from condainer.system.errors import InputError

BY_HAND = "Edit the file by hand, then run `cnd build`."
# A line of a requirements file that has a comment at its end.
COMMENT = re.compile(r"(\s+#.*)?$")
# What a new text cannot simply take the place of.
HARD = re.compile(r"\\\s*$|\s--hash[= ]|\ufeff")


@dataclass(frozen=True)
class Change:
    """A file of a project, with its old and its new text."""

    path: Path
    old: str
    new: str

    def lines(self) -> list[str]:
        """Return what goes and what comes, each line with its sign."""
        compared = difflib.ndiff(self.old.splitlines(), self.new.splitlines())
        return [f"{self.path.name}: {line}" for line in compared if line[:1] in "+-"]


def name_of(spec: str) -> str:
    """Return the name of the package that a conda spec or a requirement is about."""
    text = spec.strip()
    place = "://" in text.partition(" @ ")[0].partition(" ")[0]
    if not PACKAGE_URL.match(text) and (place or text.startswith("-")):
        # An option, or a place without a name: it stands for itself.
        return text
    return conda_specs.name_of(text)


def is_bare(spec: str) -> bool:
    """Tell whether a spec is the name of a package, and no more."""
    return name_of(spec) == spec.strip().lower()


class Environment:
    """The text of an environment file, which is edited step by step.

    Raises InputError for what is no environment file, or is written in a way that only a person can
    edit.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self._composed: tuple[str, yaml.MappingNode] | None = None

    def add(self, spec: str, pip: bool) -> None:
        """Put a conda spec, or a line below `pip:`, in the place of the package's own, or last."""
        items = self._named(name_of(spec), pip)
        if items and is_bare(spec):
            # What is asked of it there is more than this.
            return
        if len(items) > 1:
            raise self._by_hand(items[1], f"{name_of(spec)} stands there more than once")
        before = self._content()
        sequence = self._list(pip)
        if items:
            flow = sequence is not None and bool(sequence.flow_style)
            self._put(items[0].start_mark.index, items[0].end_mark.index, _scalar(spec, flow))
        elif sequence is None:
            self._begin(spec, pip)
        else:
            self._append(sequence, spec)
        old = {item.value for item in items}
        after = [item for item in before[pip] if item not in old] + [spec]
        self._check(before, after, pip)

    def remove(self, name: str, pip: bool) -> bool:
        """Remove a package's conda specs, or its lines below `pip:`; False if it has none."""
        removed = False
        while items := self._named(name, pip):
            before = self._content()
            sequence = self._list(pip)
            assert sequence is not None
            if pip and len(sequence.value) == 1:
                dependencies = self._dependencies()
                assert dependencies is not None
                (item,) = (i for i in self._of_pip() if i.value[0][1] is sequence)
                self._cut(dependencies, item)
            else:
                self._cut(sequence, items[0])
            after = list(before[pip])
            after.remove(items[0].value)
            self._check(before, after, pip)
            removed = True
        return removed

    def has(self, name: str, pip: bool) -> bool:
        """Tell whether a package is among the conda specs, or below `pip:`."""
        return bool(self._named(name, pip))

    def names(self) -> list[str]:
        """Return the names of all packages of the file."""
        return [name_of(item.value) for pip in (False, True) for item in self._items(pip)]

    def _root(self) -> yaml.MappingNode:
        if self._composed is not None and self._composed[0] == self.text:
            return self._composed[1]
        # This one knows of limits, and tells of errors.
        yaml_file.load(self.path, self.text, InputError)
        try:
            root = yaml.compose(self.text, yaml_file.Loader)
        except yaml.YAMLError:
            raise InputError(f"{self.path} cannot be edited here", BY_HAND) from None
        if not isinstance(root, yaml.MappingNode):
            raise InputError(f"{self.path}:1: not an environment file", BY_HAND)
        self._composed = self.text, root
        return root

    def _dependencies(self) -> yaml.SequenceNode | None:
        for key, value in self._root().value:
            if key.value == "dependencies":
                if isinstance(value, yaml.SequenceNode):
                    return value
                if value.tag == "tag:yaml.org,2002:null":
                    return None
                raise self._by_hand(value, "`dependencies` is not a list")
        return None

    def _pip(self) -> yaml.SequenceNode | None:
        lists = (v for item in self._of_pip() for _, v in item.value)
        return next((value for value in lists if isinstance(value, yaml.SequenceNode)), None)

    def _of_pip(self) -> list[yaml.MappingNode]:
        """Return the items that begin with `pip:`; those of mamba's selectors are mappings, too."""
        dependencies = self._dependencies()
        return [
            item
            for item in (dependencies.value if dependencies else ())
            if isinstance(item, yaml.MappingNode) and [k.value for k, _ in item.value] == ["pip"]
        ]

    def _list(self, pip: bool) -> yaml.SequenceNode | None:
        return self._pip() if pip else self._dependencies()

    def _items(self, pip: bool) -> list[yaml.ScalarNode]:
        """Return the conda specs, or the lines below `pip:`."""
        sequence = self._list(pip)
        items = sequence.value if sequence else ()
        return [item for item in items if isinstance(item, yaml.ScalarNode)]

    def _named(self, name: str, pip: bool) -> list[yaml.ScalarNode]:
        spelled: Callable[[str], str] = pip_name if pip else str
        return [item for item in self._items(pip) if spelled(name_of(item.value)) == spelled(name)]

    def _content(self) -> dict[bool, list[str]]:
        return {pip: [item.value for item in self._items(pip)] for pip in (False, True)}

    def _check(self, before: dict[bool, list[str]], after: list[str], pip: bool) -> None:
        """Believe an edit only if the file says afterwards what it should."""
        now = self._content()
        if sorted(now[pip]) != sorted(after) or now[not pip] != before[not pip]:
            raise InputError(f"{self.path} is written in a way that cannot be edited here", BY_HAND)

    def _put(self, start: int, end: int, new: str) -> None:
        """Put a text in the place of what stands between two indices."""
        self.text = self.text[:start] + new + self.text[end:]

    def _append(self, sequence: yaml.SequenceNode, spec: str) -> None:
        """Put an item behind the last one that is none of `pip:`."""
        plain = [item for item in sequence.value if isinstance(item, yaml.ScalarNode)]
        if sequence.flow_style:
            at = plain[-1].end_mark.index if plain else sequence.start_mark.index + 1
            rest = ", " if sequence.value and not plain else ""
            new = f"{', ' if plain else ''}{_scalar(spec, flow=True)}{rest}"
            self._put(at, at, new)
            return
        first = sequence.value[0]
        if plain:
            at = self._end_of_line(plain[-1].end_mark.index)
        else:
            at = self._start_of_line(first.start_mark.index) - 1
        self._insert(at, f"{self._dash(first)}{_scalar(spec)}")

    def _begin(self, spec: str, pip: bool) -> None:
        """Write the first item of a list that is not there yet."""
        dependencies = self._dependencies()
        if not pip:
            keys = [key for key, _ in self._root().value if key.value == "dependencies"]
            if keys:
                self._insert(self._end_of_line(keys[0].end_mark.index), f"  - {_scalar(spec)}")
            else:
                self._insert(len(self.text.rstrip("\r\n")), f"dependencies:\n  - {_scalar(spec)}")
        elif dependencies is None or not dependencies.value:
            raise InputError(
                f"{self.path} has no dependencies", "Add python first: `cnd add python`."
            )
        elif unlisted := self._of_pip():
            raise self._by_hand(unlisted[0], "there is no list below `pip:`")
        elif dependencies.flow_style:
            at = dependencies.value[-1].end_mark.index
            self._put(at, at, f", {{pip: [{_scalar(spec, flow=True)}]}}")
        else:
            dash = self._dash(dependencies.value[0])
            inner = " " * len(dash) + "  "
            at = self._end_of_line(_end(dependencies.value[-1]))
            self._insert(at, f"{dash}pip:\n{inner}- {_scalar(spec)}")

    def _cut(self, sequence: yaml.SequenceNode, item: yaml.Node) -> None:
        """Remove an item with its line, or from between its commas."""
        place = sequence.value.index(item)
        if sequence.flow_style:
            start, end = item.start_mark.index, item.end_mark.index
            if place + 1 < len(sequence.value):
                end = sequence.value[place + 1].start_mark.index
            elif place:
                start = sequence.value[place - 1].end_mark.index
        else:
            start = self._start_of_line(item.start_mark.index)
            end = self._end_of_line(_end(item)) + 1
        self._put(start, end, "")

    def _dash(self, item: yaml.Node) -> str:
        """Return what stands before an item of a list that has a line for each."""
        start = self._start_of_line(item.start_mark.index)
        before = self.text[start : item.start_mark.index]
        if not re.fullmatch(r" *- +", before):
            raise self._by_hand(item, "an item does not stand on a line of its own")
        return before

    def _insert(self, at: int, line: str) -> None:
        """Put a line behind the one that ends at an index."""
        end = _line_end(self.text)
        before = self.text[:at].removesuffix("\r")
        rest = self.text[len(before) :] or end
        self.text = f"{before}{end}{line.replace(chr(10), end)}{rest}"

    def _start_of_line(self, index: int) -> int:
        return self.text.rfind("\n", 0, index) + 1

    def _end_of_line(self, index: int) -> int:
        end = self.text.find("\n", index)
        return len(self.text) if end < 0 else end

    def _by_hand(self, node: yaml.Node, why: str) -> InputError:
        return InputError(f"{self.path}:{node.start_mark.line + 1}: {why}", BY_HAND)


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _end(node: yaml.Node) -> int:
    """Return where the text of a node ends; the mark of a block is where the next token begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _scalar(text: str, flow: bool = False) -> str:
    """Return a text as YAML writes it in a list."""
    plain = f"[{text}]" if flow else f"- {text}"
    try:
        if yaml.safe_load(plain) == [text]:
            return text
    except yaml.YAMLError:
        pass
    return "'" + text.replace("'", "''") + "'"


def add_requirement(path: Path, text: str, requirement: str) -> str:
    """Return the text of a requirements file with one that takes the place of its own, or last."""
    end = _line_end(text)
    rows = text.split(end)
    numbers = _rows(rows, name_of(requirement))
    if len(numbers) > 1 or any(HARD.search(rows[number]) for number in numbers):
        raise InputError(
            f"{path}:{numbers[-1] + 1}: {name_of(requirement)} has hashes, or more than one line",
            BY_HAND,
        )
    if numbers and is_bare(requirement):
        return text
    if numbers:
        comment = COMMENT.search(rows[numbers[0]])
        rows[numbers[0]] = requirement + (comment[0] if comment else "")
        return end.join(rows)
    return f"{text}{'' if text.endswith(end) or not text else end}{requirement}{end}"


def remove_requirement(path: Path, text: str, name: str) -> str | None:
    """Return the text of a requirements file without a package, None if it is not there."""
    end = _line_end(text)
    rows = text.split(end)
    numbers = _rows(rows, name)
    if not numbers:
        return None
    for number in numbers:
        if rows[number].rstrip().endswith("\\"):
            raise InputError(f"{path}:{number + 1}: {name} takes more than one line", BY_HAND)
    return end.join(row for number, row in enumerate(rows) if number not in numbers)


def _rows(rows: Sequence[str], name: str) -> list[int]:
    wanted = pip_name(name)
    return [
        number
        for number, row in enumerate(rows)
        if (line := row.strip("\ufeff \t\r"))
        and not line.startswith("#")
        and pip_name(name_of(COMMENT.sub("", line))) == wanted
    ]
