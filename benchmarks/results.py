"""What a benchmark found: values that go one way, from the measurement to tables and charts."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """How long a contender took, again and again; in seconds unless `unit` says otherwise."""

    name: str
    values: tuple[float, ...]
    unit: str = "s"

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)


@dataclass(frozen=True)
class Claim:
    """One number that the goal is about, with its limit.

    With `at_least`, larger is better. `digits` is how many are shown after the point.
    """

    text: str
    value: float
    limit: float
    unit: str = "×"
    at_least: bool = False
    digits: int = 2

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def goal(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.limit:g} {self.unit} {self.text}".strip()

    @property
    def shown(self) -> str:
        return f"{self.value:.{self.digits}f} {self.unit}"


@dataclass(frozen=True)
class Row:
    """One row of the table: the samples, what they say of the goals, and how to read them.

    `problem` says why it could not be measured, or not whole; then the row counts as not met.
    """

    key: str
    what: str
    samples: tuple[Sample, ...] = ()
    claims: tuple[Claim, ...] = ()
    note: str = ""
    problem: str = ""

    def sample(self, name: str) -> Sample:
        return next(sample for sample in self.samples if sample.name == name)


@dataclass(frozen=True)
class Report:
    """All rows of one run, and where and when it ran."""

    date: str
    machine: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    quick: bool
    seconds: float
    rows: tuple[Row, ...]
