"""What the packages of an image need of each other, from their own metadata.

A conda package may hold a Python package, and the metadata of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from condainer.cache import squashfs
from condainer.cache.entries import Entry
from condainer.inputs.edit import name_of
from condainer.lock.locks import Lock, pip_name
from condainer.packages import installed
from condainer.packages.installed import METADATA, RECORDS, Installed
from condainer.settings.config import Settings
from condainer.solve.pip.foreign import markers
from condainer.system.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from packaging.requirements import Requirement


@dataclass(frozen=True)
class Need:
    """A package of the image that another one needs, and what that asks of it."""

    key: str
    asked: str


@dataclass(frozen=True)
class Package:
    """A package of an image; `kind` is `conda` or `pip`, and `key` what names it among all."""

    key: str
    kind: str
    name: str
    version: str
    needs: tuple[Need, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.version}" + (" (pip)" if self.kind == "pip" else "")


@dataclass(frozen=True)
class Graph:
    """The packages of an image by their keys."""

    packages: Mapping[str, Package]

    @cached_property
    def users(self) -> dict[str, list[tuple[Package, str]]]:
        """Who needs each package, and what they ask."""
        users: dict[str, list[tuple[Package, str]]] = {key: [] for key in self.packages}
        for package in self.packages.values():
            for need in package.needs:
                users[need.key].append((package, need.asked))
        return users

    def tops(self) -> list[Package]:
        """Return packages below which all others stand; of those that need each other, the first.

        All that no other one needs are among them.
        """
        tops, below = [], set()
        for package in sorted(self.packages.values(), key=lambda p: bool(self.users[p.key])):
            if package.key not in below:
                tops.append(package)
                below |= self._below(package)
        return tops

    def _below(self, package: Package) -> set[str]:
        keys, waiting = {package.key}, [package]
        while waiting:
            new = {need.key for need in waiting.pop().needs} - keys
            keys |= new
            waiting += [self.packages[key] for key in new]
        return keys

    def find(self, name: str) -> Package:
        """Return a package by its name; raises InputError that tells of near ones."""
        for key in (name.lower(), f"pip:{pip_name(name)}"):
            if key in self.packages:
                return self.packages[key]
        import difflib

        names = [package.name for package in self.packages.values()]
        near = difflib.get_close_matches(name, names)
        raise InputError(
            f"The image has no package {name}",
            f"Did you mean {', '.join(near)}?" if near else "`cnd tree` shows all.",
        )

    def above(self, package: Package) -> list[Package]:
        """Return all that needs a package, directly or not, and itself."""
        packages = {package.key: package}
        waiting = [package]
        while waiting:
            for user, _ in self.users[waiting.pop().key]:
                if user.key not in packages:
                    packages[user.key] = user
                    waiting.append(user)
        return list(packages.values())

    def report(self, packages: Sequence[Package]) -> list[dict[str, Any]]:
        """Return what `--json` prints of packages."""
        return [
            {
                **{name: getattr(package, name) for name in ("kind", "name", "version")},
                "needs": [
                    {"name": self.packages[need.key].name, "asked": need.asked}
                    for need in package.needs
                ],
            }
            for package in packages
        ]


def metadata(entry: Entry, settings: Settings) -> Installed:
    """Return what the packages of an image say; raises ToolError without unsquashfs."""
    with squashfs.parts(entry.image, settings, (RECORDS, METADATA)) as tree:
        return installed.read(tree)


def graph(image: Installed, lock: Lock, wanted: Sequence[str] = ()) -> Graph:
    """Return what packages need of each other, by what they say.

    Parameters: `wanted` are requirements of the environment itself, beside those that the lock has:
    the extras that they name are needed, too.
    """
    records, owner, heads = image.records, image.owner, image.pip
    # Of each distribution, the package that has it.
    keys = {
        pip_name(head["Name"]): owner.get(path) or f"pip:{pip_name(head['Name'])}"
        for path, head in image.wheels.items()
    }
    python = next((r["version"] for r in records if r["name"] == "python"), "3")
    packages = {
        record["name"]: _conda(record, {record["name"] for record in records}) for record in records
    }
    lines = {
        name: tuple(_parsed(head.get_all("Requires-Dist") or ())) for name, head in heads.items()
    }
    machine = markers(lock.platform, python, {})
    extras = _extras(lines, tuple(_parsed((*wanted, *lock.extras))), machine)
    for name, head in heads.items():
        asked = [line for line in lines[name] if _holds(line, machine, extras[name])]
        needs = tuple(
            Need(keys[pip_name(line.name)], _written(line))
            for line in asked
            if pip_name(line.name) in keys
        )
        key = f"pip:{name}"
        packages[key] = Package(key, "pip", head["Name"], head["Version"], needs)
    return Graph(packages)


def _conda(record: Mapping[str, Any], names: set[str]) -> Package:
    # Virtual packages, and what a record alone names, are not in the image.
    asked = {name_of(spec): spec for spec in record["depends"]}
    needs = tuple(Need(name, spec) for name, spec in asked.items() if name in names)
    return Package(record["name"], "conda", record["name"], record["version"], needs)


def _parsed(lines: Sequence[str]) -> Iterator[Requirement]:
    from packaging.requirements import InvalidRequirement, Requirement

    for line in lines:
        # Old packages have such lines, and pip accepted them.
        with suppress(InvalidRequirement):
            yield Requirement(line)


def _holds(line: Requirement, machine: Mapping[str, str], extras: Collection[str]) -> bool:
    """Tell whether a requirement is one of a package that is wanted with some extras."""
    marker = line.marker
    return marker is None or any(
        marker.evaluate({**machine, "extra": extra}) for extra in ("", *extras)
    )


def _extras(
    lines: Mapping[str, Sequence[Requirement]],
    wanted: Sequence[Requirement],
    machine: Mapping[str, str],
) -> dict[str, set[str]]:
    """Return the extras that are wanted of each package, by the environment or by one another."""
    extras: dict[str, set[str]] = {name: set() for name in lines}
    waiting = [line for line in wanted if _holds(line, machine, ())]
    waiting += [line for own in lines.values() for line in own if _holds(line, machine, ())]
    while waiting:
        line = waiting.pop()
        name = pip_name(line.name)
        if new := line.extras - extras.get(name, line.extras):
            extras[name] |= new
            waiting += [other for other in lines[name] if _holds(other, machine, new)]
    return extras


def _written(line: Requirement) -> str:
    extras = f"[{','.join(sorted(line.extras))}]" if line.extras else ""
    return f"{line.name}{extras}{line.specifier}"


def tree(graph: Graph, package: Package | None = None) -> Iterator[str]:
    """Yield the lines of what a package needs, or all; what was shown before is marked by (*)."""
    shown: set[str] = set()

    def below(package: Package) -> Iterator[tuple[Package, str]]:
        return ((graph.packages[need.key], str(graph.packages[need.key])) for need in package.needs)

    for root in graph.tops() if package is None else [package]:
        yield from _lines(root, str(root), below, shown)


def why(graph: Graph, package: Package) -> Iterator[str]:
    """Yield the lines of what needs a package, up to what nothing needs."""

    def above(package: Package) -> Iterator[tuple[Package, str]]:
        return ((user, f"{user} asks {asked}") for user, asked in graph.users[package.key])

    return _lines(package, str(package), above, set())


def _lines(
    package: Package, text: str, following: Any, shown: set[str], indent: str = ""
) -> Iterator[str]:
    rest = list(following(package))
    if package.key in shown and rest:
        yield f"{text} (*)"
        return
    yield text
    shown.add(package.key)
    for number, (other, said) in enumerate(rest):
        last = number == len(rest) - 1
        branch, bar = ("└── ", "    ") if last else ("├── ", "│   ")
        for place, line in enumerate(_lines(other, said, following, shown)):
            yield f"{indent}{bar if place else branch}{line}"
