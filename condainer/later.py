"""Modules of the standard library that are loaded only when something of them is used.

importlib's LazyLoader does not do: in Python up to 3.11, to import its module is to use it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Later(ModuleType):
    """Stands for a module until one of its names is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def load(name: str) -> None:
    """Let a module be imported, from now on, without being loaded before it is used."""
    sys.modules.setdefault(name, _Later(name))
