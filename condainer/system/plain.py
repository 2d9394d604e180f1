"""Text of others on its way to a person: nothing in it steers a terminal.

It imports nothing.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text for one line: what is not printable is replaced, line ends too."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)


def harmless(text: str) -> str:
    """Return a text of several lines: line ends and tabs stay, as in what programs say."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
