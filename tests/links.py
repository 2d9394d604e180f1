"""Links between the documents of this repository lead somewhere: `python -m tests.links`.

It makes no connection: only links to files and to headings are looked at, as GitHub shows them.
`make docs` looks at the same links as the site has them.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)


def documents(top: Path) -> list[Path]:
    """Return the documents of a repository."""
    places = (
        top.glob("*.md"),
        *((top / n).rglob("*.md") for n in ("docs", "lockfiles", "contrib")),
    )
    return sorted(path for found in places for path in found)


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


def broken(path: Path) -> Iterator[str]:
    """Yield what is wrong with the links of a document, each with its line."""
    text = path.read_text(encoding="utf-8")
    # What stands in code is no link; lines keep their numbers.
    plain = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    plain = _CODE.sub(lambda match: " " * len(match[0]), plain)
    for match in _LINK.finditer(plain):
        target, _, anchor = (match[1] or match[2]).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        where = f"{path}:{plain.count(chr(10), 0, match.start()) + 1}: {match[1] or match[2]}"
        file = (path.parent / target).resolve() if target else path
        if not file.exists():
            yield f"{where}: there is no such file"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text("utf-8")):
            yield f"{where}: there is no such heading"


def main() -> int:
    """Print all broken links; return 1 if there are any."""
    problems = [problem for path in documents(TOP) for problem in broken(path)]
    print("\n".join(problems) or "All links lead somewhere.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
