"""The pip packages that another tool has locked: those of one platform and one Python, as locked.

pylock.toml is read by packaging, which knows what PEP 751 asks of who installs from it. uv.lock has
no published format: uv itself writes it as a pylock.toml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from condainer.inputs import toml_file
from condainer.inputs.inputs import Inputs
from condainer.inputs.pip_locks import PipLock
from condainer.inputs.requirements import REMEDY
from condainer.inputs.toml_file import Toml
from condainer.lock.contents import pip_parts
from condainer.lock.locks import PipPackage, Solved, pip_name
from condainer.pypi.wheels import find_uv, warn_of_sources
from condainer.settings import virtual
from condainer.settings.config import STAGE, Settings
from condainer.solve.pip.foreign import machine_of, markers, operating_system
from condainer.system import environments, process
from condainer.system.errors import InputError
from condainer.system.private_directory import working_directory
from condainer.system.process import CommandFailed
from condainer.system.reporter import Reporter
from condainer.system.urls import without_user

if TYPE_CHECKING:
    from packaging.pylock import Package
    from packaging.tags import Tag

AGAIN = "Lock again with the tool that wrote it."
# Of a minor version of glibc, the first for which there are wheels, by processor.
OLDEST = {"x86_64": 5, "i686": 5}
USUAL = 17
# What wheels were called before their names had the version of glibc.
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# What uv says of a lock that does not fit to its project any more, with or without a network.
STALE = re.compile(r"needs to be updated|No solution found|not found in the cache")
UV = ("export", "--offline", "--no-config", "--no-header", "--format", "pylock.toml")
PART = ("--no-emit-workspace", "--no-default-groups", "--no-build")


@dataclass(frozen=True)
class _Exported(Toml):
    """What uv has written of a uv.lock; `order` are the numbers of its packages there."""

    order: tuple[int, ...]

    def where(self, *keys: str | int) -> str:
        if len(keys) == 2 and isinstance(keys[1], int):
            return super().where("package", self.order[keys[1]])
        return str(self.path)


def packages(
    lock: PipLock,
    inputs: Inputs,
    solved: Sequence[Solved],
    python: Solved,
    settings: Settings,
    reporter: Reporter,
) -> tuple[PipPackage, ...]:
    """Return the packages of a lock for the platform of the inputs and the Python of a solution.

    Raises InputError, with its place, for what is not valid, does not fit, or has no hash, and for
    packages that no image can be made from.
    """
    text = exported(lock, settings, reporter) if lock.is_of_uv else lock.text
    document = toml_file.parsed(lock.path, text)
    if lock.is_of_uv:
        document = _with_places(document, lock)
    taken = chosen(document, python, inputs)
    names = {pip_name(item.name): item for item in solved}
    _check_requirements(inputs, taken, names, lock, _environment(inputs, python)[0])
    doubled = [package.name for package in taken if pip_name(package.name) in names]
    if doubled:
        reporter.warn(f"{lock.path.name} replaces conda packages: {', '.join(doubled)}")
    warn_of_sources(taken, reporter)
    return taken


def _with_places(document: Toml, lock: PipLock) -> Toml:
    """Return what uv has written of a uv.lock with the places of its packages there."""
    theirs = toml_file.parsed(lock.path, lock.text).value.get("package", [])
    names = [item.get("name") for item in theirs]
    order = tuple(
        names.index(item["name"]) if item["name"] in names else -1
        for item in document.value.get("packages", [])
    )
    return _Exported(document.path, lock.text, document.value, order)


def chosen(document: Toml, python: Solved, inputs: Inputs) -> tuple[PipPackage, ...]:
    """Return the packages of a pylock.toml for a platform and a Python; raises as packages()."""
    from packaging import pylock

    try:
        lock = pylock.Pylock.from_dict(document.value)
    except pylock.PylockValidationError as error:
        match = re.match(r"packages\[(\d+)\]", str(error.context or ""))
        place = document.where("packages", int(match[1])) if match else str(document.path)
        raise InputError(f"{place}: not valid by PEP 751: {error}", AGAIN) from None
    if "pypy" in python.build or "graalpy" in python.build:
        raise InputError(
            f"{document.path}: packages for {python.build} cannot be chosen here",
            "Take a Python of CPython.",
        )
    environment, versions = _environment(inputs, python)
    tags = list(_tags(inputs.platform, python, versions))
    try:
        selected = list(lock.select(environment=environment, tags=tags))
    except pylock.PylockSelectError as error:
        match = re.search(r"at packages\[(\d+)\]", str(error))
        place = document.where("packages", int(match[1])) if match else str(document.path)
        raise InputError(
            f"{place}: does not fit to Python {python.version} on {inputs.platform}: {error}",
            "Name another version of python in environment.yml, or lock for this one.",
        ) from None
    taken = []
    for package, source in selected:
        try:
            taken.append(_package(package, source))
        except InputError as error:
            # To look for the place of each package would take longer than all else.
            place = document.where("packages", list(lock.packages).index(package))
            raise InputError(f"{place}: {error.message}", error.hint) from None
    return tuple(sorted(taken, key=lambda package: package.name))


def _environment(inputs: Inputs, python: Solved) -> tuple[Any, dict[str, str]]:
    """Return what markers are compared with, and the versions of virtual packages."""
    offered = virtual.in_force(inputs.virtual_packages, inputs.platform)
    versions = {package.name: package.version for package in offered}
    return markers(inputs.platform, python.version, versions), versions


def _package(package: Package, source: Any) -> PipPackage:
    name = str(package.name)
    if package.directory is not None:
        raise InputError(f"{name} stands in a local directory", REMEDY)
    if package.vcs is not None:
        raise InputError(
            f"{name} comes from version control, which has no hash",
            "Build a wheel of it and lock that, or name it in requirements.txt as "
            f"`{name} @ git+URL@COMMIT`.",
        )
    if not source.url:
        raise InputError(f"{name} stands in a local file: {source.path}", REMEDY)
    if getattr(source, "subdirectory", None):
        raise InputError(
            f"{name} stands in a directory of an archive, which cannot be installed here", REMEDY
        )
    digest = dict(source.hashes).get("sha256")
    if digest is None:
        raise InputError(f"{name} has no sha256", AGAIN)
    url = without_user(source.url.partition("#")[0])
    pinned = PipPackage(name, url, digest.lower())
    if getattr(source, "filename", pinned.filename) != pinned.filename:
        raise InputError(
            f"{name} is called {source.filename}, but its URL ends in {pinned.filename}", AGAIN
        )
    return pinned


def _check_requirements(
    inputs: Inputs,
    taken: Sequence[PipPackage],
    conda: Mapping[str, Solved],
    lock: PipLock,
    environment: Any,
) -> None:
    """Refuse a lock that lacks what the environment file asks of pip: it is older than that."""
    from packaging.requirements import InvalidRequirement, Requirement

    versions = {pip_name(item.name): pip_parts(item.filename)[1] for item in taken}
    for line in inputs.requirements:
        if not line.is_wanted:
            continue
        try:
            asked = Requirement(line.text.partition(" --hash")[0])
        except InvalidRequirement:
            raise InputError(
                f"{line.where}: beside {lock.path.name}, which has all packages of pip, this "
                f"cannot be compared: {line.text}",
                "Write `name`, or leave it out.",
            ) from None
        name = pip_name(asked.name)
        if asked.marker is not None and not asked.marker.evaluate(environment):
            continue
        if name in conda and name not in versions:
            continue
        if name not in versions or not asked.specifier.contains(versions[name], prereleases=True):
            has = f"has {versions[name]}" if name in versions else "does not have it"
            raise InputError(
                f"{line.where}: {line.text}: {lock.path.name}, by which the packages of pip are "
                f"installed, {has}",
                f"{AGAIN} `requirements_txt: requirements.txt` in condainer.yml leaves it unused.",
            )


def exported(lock: PipLock, settings: Settings, reporter: Reporter) -> str:
    """Return a uv.lock as uv writes it in the format of PEP 751, without the project itself.

    No connection is made, and nothing is built. Raises InputError for one that is older than the
    project's pyproject.toml.
    """
    directory = lock.path.parent
    with working_directory(settings.staging_directory, STAGE) as scratch:
        command = [find_uv(), *UV, *PART, "--project", str(directory)]
        variables = {**environments.resolving(scratch), "UV_PYTHON_DOWNLOADS": "never"}
        try:
            return process.run([*command, "--locked"], env=variables).stdout
        except CommandFailed as error:
            if STALE.search(error.stderr):
                raise InputError(
                    f"{lock.path}: does not fit to pyproject.toml any more: {error.reason}",
                    "Run `uv lock` again.",
                ) from None
            reporter.warn(
                f"{lock.path} could not be compared with pyproject.toml, and is taken as it "
                f"is: {error.reason}"
            )
        try:
            return process.run([*command, "--frozen"], env=variables).stdout
        except CommandFailed as error:
            raise InputError(
                f"{lock.path}: uv cannot read it: {error.reason}", "Run `uv lock` again."
            ) from None


def _tags(platform: str, python: Solved, versions: Mapping[str, str]) -> Iterator[Tag]:
    """Yield the tags of wheels that a Python on a platform takes, the best first."""
    from packaging import tags

    major, minor = (int(part) for part in python.version.split(".")[:2])
    name = f"cp{major}{minor}"
    abi = f"{name}t" if python.build.endswith("t") else name
    names = list(_platforms(platform, versions))
    yield from tags.cpython_tags((major, minor), [abi], names)
    yield from tags.compatible_tags((major, minor), name, names)


def _platforms(platform: str, versions: Mapping[str, str]) -> Iterator[str]:
    from packaging import tags

    machine = machine_of(platform)
    system = operating_system(platform, versions)
    if system["name"] == "windows":
        yield {"x86": "win32"}.get(machine, f"win_{machine.lower()}")
    elif system["name"] == "macos":
        yield from tags.mac_platforms((system["major"], system["minor"]), machine)
    else:
        for minor in range(system["minor"], OLDEST.get(machine, USUAL) - 1, -1):
            yield f"manylinux_2_{minor}_{machine}"
            if minor in LEGACY:
                yield f"{LEGACY[minor]}_{machine}"
        yield f"linux_{machine}"
