"""What the standard tables of a pyproject.toml add to a workspace of pixi."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from condainer.inputs import conda_specs, toml_file
from condainer.inputs.conda_specs import Spec
from condainer.inputs.toml_file import Toml
from condainer.lock.locks import pip_name
from condainer.system.errors import InputError

Keys = tuple[str, ...]
EXTRAS: Keys = ("project", "optional-dependencies")
GROUPS: Keys = ("dependency-groups",)
REQUIRES = ("project", "requires-python")
Lines = list[tuple[str, str]]
SELF = re.compile(r"\s*(?P<name>[\w.-]+)\s*(\[(?P<extras>[^\]]*)\])?(?P<rest>.*)")
# The extras and groups that lead to another one.
Chain = tuple[Keys, ...]


def python(document: Toml) -> list[Spec]:
    """Return the Python that a project requires, if it requires one."""
    where = document.where(*REQUIRES)
    version = conda_specs.requires_python(document.at(*REQUIRES), where)
    return [conda_specs.python_spec(version, where)] if version else []


def groups(document: Toml) -> set[str]:
    """Return the names of a project's extras and dependency groups, which are features as well."""
    tables = (document.at(*EXTRAS), document.at(*GROUPS))
    return {pip_name(name) for table in tables if isinstance(table, dict) for name in table}


def of_feature(document: Toml, name: str = "") -> Lines:
    """Return the requirements of a feature: an extra's and a group's, or the project's own."""
    if not name:
        keys = ("project", "dependencies")
        return list(_lines(document, document.at(*keys), keys, ()))
    lines: Lines = []
    for table in (EXTRAS, GROUPS):
        lines += _group(document, name, table, ())
    return lines


def of_extras(document: Toml, names: Any, where: str) -> Lines:
    """Return the requirements of extras; raises InputError for one that there is not."""
    lines: Lines = []
    for name in toml_file.items(names, "extras", where):
        lines += _included(document, name, EXTRAS, where, ())
    return lines


def _included(document: Toml, name: str, keys: Keys, where: str, chain: Chain) -> Lines:
    if pip_name(str(name)) not in map(pip_name, document.table(*keys)):
        what = "extra" if keys == EXTRAS else "dependency group"
        raise InputError(f"{where}: the project has no {what} {name!r}", "Correct its name.")
    return _group(document, name, keys, chain)


def _group(document: Toml, name: str, keys: Keys, chain: Chain) -> Lines:
    place = (*keys, pip_name(name))
    if place in chain:
        raise InputError(
            f"{document.where(*keys, name)}: groups include each other", "Remove one of them."
        )
    lines: Lines = []
    for key, items in document.table(*keys).items():
        if pip_name(key) == place[-1]:
            lines += _lines(document, items, (*keys, key), (*chain, place))
    return lines


def _lines(document: Toml, items: Any, keys: Keys, chain: Chain) -> Iterator[tuple[str, str]]:
    """Yield the requirements of a list, with those of the extras and groups that it includes."""
    where = document.where(*keys)
    own = document.at("project", "name")
    for item in toml_file.items([] if items is None else items, keys[-1], where):
        group = item.get("include-group") if isinstance(item, dict) else None
        if isinstance(group, str):
            yield from _included(document, group, GROUPS, where, chain)
            continue
        if not isinstance(item, str):
            raise InputError(f"{where}: not a requirement: {item!r}", "Write it as a text.")
        match = SELF.match(item)
        if match is None or not isinstance(own, str) or pip_name(match["name"]) != pip_name(own):
            yield item, where
            continue
        # An index could have another project of that name.
        extras = re.findall(r"[^\s,]+", match["extras"] or "")
        if extras and ";" in match["rest"]:
            raise InputError(
                f"{where}: extras of the project itself cannot have a marker: {item}",
                "Name the packages that they ask for, each with the marker.",
            )
        for extra in extras:
            yield from _included(document, extra, EXTRAS, where, chain)
