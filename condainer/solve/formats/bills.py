"""A lock as a bill of materials.

Unlike that of an image, it does not know licenses, nor what PyPI packages need.
"""

from __future__ import annotations

from condainer.lock.contents import pip_parts
from condainer.lock.locks import CondaPackage
from condainer.materials import cyclonedx, spdx
from condainer.materials.bill import (
    Bill,
    Item,
    Locked,
    demand_library,
    key_of,
    locked_by_key,
    unneeded,
)
from condainer.solve.formats.exported import Exported, Known

NOTE = "`cnd sbom` of the built image also has licenses, and what PyPI packages need"


def as_cyclonedx(known: Known) -> Exported:
    """The packages in CycloneDX 1.7 (JSON)."""
    return Exported("cyclonedx", known.lock.platform, cyclonedx.render(_bill(known)), (NOTE,))


def as_spdx(known: Known) -> Exported:
    """The packages in SPDX 2.3 (JSON)."""
    return Exported("spdx", known.lock.platform, spdx.render(_bill(known)), (NOTE,))


def _bill(known: Known) -> Bill:
    demand_library()
    locked = locked_by_key(known.lock)
    items = tuple(_item(package, known, set(locked)) for package in locked.values())
    tops = unneeded({item.key: item.needs for item in items})
    address = known.address
    name = f"condainer-{address}"
    return Bill("lock", address, name, known.lock.platform, items, tops)


def _item(package: Locked, known: Known, there: set[str]) -> Item:
    key = key_of(package)
    if not isinstance(package, CondaPackage):
        version = "" if package.is_vcs else pip_parts(package.filename)[1]
        return Item(key, "pip", package.name, version, package)
    depends = known.detail(package).depends
    needs = None
    if depends is not None:
        # Virtual packages are not in the lock.
        names = (text.partition(" ")[0] for text in depends)
        needs = tuple(name for name in names if name in there)
    return Item(key, "conda", package.name, package.parts[1], package, needs=needs)
