"""From a lock to its content address; pure, see cache_layout.md for the specification."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import xxhash

from condainer.lock.locks import Lock, PipPackage, escape, pip_name

# Where an image keeps its own address and canonical text.
OURS = ".condainer"
# Hexadecimal digits of an address.
DIGITS = 32
# Raised whenever our own staging rules change what bytes a lock gives; cache_layout.md says how.
RECIPE = 2
# The first recipe whose images tell package managers that they cannot be changed.
MARKED = 2


@dataclass(frozen=True)
class Address:
    """Where an environment belongs, and the canonical text that says what it is."""

    digest: str
    text: str
    base: Path

    @property
    def prefix(self) -> Path:
        """The mount point, and the prefix that is baked into the files of the image."""
        return prefix_of(self.digest, self.base)

    @property
    def recipe(self) -> int:
        """The number of the staging rules, with which the canonical text begins."""
        return int(self.text.partition("\n")[0].rpartition(" ")[2])

    @property
    def sha256(self) -> str:
        """The sha256 of the canonical text, which tells a collision from a hit."""
        return sha256(self.text.encode()).hexdigest()


def prefix_of(digest: str, base: Path) -> Path:
    """Return the mount point of a content address below a base directory."""
    return base / f"condainer-{digest}"


def canonical_text(lock: Lock, base: Path, recipe: int = RECIPE) -> str:
    """Return what the bytes of the image depend on, one item a line, sorted within each kind."""
    lines = [f"condainer-recipe {recipe}", f"platform {lock.platform}", f"base {base}"]
    lines += sorted(f"conda {p.subdir}/{p.filename} sha256:{p.sha256}" for p in lock.conda)
    lines += sorted(f"pip {p.filename} sha256:{p.sha256}" for p in lock.pip if p.is_wheel)
    built = [package for package in lock.pip if not package.is_wheel]
    lines += sorted(f"sdist {p.filename} sha256:{p.sha256}" for p in built if not p.is_vcs)
    lines += sorted(_vcs(package) for package in built if package.is_vcs)
    if lock.post_link_scripts:
        lines.append("post-link-scripts")
    lines += sorted(f"variable {name}={escape(value)}" for name, value in lock.variables)
    return "\n".join(lines) + "\n"


def _vcs(package: PipPackage) -> str:
    name = pip_name(package.name)
    where = f" subdirectory={package.subdirectory}" if package.subdirectory else ""
    return f"vcs {name} commit {package.commit.lower()}{where}"


def address_of(lock: Lock, base: Path, recipe: int = RECIPE) -> Address:
    """Return the content address of a lock whose image is mounted below `base`."""
    text = canonical_text(lock, base, recipe)
    return Address(xxhash.xxh3_128_hexdigest(text.encode()), text, base)


def stated_address(lock: Lock, base: Path, digest: str) -> Address:
    """Return the address of an image that exists: by the recipe that gives `digest`.

    Images of earlier recipes stay what they are. If no recipe gives it, the present one's.
    """
    candidates = [address_of(lock, base, recipe) for recipe in range(RECIPE, 0, -1)]
    return next((address for address in candidates if address.digest == digest), candidates[0])
