"""What the stages tell about their progress, and the reporter that keeps silent."""

from __future__ import annotations


class Reporter:
    """Receives progress, and does nothing with it; those of the command line print."""

    def step(self, title: str, unit: str = "") -> None:
        """Begin a step, which ends the one before; `unit` is what its progress counts."""

    def progress(self, done: float, total: float | None = None) -> None:
        """Say how much of the current step is done, out of `total` where that is known."""

    def receiving(self, text: str) -> None:
        """Say from which host how much has come in the current step, and how fast."""

    def note(self, message: str) -> None:
        """Say something worth knowing."""

    def warn(self, message: str) -> None:
        """Say something that the user should look into."""

    def finish(self) -> None:
        """End the current step: it is done."""

    def close(self) -> None:
        """Leave the terminal as it was, however the command ended."""


class Silent(Reporter):
    """A reporter that drops everything."""


class Attentive(Reporter):
    """A reporter that hands everything on to another one, and knows whether anything was told."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.told = False

    def step(self, title: str, unit: str = "") -> None:
        self.reporter.step(title, unit)

    def progress(self, done: float, total: float | None = None) -> None:
        self.reporter.progress(done, total)

    def receiving(self, text: str) -> None:
        self.reporter.receiving(text)

    def note(self, message: str) -> None:
        self.told = True
        self.reporter.note(message)

    def warn(self, message: str) -> None:
        self.told = True
        self.reporter.warn(message)

    def finish(self) -> None:
        self.reporter.finish()

    def close(self) -> None:
        self.reporter.close()
