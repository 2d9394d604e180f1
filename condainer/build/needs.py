"""What locks need of packages, and what of it no package cache has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from condainer.lock.locks import Lock, PipPackage
from condainer.package_cache.archives import File
from condainer.packages import conda_packages, downloads, git_repositories
from condainer.pypi import wheels
from condainer.settings.config import Settings


@dataclass(frozen=True)
class Needs:
    """What locks need: files, and commits of Git repositories."""

    files: tuple[File, ...]
    repositories: tuple[PipPackage, ...]


def needs_of(locks: Sequence[Lock], settings: Settings) -> Needs:
    """Return what locks need, each thing once."""
    pip = [package for lock in locks for package in lock.pip]
    conda = [conda_packages.file_of(package, settings) for lock in locks for package in lock.conda]
    own = [package for package in pip if package.is_vcs]
    files = wheels.files_of([package for package in pip if not package.is_vcs], settings)
    return Needs(tuple(dict.fromkeys([*conda, *files])), tuple(dict.fromkeys(own)))


def missing(needs: Needs, settings: Settings) -> Needs:
    """Return what no package cache has."""
    paths = downloads.find(needs.files, settings)
    return Needs(
        tuple(file for file, path in paths.items() if path is None),
        tuple(git_repositories.missing(needs.repositories, settings)),
    )


def demand_local(lacking: Needs) -> None:
    """Raise one OfflineError that names everything that is missing, of all kinds."""
    lines = [*downloads.remote(lacking.files), *git_repositories.remote(lacking.repositories)]
    if lines:
        raise downloads.offline_error(lines)
