"""The inputs of one platform to its lock: conda packages first, what pip adds to them second."""

from __future__ import annotations

import os
from dataclasses import replace

from condainer.inputs.inputs import Inputs
from condainer.lock.explicit import checked
from condainer.lock.locks import CondaPackage, Lock, PipPackage, Solved
from condainer.network import client_settings
from condainer.packages import by_url, forbidden, git_repositories
from condainer.pypi import index_mirrors
from condainer.settings import virtual
from condainer.settings.config import STAGE, Settings
from condainer.solve import engines, git_commits
from condainer.solve.conda_lock_file import Solution
from condainer.solve.conda_solver import solve
from condainer.solve.lock_state import described
from condainer.solve.pip import locked, resolver
from condainer.solve.pip.resolver import Question
from condainer.system.errors import InputError, SolveError
from condainer.system.files import programs_of
from condainer.system.private_directory import working_directory
from condainer.system.reporter import Reporter


def solution(
    inputs: Inputs,
    settings: Settings,
    reporter: Reporter,
    held_conda: tuple[CondaPackage, ...],
    held_pip: tuple[PipPackage, ...],
    noted: tuple[tuple[str, str], ...],
) -> Solution:
    """Solve for one platform; nothing is written into the project.

    Parameters: held packages of an older lock stay where that is possible; `noted` are its
    references. Raises what solve() and wheels.resolve() do.
    """
    client_settings.prepare(settings, reporter)
    for note in inputs.notes:
        reporter.warn(note)
    on_disk = by_url.on_disk(inputs, settings, reporter)
    engine = engines.chosen(settings, reporter)
    solved = on_disk.restored(solve(on_disk.inputs, settings, reporter, engine, held_conda))
    asked = git_commits.held(inputs.requirements, held_pip, noted)
    try:
        pip = _pip(replace(inputs, requirements=asked), solved, held_pip, settings, reporter)
    except (InputError, SolveError) as error:
        # A commit can have gone, or stand in the way.
        asked = git_commits.released(asked, inputs.requirements, held_pip, error.message)
        if not asked:
            raise
        reporter.warn("A commit of the lock cannot stay, so that branches are looked up again")
        pip = _pip(replace(inputs, requirements=asked), solved, held_pip, settings, reporter)
    lock = Lock(inputs.platform, tuple(item.package for item in solved), pip)
    # A rule can mean less than a channel: what stands below some path of it.
    forbidden.demand_lock(lock, str(settings.environment_yml), settings)
    chosen = virtual.overrides(inputs.virtual_packages, os.environ, inputs.platform)
    references = git_commits.noted(inputs.requirements, pip)
    lock = replace(described(lock, inputs), virtual=chosen, references=references)
    return Solution(checked(lock, "the solution"), inputs, solved)


def _pip(
    inputs: Inputs,
    solved: tuple[Solved, ...],
    held: tuple[PipPackage, ...],
    settings: Settings,
    reporter: Reporter,
) -> tuple[PipPackage, ...]:
    """Resolve the pip requirements against the conda packages, shown in a scratch prefix."""
    if inputs.pip_lock is None and not any(line.is_wanted for line in inputs.requirements):
        return ()
    python = next(item for item in solved if item.name == "python")
    if inputs.pip_lock is not None:
        return locked.packages(inputs.pip_lock, inputs, solved, python, settings, reporter)
    working = working_directory(settings.staging_directory, STAGE)
    with working as scratch, programs_of(settings.staging_directory):
        question = Question(inputs, solved, python, held, scratch, settings, reporter)
        resolved = resolver.resolve(question)
    if resolved.replaced:
        reporter.warn(
            "The pip requirements replace conda packages: " + ", ".join(resolved.replaced)
        )
    packages = index_mirrors.canonical(resolved.packages, settings, reporter)
    if not settings.offline:
        # What cannot be fetched must not be locked; the build needs it in any case.
        git_repositories.fetch([item for item in packages if item.is_vcs], settings, reporter)
    return packages
