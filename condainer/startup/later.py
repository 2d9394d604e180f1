"""pathlib without what it imports for a function that nobody here calls."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any
else:
    ModuleType = type(sys)

NAME = "urllib.parse"


class _Parse(ModuleType):
    """Stands for urllib.parse while pathlib is imported, which takes one function from it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_parse(), name)

    def quote_from_bytes(self, *values: Any, **named: Any) -> str:
        """Call the real one, which as_uri() does."""
        quoted: str = _parse().quote_from_bytes(*values, **named)
        return quoted


def _parse() -> Any:
    if isinstance(sys.modules.get(NAME), _Parse):
        del sys.modules[NAME]
    import urllib.parse

    return urllib.parse


def import_pathlib() -> None:
    """Import pathlib, without urllib.parse and what that imports in turn: 2 ms."""
    if NAME in sys.modules:
        return
    sys.modules[NAME] = _Parse(NAME)
    try:
        import pathlib  # noqa: F401
    finally:
        # As an attribute of its package it would be missing.
        if isinstance(sys.modules[NAME], _Parse):
            del sys.modules[NAME]
