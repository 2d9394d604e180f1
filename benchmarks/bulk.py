"""An environment of 5 GB: how much memory its build takes, and how fast its image is read."""

from __future__ import annotations

import os

from benchmarks.imports import drop_page_cache
from benchmarks.large import Large, half_noise, locked
from benchmarks.measure import Contender, Effort, command, interleaved, peak_memory
from benchmarks.original import tool
from benchmarks.place import Place
from benchmarks.results import Claim, Row, Sample
from condainer.system.files import remove_tree

PACKAGES = 10
# Bytes of a package.
SIZE = 500_000_000


def bulk(place: Place) -> tuple[Row, Row]:
    """Return the rows of the peak memory of a build, and of `cnd cache`."""
    packages, size = (2, SIZE // 10) if place.quick else (PACKAGES, SIZE)
    large = locked(place, "bulk", packages, size, half_noise)
    held = peak_memory([place.cnd, "build"], large.project, large.environment)
    total = packages * size / 1e9
    memory = Row(
        "memory",
        f"peak memory of a build of {total:g} GB",
        (Sample("peak memory", (held.megabytes,), "MB"),),
        (Claim("", held.megabytes, 500, "MB", digits=0),),
        f"all processes of the build together, most of it in {held.largest}",
    )
    read = _read(place, large)
    remove_tree(large.root)
    return memory, read


def _read(place: Place, large: Large) -> Row:
    what, image = "`cnd cache`", large.image
    if os.geteuid() != 0:
        return Row("cache", what, problem="only root can empty the page cache")
    dd = [tool("dd"), f"if={image}", "of=/dev/null", "bs=1M"]
    samples = interleaved(
        [
            Contender(
                "cnd cache",
                command([place.cnd, "cache"], large.project, large.environment),
                drop_page_cache,
            ),
            Contender("dd bs=1M", command(dd), drop_page_cache),
        ],
        Effort(2, 0) if place.quick else Effort(3, 0),
    )
    ratio = samples[1].median / samples[0].median
    note = f"{image.stat().st_size / 1e6:.0f} MB, not in the page cache; cnd's start included"
    claim = Claim("what dd reads", ratio, 0.9, at_least=True)
    return Row("cache", what, samples, (claim,), note)
