"""Solving again while the packages of an older lock stay where they can."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from condainer.lock.locks import CondaPackage
from condainer.packages.indices import query

if TYPE_CHECKING:
    from rattler import Channel, Gateway, GenericVirtualPackage, MatchSpec, RepoDataRecord

# How the solver says that a held package stands in the way.
IN_THE_WAY = re.compile(r"(\S+) \S+ is locked, but another version is required")


@dataclass(frozen=True)
class Problem:
    """What to solve, in the solver's own terms."""

    gateway: Gateway
    channels: list[Channel]
    specs: list[MatchSpec]
    platform: str
    virtual_packages: list[GenericVirtualPackage]

    @cached_property
    def specs_by_name(self) -> dict[str, list[MatchSpec]]:
        """The specs of each package that one names: the engine takes long to tell their names."""
        specs: dict[str, list[MatchSpec]] = {}
        for spec in self.specs:
            if spec.name is not None:
                specs.setdefault(str(spec.name.normalized), []).append(spec)
        return specs

    def admits(self, record: RepoDataRecord) -> bool:
        """Tell whether the specs of its package match a record."""
        specs = self.specs_by_name.get(_name(record), ())
        return all(_is_from_there(spec, record) and spec.matches(record) for spec in specs)


def _is_from_there(spec: MatchSpec, record: RepoDataRecord) -> bool:
    """Tell whether a record is from the channel of a spec, which `matches` does not look at."""
    if spec.channel is None:
        return True
    return record.url.startswith(f"{spec.channel.base_url}{spec.subdir or record.subdir}/")


async def solve_holding(problem: Problem, held: Sequence[CondaPackage]) -> list[RepoDataRecord]:
    """Solve with the held packages fixed, and let go only of those that stand in the way.

    A failed solve costs as much as one that succeeds, and names one package or two. So packages
    that depend on them and do not work with their replacements go with them, and there are
    three solves at most; in the last, all are preferred rather than fixed. Raises what
    rattler.solve() does.
    """
    from rattler import exceptions

    records = await _records(problem, held)
    unfit = {name for name, record in records.items() if not problem.admits(record)}
    free = await _with_dependants(problem, records, unfit)
    for _ in range(2):
        if free == records.keys():
            break
        try:
            return await _solve(problem, records, free)
        except exceptions.SolverError as error:
            in_the_way = (records.keys() - free).intersection(IN_THE_WAY.findall(str(error)))
        if not in_the_way:
            break
        free |= await _with_dependants(problem, records, in_the_way)
    return await _solve(problem, records, set(records))


async def _solve(
    problem: Problem, records: Mapping[str, RepoDataRecord], free: AbstractSet[str]
) -> list[RepoDataRecord]:
    """Solve with the records fixed, except those named in `free`, which are preferred."""
    import rattler

    return await rattler.solve(
        sources=problem.channels,
        specs=problem.specs,
        gateway=problem.gateway,
        platforms=[problem.platform, "noarch"],  # type: ignore[list-item]
        virtual_packages=problem.virtual_packages,
        pinned_packages=[record for name, record in records.items() if name not in free],
        # The engine would take one of another channel than its spec names.
        locked_packages=[
            record for name, record in records.items() if name in free and problem.admits(record)
        ],
    )


async def _with_dependants(
    problem: Problem, records: Mapping[str, RepoDataRecord], moving: AbstractSet[str]
) -> set[str]:
    """Return the names of packages that move, and of those that cannot stay when they do."""
    import rattler

    place: dict[str, list[RepoDataRecord]] = {name: [] for name in moving}
    if moving:
        for record in await _query(problem, [rattler.MatchSpec(name) for name in moving]):
            place[_name(record)].append(record)
    place = {name: _in_place_of(records[name], place[name], problem) for name in moving}
    free, reached = set(moving), set(moving)
    while reached:
        reached = {
            name
            for name, record in records.items()
            if name not in free
            and any(
                _goes_with(text, reached, place) for text in (*record.depends, *record.constrains)
            )
        }
        free |= reached
    return free


def _in_place_of(
    record: RepoDataRecord, offered: Sequence[RepoDataRecord], problem: Problem
) -> list[RepoDataRecord]:
    """Return what can come in a package's place: as the specs say, or the newest other version."""
    fitting = [other for other in offered if problem.admits(other)]
    if not problem.admits(record):
        return fitting
    others = [other for other in fitting if other.version != record.version]
    return [max(others or fitting, key=lambda other: other.version)] if fitting else []


def _goes_with(
    text: str, reached: AbstractSet[str], place: Mapping[str, Sequence[RepoDataRecord]]
) -> bool:
    """Tell whether what depends on a package in this way has to move when that does."""
    import rattler

    words = text.split()
    if words[0] not in reached:
        return False
    if words[0] not in place:
        # It may move to another build of the same version only.
        return len(words) == 3 and "*" not in words[2]
    try:
        spec = rattler.MatchSpec(text, strict=False)
    except Exception:
        # What cannot be read cannot be ruled out: the solver says more of it.
        return False
    return not any(spec.matches(record) for record in place[words[0]])


async def _records(problem: Problem, held: Sequence[CondaPackage]) -> dict[str, RepoDataRecord]:
    """Return what the channels still have of the held packages, byte for byte, by name."""
    wanted = {(package.filename, package.sha256) for package in held}
    specs = [spec for package in held if (spec := _exact(package)) is not None]
    return {
        _name(record): record
        for record in (await _query(problem, specs) if specs else ())
        if record.sha256 and (record.file_name, record.sha256.hex()) in wanted
    }


async def _query(problem: Problem, specs: Sequence[MatchSpec]) -> list[RepoDataRecord]:
    """Return what the channels have that matches one of the specs, without its dependencies."""
    return await query(problem.gateway, problem.channels, [problem.platform, "noarch"], specs)


def _exact(package: CondaPackage) -> MatchSpec | None:
    import rattler

    name, version, build = package.parts
    try:
        return rattler.MatchSpec(f"{name} =={version} {build}", strict=False)
    except Exception:
        # What the solver cannot name, it cannot hold.
        return None


def _name(record: RepoDataRecord) -> str:
    return str(record.name.normalized)
