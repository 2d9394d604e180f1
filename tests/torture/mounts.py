"""Commands in an image: many at once, many in sequence, and with processes killed at random."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from condainer.cache.squashfs import digests
from condainer.mount import node_copies
from condainer.mount.mount_work import Image
from tests.helpers.mounting import daemons, is_gone, keepers
from tests.helpers.waiting import wait_until
from tests.torture.bench import Bench, Figures

# What a command prints that runs in the image, and not in the Python of the system.
SCRIPT = "import sys; print(sys.prefix)"
VICTIMS = ("daemon", "keeper", "command", "all")
MEGABYTE = 1_000_000


def campaign(bench: Bench, at_once: int, sequence: int, kills: int, seed: int, way: str) -> Figures:
    """Run commands in a way of mounting; each must run in the image, and nothing may be left."""
    bench.build()
    bench.environment["CONDAINER_MOUNT"] = way
    image = image_of(bench)
    lines: list[str] = []
    problems: list[str] = []
    wrong = _at_once(bench, image, at_once)
    lines.append(f"{way}: {at_once} at once, {len(wrong)} wrong")
    problems += wrong
    wrong = [said for _ in range(sequence) if (said := run(bench)) != str(image.prefix)]
    lines.append(f"{way}: {sequence} in sequence, {len(wrong)} wrong")
    problems += wrong
    landed, wrong = _kills(bench, image, kills, random.Random(seed))
    counts = ", ".join(f"{victim} {count}" for victim, count in sorted(landed.items()))
    lines.append(f"{way}: {sum(landed.values())} times killed ({counts}), {len(wrong)} wrong")
    problems += wrong
    problems += left(image)
    return Figures(tuple(lines), tuple(problems))


def image_of(bench: Bench) -> Image:
    """Return the image of a bench, as mounts know it."""
    built = bench.reference
    return Image(Path(built["image"]), built["address"], Path(built["prefix"]))


def run(bench: Bench, *options: str, **more: str) -> str:
    """Run one command, and return what it printed, or how it failed."""
    child = bench.start("exec", *options, "python", "-c", SCRIPT, **more)
    stdout, stderr = child.communicate(timeout=300)
    return stdout.strip() if child.returncode == 0 else f"status {child.returncode}: {stderr}"


def _at_once(bench: Bench, image: Image, number: int) -> list[str]:
    children = [bench.start("exec", "python", "-c", SCRIPT) for _ in range(number)]
    said = [child.communicate(timeout=300) for child in children]
    return [f"{out}{error}" for out, error in said if out.strip() != str(image.prefix)]


def _kills(
    bench: Bench, image: Image, number: int, chance: random.Random
) -> tuple[Counter[str], list[str]]:
    landed: Counter[str] = Counter()
    problems = []
    while sum(landed.values()) < number:
        children = [bench.start("exec", "sleep", "0.3", CONDAINER_LINGER="0.1") for _ in range(3)]
        time.sleep(chance.uniform(0.05, 0.8))
        victim = chance.choice(VICTIMS)
        victims = {
            "daemon": daemons(image),
            "keeper": keepers(image),
            "command": [children[0].pid],
            "all": [*daemons(image), *keepers(image), *(child.pid for child in children)],
        }[victim]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        landed[victim] += bool(victims)
        said = run(bench, CONDAINER_LINGER="0.1")
        if said != str(image.prefix):
            problems.append(f"after {victim} was killed: {said}")
        for child in children:
            child.communicate(timeout=300)
    return landed, problems


def left(image: Image) -> list[str]:
    """Return what is left of mounts some time after the last command."""
    if wait_until(lambda: is_gone(image)):
        return []
    return [f"left: daemons {daemons(image)}, keepers {keepers(image)}, {image.prefix}"]


def overhead(bench: Bench, rounds: int) -> Figures:
    """Measure what `cnd exec` costs on a warm and on a cold mount, against a plain directory.

    The contenders take turns; of each, the median counts.
    """
    bench.build()
    image = image_of(bench)
    plain = bench.root / "plain"
    unpack = ["unsquashfs", "-no-progress", "-quiet", "-d", str(plain), str(image.path)]
    subprocess.run(unpack, check=True, stdout=subprocess.DEVNULL)
    program = [str(plain / "bin/python"), "-c", "pass"]

    def cold() -> None:
        bench.start("exec", "python", "-c", "pass", CONDAINER_LINGER="0").communicate()

    def warm() -> None:
        bench.start("exec", "python", "-c", "pass", CONDAINER_LINGER="60").communicate()

    def directly() -> None:
        subprocess.run(program, check=True)

    found: dict[str, list[float]] = {"directory": [], "cold": []}
    for _ in range(rounds):
        found["directory"].append(_seconds(directly))
        found["cold"].append(_seconds(cold))
        left(image)
    warm()
    found["warm"] = []
    for _ in range(rounds):
        found["directory"].append(_seconds(directly))
        found["warm"].append(_seconds(warm))
    bench.start("umount", "--force").communicate()
    medians = {name: statistics.median(times) for name, times in found.items()}
    lines = [
        f"{name}: {1000 * median:.0f} ms, {median / medians['directory']:.1f} x"
        for name, median in medians.items()
    ]
    return Figures((*lines, *_copies(bench, rounds)), ())


def _seconds(action: Callable[[], None]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


def _copies(bench: Bench, rounds: int) -> list[str]:
    """Measure how fast verified copies are made, against `cp` and `sha256sum` of the same file."""
    source, target = bench.root / "large", bench.root / "copy"
    source.write_bytes(os.urandom(MEGABYTE) * 256)
    sha256, _ = digests(source)

    def verified() -> None:
        with source.open("rb") as stream, target.open("xb") as copy:
            node_copies.copy_verified(stream, copy, sha256, source)
        target.unlink()

    def tools() -> None:
        subprocess.run(["cp", source, target], check=True)
        subprocess.run(["sha256sum", target], check=True, stdout=subprocess.DEVNULL)
        target.unlink()

    found: dict[str, list[float]] = {"verified copy": [], "cp and sha256sum": []}
    for _ in range(rounds):
        found["verified copy"].append(_seconds(verified))
        found["cp and sha256sum"].append(_seconds(tools))
    size = source.stat().st_size / MEGABYTE
    source.unlink()
    return [f"{name}: {size / statistics.median(s):.0f} MB/s" for name, s in found.items()]
