"""The lock as a value: exactly what an environment consists of, and from which inputs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from condainer.system.files import Read, read_bytes

ABSENT = "absent"
# What the URL of a git repository begins with.
VCS = "git+"
COMMIT = r"[0-9a-f]{40}"
# A commit of one, as the URL of a package has it.
GIT = re.compile(
    rf"git\+(?P<url>(?:https?|ssh|file)://[^\s#]+)@(?P<commit>(?i:{COMMIT}))"
    r"(?P<rest>#subdirectory=(?P<subdirectory>[^\s#&]+))?"
)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


# By these a program runs or loads other code than its own.
TAKES_OVER = re.compile(
    r"LD_(PRELOAD|AUDIT|LIBRARY_PATH)|GCONV_PATH|PATH|BASH_ENV|ENV|PROMPT_COMMAND|IFS"
    r"|PYTHON(STARTUP|PATH|HOME|INSPECT|BREAKPOINT|WARNINGS)|PERL5(OPT|LIB|DB)|RUBY(OPT|LIB)"
    r"|NODE_OPTIONS|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|GIT_\w+|EDITOR|PAGER|BROWSER|R_PROFILE\w*"
)


def pip_name(name: str) -> str:
    """Return the one spelling of a pip package's name that all its spellings have in common."""
    return re.sub(r"[-_.]+", "-", name).lower()


def is_named(name: str, text: str) -> bool:
    """Tell whether a solver's text is about a package: neither `digit` nor `git-lfs` is `git`."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![a-z_]|-[a-z])", text.lower()) is not None


def _last_part(path: str) -> str:
    name = path.rpartition("/")[2]
    if "%" not in name:
        return name
    from urllib.parse import unquote

    return unquote(name)


def _path_of(url: str) -> str:
    """Return the path of a URL, an empty text for what is none.

    Most have nothing behind it, nor brackets to be looked into.
    """
    if not set(url) & set("?#;[]@"):
        return url.partition("://")[2].partition("/")[2]
    from urllib.parse import urlsplit

    try:
        return urlsplit(url).path
    except ValueError:
        return ""


@dataclass(frozen=True)
class CondaPackage:
    """A conda package at an exact URL with the sha256 of its archive.

    Only while a lock of another tool is read can that be empty, and `md5` be known in its place.
    """

    url: str
    sha256: str
    md5: str = ""

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

    @property
    def parts(self) -> tuple[str, str, str]:
        """Name, version and build, of which only the first can have hyphens."""
        stem = self.filename.removesuffix(".conda").removesuffix(".tar.bz2")
        name, version, build = stem.rsplit("-", 2)
        return name, version, build


@dataclass(frozen=True)
class Solved:
    """A package as a solver gives it, with what a conda-lock.yml records of it, and its license."""

    package: CondaPackage
    name: str
    version: str
    build: str
    md5: str
    depends: tuple[str, ...]
    license: str = ""


@dataclass(frozen=True)
class PipPackage:
    """A wheel or sdist at an exact URL with its sha256, or a commit of a git repository.

    The URL of the last is `git+URL@COMMIT`, perhaps with `#subdirectory=…`, and it has no sha256.
    """

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
        return self.filename.endswith(".whl") and not self.is_vcs

    @property
    def is_vcs(self) -> bool:
        """Whether it is a commit of a git repository."""
        return self.url.startswith(VCS)

    @property
    def commit(self) -> str:
        """The commit, 40 hexadecimal digits, of a package that is one."""
        return self.url.partition("#")[0].rpartition("@")[2]

    @property
    def subdirectory(self) -> str:
        """Where in the repository the package stands; empty for its top."""
        return self.url.partition("#")[2].removeprefix("subdirectory=")


@dataclass(frozen=True)
class Source:
    """An input file, by its path relative to the project, and the sha256 of its bytes."""

    path: str
    sha256: str

    def place(self, project: Path) -> Path:
        """Return where it is, spelled as the settings spell it."""
        path = project / self.path
        return Path(os.path.normpath(path)) if self.path.startswith("..") else path


@dataclass(frozen=True)
class Lock:
    """Exactly what an environment consists of on one platform.

    `inputs` is the semantic fingerprint of the inputs and `sources` their files; both are empty
    in a lockfile that another tool wrote, which is used as it is. `origin` is the file of another
    tool from which the lock was taken over, and `environment` which one of those in it, if it has
    several. `name` is the environment's, for prompts only.
    `virtual` are the virtual packages that the user chose when it was made; `references` says by
    which requirement a package from a git repository was asked for, as a digest. `extras` are the
    pip requirements that ask for extras, as `NAME[EXTRA,EXTRA]; MARKER`. `places` are the variables
    of the environment that said where pip packages are.
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
    virtual: tuple[tuple[str, str], ...] = ()
    references: tuple[tuple[str, str], ...] = ()
    environment: str = ""
    extras: tuple[str, ...] = ()
    places: tuple[tuple[str, str], ...] = ()

    @property
    def takeovers(self) -> list[str]:
        """The variables by which programs run other code than their own, as `NAME=value`."""
        chosen = [(name, value) for name, value in self.variables if TAKES_OVER.fullmatch(name)]
        return [f"{name}={escape(value)}" for name, value in chosen]

    @property
    def is_partial(self) -> bool:
        """Whether the sha256 of a package is not known yet."""
        return any(not package.sha256 for package in self.conda)


def git_url(text: str) -> str | None:
    """Return the URL of a commit, which has one spelling: in lower case; None if it is none."""
    match = GIT.fullmatch(text)
    if match is None:
        return None
    return f"{VCS}{match['url']}@{match['commit'].lower()}{match['rest'] or ''}"


def escape(value: str) -> str:
    """Keep a value on one line: backslash, newline and carriage return are escaped."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def unescape(text: str) -> str:
    """Undo escape()."""
    pieces = text.split("\\\\")
    return "\\".join(piece.replace("\\n", "\n").replace("\\r", "\r") for piece in pieces)


def file_digest(path: Path, read: Read = read_bytes) -> str:
    """Return the sha256 of a file's bytes, `absent`, or `unreadable`, which no lock says."""
    try:
        return sha256(read(path)).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except OSError:
        return "unreadable"


def source_of(path: Path, project: Path, read: Read = read_bytes) -> Source:
    """Return the record of an input file as it is now, or was when it was read."""
    return Source(os.path.relpath(path, project), file_digest(path, read))


def sources_unchanged(lock: Lock, project: Path, read: Read = read_bytes) -> bool:
    """Tell whether every input file still has the bytes that were locked."""
    return bool(lock.sources) and all(
        file_digest(source.place(project), read) == source.sha256 for source in lock.sources
    )
