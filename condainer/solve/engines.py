"""The engines that solve: rattler in this process, or a conda, mamba or micromamba."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from condainer.inputs.inputs import Inputs
from condainer.lock.locks import CondaPackage
from condainer.settings.config import Settings
from condainer.solve import conda_solver
from condainer.system.errors import ToolError
from condainer.system.reporter import Reporter, Silent

if TYPE_CHECKING:
    from rattler import MatchSpec, RepoDataRecord

    from condainer.solve.external.conda_exe import Executable

# What `conda_exe:` says to have the engine that needs no executable, where a site names one.
EMBEDDED = "embedded"
# Which executable of an installation is taken, the first that is there.
PREFERRED = ("mamba", "conda", "micromamba")


@dataclass(frozen=True)
class Engine:
    """A conda, mamba or micromamba of the site's or the user's; without one, the embedded engine.

    That is rattler, in this process.
    """

    executable: Executable | None = None

    @property
    def tool(self) -> tuple[str, str]:
        """Its name and version."""
        if self.executable is not None:
            return self.executable.name, self.executable.version
        import importlib.metadata

        return "py-rattler", importlib.metadata.version("py-rattler")

    def solve(
        self,
        sources: Sequence[str],
        specs: Sequence[MatchSpec],
        inputs: Inputs,
        settings: Settings,
        reporter: Reporter,
        held: Sequence[CondaPackage],
    ) -> list[RepoDataRecord]:
        """Return the packages that satisfy specs, with the URLs that they have at `sources`.

        Parameters: `sources` are the URLs of the channels, or of mirrors in their place; `specs`
        those of `inputs` for them; `held` are packages of an older lock, which stay where that is
        possible. Raises SolveError with the solver's explanation, NetworkError
        when a source cannot be read.
        """
        if self.executable is None:
            solving = conda_solver.solve_embedded(sources, specs, inputs, settings, reporter, held)
            return asyncio.run(solving)
        from condainer.solve.external import solver

        return solver.solve(self.executable, sources, specs, inputs, settings, held)


def is_external(settings: Settings) -> bool:
    """Tell whether the settings name an executable or an installer of one."""
    return settings.conda_exe != EMBEDDED and bool(settings.conda_exe or settings.installer)


def chosen(settings: Settings, reporter: Reporter) -> Engine:
    """Return the engine in force; an installer that has not yet been run is run now.

    Raises ToolError when the executable is not usable, BuildError when the installer fails.
    """
    if not is_external(settings):
        return Engine()
    from condainer.solve.external import conda_exe

    return Engine(conda_exe.recognise(_executable(settings, reporter)))


def _executable(settings: Settings, reporter: Reporter) -> Path:
    from condainer.solve.external import conda_exe, installer

    named = settings.conda_exe
    if settings.installer is None or (named and "/" in named):
        assert named is not None
        return conda_exe.find(named, settings.tool_directory)
    place = installer.installed(settings.installer, reporter)
    for name in [named] if named else PREFERRED:
        if (place / "bin" / name).exists():
            return conda_exe.find(str(place / "bin" / name), None)
    raise ToolError(
        f"{settings.installer} installs no {named or 'conda'}",
        "Name another with `conda_exe:`, or an installer like Miniforge's.",
    )


def in_force(settings: Settings) -> str:
    """Return the engine in force in words, without running an installer.

    Raises ToolError when its executable is not usable.
    """
    if not is_external(settings):
        name, version = Engine().tool
        return f"embedded ({name} {version})"
    from condainer.solve.external import conda_exe, installer

    named = settings.conda_exe
    if settings.installer is not None and not (named and "/" in named):
        place = installer.found(settings.installer)
        if place is None:
            return f"{named or 'conda'} of {settings.installer}, which the first use installs"
    executable = conda_exe.recognise(_executable(settings, Silent()))
    return f"{executable.path} ({executable.name} {executable.version})"
