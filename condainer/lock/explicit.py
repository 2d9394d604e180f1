"""The explicit lockfile: written, read, and held to its rules.

It alone gives the address: it is read as plain text, without YAML and without a solver. rattler
and newer conda read its lines (`url#sha256:…`); `cnd lock --export explicit` is for every conda.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from condainer.lock.locks import (
    ABSENT,
    NAME,
    VCS,
    CondaPackage,
    Lock,
    PipPackage,
    Source,
    escape,
    git_url,
    pip_name,
    unescape,
)
from condainer.system.errors import LockfileError
from condainer.system.files import Read, read_bytes
from condainer.system.text import CONFLICT
from condainer.system.urls import NETRC, has_secret, has_user

# The first words of a file of ours.
OURS = "# Made by `cnd lock`"
# The beginning of the line that says whose lock it was taken over from.
ORIGIN = "# from: "
VERSION = 1
# No lockfile of this kind is as large, in bytes: that is a hundred thousand packages.
LARGEST = 16 << 20
PACKAGE = re.compile(r"(?P<url>[a-z][a-z0-9+.-]*://\S+?)#(?:sha256:)?(?P<hash>[0-9a-fA-F]+)")
# As `conda list --explicit` writes it without --md5 or --sha256.
BARE = re.compile(r"[a-z][a-z0-9+.-]*://[^\s#]+")
PIP = re.compile(r"# pip (?P<name>\S+) @ (?P<url>\S+?)#sha256=(?P<hash>\S+)")
PIP_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
EXTRA = re.compile(rf"{PIP_NAME.pattern}\[[A-Za-z0-9._,-]+\](; [^\x00-\x1f\x7f]+)?")
VIRTUAL = re.compile(r"(?P<name>[a-z_]+)=(?P<version>[0-9A-Za-z._=]*)")
FILENAME = re.compile(r"[^/\s\\\x00-\x1f]+")
CONDA_FILENAME = re.compile(r"[^/\s\\\x00-\x1f]+(-[^/\s\\\x00-\x1f-]+){2}\.(conda|tar\.bz2)")
CONTROL = re.compile(r"[\x00-\x20\x7f]|%(0[0-9a-f]|1[0-9a-f]|7f)", re.IGNORECASE)
MD5 = re.compile(r"[0-9a-fA-F]{32}")
HASHLESS = "Write the file with hashes: `conda list --explicit --sha256`; or lock with `cnd lock`."
REMEDY = "Restore the file from version control, or delete it and run `cnd lock`."
MERGE = (
    "`git checkout --ours` with the names of the lockfiles takes those of one side; `cnd lock` "
    "then adds what environment.yml has of the other."
)


def render_explicit(lock: Lock) -> str:
    """Return the text of the explicit lockfile."""
    lines = [
        f"{OURS}: commit this file, and do not edit it.",
        f"# condainer-lock: {VERSION}",
        f"# platform: {lock.platform}",
        f"# name: {escape(lock.name)}",
    ]
    if lock.inputs:
        lines.append(f"# inputs: sha256:{lock.inputs}")
    if lock.origin:
        lines.append(f"{ORIGIN}{escape(lock.origin)}")
    if lock.environment:
        lines.append(f"# environment: {escape(lock.environment)}")
    lines += [f"# input: {source.sha256} {escape(source.path)}" for source in lock.sources]
    if lock.post_link_scripts:
        lines.append("# post-link-scripts: true")
    lines += [f"# virtual-package: {name}={version}" for name, version in lock.virtual]
    lines += [f"# reference: {name} {digest}" for name, digest in lock.references]
    lines += [f"# extra: {text}" for text in lock.extras]
    lines += [f"# place: {name}={escape(value)}" for name, value in lock.places]
    lines += [f"# variable: {name}={escape(value)}" for name, value in lock.variables]
    # By this number a file that was cut off shows.
    lines.append(f"# packages: {len(lock.conda) + len(lock.pip)}")
    built = [package.name for package in lock.pip if not package.is_wheel]
    if built:
        # For people: the bytes of these depend on the build tools of the day.
        lines.append(f"# built from source: {', '.join(built)}")
    lines.append("@EXPLICIT")
    lines += [f"{package.url}#sha256:{package.sha256}" for package in lock.conda]
    lines += [pip_line(package) for package in lock.pip]
    return "\n".join(lines) + "\n"


def pip_line(package: PipPackage) -> str:
    """Return the line of a pip package."""
    digest = "" if package.is_vcs else f"#sha256={package.sha256}"
    return f"# pip {package.name} @ {package.url}{digest}"


def _bounded(path: Path) -> bytes:
    return read_bytes(path, limit=LARGEST)


def read_explicit(path: Path, platform: str, partial: bool = False, read: Read = _bounded) -> Lock:
    """Read an explicit lockfile, ours or another tool's, for the given platform.

    Parameters: `partial` allows packages of another tool that have an md5 only, or no hash. Raises
    LockfileError, with the line, when something in it is not what it should be, and
    FileNotFoundError when there is none.
    """
    try:
        text = read(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LockfileError(f"{path}: not UTF-8 text", REMEDY) from None
    return _parsed(text, str(path), platform, partial)


def checked(lock: Lock, where: str) -> Lock:
    """Return a lock that was not read from an explicit file, held to the same rules.

    Raises LockfileError for URLs, file names or hashes that such a file could not have, and for
    what would be read as something else from it.
    """
    read = parse_explicit(render_explicit(lock), where, lock.platform)
    if read != lock:
        raise LockfileError(f"{where}: holds what a lockfile cannot say", REMEDY)
    return read


def is_ours(path: Path, read: Read = read_bytes) -> bool:
    """Tell whether a lockfile was written by us; raises LockfileError if it cannot be read."""
    try:
        return read(path).startswith(OURS.encode())
    except OSError as error:
        raise LockfileError(f"{path}: cannot be read: {error.strerror}") from None


def is_taken_over(content: bytes) -> bool:
    """Tell whether a lockfile of ours holds the packages of another tool's lock."""
    return f"\n{ORIGIN}".encode() in content


def parse_explicit(text: str, where: str, platform: str, partial: bool = False) -> Lock:
    """Parse the text of an explicit lockfile; `where` names it in errors."""
    reader = _Reader(where, platform, partial)
    for number, line in enumerate(text.split("\n"), 1):
        reader.read(number, line.removesuffix("\r"))
    return reader.lock()


# A stamp is written only after a second look, which mostly finds the same text.
_parsed = functools.lru_cache(maxsize=1)(parse_explicit)


class _Reader:
    """Collects the lines of an explicit lockfile."""

    def __init__(self, where: str, platform: str, partial: bool) -> None:
        self.where = where
        self.partial = partial
        self.platform = platform
        self.explicit = False
        self.count: int | None = None
        self.ours = False
        self.inputs = ""
        # By the keys of the header.
        self.texts = {"name": "", "from": "", "environment": ""}
        self.post_link_scripts = False
        self.sources: list[Source] = []
        self.variables: dict[str, str] = {}
        self.virtual: dict[str, str] = {}
        self.references: dict[str, str] = {}
        self.extras: list[str] = []
        self.places: dict[str, str] = {}
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
            # Only comments stand between packages.
            if not self.explicit:
                self._header(number, text)
        else:
            self._conda(number, line)

    def lock(self) -> Lock:
        if not self.explicit:
            raise LockfileError(f"{self.where}: not an explicit lockfile: no @EXPLICIT", REMEDY)
        # An environment may have variables only; its header tells that no line was lost.
        if not self.conda and not (self.variables and self.count == 0):
            raise LockfileError(f"{self.where}: names no conda package", REMEDY)
        if bool(self.inputs) != bool(self.sources):
            raise LockfileError(f"{self.where}: the header is incomplete", REMEDY)
        count = len(self.conda) + len(self.pip)
        if self.count not in (None, count):
            raise LockfileError(
                f"{self.where}: has {count} packages, but its header says {self.count}", REMEDY
            )
        return Lock(
            self.platform,
            tuple(self.conda.values()),
            tuple(self.pip.values()),
            tuple(self.variables.items()),
            self.post_link_scripts,
            self.inputs,
            tuple(self.sources),
            self.texts["from"],
            self.texts["name"],
            tuple(self.virtual.items()),
            tuple(self.references.items()),
            self.texts["environment"],
            tuple(self.extras),
            tuple(self.places.items()),
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
        elif key in self.texts:
            self.texts[key] = unescape(text)
        elif key == "post-link-scripts":
            self.post_link_scripts = value == "true"
        elif key == "virtual-package":
            match = VIRTUAL.fullmatch(value)
            if match is None or match["name"] in self.virtual:
                raise self._error(number, "no valid virtual package")
            self.virtual[match["name"]] = match["version"]
        elif key == "reference":
            name, _, digest = value.partition(" ")
            if not PIP_NAME.fullmatch(name) or not re.fullmatch("[0-9a-f]{16}", digest):
                raise self._error(number, "no valid reference")
            self.references[name] = digest
        elif key == "extra":
            if not EXTRA.fullmatch(value):
                raise self._error(number, "no valid requirement with extras")
            self.extras.append(value)
        elif key in ("variable", "place"):
            known = self.variables if key == "variable" else self.places
            name, equals, content = text.partition("=")
            if not equals or not NAME.fullmatch(name) or name in known:
                raise self._error(number, "no valid environment variable")
            known[name] = unescape(content)

    def _conda(self, number: int, line: str) -> None:
        if CONFLICT.match(line):
            raise self._error(number, f"git has left both sides of a merge here: {line!r}", MERGE)
        match = PACKAGE.fullmatch(line)
        partial = self.partial and not self.ours
        if match is None and partial and BARE.fullmatch(line):
            package = CondaPackage(line, "")
        elif match is None:
            raise self._error(number, f"not a package URL with a hash: {line!r}", HASHLESS)
        elif digest := _hash(match["hash"]):
            package = CondaPackage(match["url"], digest)
        elif partial and MD5.fullmatch(match["hash"]):
            package = CondaPackage(match["url"], "", match["hash"].lower())
        else:
            raise self._error(
                number,
                f"no sha256 of 64 hexadecimal digits: {line!r}",
                "An md5 proves nothing; `cnd build` completes a conda-<platform>.lock of another "
                "tool, `cnd lock` solves again.",
            )
        self._check_url(number, line, package.url)
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
        at_commit = line.partition(" @ ")[2].startswith(VCS)
        package = self._git(number, line) if at_commit else self._file(number, line)
        self._check_url(number, line, package.url)
        if not PIP_NAME.fullmatch(package.name):
            raise self._error(number, f"not the name of a pip package: {line!r}")
        name = pip_name(package.name)
        if name in self.pip:
            raise self._error(number, f"a second {package.name}: {line!r}")
        self.pip[name] = package

    def _file(self, number: int, line: str) -> PipPackage:
        match = PIP.fullmatch(line)
        digest = _hash(match["hash"]) if match else None
        if match is None or digest is None:
            raise self._error(number, f"not a pip package with URL and sha256: {line!r}")
        package = PipPackage(match["name"], match["url"], digest)
        if not FILENAME.fullmatch(package.filename):
            raise self._error(number, f"a URL without a usable file name: {line!r}")
        return package

    def _check_url(self, number: int, line: str, url: str) -> None:
        if has_secret(url) if " @ " not in line else has_user(url):
            raise self._error(number, f"a URL with user, password or token: {line!r}", NETRC)
        if CONTROL.search(url):
            raise self._error(number, f"a URL with a control character: {line!r}")

    def _git(self, number: int, line: str) -> PipPackage:
        from urllib.parse import unquote

        name, _, text = line.removeprefix("# pip ").partition(" @ ")
        url = git_url(text)
        if url is None:
            raise self._error(
                number,
                f"not a git repository at a commit of 40 hexadecimal digits: {line!r}",
                "Lock again with `cnd lock`, which writes `git+URL@COMMIT`.",
            )
        package = PipPackage(name, url, "")
        parts = unquote(package.subdirectory).split("/")
        if ".." in parts or (len(parts) > 1 and not parts[0]):
            raise self._error(number, f"a subdirectory outside of the repository: {line!r}")
        return package


def _hash(text: str) -> str | None:
    """Return a sha256 in lower case, or None if the text is none."""
    return text.lower() if re.fullmatch(r"[0-9a-fA-F]{64}", text) else None
