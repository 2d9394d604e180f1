"""Which Python modules in a prefix are of which package, by what installers record."""

from __future__ import annotations

import base64
import csv
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from condainer.lock.locks import Lock, pip_name


def of_packages(
    directory: Path, lock: Lock, digests: Mapping[str, str]
) -> Iterator[tuple[str, list[str]]]:
    """Yield the sha256 of every package, and the paths of its own .py files below the prefix.

    A file of its path that another package brought is not its own.
    """
    by_file = {package.filename: package.sha256 for package in lock.conda}
    for path in directory.glob("conda-meta/*.json"):
        record = json.loads(path.read_text("utf-8"))
        if record["fn"] in by_file:
            known = {p["_path"]: p for p in record.get("paths_data", {}).get("paths", ())}
            files = [name for name in record["files"] if name.endswith(".py")]
            own = [n for n in files if _is_of_conda(known.get(n, {}), digests.get(n, ""))]
            yield by_file[record["fn"]], own
    wheels = {_distribution(p.filename): p.sha256 for p in lock.pip if p.is_wheel and p.sha256}
    for path in directory.glob("lib/python3.*/site-packages/*.dist-info/RECORD"):
        name = _distribution(path.parent.name.removesuffix(".dist-info"))
        if name in wheels:
            base = path.parent.parent.relative_to(directory)
            with path.open(newline="", encoding="utf-8") as stream:
                rows = [row for row in csv.reader(stream) if row and row[0].endswith(".py")]
            said = {os.path.normpath(base / row[0]): "".join(row[1:2]) for row in rows}
            yield wheels[name], [n for n in said if _is_of_wheel(said[n], digests.get(n, ""))]


def _is_of_conda(path: Mapping[str, Any], sha256: str) -> bool:
    """Tell whether a file is what conda-meta says; sources that hold the prefix are never kept."""
    return not path.get("prefix_placeholder") and path.get("sha256") in (None, sha256)


def _is_of_wheel(recorded: str, sha256: str) -> bool:
    """Tell whether a file is what RECORD says, which has the digest in base64."""
    encoded = base64.urlsafe_b64encode(bytes.fromhex(sha256)).rstrip(b"=").decode()
    return not recorded.startswith("sha256=") or recorded.rstrip("=") == f"sha256={encoded}"


def _distribution(name: str) -> tuple[str, str]:
    """Return the normalised name, and the version, of a wheel or a .dist-info directory."""
    project, *rest = name.split("-")
    return pip_name(project), "".join(rest[:1])
