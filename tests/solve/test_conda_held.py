"""What stays when a lock is solved anew, on an index of a few thousand packages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rattler
from rattler import RepoDataRecord, exceptions
from rattler.package import BuildString

from condainer.lock.locks import CondaPackage
from condainer.solve.conda_held import IN_THE_WAY, Problem, solve_holding
from tests.channel.forge import Size, ensure_forge, roots
from tests.channel.server import serve

SPECS = ("pandas", "scikit-learn", "jupyter_core", "pillow", "h5py", "tornado", "numba", "psutil")
GLIBC = rattler.GenericVirtualPackage(
    rattler.PackageName("__glibc"), rattler.Version("2.36"), BuildString("0")
)


@dataclass(frozen=True)
class Forge:
    """A served channel, and what an environment for Python 3.12 is of it."""

    url: str
    indices: Path
    names: tuple[str, ...]
    old: tuple[RepoDataRecord, ...]

    def problem(self, *specs: str) -> Problem:
        return Problem(
            rattler.Gateway(cache_dir=self.indices),
            [rattler.Channel(self.url)],
            [rattler.MatchSpec(spec) for spec in specs],
            "linux-64",
            [GLIBC],
        )

    def version(self, name: str) -> str:
        return next(str(r.version) for r in self.old if r.name.normalized == name)


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    place = tmp_path_factory.mktemp("forge")
    channel = ensure_forge(place / "channel", "linux-64", size=Size(20_000, 7_000))
    with serve(place) as server:
        names = (*SPECS, *roots(channel, 15))
        empty = Forge(f"{server.url}/channel", place / "indices", names, ())
        old = asyncio.run(solve_holding(empty.problem("python=3.12", *names), ()))
        yield Forge(empty.url, empty.indices, names, tuple(old))


@pytest.fixture
def solves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the solves, each by the number of packages that it holds."""
    made: list[int] = []
    real = rattler.solve

    async def counted(*arguments: Any, **named: Any) -> list[RepoDataRecord]:
        made.append(len(named["pinned_packages"]))
        return await real(*arguments, **named)

    monkeypatch.setattr(rattler, "solve", counted)
    return made


def held(records: Sequence[RepoDataRecord]) -> list[CondaPackage]:
    return [CondaPackage(str(r.url), r.sha256.hex()) for r in records if r.sha256]


def files(records: Sequence[RepoDataRecord]) -> dict[str, str]:
    return {str(record.name.normalized): record.file_name for record in records}


def moved(old: Sequence[RepoDataRecord], new: Sequence[RepoDataRecord]) -> set[str]:
    """Return the names of those that are not what they were, or not there any more."""
    there = files(new)
    return {name for name, file in files(old).items() if there.get(name) != file}


async def one_at_a_time(problem: Problem, old: Sequence[RepoDataRecord]) -> list[RepoDataRecord]:
    """Let go of what the solver names, and of no more, until it is content: what this was once."""
    fixed = {record.name.normalized: record for record in old}
    for spec in problem.specs:
        assert spec.name is not None
        record = fixed.get(spec.name.normalized)
        if record is not None and not spec.matches(record):
            del fixed[spec.name.normalized]
    while True:
        try:
            return await rattler.solve(
                sources=problem.channels,
                specs=problem.specs,
                gateway=problem.gateway,
                platforms=[problem.platform, "noarch"],  # type: ignore[list-item]
                virtual_packages=problem.virtual_packages,
                pinned_packages=list(fixed.values()),
                locked_packages=[r for r in old if r.name.normalized not in fixed],
            )
        except exceptions.SolverError as error:
            for name in fixed.keys() & set(IN_THE_WAY.findall(str(error))):
                del fixed[name]


def test_another_python_moves_what_is_built_for_one(forge: Forge, solves: list[int]) -> None:
    """One solve does: the records say which packages need the Python that goes."""
    bound = {r.name.normalized for r in forge.old if str(r.build).startswith("py312")}
    assert len(bound) > 10
    problem = forge.problem("python=3.11", *forge.names)
    new = asyncio.run(solve_holding(problem, held(forge.old)))
    assert len(solves) == 1
    assert moved(forge.old, new) == bound | {"python", "python_abi"}
    assert files(new).keys() == files(forge.old).keys()


def test_each_spec_is_asked_for_its_name_once(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked once more for each held package, a thousand of them took two seconds."""
    asked: list[int] = []
    name = rattler.MatchSpec.name
    assert isinstance(name, property)
    assert name.fget is not None
    real = name.fget

    def counted(spec: rattler.MatchSpec) -> Any:
        asked.append(1)
        return real(spec)

    monkeypatch.setattr(rattler.MatchSpec, "name", property(counted))
    problem = forge.problem("python=3.12", *forge.names)
    asyncio.run(solve_holding(problem, held(forge.old)))
    assert len(asked) <= 2 * len(problem.specs)


@pytest.mark.parametrize("name", ["openssl", "libgcc", "six", "pillow"])
def test_an_older_package_moves_no_more_than_when_asked_one_at_a_time(
    forge: Forge, solves: list[int], name: str
) -> None:
    problem = forge.problem("python=3.12", f"{name}<{forge.version(name)}", *forge.names)
    new = asyncio.run(solve_holding(problem, held(forge.old)))
    assert 1 <= len(solves) <= 3
    slowly = asyncio.run(one_at_a_time(problem, forge.old))
    assert name in moved(forge.old, new)
    assert len(moved(forge.old, new)) <= len(moved(forge.old, slowly))


def test_one_more_moves_nothing(forge: Forge, solves: list[int]) -> None:
    problem = forge.problem("python=3.12", "networkx", *forge.names)
    new = asyncio.run(solve_holding(problem, held(forge.old)))
    assert solves == [len(forge.old)]
    assert not moved(forge.old, new)


def test_what_cannot_be_is_found_out_in_three(forge: Forge, solves: list[int]) -> None:
    problem = forge.problem("python=3.12", "python_abi=3.11", *forge.names)
    with pytest.raises(exceptions.SolverError, match="python_abi"):
        asyncio.run(solve_holding(problem, held(forge.old)))
    assert len(solves) <= 3
