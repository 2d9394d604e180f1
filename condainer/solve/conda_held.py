"""Solving anew while the packages of an older lock stay where they can."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from condainer.lock.locks import CondaPackage

if TYPE_CHECKING:
    from rattler import Channel, Gateway, GenericVirtualPackage, MatchSpec, RepoDataRecord

# How the solver says that a held package stands in the way.
IN_THE_WAY = re.compile(r"(\S+) \S+ is locked, but another version is required")
ROUNDS = 20


@dataclass(frozen=True)
class Problem:
    """What is to be solved, in the solver's own terms."""

    gateway: Gateway
    channels: list[Channel]
    specs: list[MatchSpec]
    platform: str
    virtual_packages: list[GenericVirtualPackage]


async def solve_holding(problem: Problem, held: Sequence[CondaPackage]) -> list[RepoDataRecord]:
    """Solve with the held packages fixed, and let go only of those that stand in the way.

    Where it does not show which do, all are preferred rather than fixed. Raises what
    rattler.solve() does.
    """
    from rattler import exceptions

    records = await _records(problem, held) if held else []
    fixed = {_name(record) for record in records if _fits(record, problem.specs)}
    for _ in range(ROUNDS if fixed else 0):
        try:
            return await _solve(problem, records, fixed)
        except exceptions.SolverError as error:
            in_the_way = fixed.intersection(IN_THE_WAY.findall(str(error)))
        if not in_the_way:
            break
        fixed -= in_the_way
    return await _solve(problem, records, set())


async def _solve(
    problem: Problem, records: list[RepoDataRecord], fixed: set[str]
) -> list[RepoDataRecord]:
    """Solve with those of the records fixed whose names are given, and the others preferred."""
    import rattler

    return await rattler.solve(
        sources=problem.channels,
        specs=problem.specs,
        gateway=problem.gateway,
        platforms=[problem.platform, "noarch"],  # type: ignore[list-item]
        virtual_packages=problem.virtual_packages,
        pinned_packages=[record for record in records if _name(record) in fixed],
        locked_packages=[record for record in records if _name(record) not in fixed],
    )


async def _records(problem: Problem, held: Sequence[CondaPackage]) -> list[RepoDataRecord]:
    """Return what the channels still have of the held packages, byte for byte."""
    wanted = {(package.filename, package.sha256) for package in held}
    found = await problem.gateway.query(
        problem.channels,
        [problem.platform, "noarch"],  # type: ignore[list-item]
        [spec for package in held if (spec := _exact(package)) is not None],
        recursive=False,
    )
    records = {
        _name(record): record
        for of_one_source in found
        for record in of_one_source
        if record.sha256 and (record.file_name, record.sha256.hex()) in wanted
    }
    return list(records.values())


def _exact(package: CondaPackage) -> MatchSpec | None:
    import rattler

    name, version, build = package.parts
    try:
        return rattler.MatchSpec(f"{name} =={version} {build}", strict=False)
    except Exception:
        # What the solver cannot name, it cannot hold.
        return None


def _fits(record: RepoDataRecord, specs: Sequence[MatchSpec]) -> bool:
    return all(
        spec.matches(record)
        for spec in specs
        if spec.name is not None and str(spec.name.normalized) == _name(record)
    )


def _name(record: RepoDataRecord) -> str:
    return str(record.name.normalized)
