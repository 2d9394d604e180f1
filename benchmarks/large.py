"""Projects whose packages are made here, as large as a measurement needs them."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.channel import index
from benchmarks.place import Place
from condainer.system.files import remove_tree
from tests.channel.package import Recipe, write_conda

# Bytes of each file of a package.
FILE = 10_000_000
Content = Callable[[random.Random], Iterator[bytes]]


@dataclass(frozen=True)
class Large:
    """A locked project with a channel and caches of its own, below `root`."""

    root: Path
    project: Path
    environment: dict[str, str]

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def image(self) -> Path:
        return next(self.cache.glob("images/*/*/image.squashfs"))


def half_noise(generator: random.Random) -> Iterator[bytes]:
    """Yield a file that can be compressed by about a half, as libraries can."""
    noise = generator.randbytes(FILE // 20)
    for _ in range(10):
        # Out of reach of the compressor's window, and never the same block twice.
        yield noise
        yield generator.randbytes(16) * (FILE // 320)


def noise(generator: random.Random) -> Iterator[bytes]:
    """Yield a file that cannot be compressed."""
    yield generator.randbytes(FILE)


def locked(place: Place, name: str, packages: int, size: int, content: Content) -> Large:
    """Return a new project of so many packages of so many bytes each, locked."""
    root = place.root / name
    remove_tree(root)
    channel = root / "conda-forge"
    names = [f"{name}-{number}" for number in range(packages)]
    for number, package in enumerate(names):
        _package(root / "work", channel, package, size, content, random.Random(number))
    for subdir in ("linux-64", "noarch"):
        (channel / subdir).mkdir(parents=True, exist_ok=True)
    index(channel)
    return prepared(place, root, channel, names)


def prepared(place: Place, root: Path, channel: Path, names: Sequence[str]) -> Large:
    """Return a new project of packages of a channel, locked, whose caches are below `root`."""
    wanted = "".join(f"  - {name}\n" for name in names)
    text = f"channels: [conda-forge]\ndependencies:\n{wanted}"
    project = place.project(root.name, text)
    environment = {
        **place.environment,
        "CONDAINER_MIRRORS": f"conda-forge={channel.as_uri()}",
        "CONDAINER_PACKAGE_CACHE": str(root / "packages"),
        "CONDAINER_CACHE": str(root / "cache"),
    }
    subprocess.run(
        [place.cnd, "lock"], cwd=project, env=environment, check=True, capture_output=True
    )
    return Large(root, project, environment)


def _package(
    work: Path, channel: Path, name: str, size: int, content: Content, generator: random.Random
) -> None:
    for part in range(size // FILE):
        path = work / "share" / name / f"{part}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.writelines(content(generator))
    write_conda(work, Recipe(name, "1.0", subdir="noarch"), channel)
    remove_tree(work)
