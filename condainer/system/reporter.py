"""What the stages tell about their progress, and the reporter that keeps silent."""

from __future__ import annotations


class Reporter:
    """Receives progress, and does nothing with it; those of the command line print."""

    # Whether anything was noted, or warned of.
    told = False

    def step(self, title: str, unit: str = "") -> None:
        """Begin a step, which ends the one before; `unit` is what its progress counts."""

    def progress(self, done: float, total: float | None = None) -> None:
        """Say how much of the current step is done, out of `total` where that is known."""

    def receiving(self, text: str) -> None:
        """Say from which host how much has come in the current step, and how fast."""

    def note(self, message: str) -> None:
        """Say something worth knowing."""
        self.told = True

    def warn(self, message: str) -> None:
        """Say something that the user should look into."""
        self.note(f"Warning: {message}")

    def finish(self) -> None:
        """End the current step: it is done."""

    def close(self) -> None:
        """Leave the terminal as it was, however the command ended."""


class Silent(Reporter):
    """A reporter that drops everything."""
