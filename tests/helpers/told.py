"""A reporter that keeps what it is told."""

from __future__ import annotations

from condainer.system.reporter import Silent


class Told(Silent):
    """What a user would have been told, by kind."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def step(self, title: str, unit: str = "") -> None:
        self.steps.append(title)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)
