"""Messages and help are plain present-day English."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import links, reference
from tests.helpers.messages import SOURCES, messages

# Words and turns that readers stumbled over; what stands behind each is plain.
AVOIDED = {
    r"\bshall\b": "is to, will",
    r"\b(whence|hence|thus|thereof|therein|herein|lest|upon|whilst|unto)\b": "",
    r"\bbe it\b": "whether it is",
    r", for (it|they|he|there|nobody|that|this) (is|are|was|has|can|cannot)\b": "because",
    r"\bfor lack of\b": "without",
    r"\btime of grace\b": "grace period",
    r"\bbelongs? into\b": "put it in",
    r"\bis not taken from\b": "is not allowed in",
    r"\bnot honoured\b": "ignored",
    r"\bwhoever keeps\b": "the maintainers, the administrator, the owner",
    r"\bhave to stay\b": "cannot be removed",
    r"\bmoving no more than\b": "changing as little as possible",
    r"\bKept .*, which exists\b": "already exists; unchanged",
    r"\bno multithreaded\b": "single-threaded",
}


def stumbled_over(text: str) -> list[str]:
    flat = " ".join(text.split())
    return [f"{found[0]!r} in {flat!r}" for word in AVOIDED if (found := re.search(word, flat))]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_messages_are_plain(source: Path) -> None:
    assert [line for text in messages(source) for line in stumbled_over(text)] == []


def test_helps_are_plain() -> None:
    texts = [reference.help_text(*path) for path in ((), *reference.commands())]
    assert [line for text in texts for line in stumbled_over(text)] == []


@pytest.mark.parametrize("page", links.documents(links.TOP), ids=lambda path: path.name)
def test_documents_are_plain(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert stumbled_over(text) == []
    assert re.findall(r"\b[Ww]hom?ever\b|\bsomebody else's\b|\bfor want of\b", text) == []


def test_the_list_finds_what_is_on_it() -> None:
    assert stumbled_over("Cannot be read, for it\n is damaged")
    assert not stumbled_over("Wait for it")
