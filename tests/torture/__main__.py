"""Run the campaigns at full length and print their figures: `make torture`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from condainer.settings.load import load_settings
from tests.channel import ensure_channel
from tests.slurm import Tracking, accounts, harshest, missing_tools, site
from tests.torture import (
    calls,
    clocks,
    collect,
    crowd,
    dead,
    disk,
    images,
    kills,
    mounts,
    network,
    purge,
    readonly,
    registry,
    slurm,
    storm,
)
from tests.torture.bench import PYTHON, SMALL, Bench, Figures

TOP = Path(__file__).resolve().parents[2]
Options = argparse.Namespace


def _kills(root: Path, channel: Path, options: Options) -> Figures:
    small = kills.campaign(
        Bench(root / "small", channel, SMALL), options.kills * 4 // 5, options.seed
    )
    python = kills.campaign(
        Bench(root / "python", channel, PYTHON), options.kills // 5, options.seed
    )
    lines = (*small.lines("small"), *python.lines("with Python"))
    return Figures(lines, (*small.problems, *python.problems))


def _crowd(root: Path, channel: Path, options: Options) -> Figures:
    bench = Bench(root / "crowd", channel, SMALL)
    lines: list[str] = []
    problems: list[str] = []
    for how in crowd.HOWS:
        outcome = crowd.campaign(bench, options.builders, **crowd.shim(bench, how))
        lines.append(f"locks {how}: {outcome}")
        problems += outcome.problems
    return Figures(tuple(lines), tuple(problems))


def _disk(root: Path, channel: Path, options: Options) -> Figures:
    return disk.campaign(root, channel, options.sizes)


def _io(root: Path, channel: Path, options: Options) -> Figures:
    return calls.both(Bench(root / "io", channel, SMALL), options.points, options.seed)


def _readonly(root: Path, channel: Path, options: Options) -> Figures:
    return readonly.campaign(Bench(root / "readonly", channel, SMALL))


def _images(root: Path, channel: Path, options: Options) -> Figures:
    bench = Bench(root / "images", channel, PYTHON)
    base = bench.environment["CONDAINER_MOUNT_BASE"]
    values = (f"cache_directory={bench.cache}", f"mount_base_directory={base}")
    counts = {"bit": options.flips, "cut": options.flips // 5, "hole": options.flips // 5}
    return images.campaign(bench, counts, load_settings(bench.project, values))


def _clocks(root: Path, channel: Path, options: Options) -> Figures:
    return clocks.both(Bench(root / "clocks", channel, SMALL), options.rounds)


def _purge(root: Path, channel: Path, options: Options) -> Figures:
    return purge.both(root, channel, options.runs, options.seed)


def _slurm(root: Path, channel: Path, options: Options) -> Figures:
    if missing := missing_tools():
        return Figures((), (f"not run, {', '.join(missing)} missing",))
    lines: list[str] = []
    problems: list[str] = []
    with site(channel) as place, accounts(place.place, 3) as users:
        for tracking in (harshest(), Tracking.LINUXPROC):
            with place.cluster(tracking) as cluster:
                result = slurm.campaign(place, users, cluster, options.steps, options.seed)
            problems += result.problems
            place.clear()
            ends = ", ".join(f"{end} {count}" for end, count in sorted(result.ends.items()))
            lines.append(
                f"{result.total} steps ({tracking.value}): {ends}; "
                f"the longest took {result.longest:.1f} s"
            )
    return Figures(tuple(lines), tuple(problems))


def _mounts(root: Path, channel: Path, options: Options) -> Figures:
    bench = Bench(root / "mounts", channel, PYTHON)
    counts = (options.users, options.sequence, options.mount_kills, options.seed)
    found = [mounts.campaign(bench, *counts, way) for way in ("direct", "private")]
    lines = tuple(line for figures in found for line in figures.lines)
    return Figures(lines, tuple(problem for figures in found for problem in figures.problems))


def _dead(root: Path, channel: Path, options: Options) -> Figures:
    return dead.campaign(Bench(root / "dead", channel, PYTHON), options.daemons, options.seed)


def _storm(root: Path, channel: Path, options: Options) -> Figures:
    return storm.campaign(Bench(root / "storm", channel, PYTHON), options.commands, options.seed)


def _overhead(root: Path, channel: Path, options: Options) -> Figures:
    return mounts.overhead(Bench(root / "overhead", channel, PYTHON), options.rounds)


def _collect(root: Path, channel: Path, options: Options) -> Figures:
    yard = collect.campaign(collect.prepared(root, channel), options.loops, 4, options.seed)
    line = (
        f"{yard.runs} builds and runs against {yard.collections} collections, two at once: "
        f"{yard.moved} images moved, {yard.back} put back, {yard.built} built anew"
    )
    return Figures((line,), tuple(yard.problems))


def _network(root: Path, channel: Path, options: Options) -> Figures:
    return network.figures(root, options.rounds * 20, options.seed)


def _registry(root: Path, channel: Path, options: Options) -> Figures:
    bench = Bench(root / "registry", channel, PYTHON)
    rounds = options.rounds * 20
    return registry.campaign(bench, options.transfers, rounds, 16, options.seed)


CAMPAIGNS: dict[str, Callable[[Path, Path, Options], Figures]] = {
    "kills": _kills,
    "crowd": _crowd,
    "disk": _disk,
    "io": _io,
    "readonly": _readonly,
    "images": _images,
    "clocks": _clocks,
    "purge": _purge,
    "collect": _collect,
    "mounts": _mounts,
    "dead": _dead,
    "storm": _storm,
    "overhead": _overhead,
    "network": _network,
    "registry": _registry,
    "slurm": _slurm,
}


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    every = ",".join(CAMPAIGNS)
    parser.add_argument("--only", default=every, help=f"some of {every}")
    parser.add_argument("--kills", type=int, default=500, help="killed builds in all")
    parser.add_argument("--builders", type=int, default=64, help="builders at once")
    parser.add_argument("--sizes", type=int, default=20, help="sizes of too small file systems")
    parser.add_argument("--points", type=int, default=0, help="calls that fail; 0: every one")
    parser.add_argument("--flips", type=int, default=500, help="bit flips; a fifth of each other")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each clock case")
    parser.add_argument("--runs", type=int, default=200, help="builds, and commands, while purging")
    parser.add_argument("--loops", type=int, default=200, help="runs against collections")
    parser.add_argument("--users", type=int, default=200, help="commands in an image at once")
    parser.add_argument("--sequence", type=int, default=1000, help="commands one after the other")
    parser.add_argument("--mount-kills", type=int, default=200, help="kills of what mounts")
    parser.add_argument("--daemons", type=int, default=1000, help="daemons killed under loops")
    parser.add_argument("--commands", type=int, default=1000, help="commands in the storm")
    parser.add_argument("--transfers", type=int, default=100, help="killed pushes; as many pulls")
    parser.add_argument("--steps", type=int, default=200, help="steps of Slurm, of each kind")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(CAMPAIGNS):
        parser.error(f"no such campaign: {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    """Run the campaigns; the status is 1 if a promise was broken."""
    options = _options()
    channel = ensure_channel(TOP / ".channel")
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="condainer-torture-") as directory:
        for name in options.only:
            start = time.monotonic()
            figures = CAMPAIGNS[name](Path(directory, name), channel, options)
            seconds = time.monotonic() - start
            print(f"{name}, seed {options.seed}, {seconds:.0f} s")
            print("\n".join(f"  {line}" for line in figures.lines))
            print(f"  problems: {len(figures.problems)}", flush=True)
            problems += [f"{name}: {problem}" for problem in figures.problems]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
