"""SIGKILL of a build at named steps and at random times."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.torture.bench import Bench

BEFORE = "Starting"
STEPS = ("Linking", "Compiling", "Compressing", "Publishing")


@dataclass
class Kills:
    """What came of a campaign; `landed` counts the kills by the step that was running."""

    landed: Counter[str] = field(default_factory=Counter)
    published: int = 0
    absent: int = 0
    too_late: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The number of builds that were killed before they ended."""
        return sum(self.landed.values())

    def lines(self, title: str) -> tuple[str, ...]:
        """Return the figures; `title` says of which environment."""
        steps = ", ".join(f"{step} {count}" for step, count in sorted(self.landed.items()))
        return (
            f"{self.total} killed builds ({title}): {steps}; entry absent {self.absent}, "
            f"whole {self.published}, {len(self.problems)} problems",
        )


def campaign(bench: Bench, kills: int, seed: int) -> Kills:
    """Kill builds, half at named steps and half at random times, and look at what is left.

    After each, the entry must be absent or whole, the next build must work without any hand, and
    nothing of the killed one may be left.
    """
    chance = random.Random(seed)
    result = Kills()
    duration = _duration(bench)
    while result.total < kills:
        bench.discard()
        child = bench.start("build")
        if chance.random() < 0.5:
            step = chance.choice(STEPS)
            reached = kill_at(child, step, chance.uniform(0, 0.05))
        else:
            reached = kill_after(child, chance.uniform(0, duration))
        if reached is None:
            result.too_late += 1
            continue
        result.landed[reached] += 1
        _examine(bench, result)
    return result


def _duration(bench: Bench) -> float:
    start = time.monotonic()
    bench.build()
    return time.monotonic() - start


def kill_at(child: subprocess.Popen[str], step: str, delay: float) -> str | None:
    """Kill the process group a moment after a step began; return the step that was running."""
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith(step) and "..." in line:
            time.sleep(delay)
            return _kill(child, step)
    child.communicate()
    return None


def kill_after(child: subprocess.Popen[str], seconds: float) -> str | None:
    time.sleep(seconds)
    return _kill(child, BEFORE)


def _kill(child: subprocess.Popen[str], step: str) -> str | None:
    """Kill; return the last step that the build had begun, or None if it had ended."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    _, rest = child.communicate()
    if child.returncode != -signal.SIGKILL:
        return None
    for line in rest.splitlines():
        if "..." in line:
            step = line.split()[0]
    return step


def _examine(bench: Bench, result: Kills) -> None:
    result.problems += bench.torn()
    if bench.entries():
        result.published += 1
    else:
        result.absent += 1
    try:
        built = bench.build()
    except AssertionError as error:
        result.problems.append(f"the next build: {error}")
        return
    if built["sha256"] != bench.reference["sha256"]:
        result.problems.append(f"the next build has sha256 {built['sha256']}")
    if not built["hit"]:
        # A hit writes nothing, so what a kill after the publication left stays until a build.
        result.problems += [f"left: {path}" for path in bench.leftovers()]
