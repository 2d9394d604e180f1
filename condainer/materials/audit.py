"""Which packages of an environment have known vulnerabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from packaging.version import InvalidVersion, Version

from condainer.lock.locks import pip_name
from condainer.materials.osv import Advisory, Dump
from condainer.system.errors import VulnerableError

SEVERITIES = ("LOW", "MODERATE", "MEDIUM", "HIGH", "CRITICAL")


@dataclass(frozen=True)
class Checked:
    """A package, and the project of PyPI whose advisories it is held to.

    `match` says why: `exact` for a package of PyPI; `metadata` for a conda package whose files are
    those of the project by their own metadata; `name` for one of Python that is called like it.
    """

    kind: str
    name: str
    version: str
    project: str
    match: Literal["exact", "metadata", "name"]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class Finding:
    """A vulnerability of a package by all its names; `fixed` is empty where none is known."""

    id: str
    aliases: tuple[str, ...]
    kind: str
    package: str
    version: str
    project: str
    match: str
    fixed: str
    severity: str
    cvss: tuple[str, ...]
    summary: str


@dataclass(frozen=True)
class Report:
    """What was found; `doubts` are what could not be compared, `advisories` how many there are."""

    findings: tuple[Finding, ...]
    doubts: tuple[str, ...]
    checked: int
    advisories: int

    def demand(self, where: str) -> None:
        """Raise VulnerableError if there are findings in what `where` names."""
        if self.findings:
            names = list(dict.fromkeys(finding.package for finding in self.findings))
            raise VulnerableError(
                f"{where}: {len(self.findings)} known vulnerabilities, in {', '.join(names)}",
                "`cnd lock --update NAME` moves packages to newer versions.",
            )


def audit(packages: Sequence[Checked], dump: Dump) -> Report:
    """Hold packages to the advisories of a dump; raises InputError as reading that does."""
    by_project: dict[str, list[Checked]] = {}
    for package in packages:
        by_project.setdefault(pip_name(package.project), []).append(package)
    advisories: dict[Checked, list[tuple[Advisory, str]]] = {}
    doubts: dict[str, None] = {}
    for advisory in dump.advisories(by_project):
        for package in by_project[advisory.package]:
            fixed, doubt = _compared(package, advisory)
            if fixed is not None:
                advisories.setdefault(package, []).append((advisory, fixed))
            elif doubt:
                doubts[doubt] = None
    findings = (item for package, known in advisories.items() for item in _merged(package, known))
    return Report(
        tuple(sorted(findings, key=lambda f: (f.package.lower(), f.kind, f.id))),
        tuple(sorted(doubts)),
        len(packages),
        dump.count,
    )


def _compared(package: Checked, advisory: Advisory) -> tuple[str | None, str]:
    """Return the version that fixes a package, None if it is not affected, and what is in doubt."""
    try:
        # A local version, after `+`, is the same version.
        version = Version(Version(package.version).public)
    except InvalidVersion:
        if package.version in advisory.versions:
            return "", ""
        return None, f"{package}: not compared, as the version is none of PEP 440: {advisory.id}"
    hit, fixes, doubt = any(_is(version, text) for text in advisory.versions), [], ""
    for one in advisory.ranges:
        try:
            if one.affects(version):
                hit = True
                fixes += [bound for bound in [one.fixed(version)] if bound is not None]
        except InvalidVersion as error:
            doubt = f"{package}: not compared with a range of {advisory.id}: {error}"
    return (str(min(fixes)) if fixes else "") if hit else None, doubt


def _is(version: Version, text: str) -> bool:
    try:
        return Version(text) == version
    except InvalidVersion:
        return False


def _merged(package: Checked, known: Iterable[tuple[Advisory, str]]) -> Iterator[Finding]:
    """Yield one finding for all advisories that are called alike: databases copy each other."""
    groups: list[tuple[set[str], list[tuple[Advisory, str]]]] = []
    for advisory, fixed in known:
        names, members = {advisory.id, *advisory.aliases}, [(advisory, fixed)]
        others = []
        for group in groups:
            if group[0] & names:
                names |= group[0]
                members = [*group[1], *members]
            else:
                others.append(group)
        groups = [*others, (names, members)]
    for names, members in groups:
        yield _finding(package, names, sorted(members, key=lambda member: member[0].id))


def _finding(package: Checked, names: set[str], members: Sequence[tuple[Advisory, str]]) -> Finding:
    fixes = [Version(fixed) for _, fixed in members if fixed]
    words = [advisory.severity for advisory, _ in members if advisory.severity]
    first = members[0][0].id
    return Finding(
        first,
        tuple(sorted(names - {first})),
        package.kind,
        package.name,
        package.version,
        package.project,
        package.match,
        # The highest, at which all say it is fixed.
        str(max(fixes)) if fixes else "",
        max(words, key=_rank, default=""),
        tuple(dict.fromkeys(score for advisory, _ in members for score in advisory.cvss)),
        next((advisory.summary for advisory, _ in members if advisory.summary), ""),
    )


def _rank(word: str) -> int:
    return SEVERITIES.index(word) if word in SEVERITIES else -1
