"""The cache removed, or purged file by file, while builds and commands use it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.bench import BUILD, SMALL, STORAGE, Bench, Ended, Figures

# `cnd exec` when there is no image to run from: it says so, and started nothing.
NO_ENVIRONMENT = 125
CODES = {"build": (BUILD, STORAGE), "exec": (NO_ENVIRONMENT,)}
# A command that needs more of the image, and more again, as it is told to go on.
PROGRAM = """
for file in "$CONDA_PREFIX"/share/*/* "$CONDA_PREFIX"/conda-meta/*; do
    echo ready
    read line
    test -d "$file" || cat "$file" > /dev/null || exit 1
done
exec probe-prefix
"""


@dataclass
class Outcome:
    """What came of the runs: how many ended how, by command and exit status."""

    endings: Counter[tuple[str, int]] = field(default_factory=Counter)
    deleted: int = 0
    problems: list[str] = field(default_factory=list)


def campaign(bench: Bench, runs: int, seed: int) -> Figures:
    """Let builds and commands run in loops while the cache's files are deleted one by one.

    Parameters: `runs` of `cnd build` and of `cnd exec` each, two loops of both at once.
    """
    outcome = Outcome()
    loops = [
        threading.Thread(target=_loop, args=(bench, name, runs // 2, outcome))
        for name in ("build", "build", "exec", "exec")
    ]
    for loop in loops:
        loop.start()
    chance = random.Random(seed)
    while any(loop.is_alive() for loop in loops):
        outcome.deleted += _delete_one(bench.cache, chance)
        time.sleep(chance.choice((0.02, 0.1, 0.3)))
    outcome.problems += [f"afterwards: {problem}" for problem in bench.recovery()]
    endings = ", ".join(
        f"{name} {count} with status {status}"
        for (name, status), count in sorted(outcome.endings.items())
    )
    line = f"{outcome.deleted} files purged meanwhile: {endings}, {len(outcome.problems)} problems"
    return Figures((line,), tuple(outcome.problems))


def _delete_one(cache: Path, chance: random.Random) -> bool:
    """Delete a file of the cache at random, or now and then all of it."""
    if chance.random() < 0.02:
        shutil.rmtree(cache, ignore_errors=True)
        return True
    files = [Path(root, name) for root, _, names in os.walk(cache) for name in names]
    if not files:
        return False
    with contextlib.suppress(OSError):
        chance.choice(sorted(files)).unlink()
        return True
    return False


def _loop(bench: Bench, name: str, runs: int, outcome: Outcome) -> None:
    for _ in range(runs):
        ended = bench.run(*(("build", "--json") if name == "build" else ("exec", "probe-prefix")))
        outcome.endings[name, ended.status] += 1
        outcome.problems += [f"{name}: {problem}" for problem in _wrong(bench, name, ended)]


def _wrong(bench: Bench, name: str, ended: Ended) -> list[str]:
    if "Traceback" in ended.stderr or ended.status not in (0, *CODES[name]):
        return [f"status {ended.status}: {ended.stderr}"]
    if ended.status:
        return [] if ended.message else [f"no message: {ended.stderr}"]
    if name == "exec":
        right = ended.stdout.strip() == bench.reference["prefix"]
        return [] if right else [f"printed {ended.stdout}"]
    built = json.loads(ended.stdout)
    same = built["sha256"] == bench.reference["sha256"]
    return [] if same else [f"sha256 {built['sha256']}"]


def removed_while_running(bench: Bench) -> Figures:
    """Remove the whole cache under a running program; it goes on, and the next build works."""
    problems: list[str] = []
    prefix = bench.build()["prefix"]
    child = bench.talk("exec", "sh", "-c", PROGRAM)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdout.readline()
    shutil.rmtree(bench.cache)
    child.stdin.write("\n")
    child.stdin.flush()
    child.stdout.readline()
    while_running = bench.run("exec", "probe-prefix")
    if while_running.status not in (0, NO_ENVIRONMENT) or "Traceback" in while_running.stderr:
        problems.append(f"exec without a cache: {while_running}")
    problems += bench.recovery()
    again = bench.run("exec", "probe-prefix")
    if again.stdout.strip() != prefix:
        problems.append(f"exec after the next build: {again}")
    stdout, stderr = child.communicate("\n" * 100, timeout=300)
    if child.returncode or stdout.splitlines()[-1:] != [prefix]:
        problems.append(f"the running program: {child.returncode}, {stdout}, {stderr}")
    line = f"cache removed under a running program: it went on, {len(problems)} problems"
    return Figures((line,), tuple(problems))


def both(root: Path, channel: Path, runs: int, seed: int) -> Figures:
    """Run both campaigns."""
    bench = Bench(root, channel, SMALL)
    purged, removed = campaign(bench, runs, seed), removed_while_running(bench)
    return Figures((*purged.lines, *removed.lines), (*purged.problems, *removed.problems))
