"""Mirrors that fail, lie and drop connections at random, while files are fetched from them."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from condainer.network import http
from condainer.package_cache import archives
from condainer.package_cache.archives import File
from condainer.packages import downloads
from condainer.settings.config import Settings
from condainer.settings.load import load_settings
from condainer.system.errors import IntegrityError, NetworkError
from condainer.system.reporter import Silent
from tests.helpers import flaky
from tests.helpers.flaky import Answer, Flaky
from tests.torture.bench import Figures

FILES = 12
# Answers after which asking again is of use, and such as no retry mends.
PASSING: tuple[Answer, ...] = (
    *(flaky.status(number) for number in (429, 500, 502, 503, 504)),
    *(flaky.drop(size) for size in (0, 1, 1000, 50_000)),
    *(flaky.hang_up, flaky.ignoring_ranges, flaky.no_range, flaky.wrong_range),
    flaky.without_length(1000),
)
LASTING: tuple[Answer, ...] = (
    *(flaky.wrong, flaky.page, flaky.short_length),
    *(flaky.status(number) for number in (403, 404)),
)


@dataclass
class Outcome:
    """How the rounds ended, how much was asked, and what was wrong."""

    endings: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    problems: list[str] = field(default_factory=list)


def campaign(root: Path, rounds: int, seed: int) -> Outcome:
    """Fetch some files in each round from two mirrors that misbehave, the second one rarely.

    What is in the cache afterwards must be right, however the round ended, and when servers behave
    again, everything must come.
    """
    outcome = Outcome()
    chance = random.Random(seed)
    contents = {
        f"/probe{number}-1.0-0.conda": chance.randbytes(chance.randrange(1, 120_000))
        for number in range(FILES)
    }
    with flaky.serve() as first, flaky.serve() as second, impatient():
        for server in (first, second):
            server.files |= contents
        files = [_file(path, content, first, second) for path, content in contents.items()]
        for number in range(rounds):
            settings = load_settings(root, (f"package_cache={root / str(number)}",))
            first.plan[:] = chance.choices(PASSING + LASTING, k=chance.randrange(60))
            second.plan[:] = chance.choices(PASSING, k=chance.randrange(10))
            _round(number, files, settings, outcome)
            first.plan[:], second.plan[:] = [], []
            downloads.fetch(files, settings, Silent(), "")
            _check(number, "whole", settings, outcome)
        outcome.requests = len(first.asked) + len(second.asked)
    return outcome


def figures(root: Path, rounds: int, seed: int) -> Figures:
    """Run the campaign and say what came of it."""
    root.mkdir(parents=True)
    outcome = campaign(root, rounds, seed)
    endings = ", ".join(f"{count} {how}" for how, count in sorted(outcome.endings.items()))
    line = f"{rounds} times {FILES} files, {outcome.requests} requests: {endings}"
    return Figures((line,), tuple(outcome.problems))


def _file(path: str, content: bytes, *servers: Flaky) -> File:
    digest = hashlib.sha256(content).hexdigest()
    places = tuple(server.url + path for server in servers)
    return File(places[0], digest, path[1:], places)


def _round(number: int, files: list[File], settings: Settings, outcome: Outcome) -> None:
    try:
        downloads.fetch(files, settings, Silent(), "")
        how = "whole"
    except (NetworkError, IntegrityError) as error:
        how = type(error).__name__
    outcome.endings[how] += 1
    _check(number, how, settings, outcome)


def _check(number: int, how: str, settings: Settings, outcome: Outcome) -> None:
    """Note every file in the cache that is not what its place says, and what was left lying."""
    there = [path for path in (settings.package_cache / "archives").rglob("*") if path.is_file()]
    for path in there:
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.parent.name:
            outcome.problems.append(f"round {number}: {path.name} is not what it should be")
    if how == "whole":
        if len(there) != FILES:
            outcome.problems.append(f"round {number}: {len(there)} files of {FILES}")
        left = list(settings.package_cache.glob(f"{archives.PARTIAL}.*"))
        outcome.problems += [f"round {number}: {path.name} was left" for path in left]


@contextmanager
def impatient() -> Iterator[None]:
    """Wait but a moment between tries."""
    before = http.FIRST_WAIT
    http.FIRST_WAIT = 0.002
    try:
        yield
    finally:
        http.FIRST_WAIT = before
