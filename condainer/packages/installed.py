"""What the packages in a prefix, or unpacked from an image, say of themselves.

Conda packages say it in `conda-meta`, those of Python packages in their METADATA, which conda
packages can have as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condainer.lock.locks import pip_name
from condainer.system.files import read_text

if TYPE_CHECKING:
    from email.message import Message

RECORDS = "conda-meta"
METADATA = "lib/python3*/site-packages/*.dist-info/METADATA"
# Where a package does not say it.
UNKNOWN = "unknown"
# `License` of METADATA may hold the whole text; a longer line is no name.
LONGEST_NAME = 120


@dataclass(frozen=True)
class Licensed:
    """A package and the license that it says it has; `kind` is `conda` or `pip`."""

    kind: str
    name: str
    version: str
    license: str

    def __str__(self) -> str:
        pip = " (pip)" if self.kind == "pip" else ""
        return f"{self.name} {self.version}{pip}: {self.license}"


@dataclass(frozen=True)
class Installed:
    """The records of conda packages, and the METADATA of distributions by their paths."""

    records: tuple[Mapping[str, Any], ...]
    wheels: Mapping[str, Message]

    @cached_property
    def owner(self) -> dict[str, str]:
        """The conda package that each file belongs to."""
        return {file: record["name"] for record in self.records for file in record["files"]}

    @cached_property
    def pip(self) -> dict[str, Message]:
        """The METADATA of what no conda package brought, by the names that pip compares."""
        return {
            pip_name(head["Name"]): head
            for path, head in self.wheels.items()
            if path not in self.owner
        }

    def licenses(self) -> Iterator[Licensed]:
        """Yield the license of each package."""
        for record in self.records:
            text = known(record.get("license"))
            yield Licensed("conda", record["name"], record["version"], text)
        for head in self.pip.values():
            yield Licensed("pip", head["Name"], head["Version"], license_of(head))


def read(tree: Path) -> Installed:
    """Read the metadata below a directory that has them at the places of a prefix."""
    return Installed(
        tuple(json.loads(read_text(path)) for path in sorted(tree.glob(f"{RECORDS}/*.json"))),
        {
            # Old packages have it in another encoding than UTF-8.
            str(path.relative_to(tree)): HeaderParser().parsestr(read_text(path, errors="replace"))
            for path in sorted(tree.glob(METADATA))
        },
    )


def known(text: object) -> str:
    """Return a license as it is written, on one line, or `unknown` for none."""
    return " ".join(str(text or "").split()) or UNKNOWN


def license_of(head: Message) -> str:
    """Return the license that a METADATA file names, an SPDX expression or another name.

    https://packaging.python.org/en/latest/specifications/core-metadata/ has License-Expression
    take the place of License, which can be a text, and of the classifiers.
    """
    if expression := head["License-Expression"]:
        return known(expression)
    free = str(head["License"] or "").strip()
    if free and "\n" not in free and len(free) <= LONGEST_NAME and free.upper() != "UNKNOWN":
        return known(free)
    classifiers = [str(line).split(" :: ") for line in head.get_all("Classifier") or ()]
    named = [parts[-1] for parts in classifiers if parts[0] == "License" and len(parts) > 1]
    # `License :: OSI Approved` alone says nothing.
    names = [name for name in named if name != "OSI Approved"]
    return known(", ".join(names) or free.partition("\n")[0][:LONGEST_NAME])
