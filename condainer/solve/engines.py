"""The engines that solve: rattler in this process, or a conda, mamba or micromamba."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from condainer.inputs.environment_yml import Inputs
from condainer.lock.locks import CondaPackage
from condainer.settings.config import Settings
from condainer.solve import conda_solver
from condainer.solve.engine import Engine
from condainer.system.errors import ToolError
from condainer.system.reporter import Reporter

if TYPE_CHECKING:
    from rattler import MatchSpec, RepoDataRecord

    from condainer.solve.external.conda_exe import Executable

# What `conda_exe:` says to have the engine that needs no executable, where a site names one.
EMBEDDED = "embedded"
# Which executable of an installation is taken, the first that is there.
PREFERRED = ("mamba", "conda", "micromamba")


class Embedded:
    """rattler, in this process."""

    @property
    def tool(self) -> tuple[str, str]:
        import importlib.metadata

        return "py-rattler", importlib.metadata.version("py-rattler")

    def solve(
        self,
        sources: Sequence[str],
        specs: Sequence[MatchSpec],
        inputs: Inputs,
        settings: Settings,
        reporter: Reporter,
        held: Sequence[CondaPackage] = (),
    ) -> list[RepoDataRecord]:
        return conda_solver.solve_embedded(sources, specs, inputs, settings, reporter, held)


@dataclass(frozen=True)
class External:
    """A conda, mamba or micromamba."""

    executable: Executable

    @property
    def tool(self) -> tuple[str, str]:
        return self.executable.name, self.executable.version

    def solve(
        self,
        sources: Sequence[str],
        specs: Sequence[MatchSpec],
        inputs: Inputs,
        settings: Settings,
        reporter: Reporter,
        held: Sequence[CondaPackage] = (),
    ) -> list[RepoDataRecord]:
        from condainer.solve.external import solver

        return solver.solve(self.executable, sources, specs, inputs, settings, held)


def is_external(settings: Settings) -> bool:
    """Tell whether the settings name an executable or an installer of one."""
    return settings.conda_exe != EMBEDDED and bool(settings.conda_exe or settings.installer)


def chosen(settings: Settings, reporter: Reporter) -> Engine:
    """Return the engine in force; an installer that has not yet been run is run now.

    Raises ToolError when the executable does not do, BuildError when the installer fails.
    """
    if not is_external(settings):
        return Embedded()
    from condainer.solve.external import conda_exe

    return External(conda_exe.recognise(_executable(settings, reporter)))


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

    Raises ToolError when its executable does not do.
    """
    if not is_external(settings):
        name, version = Embedded().tool
        return f"embedded ({name} {version})"
    from condainer.solve.external import conda_exe, installer

    named = settings.conda_exe
    if settings.installer is not None and not (named and "/" in named):
        place = installer.found(settings.installer)
        if place is None:
            return f"{named or 'conda'} of {settings.installer}, which the first use installs"
    from condainer.system.reporter import Silent

    found = conda_exe.recognise(_executable(settings, Silent()))
    return f"{found.path} ({found.name} {found.version})"
