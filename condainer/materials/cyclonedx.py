"""A bill of materials in CycloneDX 1.7 (JSON).

It does not say when, where and by which version it was written, so an image always has the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from condainer.lock.locks import PipPackage
from condainer.materials.bill import Bill, Item
from condainer.packages.installed import UNKNOWN

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.dependency import Dependency

# Of CycloneDX in JSON: https://www.iana.org/assignments/media-types.
MEDIA_TYPE = "application/vnd.cyclonedx+json"


def render(bill: Bill) -> str:
    """Return the text of a bill."""
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot7

    components = {item.key: _component(item) for item in bill.items}
    image = Component(
        name=bill.name,
        version=bill.address,
        type=ComponentType.CONTAINER,
        bom_ref=bill.name,
        properties=[Property(name="condainer:platform", value=bill.platform)],
    )
    tool = Component(name="condainer", type=ComponentType.APPLICATION)
    needs = [
        _dependency(components[item.key], (components[key] for key in item.needs))
        for item in bill.items
        if item.needs is not None
    ]
    bom = Bom(
        serial_number=bill.id,
        metadata=BomMetaData(component=image, tools=ToolRepository(components=[tool])),
        components=components.values(),
        dependencies=[_dependency(image, (components[key] for key in bill.tops)), *needs],
    )
    content: dict[str, Any] = json.loads(JsonV1Dot7(bom).output_as_string())
    # The schema can do without it, the library cannot.
    del content["metadata"]["timestamp"]
    # A package without `dependsOn` needs nothing; of one that is left out, nothing is known.
    unknown = {str(components[i.key].bom_ref) for i in bill.items if i.needs is None}
    content["dependencies"] = [d for d in content["dependencies"] if d["ref"] not in unknown]
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _dependency(component: Component, needed: Iterable[Component]) -> Dependency:
    from cyclonedx.model.dependency import Dependency

    return Dependency(component.bom_ref, (Dependency(other.bom_ref) for other in needed))


def _component(item: Item) -> Component:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import (
        ExternalReference,
        ExternalReferenceType,
        HashAlgorithm,
        HashType,
        XsUri,
    )
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import LicenseAcknowledgement

    declared = LicenseAcknowledgement.DECLARED
    factory = LicenseFactory()
    licenses = (
        [factory.make_from_string(item.license, license_acknowledgement=declared)]
        if item.license != UNKNOWN
        else []
    )
    hashes, places = [], []
    if item.locked is not None:
        is_vcs = isinstance(item.locked, PipPackage) and item.locked.is_vcs
        kind = ExternalReferenceType.VCS if is_vcs else ExternalReferenceType.DISTRIBUTION
        places = [ExternalReference(type=kind, url=XsUri(item.locked.url))]
        if item.locked.sha256:
            hashes = [HashType(alg=HashAlgorithm.SHA_256, content=item.locked.sha256)]
    return Component(
        name=item.name,
        version=item.version or None,
        bom_ref=item.purl.to_string(),
        purl=item.purl,
        hashes=hashes,
        licenses=licenses,
        external_references=places,
    )
