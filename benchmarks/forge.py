"""Locking against an index of conda-forge's size, beside the solver without anything around it.

Goals are about processor time and memory of the process: what else the machine does meets both in
turn, but waiting for it says nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Usage, usage
from benchmarks.place import Place
from benchmarks.results import Claim, Row, Sample
from tests.channel.forge import FULL, MODULES, Size, ensure_forge, roots
from tests.channel.server import serve

PREFIX = "forge_"
PLATFORMS = ("linux-64", "linux-aarch64", "osx-arm64")
QUICK = Size(45_000, 15_000)
ENGINE = Path(__file__).with_name("engine.py")
# What goes away between two runs of a case.
LOCKS, INDICES = "conda-*", "repodata"


PROCESSOR, MEMORY = ", processor time", ", peak memory"
PARTS: tuple[tuple[str, str, Callable[[Usage], float]], ...] = (
    ("", "s", lambda item: item.seconds),
    (PROCESSOR, "s", lambda item: item.processor),
    (MEMORY, "MB", lambda item: item.megabytes),
)


@dataclass(frozen=True)
class Case:
    """A way to lock: for which platforms, from what, and what is taken away before each run."""

    key: str
    what: str
    platforms: Sequence[str] = PLATFORMS[:1]
    specs: Sequence[str] = ("python=3.12",)
    discard: Sequence[str] = (LOCKS,)
    offline: bool = False
    sharded: bool = False


CASES = (
    Case("forge_cold", "`cnd lock`, nothing known", discard=(LOCKS, INDICES)),
    Case("forge_warm", "`cnd lock`, index known and unchanged"),
    Case("forge_more", "`cnd lock`, one spec added", specs=("python=3.12", "seaborn"), discard=()),
    Case("forge_python", "`cnd lock`, another Python", specs=("python=3.11",), discard=()),
    Case("forge_three", "`cnd lock`, three platforms, index known", PLATFORMS),
    Case("forge_offline", "`cnd lock` offline", offline=True),
    Case(
        "forge_shards", "`cnd lock`, nothing known, shards", discard=(LOCKS, INDICES), sharded=True
    ),
    Case(
        "forge_shards_more",
        "`cnd lock`, one spec added, shards",
        specs=("python=3.12", "seaborn"),
        discard=(),
        sharded=True,
    ),
)


def forge(case: Case, place: Place) -> Row:
    """Lock a large environment in one of these ways."""
    # Of another size for a quick run, in a place of its own: the large one takes minutes to make.
    root = place.root / ("forge-quick" if place.quick else "forge")
    channel = ensure_forge(root / "conda-forge", *PLATFORMS, size=QUICK if place.quick else FULL)
    names = [*MODULES, *roots(channel, 30 if place.quick else 320)]
    with serve(root) as server:
        # Most mirrors have no shards.
        server.absent = "" if case.sharded else "repodata_shards"
        return _measured(case, place, names, f"{server.url}/conda-forge")


def _measured(case: Case, place: Place, names: Sequence[str], url: str) -> Row:
    packages = place.root / "forge-packages"
    indices = place.root / "forge-indices"
    for directory in (packages, indices):
        shutil.rmtree(directory, ignore_errors=True)
    environment = {
        **place.environment,
        "CONDAINER_MIRRORS": f"conda-forge={url}",
        "CONDAINER_PACKAGE_CACHE": str(packages),
    }
    offline = {"CONDAINER_OFFLINE": "1", "OFFLINE": "1"} if case.offline else {}
    project = place.project(case.key)
    platforms = list(case.platforms)
    lock: list[str | Path] = [place.cnd, "lock"]
    bare: list[str | Path] = [place.python, ENGINE, url, indices, project, *platforms]

    def write(specs: Sequence[str]) -> None:
        lines = [f"  - {spec}\n" for spec in (*specs, *names)]
        (project / "environment.yml").write_text(
            f"channels: [conda-forge]\nplatforms: [{', '.join(platforms)}]\n"
            f"dependencies:\n{''.join(lines)}",
            encoding="utf-8",
        )

    found: dict[str, list[Usage]] = {"cnd lock": [], "engine": []}
    write(CASES[0].specs)
    usage(lock, project, environment)
    write(case.specs)
    usage(bare, project, place.environment)
    before = {path: path.read_bytes() for path in project.glob("conda-*")}
    for _ in range(2 if place.quick else 3):
        for path, data in before.items():
            path.write_bytes(data)
        for pattern in case.discard:
            for path in project.glob(pattern):
                path.unlink()
        if INDICES in case.discard:
            shutil.rmtree(packages)
            shutil.rmtree(indices)
        found["cnd lock"].append(usage(lock, project, {**environment, **offline}))
        found["engine"].append(usage(bare, project, {**place.environment, **offline}))
    count = (project / "conda-linux-64.lock").read_text().count("\nhttp")
    samples = [
        Sample(f"{name}{part}", tuple(read(item) for item in items), unit)
        for name, items in found.items()
        for part, unit, read in PARTS
    ]
    claims = [
        _claim(samples, PROCESSOR, "processor time", 1.3),
        _claim(samples, MEMORY, "peak memory", 1.2),
    ]
    return Row(case.key, case.what, tuple(samples), tuple(claims), f"{count} packages")


def _claim(samples: Sequence[Sample], part: str, what: str, limit: float) -> Claim:
    ours, theirs = (
        next(sample.median for sample in samples if sample.name == contender + part)
        for contender in ("cnd lock", "engine")
    )
    return Claim(f"the engine's {what}", ours / theirs, limit)
