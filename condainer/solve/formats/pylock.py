"""The pip part of a lock as pylock.toml.

https://packaging.python.org/en/latest/specifications/pylock-toml/ is its specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from condainer.inputs.read import read_inputs
from condainer.lock.locks import VCS, Lock, PipPackage, pip_name
from condainer.materials.bill import PYPI
from condainer.settings.config import Settings
from condainer.solve.formats.exported import Exported, Known, without_conda
from condainer.solve.pip.foreign import SYSTEMS, machine_of
from condainer.system.errors import CondainerError
from condainer.system.urls import without_login

if TYPE_CHECKING:
    from packaging.markers import Marker
    from packaging.pylock import Package
    from packaging.specifiers import SpecifierSet

    from condainer.inputs.requirements import Line

INDEX_OF_PYPI = "https://pypi.org/simple"
INDEX_OPTIONS = ("--index-url", "--extra-index-url")


def pylock(known: Known) -> Exported:
    """What `uv pip install -r pylock.toml` and other installers take."""
    import tomlkit
    from packaging.pylock import Pylock
    from packaging.version import Version

    lock = known.lock
    indexes = _indexes(known.settings, lock) if lock.pip else []
    document = Pylock(
        lock_version=Version("1.0"),
        environments=[_machine(lock.platform)],
        requires_python=_python(lock),
        created_by="condainer",
        packages=[_package(package, indexes) for package in lock.pip],
    )
    document.validate()
    note, head = without_conda(lock)
    text = "\n".join(head) + "\n" + tomlkit.dumps(document.to_dict())
    return Exported("pylock", lock.platform, text, (note,))


def _machine(platform: str) -> Marker:
    from packaging.markers import Marker

    system = platform.partition("-")[0]
    name = SYSTEMS[system][2] if system in SYSTEMS else system
    return Marker(f"sys_platform == '{name}' and platform_machine == '{machine_of(platform)}'")


def _python(lock: Lock) -> SpecifierSet | None:
    """Return the versions of Python that the packages were chosen for."""
    from packaging.specifiers import SpecifierSet

    version = next((p.parts[1] for p in lock.conda if p.name == "python"), "")
    return SpecifierSet(f"=={'.'.join(version.split('.')[:2])}.*") if version else None


def _package(package: PipPackage, indexes: Sequence[str]) -> Package:
    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageVcs, PackageWheel
    from packaging.utils import (
        InvalidSdistFilename,
        canonicalize_name,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    name, hashes = canonicalize_name(package.name), {"sha256": package.sha256}
    if package.is_vcs:
        url = package.url.removeprefix(VCS).partition("#")[0].removesuffix(f"@{package.commit}")
        where = PackageVcs(
            type="git",
            url=url,
            commit_id=package.commit,
            subdirectory=package.subdirectory or None,
        )
        return Package(name=name, vcs=where)
    index = _index(package.url, indexes)
    if package.is_wheel:
        wheel = PackageWheel(name=package.filename, url=package.url, hashes=hashes)
        version = parse_wheel_filename(package.filename)[1]
        return Package(name=name, version=version, index=index, wheels=[wheel])
    with suppress(InvalidSdistFilename):
        stated, version = parse_sdist_filename(package.filename)
        if stated == pip_name(package.name):
            sdist = PackageSdist(name=package.filename, url=package.url, hashes=hashes)
            return Package(name=name, version=version, index=index, sdist=sdist)
    # A tree at a URL whose file name says something else, or nothing.
    return Package(name=name, archive=PackageArchive(url=package.url, hashes=hashes))


def _indexes(settings: Settings, lock: Lock) -> list[str]:
    """Return the indexes that the project's requirements name."""
    lines: tuple[Line, ...] = ()
    # A lock that another tool wrote, or a file that was changed since, may not be readable.
    with suppress(CondainerError):
        lines = read_inputs(settings, lock.platform).requirements
    options = (line.text.partition(" ") for line in lines if line.is_option)
    return [without_login(value.strip()) for name, _, value in options if name in INDEX_OPTIONS]


def _index(url: str, indexes: Sequence[str]) -> str | None:
    """Return the index of a package as far as that is certain: a lock does not say it."""
    if url.startswith(PYPI):
        return INDEX_OF_PYPI
    host = urlsplit(url).netloc
    near = {index for index in indexes if urlsplit(index).netloc == host}
    return near.pop() if len(near) == 1 else None
