"""What every client of the network is told: rattler, uv, git and our own."""

from __future__ import annotations

import os

from condainer.config import Settings
from condainer.report import Reporter


def prepare(settings: Settings, reporter: Reporter) -> None:
    """Set the variables by which clients in this process, and those it starts, know the site.

    To be called before anything is solved or fetched; doing so again changes nothing.
    """
    if settings.offline:
        os.environ["UV_OFFLINE"] = "1"
