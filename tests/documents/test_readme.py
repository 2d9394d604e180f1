"""The README opens with what a newcomer needs first."""

from __future__ import annotations

from tests import reference

README = reference.TOP / "README.md"


def test_it_opens_with_the_two_commands() -> None:
    opening = README.read_text(encoding="utf-8").partition("\n## ")[0]
    assert "make demo" in opening
    assert "make test" in opening


def test_it_is_read_in_a_minute() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
