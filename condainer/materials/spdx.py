"""A bill of materials in SPDX 2.3 (JSON).

The format is so simple that no library is needed to write it; a test validates it with one.
"""

from __future__ import annotations

import json
import re
from typing import Any

from condainer.materials.bill import Bill, Item
from condainer.packages.installed import UNKNOWN

# SPDX demands a time; this is that of all files in images.
CREATED = "1980-01-02T00:00:00Z"
DOCUMENT, ROOT = "SPDXRef-DOCUMENT", "SPDXRef-environment"
NOTHING_SAID = "NOASSERTION"


def render(bill: Bill) -> str:
    """Return the text of a bill."""
    licenses = _Licenses()
    items = sorted(bill.items, key=lambda item: item.key)
    ids = {item.key: _id(number, item) for number, item in enumerate(items, 1)}
    packages = [_package(item, ids[item.key], licenses) for item in items]
    relations = [(DOCUMENT, "DESCRIBES", ROOT)]
    relations += [(ROOT, "CONTAINS", ids[item.key]) for item in items]
    relations += [(ROOT, "DEPENDS_ON", ids[key]) for key in sorted(bill.tops)]
    relations += [
        (ids[item.key], "DEPENDS_ON", ids[key])
        for item in items
        for key in sorted(item.needs or ())
    ]
    content = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": bill.name,
        "documentNamespace": bill.id.urn,
        "creationInfo": {"created": CREATED, "creators": ["Tool: condainer"]},
        "packages": [_environment(bill), *packages],
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
            for one, kind, other in relations
        ],
    }
    if licenses.others:
        content["hasExtractedLicensingInfos"] = [
            {"licenseId": name, "extractedText": text} for text, name in licenses.others.items()
        ]
    return json.dumps(content, indent=2) + "\n"


class _Licenses:
    """Turns what packages say of their licenses into SPDX expressions."""

    def __init__(self) -> None:
        from license_expression import get_spdx_licensing

        self.known = get_spdx_licensing()
        # The names that are given to texts which are no expressions.
        self.others: dict[str, str] = {}

    def expression(self, text: str) -> str:
        from license_expression import ExpressionError

        if text == UNKNOWN:
            return NOTHING_SAID
        try:
            parsed = self.known.parse(text, validate=True, strict=True)
            # The library knows such references of its own.
            if parsed is not None and "LicenseRef" not in str(parsed):
                return str(parsed)
        except ExpressionError:
            pass
        return self.others.setdefault(text, f"LicenseRef-{len(self.others) + 1}")


def _id(number: int, item: Item) -> str:
    # Two names can differ in what an id cannot have.
    return f"SPDXRef-{number}-{item.kind}-{re.sub(r'[^A-Za-z0-9.]+', '-', item.name)}"


def _environment(bill: Bill) -> dict[str, Any]:
    return {
        "name": bill.name,
        "SPDXID": ROOT,
        "versionInfo": bill.address,
        "downloadLocation": NOTHING_SAID,
        "filesAnalyzed": False,
        "comment": f"platform: {bill.platform}",
    }


def _place(item: Item) -> str:
    """Return where a package is from, if SPDX has a form for that; it has none for a file URL."""
    url = item.locked.url if item.locked else ""
    if not url.startswith(("https://", "http://", "git+https://", "git+http://", "git+ssh://")):
        return NOTHING_SAID
    return url.replace("#subdirectory=", "#")


def _package(item: Item, name: str, licenses: _Licenses) -> dict[str, Any]:
    content: dict[str, Any] = {"name": item.name, "SPDXID": name}
    if item.version:
        content["versionInfo"] = item.version
    content["downloadLocation"] = _place(item)
    content["filesAnalyzed"] = False
    if item.locked and item.locked.sha256:
        digest = {"algorithm": "SHA256", "checksumValue": item.locked.sha256}
        content["checksums"] = [digest]
    content["licenseDeclared"] = licenses.expression(item.license)
    content["externalRefs"] = [
        {
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": item.purl.to_string(),
        }
    ]
    return content
