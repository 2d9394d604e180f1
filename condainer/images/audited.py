"""The packages of an image or a lock, as an audit compares them with projects of PyPI."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer import pipeline
from condainer.cache.entries import Entry
from condainer.images import dependencies
from condainer.lock.contents import Package, contents_of
from condainer.lock.lock_paths import lockfile_path
from condainer.lock.locks import Lock, pip_name
from condainer.materials.audit import Checked
from condainer.packages.installed import Installed
from condainer.settings.config import Settings
from condainer.solve.lock_state import lock_state
from condainer.system.errors import NotBuiltError

# In the build strings of conda packages for Python: `py312h…`, `pyhd8ed1ab_0`, `cpu_py310…`.
BUILD = re.compile(r"(?:^|_|cuda\w*?)py(?:\d|h|_)")


@dataclass(frozen=True)
class Subject:
    """What is audited: an image, or a lock that has none yet; `source` is the place of it."""

    source: Path
    lock: Lock
    entry: Entry | None

    def packages(self, settings: Settings) -> list[Checked]:
        """Return the packages to compare; raises ToolError without unsquashfs for an image."""
        if self.entry is not None:
            return list(of_image(dependencies.metadata(self.entry, settings)))
        return list(of_packages(contents_of(self.lock, Path()).packages))


def subject(settings: Settings) -> Subject:
    """Return the image that the settings name, or a project's lock; raises NotBuiltError."""
    try:
        entry, lock = pipeline.current_entry(settings)
        return Subject(entry.image, lock, entry)
    except NotBuiltError:
        state = lock_state(settings) if settings.address is None else None
        if state is None or state.lock is None or state.status != "current":
            raise
        return Subject(lockfile_path(settings, state.lock.platform), state.lock, None)


def of_image(image: Installed) -> Iterator[Checked]:
    """Yield what an image has by the metadata inside, and conda packages of Python without any."""
    described = set()
    for path, head in image.wheels.items():
        name, version = str(head["Name"]), str(head["Version"])
        owner = image.owner.get(path)
        if owner is None:
            yield Checked("pip", name, version, pip_name(name), "exact")
        else:
            described.add(owner)
            yield Checked("conda", owner, version, pip_name(name), "metadata")
    for record in image.records:
        if record["name"] not in described and _of_python(record):
            name = record["name"]
            yield Checked("conda", name, record["version"], pip_name(name), "name")


def _of_python(record: Mapping[str, Any]) -> bool:
    names = {re.split(r"[\s=<>!~]", spec.strip(), maxsplit=1)[0] for spec in record["depends"]}
    return "python" in names or BUILD.search(str(record["build"])) is not None


def of_packages(packages: Sequence[Package]) -> Iterator[Checked]:
    """Yield what a lock says: it tells neither names nor files of what is in conda packages."""
    for package in packages:
        if package.kind == "pip":
            project = pip_name(package.name)
            # The digits of a commit can look like a version, which is not known.
            version = package.version if package.sha256 else f"git:{package.version}"
            yield Checked("pip", package.name, version, project, "exact")
        elif BUILD.search(package.build):
            name = pip_name(package.name)
            yield Checked("conda", package.name, package.version, name, "name")
