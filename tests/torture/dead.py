"""Daemons killed under shells and scripts: what runs is the image's own, or fails loudly."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from condainer.mount.mount_work import Image
from tests.helpers.mounting import daemons, is_gone
from tests.helpers.waiting import until, wait_until
from tests.torture.bench import Bench, Figures
from tests.torture.mounts import image_of

SAY = "import sys; print(sys.prefix)"
# Each loop calls `python` until the file `stop` is there, and prints what it said, or FAILED.
POSIX = f''': >"$BEGUN"
while [ ! -e "$STOP" ]; do python -c "{SAY}" 2>/dev/null || echo FAILED; done'''
PIPE = f'''set -o pipefail
: >"$BEGUN"
while [ ! -e "$STOP" ]; do
    echo | python -c "{SAY}" 2>/dev/null | tail -n 1 || echo FAILED
done'''
FISH = f'''echo >"$BEGUN"
while not test -e "$STOP"; python -c "{SAY}" 2>/dev/null; or echo FAILED; end'''
TCSH = f'''echo >"$BEGUN"
while ( ! -e "$STOP" )
    python -c "{SAY}"
    if ( $status ) echo FAILED
end
'''
ACTIVE = "source ./activate || exit 9\n"
# How the loops are run: a command in the image, or a shell that activates it. As a command, tcsh
# closes the descriptor that is its claim, and the image is unmounted under it.
EXECUTED = {
    "bash": ["bash", "-c", POSIX],
    "pipeline": ["bash", "-c", PIPE],
    "zsh": ["zsh", "-f", "-c", POSIX],
    "fish": ["fish", "-N", "-c", FISH],
}
ACTIVATED = {
    "bash": ["bash", "-c", ACTIVE + POSIX],
    "zsh": ["zsh", "-f", "-c", ACTIVE + POSIX],
    "fish": ["fish", "-N", "-c", "source ./activate.fish; or exit 9; " + FISH],
    "tcsh": ["tcsh", "-f", "-c", "source ./activate.csh; source $LOOP"],
}


@dataclass
class Outcome:
    """What the loops printed, by kind, and how long repairs took, in seconds."""

    said: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    repairs: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def campaign(bench: Bench, kills: int, seed: int) -> Figures:
    """Kill the daemon under each kind of loop in turn, so many times in all."""
    bench.build()
    # A daemon that can be killed, also for root; and `cnd` for the scripts.
    bench.environment["CONDAINER_MOUNT"] = "direct"
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    bench.environment["PATH"] = path
    image = image_of(bench)
    chance = random.Random(seed)
    kinds = [("exec", name) for name in EXECUTED] + [("activate", name) for name in ACTIVATED]
    outcome = Outcome()
    for number, (how, name) in enumerate(kinds):
        share = kills * (number + 1) // len(kinds) - kills * number // len(kinds)
        if share:
            _under(bench, image, how, name, share, chance, outcome)
    repairs = sorted(outcome.repairs)
    middle = statistics.median(repairs) if repairs else 0
    late = repairs[int(len(repairs) * 0.99)] if repairs else 0
    said = ", ".join(f"{what} {count}" for what, count in sorted(outcome.said.items()))
    lines = (
        f"{outcome.kills} daemons killed under {len(kinds)} kinds of loops: {said}",
        f"repaired after {middle:.2f} s (median), {late:.2f} s (99 of 100)",
    )
    return Figures(lines, tuple(outcome.problems))


def _under(
    bench: Bench,
    image: Image,
    how: str,
    name: str,
    kills: int,
    chance: random.Random,
    outcome: Outcome,
) -> None:
    """Kill the daemon so many times under one loop, and look at what that printed."""
    stop, begun, loop = (bench.root / name for name in ("stop", "begun", "loop.csh"))
    for left in (stop, begun):
        left.unlink(missing_ok=True)
    loop.write_text(TCSH)
    more = {"STOP": str(stop), "LOOP": str(loop), "BEGUN": str(begun), "CONDAINER_LINGER": "0.1"}
    if how == "exec":
        child = bench.start("exec", "--", *EXECUTED[name], **more)
    else:
        child = subprocess.Popen(
            ACTIVATED[name],
            env={**bench.environment, **more},
            cwd=bench.project,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        until(begun.exists)
        for _ in range(kills):
            if not _is_mounted(image):
                outcome.problems.append(f"{how} {name}: not mounted again")
                break
            time.sleep(chance.uniform(0, 0.3))
            outcome.kills += _kill(image)
            since = time.monotonic()
            if _is_mounted(image):
                outcome.repairs.append(time.monotonic() - since)
    finally:
        stop.touch()
        stdout, stderr = child.communicate(timeout=300)
    wrong: Counter[str] = Counter()
    for line in stdout.splitlines():
        if line in (str(image.prefix), "FAILED"):
            outcome.said["failed" if line == "FAILED" else "right"] += 1
        elif line:
            wrong[line] += 1
    outcome.said["wrong"] += wrong.total()
    outcome.problems += [f"{how} {name}: {count} x {line}" for line, count in wrong.items()]
    if not stdout:
        outcome.problems.append(f"{how} {name}: nothing ran: {stderr[-500:]}")
    wait_until(lambda: is_gone(image))


def _is_mounted(image: Image) -> bool:
    """Wait for the image to answer, and tell whether it has."""

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return (image.prefix / ".condainer/address").read_text() == f"{image.address}\n"
        return False

    return wait_until(answers)


def _kill(image: Image) -> int:
    """Kill the daemon of an image; return whether there was one."""
    victims = daemons(image)
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(victims)
