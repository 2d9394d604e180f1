"""Text for people: how values are written, and how text of others is kept from steering a terminal.

It imports nothing of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# What git leaves in a file that two sides have changed.
CONFLICT = re.compile(r"^(<{7}|\|{7}|={7}|>{7})", re.MULTILINE)


def human_size(size: int) -> str:
    """Return a number of bytes as people write it: `148.1 MB`."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.95:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def counted(number: float, things: str) -> str:
    """Return a number with what it counts: `1 file`, `3 files`."""
    return f"{number:.0f} {things.removesuffix('s') if number == 1 else things}"


def reason(error: object) -> str:
    """Return what an error of the conda engine says, without the causes between first and last.

    Each is on a line of its own, and may repeat the next. One that names a URL counts as the first.
    """
    causes = str(error).split("\nCaused by: ")
    first = next((cause for cause in causes[:-1] if "://" in cause), causes[0])
    return first if causes[-1] in first else f"{first.rstrip('.')}: {causes[-1]}"


def some(texts: list[str] | tuple[str, ...], most: int) -> str:
    """Return the first of some texts, and how many there are beyond: `a, b and 3 more`."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def human_seconds(seconds: float) -> str:
    """Return a time as people write it: `3 min 20 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def did_you_mean(word: str, known: Iterable[str], otherwise: str, near: float = 0.6) -> str:
    """Return the question after a word that is not known: for the nearest one, or `otherwise`.

    Parameters: `near` is how alike the two have to be, from 0 to 1.
    """
    import difflib

    matches = difflib.get_close_matches(word, [*known], 1, near)
    return f"Did you mean `{matches[0]}`?" if matches else otherwise


def human_rate(size: int, seconds: float) -> str:
    """Return how fast so many bytes went in so many seconds: `148.1 MB/s`."""
    return f"{human_size(round(size / max(seconds, 1e-6)))}/s"


def printable(text: str) -> str:
    """Return a text for one line: what is not printable is replaced, line ends too."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


def harmless(text: str) -> str:
    """Return a text of several lines: line ends and tabs stay, as in what programs say."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
