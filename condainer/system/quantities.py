"""Ages and sizes as people write them."""

from __future__ import annotations

import re

from condainer.system.errors import ConfigError

# Thirty years in seconds; what waits cannot count much further.
MAX_SECONDS = 1e9
AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(s|min|h|d|w)")
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([KMGTP]?)(?:i?B)?", re.IGNORECASE)
UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}


def age(text: str, where: str) -> float:
    """Return the seconds that a text like `30d` says; raises ConfigError."""
    match = AGE.fullmatch(text.strip())
    seconds = float(match[1]) * SECONDS[match[2]] if match else 0.0
    if (match is None and text.strip() != "0") or seconds > MAX_SECONDS:
        raise ConfigError(
            f"{where}: {text!r} is not an age",
            "Write a number and one of s, min, h, d, w: `30d`, `12h`, `2w`.",
        )
    return seconds


def size(text: str, where: str) -> int:
    """Return the bytes that a text like `500G` says, in powers of 1024; raises ConfigError."""
    match = SIZE.fullmatch(text.strip())
    if match is None or len(match[1]) > 20:
        raise ConfigError(
            f"{where}: {text!r} is not a size",
            "Write a number and one of K, M, G, T, P: `500G`, `1.5T`; without one it is bytes.",
        )
    return int(float(match[1]) * 1024 ** UNITS[match[2].upper()])
