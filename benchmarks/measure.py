"""Interleaved measurement: A B A B ..., so that what else the machine does meets all alike."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import Sample

# Seconds between two looks at the memory of a tree of processes.
INTERVAL = 0.02


@dataclass(frozen=True)
class Contender:
    """Something whose time is taken: `run`, after `before` has set the scene unobserved."""

    name: str
    run: Callable[[], object]
    before: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Effort:
    """How often things are repeated: at least `least` times, and until `seconds` have passed."""

    least: int
    seconds: float
    most: int = 101


def command(
    argv: Sequence[str | Path], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Callable[[], None]:
    """Return a function that runs a command; a status other than 0 raises RuntimeError."""

    def run() -> None:
        done = subprocess.run(
            argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-800:]
            raise RuntimeError(f"{' '.join(map(str, argv))}: status {done.returncode}\n{said}")

    return run


def interleaved(contenders: Sequence[Contender], effort: Effort) -> tuple[Sample, ...]:
    """Run the contenders in turn, and return how long each took in each round.

    A first round, in which caches fill, does not count where there is more than one.
    """
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    start = time.perf_counter()
    rounds = 0
    while rounds < effort.least + 1 or (
        time.perf_counter() - start < effort.seconds and rounds < effort.most + 1
    ):
        for contender in contenders:
            contender.before()
            begun = time.perf_counter()
            contender.run()
            times[contender.name].append(time.perf_counter() - begun)
        rounds += 1
        if effort.least == 1:
            return tuple(Sample(name, tuple(values)) for name, values in times.items())
    return tuple(Sample(name, tuple(values[1:])) for name, values in times.items())


@dataclass(frozen=True)
class Phase:
    """A step that a command told of on stderr, and the seconds until the next."""

    title: str
    seconds: float


def phases(argv: Sequence[str | Path], cwd: Path, env: Mapping[str, str]) -> list[Phase]:
    """Run cnd, and return its steps by the times at which it tells of their beginnings and ends.

    What comes before the first step is called `start`, what comes after an end `between`. Raises
    RuntimeError if the command fails.
    """
    marks = [("start", time.perf_counter())]
    lines = []
    with subprocess.Popen(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stderr is not None
        for line in child.stderr:
            lines.append(line)
            if line.rstrip().endswith(" ..."):
                marks.append((line.rstrip().removesuffix(" ..."), time.perf_counter()))
            elif line.startswith(f"{marks[-1][0]}: done"):
                marks.append(("between", time.perf_counter()))
    if child.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {''.join(lines)[-800:]}")
    marks.append(("end", time.perf_counter()))
    return [Phase(title, marks[n + 1][1] - at) for n, (title, at) in enumerate(marks[:-1])]


def total(steps: Sequence[Phase], *titles: str) -> float:
    """Return the seconds of the phases whose titles begin with one of `titles`; all if none."""
    return sum(step.seconds for step in steps if not titles or step.title.startswith(titles))


def peak_memory(argv: Sequence[str | Path], cwd: Path, env: Mapping[str, str]) -> tuple[float, str]:
    """Run a command; return the most memory that it and its descendants held at a time, in MB.

    Counted is what is resident and not of files (RssAnon and RssShmem), summed over processes; the
    second value names the largest of them at that moment. Raises RuntimeError if it fails.
    """
    child = subprocess.Popen(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    peak: list[tuple[float, str]] = [(0.0, "")]

    def watch() -> None:
        while child.poll() is None:
            held = {pid: _resident(pid) for pid in _tree(child.pid)}
            largest = max(held, key=lambda pid: held[pid], default=child.pid)
            peak[0] = max(peak[0], (sum(held.values()) / 1e6, _name(largest)))
            time.sleep(INTERVAL)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, said = child.communicate()
    watcher.join()
    if child.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {said[-800:]}")
    return peak[0]


def _tree(root: int) -> list[int]:
    """Return a process and its descendants."""
    found = [root]
    for pid in found:
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            for task in tasks:
                found += [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _resident(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return sum(int(rows[key].split()[0]) * 1024 for key in ("RssAnon", "RssShmem") if key in rows)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"
