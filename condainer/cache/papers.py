"""The manifest and lock beside an image, compared with each other and with the image."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from condainer.cache.entries import UNREADABLE, Manifest, parse_manifest
from condainer.cache.squashfs import Hasher, read_recipe
from condainer.lock.address import Address, stated_address
from condainer.lock.explicit import parse_explicit
from condainer.lock.locks import Lock
from condainer.settings.config import Settings
from condainer.system.errors import IntegrityError, LockfileError
from condainer.system.machine import this_platform

PLATFORM = re.compile(r"^# platform: *(\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Papers:
    """Manifest and lock of an image, and the address that the lock gives."""

    manifest: Manifest
    manifest_text: bytes
    lock: Lock
    lock_text: str
    address: Address


def read_papers(manifest_text: bytes, lock_text: bytes, where: str) -> Papers:
    """Read the papers of an image, for any platform.

    Parameters: `where` names their place in errors. Raises IntegrityError for what is no manifest
    or no lock.
    """
    try:
        manifest = parse_manifest(manifest_text.decode())
    except UNREADABLE as error:
        raise IntegrityError(f"{where}: the manifest cannot be read: {error}") from None
    base = _base_of(manifest, where)
    try:
        text = lock_text.decode()
        lock = parse_explicit(text, f"{where}: the lock", platform_of(text))
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{where}: the lock cannot be read: {error}") from None
    except LockfileError as error:
        raise IntegrityError(str(error)) from None
    return Papers(manifest, manifest_text, lock, text, stated_address(lock, base, manifest.address))


def platform_of(lock_text: str) -> str:
    """Return the platform that a lock says it is for; this machine's if it does not say."""
    match = PLATFORM.search(lock_text)
    return match[1] if match else this_platform()


def _base_of(manifest: Manifest, where: str) -> Path:
    prefix = manifest.prefix
    # A line break would make one canonical text look like that of another lock.
    printable = prefix.isprintable() or not re.search(r"[\x00-\x1f\x7f]", prefix)
    if not (os.path.isabs(prefix) and os.path.normpath(prefix) == prefix and printable):
        raise IntegrityError(f"{where}: the manifest has no usable prefix: {prefix!r}")
    return Path(prefix).parent


def disagreements(papers: Papers) -> list[str]:
    """Return where the manifest says something else than what the lock gives."""
    manifest, address = papers.manifest, papers.address
    pairs = (
        ("address", manifest.address, address.digest),
        ("recipe_sha256", manifest.recipe_sha256, address.sha256),
        ("prefix", manifest.prefix, str(address.prefix)),
    )
    return [
        f"the lock gives the {name} {right}, but the manifest says {stated}"
        for name, stated, right in pairs
        if stated != right
    ]


def differences(manifest: Manifest, hasher: Hasher) -> list[str]:
    """Return where the bytes of an image are not what the manifest says."""
    if hasher.size != manifest.size:
        return [f"the image has {hasher.size} bytes, but the manifest says {manifest.size}"]
    pairs = (
        ("sha256", manifest.sha256, hasher.sha256.hexdigest()),
        ("XXH3", manifest.xxh3, hasher.xxh3.hexdigest()),
    )
    return [
        f"the image has the {name} {actual}, but the manifest says {stated}"
        for name, stated, actual in pairs
        if stated != actual
    ]


def recipe_problems(image: Path, address: Address, settings: Settings) -> list[str]:
    """Return whether the recipe inside an image is another than the lock's; needs unsquashfs."""
    try:
        recipe = read_recipe(image, settings)
    except IntegrityError as error:
        return [error.message]
    if recipe == address.text:
        return []
    return ["the recipe inside the image is not the canonical text of the lock"]
