"""Text of others, before a person sees it."""

from __future__ import annotations

import pytest

from condainer.system.text import harmless, printable, reason


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


SENDING = "error sending request for url (http://host/x/repodata.json)"


@pytest.mark.parametrize(
    ("causes", "told"),
    [
        (["only this:\nwith a tree"], "only this:\nwith a tree"),
        (["failed after 3 retries", SENDING, "client error", "refused"], f"{SENDING}: refused"),
        (["failed to parse.", "in between", "no number"], "failed to parse: no number"),
        (["404 for http://host/x"], "404 for http://host/x"),
        (["failed", "404 for http://host/x"], "failed: 404 for http://host/x"),
        (["an io error occurred: broken", "broken"], "an io error occurred: broken"),
    ],
)
def test_causes_are_told_in_one_line(causes: list[str], told: str) -> None:
    assert reason("\nCaused by: ".join(causes)) == told
