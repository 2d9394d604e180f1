"""conda-lock.yml: conda-lock's own models and writer, so that other tools can use our locks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from condainer.errors import LockfileError
from condainer.files import publish_text
from condainer.inputs import Inputs
from condainer.lock import VCS, CondaPackage, Lock, PipPackage
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


def read(path: Path, platform: str) -> Lock:
    """Read a conda-lock.yml, ours or conda-lock's, as the lock of one platform.

    Raises LockfileError when it is damaged, has no packages for the platform, or no sha256.
    """
    try:
        content = _parse(path)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise LockfileError(
            f"{path}: not a lockfile of conda-lock: {error}",
            "Restore the file from version control, or delete it and run `cnd lock`.",
        ) from None
    chosen = [p for p in content.package if p.platform == platform and _wanted(p)]
    if not chosen:
        raise LockfileError(
            f"{path}: locks {', '.join(content.metadata.platforms)}, not {platform}",
            f"Lock for {platform} as well, or delete the file and run `cnd lock`.",
        )
    conda = [CondaPackage(p.url, _sha256(p, path)) for p in chosen if p.manager == "conda"]
    pip = [_read_pip(p, path) for p in chosen if p.manager == "pip"]
    return Lock(platform, tuple(conda), tuple(pip))


def content_hash(path: Path, platform: str) -> str:
    """Return the fingerprint of the inputs that a lockfile of ours records for a platform."""
    return str(_parse(path).metadata.content_hash.get(platform, ""))


def _parse(path: Path) -> Lockfile:
    from conda_lock.lockfile import parse_conda_lock_file

    return parse_conda_lock_file(path)


def _wanted(package: Any) -> bool:
    return "main" in package.categories or not package.categories


def _sha256(package: Any, path: Path) -> str:
    if not package.hash.sha256:
        raise LockfileError(
            f"{path}: {package.name} {package.version} has no sha256, and an md5 proves nothing",
            "Lock again with `cnd lock`.",
        )
    return str(package.hash.sha256)


def _read_pip(package: Any, path: Path) -> PipPackage:
    """Return a pip package; a commit of a git repository stands in the place of its sha256."""
    url = str(package.url)
    if url.startswith(VCS):
        return PipPackage(package.name, url, "")
    return PipPackage(package.name, url.partition("#")[0], _sha256(package, path))


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
