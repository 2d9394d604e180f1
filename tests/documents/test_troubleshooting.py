"""docs/how-to/troubleshooting.md speaks of messages that `cnd` has."""

from __future__ import annotations

import re

import pytest

from tests.helpers.documents import DOCS
from tests.helpers.messages import SOURCES, messages

PAGE = (DOCS / "how-to/troubleshooting.md").read_text(encoding="utf-8")
# What other programs say, or nobody does.
OTHERS = {"Read-only file system", "python is not that of the environment", "Disconnected"}
HEADINGS = [
    piece
    for heading in re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
    for piece in heading.split(" / ")
    if piece not in OTHERS
]


@pytest.fixture(scope="module")
def said() -> str:
    """All texts of the program, with `…` for what stands in their places."""
    return "\n".join(text for source in SOURCES for text in messages(source))


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_heading_is_a_message(heading: str, said: str) -> None:
    assert heading in said
