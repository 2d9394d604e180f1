"""Full disks: at every step of a build, under the project, and file systems that are too small."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.bench import PYTHON, SMALL, STORAGE, Bench, Ended, Figures
from tests.torture.places import MIB, empty, fill, small_filesystem

STEPS = ("Downloading", "Linking", "Compiling", "Compressing", "Publishing")
PLACES = ("cache", "staging", "packages")
# What the remedy of a full disk speaks of.
REMEDIES = ("Free some space", "free some space")


@dataclass
class Outcome:
    """What came of builds on full disks, by where it was full and what the build was doing."""

    succeeded: int = 0
    refused: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many builds there were."""
        return self.succeeded + self.refused


@contextlib.contextmanager
def bench_on_small_filesystems(
    root: Path, channel: Path, text: str, kind: str = "tmpfs"
) -> Iterator[Bench]:
    """Yield a bench whose cache, staging directory and packages are on three file systems."""
    with contextlib.ExitStack() as stack:
        size = (160 if text == PYTHON else 24) * MIB
        for name in PLACES:
            stack.enter_context(small_filesystem(root / name, size, kind))
        yield Bench(
            root / "bench",
            channel,
            text,
            {
                "CONDAINER_CACHE": str(root / "cache" / "of images"),
                "CONDAINER_STAGING": str(root / "staging" / "of builds"),
                "CONDAINER_PACKAGE_CACHE": str(root / "packages" / "of conda"),
            },
        )


def at_steps(bench: Bench, cases: Sequence[tuple[str, str]]) -> Outcome:
    """Fill one of the file systems when a step begins.

    Parameters: `cases` are pairs of a step and a place.
    """
    outcome = Outcome()
    for step, place in cases:
        bench.discard()
        if step == "Downloading" or place == "packages":
            shutil.rmtree(bench.packages, ignore_errors=True)
        where = _mount_of(bench, place)
        ended = _build_and_fill(bench, step, where)
        _judge(bench, where, f"{place} full at {step}", ended, outcome)
    return outcome


def too_small(bench: Bench, place: str, sizes: Sequence[int]) -> Outcome:
    """Build on file systems with so many bytes left."""
    outcome = Outcome()
    where = _mount_of(bench, place)
    for size in sizes:
        bench.discard()
        if place == "packages":
            shutil.rmtree(bench.packages, ignore_errors=True)
        fill(where, leave=size)
        _judge(bench, where, f"{size} bytes left in {place}", bench.run("build"), outcome)
    return outcome


def _mount_of(bench: Bench, place: str) -> Path:
    return Path(getattr(bench, place)).parent


def _build_and_fill(bench: Bench, step: str, where: Path) -> Ended:
    """Stop the build when a step begins, fill the file system, and let it go on."""
    child = bench.start("build")
    assert child.stderr is not None
    said = ""
    for line in child.stderr:
        said += line
        if line.startswith(step) and line.endswith("...\n"):
            child.send_signal(signal.SIGSTOP)
            fill(where)
            child.send_signal(signal.SIGCONT)
            break
    stdout, rest = child.communicate(timeout=300)
    return Ended(child.returncode, stdout, said + rest)


def _judge(bench: Bench, where: Path, case: str, ended: Ended, outcome: Outcome) -> None:
    """Hold a build on a full disk to what is promised, and give the space back."""
    problems = bench.broken_promises(ended, (STORAGE,))
    if ended.status == 0:
        outcome.succeeded += 1
    else:
        outcome.refused += 1
        outcome.steps[ended.step] += 1
        if str(where) not in ended.message:
            problems.append(f"the message does not name {where}: {ended.message}")
        if not any(remedy in ended.message for remedy in REMEDIES):
            problems.append(f"the message has no remedy: {ended.message}")
    empty(where)
    problems += bench.recovery()
    outcome.problems += [f"{case}: {problem}" for problem in problems]


def under_the_project(root: Path, channel: Path, spaces: Sequence[int]) -> Outcome:
    """Lock in a project whose file system has so many bytes left: each lockfile is old or new."""
    outcome = Outcome()
    with small_filesystem(root / "disk", 8 * MIB) as where:
        bench = Bench(root / "disk" / "bench", channel, SMALL, _elsewhere(root))
        environment = bench.project / "environment.yml"
        locks = ("conda-lock.yml", "conda-linux-64.lock")
        for number, space in enumerate(spaces):
            before = {name: (bench.project / name).read_bytes() for name in locks}
            environment.write_text(f"{PYTHON}variables: {{N: '{number}'}}\n", encoding="utf-8")
            fill(where, leave=space)
            ended = bench.run("lock")
            after = {name: (bench.project / name).read_bytes() for name in locks}
            empty(where)
            again = bench.run("lock")
            problems = [] if again.status == 0 else [f"the next lock: {again.stderr}"]
            new = {name: (bench.project / name).read_bytes() for name in locks}
            changed = [name for name in locks if after[name] != before[name]]
            problems += [f"{n} is neither old nor new" for n in changed if after[n] != new[n]]
            if ended.status not in (0, STORAGE) or (ended.status and not ended.message):
                problems.append(f"status {ended.status}: {ended.stderr}")
            if (ended.status == 0) != (locks[1] in changed):
                problems.append(f"status {ended.status}, but {changed} changed")
            strangers = {p.name for p in bench.project.iterdir()} - KNOWN
            problems += [f"left: {name}" for name in strangers]
            outcome.succeeded += ended.status == 0
            outcome.refused += ended.status != 0
            outcome.steps[ended.step] += ended.status != 0
            outcome.problems += [f"{space} bytes left in the project: {p}" for p in problems]
        # Without the scripts in the project, an image is as good.
        for name in SCRIPTS:
            (bench.project / name).unlink()
        fill(where)
        ended = bench.run("build")
        if ended.status or "cannot be written" not in ended.stderr:
            outcome.problems.append(f"build in a full project: {ended.status}, {ended.stderr}")
    return outcome


SCRIPTS = ("activate", "deactivate", "activate.fish", "activate.csh", "deactivate.csh")
KNOWN = {"environment.yml", "conda-lock.yml", "conda-linux-64.lock", *SCRIPTS}


def _elsewhere(root: Path) -> dict[str, str]:
    return {
        "CONDAINER_CACHE": str(root / "cache"),
        "CONDAINER_STAGING": str(root / "staging"),
        "CONDAINER_PACKAGE_CACHE": str(root / "packages"),
    }


def needed(bench: Bench, place: str) -> int:
    """Return how many bytes a build takes of one of the file systems, at least."""
    where = _mount_of(bench, place)
    bench.discard()
    shutil.rmtree(bench.packages, ignore_errors=True)
    status = os.statvfs(where)
    free = status.f_bavail
    most = 0
    child = bench.start("build")
    while child.poll() is None:
        status = os.statvfs(where)
        most = max(most, free - status.f_bavail)
    child.communicate()
    return most * status.f_frsize


def campaign(root: Path, channel: Path, sizes: int) -> Figures:
    """Fill every file system at every step, on tmpfs and ext4, and make them too small.

    Parameters: `sizes` too small file systems of each of the three.
    """
    lines, problems = [], []
    for kind in ("tmpfs", "ext4"):
        with bench_on_small_filesystems(root / kind, channel, PYTHON, kind) as bench:
            outcome = at_steps(bench, [(step, place) for step in STEPS for place in PLACES])
            lines.append(f"full at a step ({kind}): {figures(outcome)}")
            problems += outcome.problems
            if kind == "tmpfs":
                for place in PLACES:
                    most = needed(bench, place)
                    steps = [most * number // sizes for number in range(sizes)]
                    outcome = too_small(bench, place, steps)
                    lines.append(f"too small for {place} (0 to {most} bytes): {figures(outcome)}")
                    problems += outcome.problems
    outcome = under_the_project(root / "project", channel, range(0, 8 * 4096, 4096))
    lines.append(f"full under the project: {figures(outcome)}")
    return Figures(tuple(lines), (*problems, *outcome.problems))


def figures(outcome: Outcome) -> str:
    """Return an outcome in words."""
    steps = ", ".join(f"{step} {count}" for step, count in sorted(outcome.steps.items()))
    return (
        f"{outcome.total} builds, {outcome.succeeded} succeeded, {outcome.refused} refused "
        f"({steps or 'none'}), {len(outcome.problems)} problems"
    )
