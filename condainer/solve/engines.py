"""The engines that solve: rattler in this process, or a conda, mamba or micromamba."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from condainer.settings.config import Settings
from condainer.solve.conda_solver import solve_embedded
from condainer.solve.request import Engine
from condainer.system.errors import ToolError
from condainer.system.reporter import Reporter, Silent

# What `conda_exe:` says to have the engine that needs no executable, where a site names one.
EMBEDDED = "embedded"
# Which executable of an installation is taken, the first that is there.
PREFERRED = ("mamba", "conda", "micromamba")


def is_external(settings: Settings) -> bool:
    """Tell whether the settings name an executable or an installer of one."""
    return settings.conda_exe != EMBEDDED and bool(settings.conda_exe or settings.installer)


def chosen(settings: Settings, reporter: Reporter) -> Engine:
    """Return the engine in force; an installer that has not yet been run is run now.

    Raises ToolError when the executable is not usable, BuildError when the installer fails.
    """
    if not is_external(settings):
        return solve_embedded
    from condainer.solve.external import conda_exe, solver

    return partial(solver.solve, conda_exe.recognise(_executable(settings, reporter)))


def _installer(settings: Settings) -> Path | None:
    """Return the installer that has the executable, None if that is named by its path."""
    return None if "/" in (settings.conda_exe or "") else settings.installer


def _executable(settings: Settings, reporter: Reporter) -> Path:
    from condainer.solve.external import conda_exe, installer

    named, script = settings.conda_exe, _installer(settings)
    if script is None:
        assert named is not None
        return conda_exe.find(named, settings.tool_directory)
    place = installer.installed(script, reporter)
    for name in [named] if named else PREFERRED:
        if (place / "bin" / name).exists():
            return conda_exe.find(str(place / "bin" / name), None)
    raise ToolError(
        f"{script} installs no {named or 'conda'}",
        "Name another with `conda_exe:`, or an installer like Miniforge's.",
    )


def in_force(settings: Settings) -> str:
    """Return the engine in force in words, without running an installer.

    Raises ToolError when its executable is not usable.
    """
    if not is_external(settings):
        import importlib.metadata

        return f"embedded (py-rattler {importlib.metadata.version('py-rattler')})"
    from condainer.solve.external import conda_exe, installer

    script = _installer(settings)
    if script is not None and installer.found(script) is None:
        return f"{settings.conda_exe or 'conda'} of {script}, which the first use installs"
    executable = conda_exe.recognise(_executable(settings, Silent()))
    return f"{executable.path} ({executable.name} {executable.version})"
