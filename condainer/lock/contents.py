"""What an environment consists of, read from a lock or from an image's canonical text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from condainer.lock.locks import COMMIT, VCS, CondaPackage, Lock, PipPackage, pip_name, unescape
from condainer.system.errors import IntegrityError

HEAD = re.compile(r"condainer-recipe [0-9]+\nplatform (?P<platform>\S+)\nbase (?P<base>.+)")
LINE = re.compile(r"(?P<kind>conda|pip|sdist) (?P<path>\S+) sha256:(?P<sha256>[0-9a-f]{64})")
GIT = re.compile(
    rf"vcs (?P<name>\S+) commit (?P<commit>{COMMIT})(?: subdirectory=(?P<directory>\S+))?"
)
# Reserved by RFC 2606: what stands in the place of the host that a package came from.
CHANNEL = "https://channel.invalid"
SDIST_ENDINGS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")


@dataclass(frozen=True)
class Package:
    """A package as people speak of it; `kind` is `conda` or `pip`, `build` empty for an sdist."""

    kind: str
    name: str
    version: str
    build: str
    filename: str
    sha256: str

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same package as one of another version."""
        return self.kind, pip_name(self.name) if self.kind == "pip" else self.name.lower()


@dataclass(frozen=True)
class Contents:
    """What an image holds, or would hold if it were built."""

    platform: str
    base: Path
    packages: tuple[Package, ...]
    variables: tuple[tuple[str, str], ...]
    post_link_scripts: bool

    def count(self, kind: str) -> int:
        """Return how many packages there are of a kind."""
        return sum(package.kind == kind for package in self.packages)


@dataclass(frozen=True)
class Change:
    """Something that two environments have in two ways; None where one has nothing."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class Difference:
    """What leads from one environment to another."""

    added: tuple[Package, ...]
    removed: tuple[Package, ...]
    changed: tuple[tuple[Package, Package], ...]
    variables: tuple[Change, ...]
    settings: tuple[Change, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the two are the same."""
        return not (self.added or self.removed or self.changed or self.variables or self.settings)


def contents_of(lock: Lock, base: Path) -> Contents:
    """Return what a lock gives when its image is mounted below `base`."""
    packages = [_conda(item) for item in lock.conda] + [_pip(item) for item in lock.pip]
    return Contents(
        lock.platform,
        base,
        tuple(sorted(packages, key=lambda package: package.key)),
        tuple(sorted(lock.variables)),
        lock.post_link_scripts,
    )


def _conda(package: CondaPackage) -> Package:
    name, version, build = package.parts
    return Package("conda", name, version, build, package.filename, package.sha256)


def _pip(package: PipPackage) -> Package:
    if package.is_vcs:
        # Its version is not known before it is built, its commit is.
        where = f"#{package.subdirectory}" if package.subdirectory else ""
        filename = f"{package.commit.lower()}{where}"
        return Package("pip", package.name, package.commit[:12], "git", filename, "")
    name, version, build = pip_parts(package.filename)
    return Package("pip", package.name or name, version, build, package.filename, package.sha256)


def pip_parts(filename: str) -> tuple[str, str, str]:
    """Return name, version and tags of a wheel, or name and version of an sdist."""
    if filename.endswith(".whl"):
        name, _, rest = filename.removesuffix(".whl").partition("-")
        version, _, tags = rest.partition("-")
        return name, version, tags
    for ending in SDIST_ENDINGS:
        filename = filename.removesuffix(ending)
    name, _, version = filename.rpartition("-")
    return name or version, version if name else "", ""


def contents_of_recipe(text: str, where: str) -> Contents:
    """Return what an image's canonical text says that it holds; `where` names it in errors.

    Raises IntegrityError if it is no canonical text.
    """
    head = HEAD.match(text)
    if head is None:
        raise IntegrityError(f"{where} does not say what it holds: its recipe is damaged")
    conda: list[CondaPackage] = []
    pip: list[PipPackage] = []
    variables: list[tuple[str, str]] = []
    lines = text[head.end() :].removeprefix("\n").removesuffix("\n").split("\n")
    for line in lines:
        name, equals, value = line.removeprefix("variable ").partition("=")
        if match := LINE.fullmatch(line):
            url = f"{CHANNEL}/{quote(match['path'])}"
            if match["kind"] == "conda":
                conda.append(CondaPackage(url, match["sha256"]))
            else:
                pip.append(PipPackage("", url, match["sha256"]))
        elif match := GIT.fullmatch(line):
            inside = f"#subdirectory={match['directory']}" if match["directory"] else ""
            url = f"{VCS}{CHANNEL}/{match['name']}@{match['commit']}{inside}"
            pip.append(PipPackage(match["name"], url, ""))
        elif line.startswith("variable ") and equals:
            variables.append((name, unescape(value)))
        elif line != "post-link-scripts":
            raise IntegrityError(f"{where} says what is not known here: {line[:200]!r}")
    scripts = "post-link-scripts" in lines
    lock = Lock(head["platform"], tuple(conda), tuple(pip), tuple(variables), scripts)
    try:
        return contents_of(lock, Path(head["base"]))
    except ValueError:
        raise IntegrityError(f"{where} names what is no conda package") from None


def difference(old: Contents, new: Contents) -> Difference:
    """Return what is added, removed and changed on the way from one environment to another."""
    before = {package.key: package for package in old.packages}
    after = {package.key: package for package in new.packages}
    return Difference(
        tuple(package for key, package in after.items() if key not in before),
        tuple(package for key, package in before.items() if key not in after),
        tuple(
            (package, after[key])
            for key, package in before.items()
            # The names of pip packages are spelled in several ways.
            if key in after
            and (package.filename, package.sha256) != (after[key].filename, after[key].sha256)
        ),
        _changes(dict(old.variables), dict(new.variables)),
        _changes(_settings(old), _settings(new)),
    )


def _settings(contents: Contents) -> dict[str, str]:
    return {
        "platform": contents.platform,
        "base": str(contents.base),
        "post-link-scripts": "yes" if contents.post_link_scripts else "no",
    }


def _changes(old: dict[str, str], new: dict[str, str]) -> tuple[Change, ...]:
    names = sorted({*old, *new})
    changes = (Change(name, old.get(name), new.get(name)) for name in names)
    return tuple(change for change in changes if change.old != change.new)


def changes_report(difference: Difference) -> dict[str, Any]:
    """Return what JSON says of a difference."""
    from dataclasses import asdict

    return {
        "equal": difference.is_empty,
        "added": [asdict(package) for package in difference.added],
        "removed": [asdict(package) for package in difference.removed],
        "changed": [
            {"old": asdict(before), "new": asdict(after)} for before, after in difference.changed
        ],
        "variables": [asdict(change) for change in difference.variables],
        "settings": [asdict(change) for change in difference.settings],
    }
