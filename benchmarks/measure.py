"""Interleaved measurement: A B A B ..., so that what else the machine does meets all alike."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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


def phases(
    argv: Sequence[str | Path],
    cwd: Path,
    env: Mapping[str, str],
    watched: Callable[[int], AbstractContextManager[object]] = nullcontext,
) -> list[Phase]:
    """Run cnd, and return its steps by the times at which it tells of their beginnings and ends.

    What comes before the first step is called `start`, what comes after an end `between`; meanwhile
    `watched` holds for the number of its process. Raises RuntimeError if the command fails.
    """
    marks = [("start", time.perf_counter())]
    lines = []
    with subprocess.Popen(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as child, watched(child.pid):  # fmt: skip
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


@dataclass(frozen=True)
class Usage:
    """What a finished command took: seconds, those of processors, and its own peak memory."""

    seconds: float
    processor: float
    megabytes: float


STARTER = """
import json, resource, subprocess, sys, time
begun = time.perf_counter()
status = subprocess.run(sys.argv[2:]).returncode
seconds = time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump((seconds, used.ru_utime + used.ru_stime, used.ru_maxrss), file)
sys.exit(status)
"""


def usage(argv: Sequence[str | Path], cwd: Path, env: Mapping[str, str]) -> Usage:
    """Run a command; return what the kernel says it took. Raises RuntimeError if it fails.

    The kernel counts the memory of the process that starts a command as its own, so that a small
    one starts it.
    """
    with tempfile.NamedTemporaryFile() as report:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", STARTER, report.name, *argv],
            cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, argv))}: {done.stdout.strip()[-800:]}")
        seconds, processor, kilobytes = json.load(report)
    return Usage(seconds, processor, kilobytes / 1000)


class Memory:
    """The most memory that watched processes held at a time.

    Counted is what is resident and not of files (RssAnon and RssShmem). `megabytes` is that of a
    command with all its descendants, `largest` the name of the largest of them at that moment, and
    `own` the most of the command's own process.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self.interval = interval
        self.megabytes = self.own = 0.0
        self.largest = ""

    @contextmanager
    def watched(self, pid: int) -> Iterator[None]:
        """Look at a process and its descendants again and again."""
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(pid, ended))
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _watch(self, pid: int, ended: threading.Event) -> None:
        while not ended.wait(self.interval):
            held = {one: _resident(one) for one in _tree(pid)}
            self.own = max(self.own, held[pid] / 1e6)
            if sum(held.values()) / 1e6 > self.megabytes:
                self.megabytes = sum(held.values()) / 1e6
                self.largest = _name(max(held, key=lambda one: held[one]))


def peak_memory(argv: Sequence[str | Path], cwd: Path, env: Mapping[str, str]) -> Memory:
    """Run a command, and return what memory it held. Raises RuntimeError if it fails."""
    memory = Memory()
    with subprocess.Popen(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as child, memory.watched(child.pid):  # fmt: skip
        _, said = child.communicate()
    if child.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {said[-800:]}")
    return memory


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
