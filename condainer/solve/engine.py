"""What an engine does: conda specs to packages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from condainer.inputs.environment_yml import Inputs
from condainer.lock.locks import CondaPackage
from condainer.settings.config import Settings
from condainer.system.reporter import Reporter

if TYPE_CHECKING:
    from rattler import MatchSpec, RepoDataRecord


class Engine(Protocol):
    """The embedded engine, or a conda, mamba or micromamba of the site's or the user's."""

    @property
    def tool(self) -> tuple[str, str]:
        """Its name and version."""

    def solve(
        self,
        sources: Sequence[str],
        specs: Sequence[MatchSpec],
        inputs: Inputs,
        settings: Settings,
        reporter: Reporter,
        held: Sequence[CondaPackage] = (),
    ) -> list[RepoDataRecord]:
        """Return the packages that satisfy specs, with the URLs that they have at `sources`.

        Parameters: `sources` are the URLs of the channels, or of mirrors in their place; `specs`
        those of `inputs` for them; `held` are packages of an older lock, which stay where that is
        possible. Raises SolveError with the solver's explanation, NetworkError
        when a source cannot be read.
        """
