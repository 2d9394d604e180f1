"""What the link checker finds, and what it does not take for a link."""

from __future__ import annotations

from pathlib import Path

from tests import links


def test_all_links_lead_somewhere() -> None:
    found = [problem for path in links.documents(links.TOP) for problem in links.broken(path)]
    assert found == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Other\n\n## A `key`, twice\n\n## A `key`, twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n[a](other.md) [b](missing.md) [c](other.md#a-key-twice-1)\n"
        "[d](other.md#no-such) [e](#page) [f](#pages) [g](https://example.org/x)\n"
        '`[h](missing.md)` <img src="missing.svg">\n\n```text\n[i](missing.md)\n```\n'
    )
    assert [problem.split(": ")[0].rpartition(":")[2] for problem in links.broken(page)] == [
        "3",
        "4",
        "4",
        "5",
    ]
