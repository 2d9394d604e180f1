"""Advisories of OSV, read from a dump on disk: a zip or a directory of JSON files.

https://ossf.github.io/osv-schema/ is its schema. Only what concerns wanted packages is kept in
memory.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.version import Version

from condainer.lock.locks import pip_name
from condainer.system.errors import InputError
from condainer.system.files import open_regular, read_bytes

ECOSYSTEM = "PyPI"
# No advisory is as large, in bytes.
LARGEST = 16 << 20
REMEDY = "Fetch the dump again: `PyPI/all.zip` of OSV, or unpack it into a directory."
# Kinds of events that end a range; a version at `last_affected` is still affected.
ENDS = ("fixed", "last_affected", "limit")


@dataclass(frozen=True)
class Range:
    """Versions of a package at which a problem begins and ends."""

    events: tuple[tuple[str, str], ...]

    @cached_property
    def _sorted(self) -> list[tuple[Version | None, str]]:
        """The events in order; None is before all versions. Raises InvalidVersion."""
        bounds = [(None if text == "0" else Version(text), kind) for kind, text in self.events]
        low = Version("0.dev0")
        # A version that ends a problem and begins it again has the problem.
        return sorted(
            bounds, key=lambda event: (event[0] is not None, event[0] or low, event[1] not in ENDS)
        )

    def affects(self, version: Version) -> bool:
        """Tell whether a version is in the range; raises InvalidVersion for one without order."""
        inside = False
        for bound, kind in self._sorted:
            if kind == "introduced":
                inside = inside or bound is None or version >= bound
            elif bound is not None:
                past = version > bound if kind == "last_affected" else version >= bound
                inside = inside and not past
        return inside

    def fixed(self, version: Version) -> Version | None:
        """Return the first version after another one that no longer has the problem."""
        later = (bound for bound, kind in self._sorted if kind == "fixed" and bound is not None)
        return next((bound for bound in later if bound > version), None)


@dataclass(frozen=True)
class Advisory:
    """What is known against one package; `severity` is empty if none is given."""

    id: str
    aliases: tuple[str, ...]
    package: str
    summary: str
    severity: str
    cvss: tuple[str, ...]
    ranges: tuple[Range, ...]
    versions: tuple[str, ...]


@dataclass
class Dump:
    """A dump that is read once, and how many advisories of the ecosystem it turned out to have."""

    path: Path
    count: int = 0

    def advisories(self, names: Collection[str]) -> Iterator[Advisory]:
        """Yield the advisories on packages of PyPI by their names; withdrawn ones are left out.

        Raises InputError with the place of what is no advisory, for a dump that is not whole, and
        for one without any advisory on PyPI.
        """
        for where, data in _files(self.path):
            record = _record(where, data)
            for affected in _items(record, "affected", where):
                name = _name(affected, where)
                if not name:
                    continue
                self.count += 1
                if name in names and not record.get("withdrawn"):
                    yield _advisory(record, affected, name, where)
        if not self.count:
            raise InputError(f"{self.path}: has no advisory on packages of PyPI", REMEDY)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield place and content of each JSON file."""
    try:
        if path.is_dir():
            for directory, below, names in os.walk(path):
                below.sort()
                for file in (Path(directory, name) for name in sorted(names)):
                    if file.suffix == ".json":
                        yield str(file), read_bytes(file, limit=LARGEST + 1)
            return
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".json"):
                    yield _unpacked(archive, info, f"{path}: {info.filename}")
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: not a whole zip file: {error}", REMEDY) from None
    except OSError as error:
        name = error.filename or path
        raise InputError(f"{name}: cannot be read: {error.strerror}", REMEDY) from None


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> tuple[str, bytes]:
    try:
        with archive.open(info) as stream:
            return where, stream.read(LARGEST + 1)
    # What zipfile raises for encrypted files, unknown methods, and damage.
    except (RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{where}: cannot be unpacked: {error}", REMEDY) from None


def _record(where: str, data: bytes) -> Mapping[str, Any]:
    if len(data) > LARGEST:
        raise InputError(f"{where}: larger than {LARGEST} bytes: no advisory", REMEDY)
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON: {error}", REMEDY) from None
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise _none(where, "has no `id`")
    return record


def _none(where: str, problem: str) -> InputError:
    return InputError(f"{where}: not an advisory of OSV: {problem}", REMEDY)


def _items(content: Mapping[str, Any], key: str, where: str, kind: type = dict) -> list[Any]:
    """Return a list of mappings, or of another kind, which may be left out."""
    items = content.get(key) or []
    if not isinstance(items, list) or not all(isinstance(item, kind) for item in items):
        name = "mappings" if kind is dict else "texts"
        raise _none(where, f"`{key}` is not a list of {name}")
    return items


def _name(affected: Mapping[str, Any], where: str) -> str:
    """Return the package of PyPI that is affected; empty for one of elsewhere."""
    package = affected.get("package") or {}
    if not isinstance(package, dict):
        raise _none(where, "`package` is not a mapping")
    # What follows a colon says where in the ecosystem.
    if str(package.get("ecosystem")).partition(":")[0] != ECOSYSTEM:
        return ""
    name = package.get("name")
    if not isinstance(name, str) or not name:
        raise _none(where, "a package has no `name`")
    return pip_name(name)


def _advisory(
    record: Mapping[str, Any], affected: Mapping[str, Any], name: str, where: str
) -> Advisory:
    ranges = [
        _range(item, where)
        for item in _items(affected, "ranges", where)
        # The others are of commits.
        if item.get("type") in ("ECOSYSTEM", "SEMVER")
    ]
    scores = [*_items(record, "severity", where), *_items(affected, "severity", where)]
    specific = record.get("database_specific")
    word = specific.get("severity") if isinstance(specific, dict) else None
    return Advisory(
        record["id"],
        tuple(_items(record, "aliases", where, str)),
        name,
        _summary(record),
        word.upper() if isinstance(word, str) else "",
        tuple(str(item["score"]) for item in scores if "score" in item),
        tuple(ranges),
        tuple(_items(affected, "versions", where, str)),
    )


def _range(item: Mapping[str, Any], where: str) -> Range:
    bounds: list[tuple[str, str]] = []
    for event in _items(item, "events", where):
        for kind, text in event.items():
            if kind not in ("introduced", *ENDS) or not isinstance(text, str):
                raise _none(where, f"an event {kind!r} of a range is not known")
            # No limit.
            bounds += [(kind, text)] * (text != "*")
    return Range(tuple(bounds))


def _summary(record: Mapping[str, Any]) -> str:
    texts: Sequence[Any] = (record.get("summary"), record.get("details"))
    lines = (line.strip("# ") for text in texts for line in str(text or "").splitlines())
    return next((line for line in lines if line), "")
