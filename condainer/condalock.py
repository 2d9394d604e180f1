"""conda-lock.yml, read by conda-lock's own models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from condainer.errors import LockfileError
from condainer.lock import CondaPackage, Lock, PipPackage

if TYPE_CHECKING:
    from conda_lock.lockfile.v2prelim.models import Lockfile


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
    pip = [PipPackage(p.name, p.url, _sha256(p, path)) for p in chosen if p.manager == "pip"]
    return Lock(platform, tuple(conda), tuple(pip))


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
