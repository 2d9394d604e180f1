"""The blocks of the documents, as their readers see them.

An HTML comment before a block, which readers do not see, says how it is tested:
`<!-- test: KIND -->` names the kind for a test that looks for it, `<!-- test: not run: REASON -->`
says why it is run by none. Blocks of `bash` without one are run as they are written, in the order
of their page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
DOCS = TOP / "docs"
NOT_RUN = "not run: "
_BLOCK = re.compile(
    r"^(?:<!-- test: (?P<test>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of a page; `test` is what the comment before it says, if there is one."""

    language: str
    test: str
    text: str
    line: int


def pages() -> list[Path]:
    """Return the pages whose blocks are run: the tutorial and the how-tos."""
    return [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]


def blocks(page: str | Path) -> list[Block]:
    """Return the blocks of a page, which is named by its path below docs/."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [
        Block(
            found["language"], found["test"] or "", found["text"], text[: found.start()].count("\n")
        )
        for found in _BLOCK.finditer(text)
    ]


def texts(page: str, test: str) -> list[str]:
    """Return the texts of the blocks of a page that a comment marks for a test."""
    return [block.text for block in blocks(page) if block.test == test]
