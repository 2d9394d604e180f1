"""What pyproject.toml cannot say: man pages and completion are made from the commands."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup

TOP = Path(__file__).resolve().parent
sys.path.insert(0, str(TOP))

from condainer.cli import manual  # noqa: E402
from condainer.commands.system import completion  # noqa: E402

MAN = "share/man/man1"
# Where each shell looks, below the directory that has `bin`.
COMPLETION = {
    "bash": "share/bash-completion/completions/cnd",
    "zsh": "share/zsh/site-functions/_cnd",
    "fish": "share/fish/vendor_completions.d/cnd.fish",
}


def made() -> dict[str, str]:
    """Return the texts by the places where they are installed."""
    pages = {f"{MAN}/{name}": text for name, text in manual.pages().items()}
    return pages | {place: completion.script(shell) for shell, place in COMPLETION.items()}


def data_files() -> list[tuple[str, list[str]]]:
    """Write the files that are made, and return them by the directories where they belong."""
    places: dict[str, list[str]] = {}
    for place, text in made().items():
        path = TOP / "build" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        places.setdefault(str(Path(place).parent), []).append(f"build/{place}")
    return sorted(places.items())


setup(data_files=data_files())
