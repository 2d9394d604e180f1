"""Regular expressions that are compiled when they are first used, of which a hit needs few."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Pattern:
    """Stands for a compiled expression."""

    def __init__(self, text: str, flags: int) -> None:
        self._given = (text, flags)

    def __getattr__(self, name: str) -> Any:
        value = getattr(re.compile(*self._given), name)
        # The next time, it is found without this.
        setattr(self, name, value)
        return value


def pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """Return what behaves as re.compile(text, flags); an error in it shows when it is used."""
    made: Any = _Pattern(text, flags)
    return made  # type: ignore[no-any-return]
