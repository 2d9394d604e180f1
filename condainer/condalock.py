"""conda-lock.yml: conda-lock's own models and writer, so that other tools can use our locks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from condainer import unified
from condainer.files import publish_text
from condainer.inputs import Inputs
from condainer.lock import Lock, PipPackage
from condainer.solver import Solved

if TYPE_CHECKING:
    from conda_lock.lockfile.v2prelim.models import LockedDependency, Lockfile


def write(path: Path, inputs: Inputs, solved: Sequence[Solved], pip: Sequence[PipPackage]) -> None:
    """Write a lockfile that `conda-lock install` accepts."""
    from conda_lock.lockfile import write_conda_lock_file
    from conda_lock.lockfile.v2prelim.models import Lockfile, LockMeta

    others, hashes = _other_platforms(path, inputs)
    packages = [_conda(item, inputs.platform) for item in solved]
    packages += [_pip(item, inputs.platform) for item in pip]
    content = Lockfile(
        package=[*packages, *others],
        metadata=LockMeta(
            content_hash={**hashes, inputs.platform: inputs.fingerprint()},
            channels=list(inputs.channels),
            platforms=sorted([inputs.platform, *hashes]),
            sources=[source.path for source in inputs.sources if source.sha256 != "absent"],
        ),
    )
    # conda-lock writes in place; the text goes through our own door to be published whole.
    with tempfile.TemporaryDirectory(prefix="condainer-") as directory:
        draft = Path(directory, path.name)
        write_conda_lock_file(content, draft, metadata_choices=None, include_help_text=False)
        text = draft.read_text(encoding="utf-8")
    publish_text(path, "# Made by `cnd lock` in conda-lock's format. Do not edit it.\n" + text)


def _other_platforms(path: Path, inputs: Inputs) -> tuple[list[LockedDependency], dict[str, str]]:
    """Return what an existing lockfile of ours holds for other platforms, and its fingerprints.

    So machines of several platforms can lock one project in turn.
    """
    try:
        content = _parse(path)
    except Exception:
        # A damaged file is what `cnd lock` is the remedy for.
        return [], {}
    hashes = dict(content.metadata.content_hash)
    hashes.pop(inputs.platform, None)
    return [item for item in content.package if item.platform in hashes], hashes


def read(path: Path, platform: str, partial: bool = False) -> Lock:
    """Read a conda-lock.yml, ours or conda-lock's; as unified.read()."""
    return unified.read(path, platform, partial)


def content_hash(path: Path, platform: str) -> str:
    """Return the fingerprint of the inputs that a lockfile of ours records for a platform."""
    return unified.content_hash(path, platform)


def _parse(path: Path) -> Lockfile:
    from conda_lock.lockfile import parse_conda_lock_file

    return parse_conda_lock_file(path)


def _conda(item: Solved, platform: str) -> LockedDependency:
    return _dependency(
        "conda",
        item.name,
        item.version,
        platform,
        item.package.url,
        {"md5": item.md5 or None, "sha256": item.package.sha256},
        {name: rest.strip() for name, _, rest in (d.partition(" ") for d in item.depends)},
    )


def _pip(item: PipPackage, platform: str) -> LockedDependency:
    if item.is_vcs:
        # As conda-lock writes it; the version is not known before it is built.
        version = f"0+git.{item.commit[:12]}"
        hashes: dict[str, str | None] = {"sha256": item.commit}
        return _dependency("pip", item.name, version, platform, item.url, hashes, {}, item.url)
    return _dependency(
        "pip", item.name, _version(item.filename), platform, item.url, {"sha256": item.sha256}, {}
    )


def _dependency(
    manager: Literal["conda", "pip"],
    name: str,
    version: str,
    platform: str,
    url: str,
    hashes: dict[str, str | None],
    dependencies: dict[str, str],
    source: str = "",
) -> LockedDependency:
    from conda_lock.lockfile.v2prelim.models import (
        DependencySource,
        HashModel,
        LockedDependency,
    )

    return LockedDependency(
        name=name,
        version=version,
        manager=manager,
        platform=platform,
        dependencies=dependencies,
        url=url,
        hash=HashModel(**hashes),
        categories={"main"},
        # conda-lock hands it to pip as it is.
        **({"source": DependencySource(type="url", url=source)} if source else {}),
    )


def _version(filename: str) -> str:
    """Return the version that a wheel's or an sdist's file name holds."""
    if filename.endswith(".whl"):
        return filename.split("-")[1]
    stem = filename.removesuffix(".zip").removesuffix(".tar.gz").removesuffix(".tar.bz2")
    return stem.rpartition("-")[2]
