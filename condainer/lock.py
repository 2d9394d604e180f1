"""The lock as a value: exactly what an environment consists of, and from which inputs."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from condainer.files import read_bytes

ABSENT = "absent"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _last_part(path: str) -> str:
    name = path.rpartition("/")[2]
    if "%" not in name:
        return name
    from urllib.parse import unquote

    return unquote(name)


def _path_of(url: str) -> str:
    """Return the path of a URL; most have nothing behind it, nor brackets to be looked into."""
    if not set(url) & set("?#;[]@"):
        return url.partition("://")[2].partition("/")[2]
    from urllib.parse import urlsplit

    return urlsplit(url).path


@dataclass(frozen=True)
class CondaPackage:
    """A conda package at an exact URL with the sha256 of its archive."""

    url: str
    sha256: str

    @property
    def filename(self) -> str:
        """The archive's file name, which holds name, version and build string."""
        return _last_part(_path_of(self.url))

    @property
    def subdir(self) -> str:
        """The channel's subdirectory: a platform or `noarch`."""
        return _last_part(_path_of(self.url).rpartition("/")[0])

    @property
    def name(self) -> str:
        """The package's name."""
        return self.filename.rsplit("-", 2)[0]


@dataclass(frozen=True)
class PipPackage:
    """A wheel or sdist at an exact URL with its sha256."""

    name: str
    url: str
    sha256: str

    @property
    def filename(self) -> str:
        """The file name, which holds name, version and, for a wheel, its tags."""
        return _last_part(_path_of(self.url))

    @property
    def is_wheel(self) -> bool:
        """Whether it is installed as it is rather than built from source."""
        return self.filename.endswith(".whl")


@dataclass(frozen=True)
class Source:
    """An input file, by its path relative to the project, and the sha256 of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Lock:
    """Exactly what an environment consists of on one platform.

    `inputs` is the semantic fingerprint of the inputs and `sources` their files; both are empty
    in a lockfile that another tool wrote, which is used as it is. `origin` is the file of another
    tool from which the lock was taken over. `name` is the environment's, for prompts only.
    """

    platform: str
    conda: tuple[CondaPackage, ...]
    pip: tuple[PipPackage, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    post_link_scripts: bool = False
    inputs: str = ""
    sources: tuple[Source, ...] = ()
    origin: str = ""
    name: str = ""


def this_platform() -> str:
    """Return the conda subdir of this machine, such as `linux-64`."""
    machine = os.uname().machine
    return {"x86_64": "linux-64"}.get(machine, f"linux-{machine}")


def escape(value: str) -> str:
    """Keep a value on one line: backslash, newline and carriage return are escaped."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def unescape(text: str) -> str:
    """Undo escape()."""
    pieces = text.split("\\\\")
    return "\\".join(piece.replace("\\n", "\n").replace("\\r", "\r") for piece in pieces)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, `absent`, or `unreadable`, which no lock says."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError:
        return "unreadable"


def source_of(path: Path, project: Path) -> Source:
    """Return the record of an input file as it is now."""
    return Source(os.path.relpath(path, project), file_digest(path))


def sources_unchanged(lock: Lock, project: Path) -> bool:
    """Tell whether every input file still has the bytes that were locked."""
    return bool(lock.sources) and all(
        file_digest(project / source.path) == source.sha256 for source in lock.sources
    )
