"""What the packages of an image need of each other, from the metadata that they bring themselves.

Conda packages say it in `conda-meta`, those of Python packages in their METADATA; what a Python
package needs may come from a conda package, whose files then hold the metadata of that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from functools import cached_property
from typing import Any

from condainer.cache import squashfs
from condainer.cache.entries import Entry
from condainer.inputs.edit import name_of
from condainer.lock.locks import Lock, pip_name
from condainer.settings.config import Settings
from condainer.system.errors import InputError
from condainer.system.files import read_text

METADATA = "lib/python3*/site-packages/*.dist-info/METADATA"
RECORDS = "conda-meta"


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
        found: dict[str, list[tuple[Package, str]]] = {key: [] for key in self.packages}
        for package in self.packages.values():
            for need in package.needs:
                found[need.key].append((package, need.asked))
        return found

    def roots(self) -> list[Package]:
        """Return the packages that no other one needs."""
        return [self.packages[key] for key, users in self.users.items() if not users]

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
        found = {package.key: package}
        waiting = [package]
        while waiting:
            for user, _ in self.users[waiting.pop().key]:
                if user.key not in found:
                    found[user.key] = user
                    waiting.append(user)
        return list(found.values())

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


def read(entry: Entry, lock: Lock, settings: Settings) -> Graph:
    """Return what the packages of an image need; raises ToolError without unsquashfs."""
    with squashfs.parts(entry.image, settings, (RECORDS, METADATA)) as tree:
        records = [json.loads(read_text(path)) for path in sorted(tree.glob(f"{RECORDS}/*.json"))]
        wheels = {
            str(path.relative_to(tree)): HeaderParser().parsestr(read_text(path))
            for path in sorted(tree.glob(METADATA))
        }
    owner = {file: record["name"] for record in records for file in record["files"]}
    # Of each distribution, the package that has it.
    keys = {
        pip_name(head["Name"]): owner.get(path) or f"pip:{pip_name(head['Name'])}"
        for path, head in wheels.items()
    }
    python = next((r["version"] for r in records if r["name"] == "python"), "3")
    found = {
        record["name"]: _conda(record, {record["name"] for record in records}) for record in records
    }
    for path, head in wheels.items():
        if path not in owner:
            key = f"pip:{pip_name(head['Name'])}"
            asked = tuple(_requirements(head.get_all("Requires-Dist") or (), python, lock.platform))
            needs = tuple(Need(keys[name], text) for name, text in asked if name in keys)
            found[key] = Package(key, "pip", head["Name"], head["Version"], needs)
    return Graph(found)


def _conda(record: Mapping[str, Any], names: set[str]) -> Package:
    # Virtual packages, and what a record alone names, are not in the image.
    asked = {name_of(spec): spec for spec in record["depends"]}
    needs = tuple(Need(name, spec) for name, spec in asked.items() if name in names)
    return Package(record["name"], "conda", record["name"], record["version"], needs)


def _requirements(lines: Sequence[str], python: str, platform: str) -> Iterator[tuple[str, str]]:
    """Yield the names that hold for an environment without extras, and what is asked of each."""
    from packaging.requirements import InvalidRequirement, Requirement

    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    version = {"python_version": ".".join(python.split(".")[:2]), "python_full_version": python}
    machine = {"platform_machine": {"64": "x86_64"}.get(platform[6:], platform[6:])}
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            # As old packages have them; pip has been content with it.
            continue
        marker = requirement.marker
        if marker is None or marker.evaluate({**linux, **version, **machine, "extra": ""}):
            asked = f"{requirement.name}{requirement.specifier}"
            yield pip_name(requirement.name), asked


def tree(graph: Graph, package: Package | None = None) -> Iterator[str]:
    """Yield the lines of what a package needs, or all; what was shown before is marked by (*)."""
    shown: set[str] = set()

    def below(package: Package) -> Iterator[tuple[Package, str]]:
        return ((graph.packages[need.key], str(graph.packages[need.key])) for need in package.needs)

    # Of those that need each other none is a root.
    everything = [*graph.roots(), *graph.packages.values()]
    for root in everything if package is None else [package]:
        if root.key not in shown:
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
