"""What pip adds to the conda packages of one platform, resolved by uv in sight of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from condainer.inputs.inputs import Inputs
from condainer.lock.locks import CondaPackage, PipPackage, Solved
from condainer.packages import conda_packages
from condainer.pypi import index_mirrors, uv_options, wheels
from condainer.pypi.wheels import Resolved
from condainer.settings import virtual
from condainer.settings.config import Settings
from condainer.solve.pip import conda_metadata, interpreters
from condainer.solve.pip.conda_metadata import Files
from condainer.solve.pip.foreign import put_interpreter
from condainer.system.machine import this_platform
from condainer.system.reporter import Reporter


@dataclass(frozen=True)
class Question:
    """What uv is asked, and where: `prefix` shows what the conda packages provide.

    `python` is the one among `solved`, `held` are packages of an older lock that should stay,
    `scratch` is a private directory.
    """

    inputs: Inputs
    solved: tuple[Solved, ...]
    python: Solved
    held: tuple[PipPackage, ...]
    scratch: Path
    settings: Settings
    reporter: Reporter

    @property
    def prefix(self) -> Path:
        """Where conda packages are linked, or their metadata."""
        return self.scratch / "prefix"

    @property
    def is_foreign(self) -> bool:
        """Whether no program of the platform can run here."""
        return self.inputs.platform != this_platform()

    def ask(self, program: Path | None = None) -> Resolved:
        """Ask uv, with the interpreter of the prefix or with another one."""
        return index_mirrors.on_mirrors(
            self.inputs,
            self.settings,
            lambda asked: wheels.resolve(
                asked, self.prefix, self.scratch, self.reporter, self.held, self.is_foreign, program
            ),
        )


def resolve(question: Question) -> Resolved:
    """Resolve the pip requirements against the conda packages of a solution.

    Raises what wheels.resolve() and conda_packages.link() do.
    """
    inputs, settings = question.inputs, question.settings
    uv_options.check(inputs.requirements)
    packages = [item.package for item in question.solved]
    metadata = {package: conda_metadata.known(package, settings) for package in packages}
    if not question.is_foreign and None not in metadata.values():
        resolved = _by_kept_interpreter(question, metadata)
        if resolved is not None:
            return resolved
    _link(question, metadata)
    if question.is_foreign:
        offered = virtual.in_force(inputs.virtual_packages, inputs.platform)
        put_interpreter(question.prefix, inputs.platform, question.python, offered)
    return question.ask()


def _by_kept_interpreter(
    question: Question, metadata: Mapping[CondaPackage, Files | None]
) -> Resolved | None:
    """Ask uv without linking anything; None if that cannot be."""
    names = conda_metadata.closure(question.python.name, question.solved)
    members = [item.package for item in question.solved if item.name in names]
    kept = interpreters.kept(members, question.settings, question.reporter)
    if kept is None:
        return None
    site = conda_metadata.site_packages(kept.prefix, question.inputs.platform, question.python)
    if not site.is_dir():
        return None
    _put(metadata, question.prefix / site.relative_to(kept.prefix))
    return question.ask(kept.program)


def _link(question: Question, metadata: Mapping[CondaPackage, Files | None]) -> None:
    """Make a prefix that shows uv what the conda packages provide.

    Linked are Python, with what it needs to run, where it can, and what was never linked before; of
    the other packages their metadata is enough.
    """
    prefix, settings, platform = question.prefix, question.settings, question.inputs.platform
    if question.is_foreign:
        # By it, packages for all platforms know where their modules belong.
        runs = {question.python.name} if None in metadata.values() else set()
    else:
        runs = conda_metadata.closure(question.python.name, question.solved)
    named = {item.package: item.name for item in question.solved}
    linked = [p for p, files in metadata.items() if files is None or named[p] in runs]
    if linked:
        archives = conda_packages.fetch(linked, settings, question.reporter)
        conda_packages.link(
            archives, prefix, prefix, question.scratch, settings, question.reporter, platform
        )
    site = conda_metadata.site_packages(prefix, platform, question.python)
    conda_metadata.keep(linked, prefix, site, settings)
    _put({p: files for p, files in metadata.items() if p not in linked}, site)


def _put(metadata: Mapping[CondaPackage, Files | None], site: Path) -> None:
    for files in metadata.values():
        conda_metadata.put(files or {}, site)
