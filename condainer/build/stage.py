"""A lock to a finished prefix on disk, normalised so that its bytes depend on the lock alone."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from condainer.build import mark, modules, needs, normalise, prepared
from condainer.build.modules import Stage
from condainer.build.prepared import Prepared
from condainer.inputs.read import logins
from condainer.lock.address import MARKED, OURS, Address
from condainer.lock.locks import CondaPackage, Lock
from condainer.network import client_settings
from condainer.packages import conda_packages, forbidden, installed
from condainer.packages.linked_files import Vouched
from condainer.pypi import build_requirements, wheels
from condainer.settings.config import STAGE, Settings
from condainer.system import namespace, process
from condainer.system.errors import BuildError, OfflineError, StorageError, ToolError
from condainer.system.files import (
    is_private_directory,
    programs_of,
    remove_tree,
    storage_errors,
)
from condainer.system.private_directory import claimed_directory, reclaim
from condainer.system.process import CommandFailed
from condainer.system.reporter import Reporter


@contextlib.contextmanager
def staged(lock: Lock, address: Address, settings: Settings, reporter: Reporter) -> Iterator[Stage]:
    """Build the prefix of a lock, and remove all of it at the end, also after an error.

    Raises BuildError, IntegrityError or NetworkError when a package cannot be installed,
    StorageError when the disk does not take it.
    """
    client_settings.prepare(settings, reporter)
    where = settings.staging_directory
    with contextlib.ExitStack() as stack:
        with storage_errors(f"make a staging directory in {where}"):
            where.mkdir(parents=True, exist_ok=True)
            reclaim(where)
            scratch = stack.enter_context(claimed_directory(where, STAGE))
        places = modules.places_of(lock, settings)
        with (
            prepared.preparing(places, address.prefix, scratch, settings.jobs) as ready,
            ThreadPoolExecutor(2) as pool,
        ):
            # While archives are hashed, which leaves the interpreter to others.
            private = pool.submit(namespace.available)
            pool.submit(importlib.import_module, "rattler")
            archives, requirements = _fetched(lock, settings, reporter)
            stage = stack.enter_context(_stage(scratch, address, settings, private.result()))
            stage = _fill(stage, lock, archives, requirements, ready, address, settings, reporter)
        yield stage


def _fetched(
    lock: Lock, settings: Settings, reporter: Reporter
) -> tuple[Sequence[Path], Sequence[str]]:
    """Return the archives of the conda packages, and the requirements for the pip packages."""
    try:
        archives = conda_packages.fetch(lock.conda, settings, reporter)
        return archives, wheels.fetch(lock.pip, settings, reporter)
    except OfflineError:
        # All that is missing at once, whichever kind it is.
        needs.demand_local(needs.missing(needs.needs_of([lock], settings), settings))
        raise


def _fill(
    stage: Stage,
    lock: Lock,
    archives: Sequence[Path],
    requirements: Sequence[str],
    ready: Prepared,
    address: Address,
    settings: Settings,
    reporter: Reporter,
) -> Stage:
    """Install and compile, and return the stage with what is known of its files after it."""
    with storage_errors(f"build in {stage.directory}"), programs_of(stage.directory):
        linked = conda_packages.link(
            archives,
            stage.directory,
            stage.prefix,
            stage.scratch,
            settings,
            reporter,
            # Everything of ours, and uv, puts new files in the place of those that it changes; a
            # script, or what builds a package from source, may write into them, and so into the
            # package cache.
            hard_links=not lock.post_link_scripts and not build_requirements.from_source(lock),
        )
        scripts = post_link_scripts(stage.directory, lock.conda, linked.order)
        if scripts and lock.post_link_scripts:
            _run_post_link_scripts(stage, scripts, reporter)
        elif scripts:
            reporter.warn(
                "Post-link scripts were not run: "
                + ", ".join(package.name for package, _ in scripts)
                + " (set `post_link_scripts: true` in condainer.yml if the packages need them)"
            )
        if lock.pip:
            wheels.install(
                requirements,
                stage.prefix,
                stage.scratch,
                stage.runner,
                reporter,
                logins(settings),
                build_requirements.gathered(lock, stage.scratch / "tools", settings),
            )
        if settings.policy:
            licenses = installed.read(stage.directory).licenses()
            forbidden.demand_licenses(licenses, str(settings.project), settings)
        _describe(stage, lock, address)
        normalise.metadata(stage.directory, stage.prefix)
        digests = modules.compile_all(stage, lock, ready, linked.vouched, settings, reporter)
        if address.recipe >= MARKED:
            mark.unchangeable(stage.directory, modules.libraries_of(stage.directory))
        return _finished(replace(stage, digests=digests), linked.vouched)


def _finished(stage: Stage, vouched: Mapping[str, Vouched]) -> Stage:
    """Give files their modes, and return the stage with all that is known of them."""
    known = dict(stage.digests)
    start = len(str(stage.directory)) + 1
    size = 0

    def seen(path: str, status: os.stat_result) -> None:
        nonlocal size
        size += status.st_size
        linked = vouched.get(path[start:])
        if linked is not None and linked.is_of(status):
            known[path[start:]] = linked.sha256

    normalise.modes(stage.directory, seen)
    return replace(stage, digests=known, size=size)


def _describe(stage: Stage, lock: Lock, address: Address) -> None:
    """Write what makes the image self-describing, and the variables where conda keeps them."""
    ours = stage.directory / OURS
    ours.mkdir(exist_ok=True)
    normalise.replace(ours / "address", f"{address.digest}\n")
    normalise.replace(ours / "recipe", address.text)
    state = {"version": 1, "env_vars": dict(lock.variables)}
    text = json.dumps(state, ensure_ascii=False, sort_keys=True)
    normalise.replace(stage.directory / "conda-meta" / "state", f"{text}\n")


@contextlib.contextmanager
def _stage(scratch: Path, address: Address, settings: Settings, private: bool) -> Iterator[Stage]:
    """Make the directory that is filled; only this function knows where it is.

    Parameters: `private` tells whether namespaces are available, in which it is at the prefix.
    """
    if not private:
        with _at_the_prefix(address.prefix):
            yield Stage(address.prefix, address.prefix, scratch, ())
        return
    directory = scratch / "prefix"
    with storage_errors(f"make a staging directory in {settings.staging_directory}"):
        directory.mkdir()
    yield Stage(
        directory, address.prefix, scratch, tuple(namespace.command(directory, address.prefix))
    )


@contextlib.contextmanager
def _at_the_prefix(prefix: Path) -> Iterator[None]:
    """Stage at the final prefix itself, where user namespaces are not available."""
    with storage_errors(f"make the staging directory {prefix}"):
        prefix.parent.mkdir(parents=True, exist_ok=True)
        try:
            prefix.mkdir(0o700)
        except FileExistsError:
            # What an interrupted process left is as good as new.
            if not is_private_directory(prefix) or any(prefix.iterdir()):
                raise StorageError(
                    f"{prefix} exists already, and without user namespaces the environment has "
                    "to be built there",
                    "Unmount it (`cnd umount`) or, if nothing is mounted or built there, delete "
                    "it; or build on a machine where user namespaces are enabled.",
                ) from None
    try:
        yield
    finally:
        remove_tree(prefix)


def post_link_scripts(
    directory: Path, conda: Sequence[CondaPackage], order: Sequence[str]
) -> list[tuple[CondaPackage, Path]]:
    """Return the packages with a post-link script, dependencies first.

    Parameters: `order` holds the names of all packages in that order; the lock's own order is not
    a part of the address.
    """
    by_name = sorted(conda, key=lambda package: order.index(package.name))
    scripts = [(p, Path("bin", f".{p.name}-post-link.sh")) for p in by_name]
    return [(package, path) for package, path in scripts if (directory / path).is_file()]


def _run_post_link_scripts(
    stage: Stage, scripts: Sequence[tuple[CondaPackage, Path]], reporter: Reporter
) -> None:
    reporter.step("Running post-link scripts", "scripts")
    shell = process.find_tool("bash") or process.find_tool("sh")
    if shell is None:
        raise ToolError("Neither bash nor sh was found to run the post-link scripts")
    for number, (package, script) in enumerate(scripts, 1):
        name, version, build = package.parts
        environment = {
            **stage.environment,
            "PREFIX": str(stage.prefix),
            "PKG_NAME": name,
            "PKG_VERSION": version,
            "PKG_BUILDNUM": build.rpartition("_")[2],
            "PATH": f"{stage.prefix / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        }
        try:
            process.run([*stage.runner, shell, str(stage.prefix / script)], env=environment)
        except CommandFailed as error:
            raise BuildError(
                f"The post-link script of {name} failed: {error.message}",
                "`post_link_scripts: false` in condainer.yml builds without them.",
            ) from None
        reporter.progress(number, len(scripts))
