"""Run the campaigns at full length and print their figures: `make torture`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.channel import ensure_channel
from tests.slurm import Tracking, accounts, harshest, missing_tools, site
from tests.torture import crowd, kills, slurm
from tests.torture.bench import PYTHON, SMALL, Bench

TOP = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run everything; the status is 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="killed builds in all")
    parser.add_argument("--builders", type=int, default=64, help="builders at once")
    parser.add_argument("--steps", type=int, default=200, help="steps of Slurm, of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["builds", "slurm"], help="leave out the others")
    options = parser.parse_args()
    channel = ensure_channel(TOP / ".channel")
    problems: list[str] = []
    if options.only != "builds":
        problems += _slurm(channel, options.steps, options.seed)
    if options.only != "slurm":
        problems += _builds(channel, options)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _slurm(channel: Path, steps: int, seed: int) -> list[str]:
    if missing := missing_tools():
        return [f"slurm: not run, {', '.join(missing)} missing"]
    problems: list[str] = []
    with site(channel) as place, accounts(place.place, 3) as users:
        for tracking in (harshest(), Tracking.LINUXPROC):
            start = time.monotonic()
            with place.cluster(tracking) as cluster:
                result = slurm.campaign(place, users, cluster, steps, seed)
            problems += result.problems
            place.clear()
            ends = ", ".join(f"{end} {count}" for end, count in sorted(result.ends.items()))
            print(f"{result.total} steps of Slurm ({tracking.value}), seed {seed}: {ends}")
            print(
                f"  {len(result.problems)} problems, {time.monotonic() - start:.0f} s", flush=True
            )
    return problems


def _builds(channel: Path, options: argparse.Namespace) -> list[str]:
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="condainer-torture-") as name:
        root = Path(name)
        for title, text, share in (("small", SMALL, 0.8), ("with Python", PYTHON, 0.2)):
            start = time.monotonic()
            bench = Bench(root / title.replace(" ", "-"), channel, text)
            result = kills.campaign(bench, round(options.kills * share), options.seed)
            problems += result.problems
            steps = ", ".join(f"{step} {count}" for step, count in sorted(result.landed.items()))
            print(f"{result.total} killed builds ({title}), seed {options.seed}: {steps}")
            print(
                f"  entry absent {result.absent}, whole {result.published}, torn 0"
                if not result.problems
                else f"  problems: {result.problems}"
            )
            print(f"  {time.monotonic() - start:.0f} s", flush=True)
        bench = Bench(root / "crowd", channel, SMALL)
        for how in ("working", "absent", "granted", "hanging"):
            # Cache and package cache, but not the local disk where environments are staged.
            below = bench.root / "cache" if how != "absent" else bench.root
            shim = {} if how == "working" else crowd.broken_locks(root, how, below)
            outcome = crowd.campaign(bench, options.builders, **shim)
            problems += outcome.problems
            print(
                f"{outcome.builders} builders at once, locks {how}: {outcome.built} built, "
                f"{outcome.entries} entry, {outcome.images} image, "
                f"{len(outcome.problems)} problems",
                flush=True,
            )
    return problems


if __name__ == "__main__":
    sys.exit(main())
