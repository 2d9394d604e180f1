"""What condainer needs, downloaded in the versions of tools/pins.txt."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINS = Path(__file__).resolve().parents[2] / "tools/pins.txt"


def download(directory: Path, version: str) -> None:
    """Download what a version of Python, such as 3.12, needs to build and run condainer.

    This machine's own pip fetches it, because its index may need settings that only the machine
    has.
    """
    wanted = {"setuptools"}
    _add_needs("condainer", version, wanted)
    lines = re.findall(r"^[^# ].*?(?= \\$)", PINS.read_text(encoding="utf-8"), re.MULTILINE)
    chosen = [
        f"{pin.name}{pin.specifier}"
        for pin in map(Requirement, lines)
        if pin.name in wanted and applies(pin, version)
    ]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", "--python-version", version, "--dest", directory),
            *chosen,
        ],
        check=True,
    )


def _add_needs(name: str, version: str, found: set[str]) -> None:
    """Add all that a distribution needs under a version of Python to what was found."""
    try:
        requirements = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        # For another Python than that of the tests; such a package needs nothing itself.
        return
    for requirement in map(Requirement, requirements):
        need = canonicalize_name(requirement.name)
        if need not in found and applies(requirement, version):
            found.add(need)
            _add_needs(need, version, found)


def applies(requirement: Requirement, version: str) -> bool:
    """Tell whether a requirement without extras holds for a version of Python, such as 3.12."""
    python = {"extra": "", "python_version": version, "python_full_version": f"{version}.0"}
    return requirement.marker is None or requirement.marker.evaluate(python)
