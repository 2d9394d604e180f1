"""Commands in a loop, whose image is unmounted and whose daemons are killed all the time."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from condainer.mount.mount_work import Image
from tests.helpers.mounting import daemons
from tests.torture.bench import Bench, Figures
from tests.torture.mounts import image_of, left

SAY = "import sys; print(sys.prefix, sys.executable)"
# How many commands run at once. Between two attacks on their mount is at most the time of one.
AT_ONCE = 2


def campaign(bench: Bench, runs: int, seed: int) -> Figures:
    """Run a Python so many times; each runs in the image, or fails and says nothing else."""
    bench.build()
    # A mount that `fusermount3` can take away, also from root.
    bench.environment["CONDAINER_MOUNT"] = "direct"
    image = image_of(bench)
    _run(bench)
    start = time.monotonic()
    _run(bench)
    pause = time.monotonic() - start
    done = threading.Event()
    landed: Counter[str] = Counter()
    chance = random.Random(seed)
    attacker = threading.Thread(target=_attack, args=(image, done, pause, chance, landed))
    attacker.start()
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            said = list(pool.map(lambda _: _run(bench), range(runs)))
    finally:
        done.set()
        attacker.join()
    right = f"{image.prefix} {image.prefix}/bin/python"
    kinds: Counter[str] = Counter()
    problems = []
    for status, printed in said:
        if status == 0 and printed == right:
            kinds["right"] += 1
        elif status != 0 and printed in ("", right):
            kinds["refused" if status == 125 else "cut off"] += 1
        else:
            problems.append(f"status {status}: {printed}")
    problems += left(image)
    counts = ", ".join(f"{what} {count}" for what, count in sorted(kinds.items()))
    attacks = ", ".join(f"{what} {count}" for what, count in sorted(landed.items()))
    return Figures((f"{runs} commands against attacks ({attacks}): {counts}",), tuple(problems))


def _run(bench: Bench) -> tuple[int, str]:
    child = bench.start("exec", "python", "-c", SAY, CONDAINER_LINGER="0.1")
    stdout, _ = child.communicate(timeout=300)
    return child.returncode, stdout.strip()


def _attack(
    image: Image,
    done: threading.Event,
    pause: float,
    chance: random.Random,
    landed: Counter[str],
) -> None:
    while not done.wait(chance.uniform(0, pause)):
        if chance.random() < 0.5:
            command = ["fusermount3", "-u", "-z", str(image.prefix)]
            landed["unmounted"] += not subprocess.run(command, capture_output=True).returncode
            continue
        for pid in daemons(image):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                landed["killed"] += 1
