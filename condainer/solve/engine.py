"""What an engine does: conda specs to packages, and packages to a prefix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from condainer.inputs.environment_yml import Inputs
from condainer.lock.locks import CondaPackage
from condainer.packages.linked_files import Linked
from condainer.settings.config import Settings
from condainer.system.reporter import Reporter

if TYPE_CHECKING:
    from rattler import MatchSpec, RepoDataRecord


class Engine(Protocol):
    """The embedded engine, or a conda, mamba or micromamba of the site's or the user's."""

    @property
    def tool(self) -> tuple[str, str]:
        """What it is called in manifests, and its version."""

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

    def link(
        self,
        archives: Sequence[Path],
        directory: Path,
        prefix: Path,
        scratch: Path,
        settings: Settings,
        reporter: Reporter,
        hard_links: bool = False,
    ) -> Linked:
        """Install packages into `directory`, with the paths in their files pointing below `prefix`.

        Parameters: `scratch` is a private directory for what is needed meanwhile; `hard_links`
        allows files to be those of a package cache, which nobody writes into then. Raises
        BuildError when that fails, IntegrityError for an archive that cannot be read, StorageError
        when a disk is full.
        """
