"""The lock as a value, and the explicit lockfile that holds it.

The explicit file alone gives the address: it is read as plain text, without YAML and without a
solver. conda's own pattern for explicit files accepts its lines (`url#sha256:…`).
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from condainer.errors import LockfileError
from condainer.files import read_bytes, read_text

VERSION = 1
ABSENT = "absent"
PACKAGE = re.compile(r"(?P<url>[a-z][a-z0-9+.-]*://\S+?)#(?:sha256:)?(?P<hash>[0-9a-fA-F]+)")
PIP = re.compile(r"# pip (?P<name>\S+) @ (?P<url>\S+?)#sha256=(?P<hash>\S+)")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FILENAME = re.compile(r"[^/\s\\\x00-\x1f]+")
CONDA_FILENAME = re.compile(r"[^/\s\\\x00-\x1f]+(-[^/\s\\\x00-\x1f-]+){2}\.(conda|tar\.bz2)")
REMEDY = "Restore the file from version control, or make it anew with `cnd lock`."


@dataclass(frozen=True)
class CondaPackage:
    """A conda package at an exact URL with the sha256 of its archive."""

    url: str
    sha256: str

    @property
    def filename(self) -> str:
        """The archive's file name, which holds name, version and build string."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])

    @property
    def subdir(self) -> str:
        """The channel's subdirectory: a platform or `noarch`."""
        directory = urlsplit(self.url).path.rpartition("/")[0]
        return unquote(directory.rpartition("/")[2])

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
        return unquote(urlsplit(self.url).path.rpartition("/")[2])

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


def lockfile_path(project: Path, platform: str) -> Path:
    """Return where the explicit lockfile of a platform stands."""
    return project / f"conda-{platform}.lock"


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


def render_explicit(lock: Lock) -> str:
    """Return the text of the explicit lockfile."""
    lines = [
        "# Made by `cnd lock`: commit this file, and do not edit it.",
        f"# condainer-lock: {VERSION}",
        f"# platform: {lock.platform}",
        f"# name: {escape(lock.name)}",
        f"# inputs: sha256:{lock.inputs}",
    ]
    if lock.origin:
        lines.append(f"# from: {escape(lock.origin)}")
    lines += [f"# input: {source.sha256} {escape(source.path)}" for source in lock.sources]
    if lock.post_link_scripts:
        lines.append("# post-link-scripts: true")
    lines += [f"# variable: {name}={escape(value)}" for name, value in lock.variables]
    # By this number a file that was cut off shows.
    lines.append(f"# packages: {len(lock.conda) + len(lock.pip)}")
    lines.append("@EXPLICIT")
    lines += [f"{package.url}#sha256:{package.sha256}" for package in lock.conda]
    lines += [f"# pip {p.name} @ {p.url}#sha256={p.sha256}" for p in lock.pip]
    return "\n".join(lines) + "\n"


def read_explicit(path: Path, platform: str) -> Lock:
    """Read an explicit lockfile, ours or another tool's, for the given platform.

    Raises LockfileError, with the line, when something in it is not what it should be, and
    FileNotFoundError when there is none.
    """
    try:
        text = read_text(path, "utf-8-sig")
    except UnicodeDecodeError:
        raise LockfileError(f"{path}: not UTF-8 text", REMEDY) from None
    return parse_explicit(text, str(path), platform)


def checked(lock: Lock, where: str) -> Lock:
    """Return a lock that was not read from an explicit file, held to the same rules.

    Raises LockfileError for URLs, file names or hashes that such a file could not have.
    """
    return parse_explicit(render_explicit(lock), where, lock.platform)


def parse_explicit(text: str, where: str, platform: str) -> Lock:
    """Parse the text of an explicit lockfile; `where` names it in errors."""
    reader = _Reader(where, platform)
    for number, line in enumerate(text.split("\n"), 1):
        reader.read(number, line.removesuffix("\r"))
    return reader.lock()


class _Reader:
    """Collects the lines of an explicit lockfile."""

    def __init__(self, where: str, platform: str) -> None:
        self.where = where
        self.platform = platform
        self.explicit = False
        self.count: int | None = None
        self.ours = False
        self.inputs = ""
        self.origin = ""
        self.name = ""
        self.post_link_scripts = False
        self.sources: list[Source] = []
        self.variables: dict[str, str] = {}
        self.conda: dict[str, CondaPackage] = {}
        self.pip: dict[str, PipPackage] = {}

    def read(self, number: int, text: str) -> None:
        line = text.strip()
        if not line:
            return
        if line == "@EXPLICIT":
            self.explicit = True
        elif line.startswith("# pip "):
            self._pip(number, line)
        elif line.startswith("#"):
            self._header(number, text)
        else:
            self._conda(number, line)

    def lock(self) -> Lock:
        if not self.explicit:
            raise LockfileError(f"{self.where}: not an explicit lockfile: no @EXPLICIT", REMEDY)
        if not self.conda:
            raise LockfileError(f"{self.where}: names no conda package", REMEDY)
        if self.ours and not (self.inputs and self.sources):
            raise LockfileError(f"{self.where}: the header is incomplete", REMEDY)
        found = len(self.conda) + len(self.pip)
        if self.count not in (None, found):
            raise LockfileError(
                f"{self.where}: has {found} packages, but its header says {self.count}", REMEDY
            )
        return Lock(
            self.platform,
            tuple(self.conda.values()),
            tuple(self.pip.values()),
            tuple(self.variables.items()),
            self.post_link_scripts,
            self.inputs,
            tuple(self.sources),
            self.origin,
            self.name,
        )

    def _error(self, number: int, problem: str, hint: str = REMEDY) -> LockfileError:
        return LockfileError(f"{self.where}:{number}: {problem}", hint)

    def _header(self, number: int, line: str) -> None:
        key, _, text = line.lstrip()[1:].partition(":")
        # Blanks at the ends of a value belong to it.
        key, text = key.strip(), text.removeprefix(" ")
        value = text.strip()
        if key == "platform" and value != self.platform:
            raise self._error(
                number,
                f"this lock is for {value}, but this machine is {self.platform}",
                f"Lock on a {self.platform} machine, into conda-{self.platform}.lock.",
            )
        if key == "condainer-lock":
            self.ours = True
            if value != str(VERSION):
                raise self._error(
                    number,
                    f"lock version {value} is not known here (this is version {VERSION})",
                    "Use the version of Condainer that wrote it, or lock again with `cnd lock`.",
                )
        if not self.ours:
            return
        if key == "inputs":
            self.inputs = _hash(value.removeprefix("sha256:")) or ""
            if not self.inputs:
                raise self._error(number, "no valid sha256 of the inputs")
        elif key == "packages":
            if not re.fullmatch(r"[0-9]{1,9}", value):
                raise self._error(number, "no valid number of packages")
            self.count = int(value)
        elif key == "input":
            digest, _, path = text.partition(" ")
            if not path or not (digest == ABSENT or _hash(digest)):
                raise self._error(number, "no valid input file")
            self.sources.append(Source(unescape(path), digest))
        elif key == "name":
            self.name = unescape(text)
        elif key == "from":
            self.origin = unescape(text)
        elif key == "post-link-scripts":
            self.post_link_scripts = value == "true"
        elif key == "variable":
            name, equals, content = text.partition("=")
            if not equals or not NAME.fullmatch(name) or name in self.variables:
                raise self._error(number, "no valid environment variable")
            self.variables[name] = unescape(content)

    def _conda(self, number: int, line: str) -> None:
        match = PACKAGE.fullmatch(line)
        if not match:
            raise self._error(number, f"not a package URL with a hash: {line!r}")
        digest = _hash(match["hash"])
        if digest is None:
            raise self._error(
                number,
                f"no sha256 of 64 hexadecimal digits: {line!r}",
                "An md5 proves nothing; lock again with `cnd lock`, or write `#sha256:…`.",
            )
        package = CondaPackage(match["url"], digest)
        if not CONDA_FILENAME.fullmatch(package.filename):
            raise self._error(number, f"not the URL of a conda package: {line!r}")
        if package.subdir not in (self.platform, "noarch"):
            raise self._error(
                number,
                f"a package for {package.subdir}, but this machine is {self.platform}: {line!r}",
            )
        if package.name in self.conda:
            raise self._error(number, f"a second {package.name}: {line!r}")
        self.conda[package.name] = package

    def _pip(self, number: int, line: str) -> None:
        match = PIP.fullmatch(line)
        digest = _hash(match["hash"]) if match else None
        if match is None or digest is None:
            raise self._error(number, f"not a pip package with URL and sha256: {line!r}")
        package = PipPackage(match["name"], match["url"], digest)
        if not FILENAME.fullmatch(package.filename):
            raise self._error(number, f"a URL without a usable file name: {line!r}")
        name = re.sub(r"[-_.]+", "-", package.name).lower()
        if name in self.pip:
            raise self._error(number, f"a second {package.name}: {line!r}")
        self.pip[name] = package


def _hash(text: str) -> str | None:
    """Return a sha256 in lower case, or None if the text is none."""
    return text.lower() if re.fullmatch(r"[0-9a-fA-F]{64}", text) else None
