"""The bill of materials of an image, from the metadata of its packages and their lock."""

from __future__ import annotations

from condainer.cache.entries import Entry
from condainer.images import dependencies
from condainer.lock.locks import Lock
from condainer.materials import bill, cyclonedx, spdx
from condainer.materials.bill import Bill, Item, locked_by_key
from condainer.settings.config import Settings

MEDIA_TYPE = cyclonedx.MEDIA_TYPE
FORMS = {"cyclonedx": cyclonedx.render, "spdx": spdx.render}


def render(entry: Entry, lock: Lock, settings: Settings, form: str = "cyclonedx") -> str:
    """Return the bill of materials of an image.

    Parameters: `form` is one of FORMS. Raises ToolError without cyclonedx-python-lib, or without
    unsquashfs.
    """
    return FORMS[form](_bill(entry, lock, settings))


def _bill(entry: Entry, lock: Lock, settings: Settings) -> Bill:
    bill.demand_library()
    image = dependencies.metadata(entry, settings)
    licenses = {bill.key(item.kind, item.name): item.license for item in image.licenses()}
    graph = dependencies.graph(image, lock)
    locked = locked_by_key(lock)
    items = [
        Item(
            key,
            package.kind,
            package.name,
            package.version,
            locked.get(key),
            licenses[key],
            tuple(need.key for need in package.needs),
        )
        for key, package in graph.packages.items()
    ]
    tops = tuple(package.key for package in graph.tops())
    name = entry.prefix.name
    return Bill("image", entry.address, name, lock.platform, tuple(items), tops)
