"""What an engine is asked to solve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from condainer.inputs.inputs import Inputs
from condainer.lock.locks import CondaPackage
from condainer.settings.config import Settings
from condainer.system.reporter import Reporter

if TYPE_CHECKING:
    from rattler import MatchSpec, RepoDataRecord


@dataclass(frozen=True)
class Request:
    """The specs of `inputs` in the engine's terms, and the URLs that it is to read.

    These are `sources`, the URLs of the channels, or of mirrors in their place, and `specs` are for
    them. `held` are packages of an older lock, which stay where that is possible.
    """

    inputs: Inputs
    settings: Settings
    reporter: Reporter
    held: Sequence[CondaPackage]
    sources: Sequence[str]
    specs: Sequence[MatchSpec]


# Returns the packages that satisfy the specs, with the URLs that they have at the sources. Raises
# SolveError with the solver's explanation, NetworkError when a source cannot be read.
Engine = Callable[[Request], "list[RepoDataRecord]"]
