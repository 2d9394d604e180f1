"""Locks of pip packages that other tools wrote: pylock.toml, and uv.lock with its project.

They are the pip part of an environment. Alone, they are all of it but Python, of which they say
what version they need.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer.inputs import toml_file
from condainer.inputs.conda_specs import requires_python
from condainer.inputs.toml_file import Toml
from condainer.settings.config import Settings
from condainer.settings.input_files import PYPROJECT, REQUIREMENTS, UV_LOCK, is_pylock
from condainer.system.errors import InputError
from condainer.system.files import Read

# What pylock.toml says about itself, but not about what is installed.
ASIDE = ("created-by", "tool")
# What of a pyproject.toml uv.lock is made from.
PARTS = (("project",), ("dependency-groups",), ("tool", "uv"))


@dataclass(frozen=True)
class PipLock:
    """A lock of pip packages for several platforms; which of them are installed Python decides.

    `requires_python` is what it asks of the version, `fingerprint` a sha256 of what it means;
    `groups` are the dependency groups that are not taken from a uv.lock.
    """

    path: Path
    text: str
    requires_python: str
    fingerprint: str
    groups: tuple[str, ...] = ()

    @property
    def is_of_uv(self) -> bool:
        """Whether it is a uv.lock, which only uv reads."""
        return self.path.name == UV_LOCK


def is_one(path: Path) -> bool:
    """Tell whether a file has the name of such a lock."""
    return is_pylock(path) or path.name == UV_LOCK


def others(path: Path) -> list[Path]:
    """Return what has to be read beside a lock: the project that a uv.lock is of."""
    return [path.with_name(PYPROJECT)] if path.name == UV_LOCK else []


def read(path: Path, read: Read) -> PipLock:
    """Read a lock of pip packages; raises InputError for any other file."""
    try:
        document = toml_file.load(path, read)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file", f"`requirements_txt:` names it; {REQUIREMENTS} is the default."
        ) from None
    if path.name == UV_LOCK:
        return _of_uv(document, read)
    return _of_pylock(document)


def notes(lock: PipLock | None, settings: Settings) -> list[str]:
    """Return what is said of what a lock of pip packages leaves out."""
    if lock is None:
        return []
    remarks = []
    beside = settings.project / REQUIREMENTS
    if settings.files.is_file(beside):
        remarks.append(f"{beside} is not read, because {lock.path.name} is there")
    if lock.is_of_uv:
        groups = f", and without the groups {', '.join(lock.groups)}" if lock.groups else ""
        remarks.append(
            f"{lock.path}: its packages are taken without the project itself{groups}: an image "
            "holds what a project needs"
        )
    return remarks


def _of_pylock(document: Toml) -> PipLock:
    if not isinstance(document.value.get("lock-version"), str):
        raise InputError(
            f"{document.path}: not a lock as PEP 751 has it: no `lock-version`",
            "`uv export --format pylock.toml -o pylock.toml` or `pip lock` writes one.",
        )
    return _made(document, {k: v for k, v in document.value.items() if k not in ASIDE})


def _of_uv(document: Toml, read: Read) -> PipLock:
    if not isinstance(document.value.get("version"), int):
        raise InputError(f"{document.path}: not a lockfile of uv", "`uv lock` writes it.")
    path = document.path.with_name(PYPROJECT)
    try:
        project = toml_file.load(path, read)
    except FileNotFoundError:
        raise InputError(
            f"{document.path}: there is no {PYPROJECT} beside it, which uv reads it with",
            "Restore both from version control.",
        ) from None
    groups = project.at("dependency-groups")
    meaning = {"lock": document.value, "project": [project.at(*part) for part in PARTS]}
    return _made(document, meaning, tuple(groups) if isinstance(groups, dict) else ())


def _made(document: Toml, meaning: Mapping[str, Any], groups: tuple[str, ...] = ()) -> PipLock:
    key = "requires-python"
    python = requires_python(document.at(key), document.where(key))
    text = json.dumps(meaning, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return PipLock(document.path, document.text, python, digest, groups)
