"""Errors and short writes at the n-th system call of a build that touches its directories."""

from __future__ import annotations

import errno
import random
from collections import Counter
from dataclasses import dataclass, field

from tests.torture.bench import BUILD, INTEGRITY, STORAGE, Bench, Figures
from tests.torture.shims import SHORT, Fault, Faulty

HOWS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, SHORT)


@dataclass
class Outcome:
    """What came of the builds in which a call failed."""

    succeeded: int = 0
    failed: Counter[int] = field(default_factory=Counter)
    missed: int = 0
    problems: list[str] = field(default_factory=list)


def campaign(bench: Bench, points: int, seed: int) -> Figures:
    """Let one call of each of many builds fail, and look at what is left of it.

    Parameters: `points` calls for each kind of fault, evenly drawn from all; 0: every one.
    """
    faulty = Faulty(bench.root, (bench.cache, bench.staging, bench.packages))
    chance = random.Random(seed)
    lines, problems = [], []
    totals = {calls: _count(bench, faulty, calls) for calls in ("change", "write")}
    for how in HOWS:
        for lasting in (False, True) if how in (errno.EIO, errno.ENOSPC) else (False,):
            calls = "write" if how == SHORT else "change"
            outcome = Outcome()
            total = totals[calls]
            chosen = sorted(chance.sample(range(1, total + 1), min(points or total, total)))
            for at in chosen:
                _try(bench, faulty, Fault(at, how, calls, lasting), outcome)
            name = how if isinstance(how, str) else errno.errorcode[how]
            codes = ", ".join(f"{n} with exit code {c}" for c, n in sorted(outcome.failed.items()))
            lines.append(
                f"{name}{' from then on' if lasting else ''} at {len(chosen)} of {total} calls: "
                f"{outcome.succeeded} builds succeeded, {codes or 'none'} failed, "
                f"{outcome.missed} without the call, {len(outcome.problems)} problems"
            )
            problems += outcome.problems
    return Figures(tuple(lines), tuple(problems))


def reading(bench: Bench, most: int = 1000) -> Figures:
    """Let each read of an image fail once, in a build, in `cnd verify` and in `cnd cache`.

    Parameters: at `most` so many reads of each.
    """
    faulty = Faulty(bench.root, (bench.cache,))
    problems: list[str] = []
    tried: Counter[str] = Counter()
    for command in ("build", "verify", "cache"):
        at = total = 0
        while at <= total:
            bench.discard() if command == "build" else bench.build()
            fault = Fault(at, calls="read", name="image.squashfs")
            ended = bench.run(command, **faulty.environment(fault))
            if at == 0:
                total = min(most, faulty.counted()[0])
            at += 1
            tried[command] += faulty.counted()[1]
            # What could not be read is not damaged, for all we know: a whole entry stays.
            where = [] if command == "build" or bench.entries() else ["the entry is gone"]
            if ended.status == 0 and faulty.counted()[1]:
                where.append(f"the error was overlooked: {ended.stderr}")
            where += bench.broken_promises(ended, (INTEGRITY, STORAGE))
            problems += [f"{command}, {fault}: {p}" for p in (*where, *bench.recovery())]
    counts = ", ".join(f"{name} {count}" for name, count in tried.items())
    line = f"EIO at each read of an image ({counts}): {len(problems)} problems"
    return Figures((line,), tuple(problems))


def both(bench: Bench, points: int, seed: int) -> Figures:
    """Run both campaigns."""
    calls, reads = campaign(bench, points, seed), reading(bench)
    return Figures((*calls.lines, *reads.lines), (*calls.problems, *reads.problems))


def _count(bench: Bench, faulty: Faulty, calls: str) -> int:
    bench.discard()
    bench.build(**faulty.environment(Fault(0, calls=calls)))
    return faulty.counted()[0]


def _try(bench: Bench, faulty: Faulty, fault: Fault, outcome: Outcome) -> None:
    bench.discard()
    ended = bench.run("build", **faulty.environment(fault))
    _, faults, call = faulty.counted()
    problems = bench.broken_promises(ended, (STORAGE, BUILD))
    if ended.status == 0:
        outcome.succeeded += 1
    else:
        outcome.failed[ended.status] += 1
        if fault.how == SHORT:
            problems.append(f"a short write ended the build: {ended.stderr}")
    outcome.missed += not faults
    problems += bench.recovery()
    outcome.problems += [f"{fault} ({call}): {problem}" for problem in problems]
