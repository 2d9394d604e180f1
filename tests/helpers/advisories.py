"""Dumps of advisories, as OSV offers them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from condainer.materials.osv import Dump

BORN = {"introduced": "0"}


def advisory(
    name: str,
    package: str = "Alpha_One",
    events: list[dict[str, str]] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return an advisory as OSV has them, on a range of versions of one package."""
    affected: dict[str, Any] = {"package": {"ecosystem": "PyPI", "name": package}}
    if events is not None:
        affected["ranges"] = [
            {"type": "GIT", "repo": "https://a.example", "events": [{"introduced": "0"}]},
            {"type": "ECOSYSTEM", "events": events},
        ]
    affected["versions"] = more.pop("versions", [])
    return {"id": name, "affected": [affected], **more}


def dump(path: Path, *records: Any) -> Dump:
    """Write a dump as OSV offers it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", "no advisory")
        for number, record in enumerate(records):
            text = record if isinstance(record, (str, bytes)) else json.dumps(record)
            archive.writestr(f"{number}.json", text)
    return Dump(path)
