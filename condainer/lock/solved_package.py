"""A package as a solver gives it, which a conda-lock.yml records in full."""

from __future__ import annotations

from dataclasses import dataclass

from condainer.lock.locks import CondaPackage


@dataclass(frozen=True)
class Solved:
    """A package of the solution, with what a conda-lock.yml records of it, and its license."""

    package: CondaPackage
    name: str
    version: str
    build: str
    md5: str
    depends: tuple[str, ...]
    license: str = ""
