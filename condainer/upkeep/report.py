"""A report on caches for a group: one self-contained page, which makes no connection.

Others wrote what it shows: names, paths, users. The page holds this as JSON that cannot end its
element, and its scripts show it as text. The page forbids all other scripts.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from condainer.cache import entries, leases
from condainer.images import inventory
from condainer.images.inventory import Item
from condainer.lock.locks import CondaPackage
from condainer.settings.config import Settings
from condainer.system.errors import StorageError
from condainer.system.files import publish_text, read_text, user_name, writing
from condainer.system.text import printable
from condainer.upkeep import collection, policy
from condainer.upkeep.policy import Policy

TEMPLATE = "report.html"
# How many packages are listed that several images have.
PACKAGES = 1000
# Escapes for characters that could end the HTML element of the data.
UNSAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
STYLE = re.compile(r"(?<=<style>).*?(?=</style>)", re.DOTALL)
SCRIPT = re.compile(r"(?<=<script>).*?(?=</script>)", re.DOTALL)


def write(path: Path, settings: Settings) -> int:
    """Write the report on all caches, and return how many images it shows.

    Raises StorageError if it cannot be written, ConfigError for a policy that says nothing.
    """
    data = content(settings)
    with writing(path):
        publish_text(path, render(data))
    return len(data["images"])


def render(data: dict[str, Any]) -> str:
    """Return the page that shows what content() has returned."""
    page = (importlib.resources.files(__package__) / TEMPLATE).read_text(encoding="utf-8")
    for name, pattern in (("@style-hash@", STYLE), ("@script-hash@", SCRIPT)):
        part = pattern.search(page)
        assert part is not None
        page = page.replace(name, _hash(part[0]))
    # Last, so that nothing in the data is replaced.
    return page.replace("@data@", json.dumps(data, separators=(",", ":")).translate(UNSAFE))


def _hash(text: str) -> str:
    """Return a hash as a Content-Security-Policy has it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def content(settings: Settings) -> dict[str, Any]:
    """Return what the report shows, none of which is trusted to be well-formed.

    Raises ConfigError for a policy that says nothing.
    """
    items = inventory.inventory(settings)
    roots = entries.roots(settings)
    limits = policy.in_force(settings.cache_directory, Policy())
    fates = _fates(settings, limits)
    held = [_held(item) for item in items]
    counts = Counter(package for packages in held for package in packages)
    users = {root: leases.users(root) for root in roots}
    return {
        "caches": [str(root) for root in roots],
        "host": os.uname().nodename,
        "now": int(time.time()),
        "policy": {
            "texts": dict(limits.texts),
            "limited": (limits.older_than, limits.max_size) != (None, None),
        },
        "collected": settings.cache_directory in roots and fates is not None,
        "images": [
            {
                **_image(item, users[item.root].get(item.address, {})),
                "cache": roots.index(item.root),
                "packages": len(packages),
                "own": sum(counts[package] == 1 for package in packages),
                "fate": (fates or {}).get(str(item.directory)),
            }
            for item, packages in zip(items, held, strict=True)
        ],
        "packages": _shared(counts),
    }


def _fates(settings: Settings, limits: Policy) -> dict[str, tuple[bool, str, str]] | None:
    """Return by directory whether a collection would take an image, why or why not, and details.

    None where there is no collection, because the cache is only read.
    """
    try:
        done = collection.collect(settings, limits, dry=True)
    except StorageError:
        return None
    chosen = ((True, done.moved), (False, done.kept))
    return {
        str(image.item.directory): (goes, image.why, image.detail)
        for goes, images in chosen
        for image in images
    }


def _image(item: Item, users: dict[int, float]) -> dict[str, Any]:
    manifest = item.entry.manifest if item.entry else None
    return {
        "address": item.address,
        "name": item.name,
        "tags": list(item.names),
        "size": manifest.size if manifest else 0,
        "builder": manifest.builder if manifest else "",
        "created": int(item.created),
        "used": int(item.last_used),
        "whole": manifest is not None,
        "mounted": [str(lease) for lease in item.leases],
        "projects": [
            {"path": printable(str(project.directory)), "user": user_name(project.user)}
            for project in item.pinned_by
        ],
        "users": {user_name(number): int(seconds) for number, seconds in users.items()},
    }


def _held(item: Item) -> list[str]:
    """Return what identifies the packages of an image: their files and hashes, without mirrors.

    Thousands of locks are read for a report, so this looks at nothing else in them.
    """
    if item.entry is None:
        return []
    path = item.entry.explicit_lock
    try:
        text = read_text(path, "utf-8", "replace", follow=False, limit=entries.LARGEST_LOCK)
    except (OSError, ValueError):
        return []
    packages = []
    for line in text.splitlines():
        if line.startswith("# pip "):
            name, _, url = line[6:].partition(" @ ")
            packages.append(f"pip {name} {url.rpartition('/')[2]}")
        elif line[:1] not in ("#", "@", "") and "://" in line:
            packages.append(f"conda {line.rpartition('/')[2]}")
    return list(dict.fromkeys(packages))


def _shared(counts: Counter[str]) -> list[Sequence[Any]]:
    """Return kind, name, version and build of packages, and how many images have them."""
    packages: list[Sequence[Any]] = []
    for package, count in counts.most_common(PACKAGES):
        if count < 2:
            break
        kind, _, rest = package.partition(" ")
        try:
            packages.append((kind, *_told(kind, rest), count))
        except ValueError:
            # No file name of a package.
            continue
    return packages


def _told(kind: str, text: str) -> tuple[str, str, str]:
    from condainer.lock.contents import pip_parts

    if kind == "conda":
        return CondaPackage(f"https://channel/{text.partition('#')[0]}", "").parts
    name, _, file = text.partition(" ")
    _, version, build = pip_parts(file.partition("#")[0])
    return name, version, build
