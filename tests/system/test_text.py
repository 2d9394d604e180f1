"""Text of others, before a person sees it."""

from __future__ import annotations

import pytest

from condainer.system.text import harmless, printable


@pytest.mark.parametrize(
    ("text", "line", "lines"),
    [
        ("größer: 中文 – 1", "größer: 中文 – 1", "größer: 中文 – 1"),
        ("\x1b[2Jgone", "?[2Jgone", "?[2Jgone"),
        ("a\n\tb\r\n", "a??b??", "a\n\tb?\n"),
        # Turns what follows from right to left; and a byte of a file name that is no text.
        ("\u202eexe", "?exe", "?exe"),
        ("\udcff", "?", "?"),
    ],
)
def test_nothing_steers_a_terminal(text: str, line: str, lines: str) -> None:
    assert printable(text) == line
    assert harmless(text) == lines
