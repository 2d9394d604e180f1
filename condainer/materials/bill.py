"""A bill of materials as a value, made of an image or of a lock, written by cyclonedx or spdx."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from condainer.lock.locks import CondaPackage, Lock, PipPackage, pip_name
from condainer.packages.installed import UNKNOWN
from condainer.system.errors import ToolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from packageurl import PackageURL

Locked = CondaPackage | PipPackage
# Whose channels a purl names by their path, without the host.
HOSTS = ("https://conda.anaconda.org/", "https://repo.anaconda.com/pkgs/")
# What a purl of PyPI stands for without a `download_url`.
PYPI = "https://files.pythonhosted.org/"


@dataclass(frozen=True)
class Item:
    """A package; `kind` is `conda` or `pip`, and `key` what names it among all.

    `version` is empty, and `needs`, the keys of others, None where they are not known; `locked`
    is what the lock says of it, if it is in the lock.
    """

    key: str
    kind: str
    name: str
    version: str
    locked: Locked | None
    license: str = UNKNOWN
    needs: tuple[str, ...] | None = None

    @property
    def purl(self) -> PackageURL:
        """The package URL.

        https://github.com/package-url/purl-spec/tree/main/types has those of conda and PyPI.
        """
        from packageurl import PackageURL

        locked, version, told = self.locked, self.version or None, {}
        if self.kind == "pip":
            if isinstance(locked, PipPackage) and locked.is_vcs:
                told = {"vcs_url": locked.url}
            elif locked is not None and not locked.url.startswith(PYPI):
                told = {"download_url": locked.url}
            return PackageURL("pypi", None, pip_name(self.name), version, told)
        if isinstance(locked, CondaPackage):
            told = {
                "build": locked.parts[2],
                "channel": _channel(locked),
                "subdir": locked.subdir,
                "type": "tar.bz2" if locked.filename.endswith(".tar.bz2") else "conda",
            }
        return PackageURL("conda", None, self.name, version, told)


@dataclass(frozen=True)
class Bill:
    """The packages of one environment, which has an address.

    `source` is `image` or `lock`, what it was made of; `tops` are the keys of packages below which
    all others stand.
    """

    source: str
    address: str
    name: str
    platform: str
    items: tuple[Item, ...]
    tops: tuple[str, ...]

    @property
    def id(self) -> uuid.UUID:
        """A unique name, which depends only on what the bill is of."""
        kind = "condainer" if self.source == "image" else f"condainer-{self.source}"
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}:{self.address}")


def key(kind: str, name: str) -> str:
    """Return what names a package among all; `kind` is `conda` or `pip`."""
    return f"pip:{pip_name(name)}" if kind == "pip" else name


def key_of(locked: Locked) -> str:
    """Return what names a package of a lock among all."""
    return key("conda" if isinstance(locked, CondaPackage) else "pip", locked.name)


def locked_by_key(lock: Lock) -> dict[str, Locked]:
    """Return the packages of a lock by their keys."""
    packages: Iterable[Locked] = (*lock.conda, *lock.pip)
    return {key_of(package): package for package in packages}


def unneeded(needs: Mapping[str, tuple[str, ...] | None]) -> tuple[str, ...]:
    """Return the keys of packages that no other one is known to need."""
    needed = {other for keys in needs.values() for other in keys or ()}
    return tuple(key for key in needs if key not in needed)


def demand_library() -> None:
    """Raise ToolError without the libraries that write bills."""
    try:
        # What older ones do not have.
        from cyclonedx.contrib.license import factories  # noqa: F401
        from cyclonedx.output.json import JsonV1Dot7  # noqa: F401
    except ImportError as error:
        raise ToolError(
            f"A bill of materials needs cyclonedx-python-lib, which cannot be imported: {error}",
            "Run `pip install 'condainer[sbom]'`.",
        ) from None


def _channel(package: CondaPackage) -> str:
    channel = package.url.rsplit("/", 2)[0]
    return next((channel.removeprefix(h) for h in HOSTS if channel.startswith(h)), channel)
