"""An environment of 5 GB: how much memory its build takes, and how fast its image is read."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from benchmarks.channel import index
from benchmarks.imports import drop_page_cache
from benchmarks.measure import Contender, Effort, command, interleaved, peak_memory
from benchmarks.original import tool
from benchmarks.place import Place
from benchmarks.results import Claim, Row, Sample
from condainer.system.files import remove_tree
from tests.channel.package import Recipe, write_conda

PACKAGES = 10
# Bytes of a package, and of each of its files.
SIZE = 500_000_000
FILE = 10_000_000


def bulk(place: Place) -> tuple[Row, Row]:
    """Return the rows of the peak memory of a build, and of `cnd cache`."""
    packages, size = (2, SIZE // 10) if place.quick else (PACKAGES, SIZE)
    root = place.root / "bulk"
    remove_tree(root)
    channel = root / "conda-forge"
    for number in range(packages):
        _package(root / "work", channel, number, size)
    for subdir in ("linux-64", "noarch"):
        (channel / subdir).mkdir(parents=True, exist_ok=True)
    index(channel)
    names = ", ".join(f"bulk-{number}" for number in range(packages))
    project = place.project("bulk", f"channels: [conda-forge]\ndependencies: [{names}]\n")
    environment = {
        **place.environment,
        "CONDAINER_MIRRORS": f"conda-forge={channel.as_uri()}",
        "CONDAINER_PACKAGE_CACHE": str(root / "packages"),
        "CONDAINER_CACHE": str(root / "cache"),
    }
    subprocess.run(
        [place.cnd, "lock"], cwd=project, env=environment, check=True, capture_output=True
    )
    megabytes, largest = peak_memory([place.cnd, "build"], project, environment)
    image = next((root / "cache").glob("images/*/*/image.squashfs"))
    total = packages * size / 1e9
    memory = Row(
        "memory",
        f"peak memory of a build of {total:g} GB",
        (Sample("peak memory", (megabytes,), "MB"),),
        (Claim("", megabytes, 500, "MB", digits=0),),
        f"all processes of the build together, most of it in {largest}",
    )
    read = _read(place, project, image, environment)
    remove_tree(root)
    return memory, read


def _package(work: Path, channel: Path, number: int, size: int) -> None:
    """Write a package of files that can be compressed by about a half, as libraries can."""
    generator = random.Random(number)
    for part in range(size // FILE):
        noise = generator.randbytes(FILE // 20)
        path = work / "share" / f"bulk-{number}" / f"{part}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            for _ in range(10):
                # Out of reach of the compressor's window, and never the same block twice.
                stream.write(noise[: FILE // 20])
                stream.write(generator.randbytes(16) * (FILE // 320))
    write_conda(work, Recipe(f"bulk-{number}", "1.0", subdir="noarch"), channel)
    remove_tree(work)


def _read(place: Place, project: Path, image: Path, environment: dict[str, str]) -> Row:
    what = "`cnd cache`"
    if os.geteuid() != 0:
        return Row("cache", what, problem="only root can empty the page cache")
    dd = [tool("dd"), f"if={image}", "of=/dev/null", "bs=1M"]
    samples = interleaved(
        [
            Contender(
                "cnd cache", command([place.cnd, "cache"], project, environment), drop_page_cache
            ),
            Contender("dd bs=1M", command(dd), drop_page_cache),
        ],
        Effort(2, 0) if place.quick else Effort(3, 0),
    )
    ratio = samples[1].median / samples[0].median
    note = f"{image.stat().st_size / 1e6:.0f} MB, not in the page cache; cnd's start included"
    claim = Claim("what dd reads", ratio, 0.9, at_least=True)
    return Row("cache", what, samples, (claim,), note)
