"""What it costs to use an image from elsewhere: wrappers, and a module that puts them into PATH."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.measure import Contender, command, interleaved
from benchmarks.place import Place
from benchmarks.results import Claim, Row, Sample

LMOD = Path("/usr/share/lmod/lmod/init/bash")
NOTHING = ["-c", "pass"]


def wrapper(place: Place) -> Row:
    """A wrapper of Python beside the program itself, where the image is mounted."""
    project, directory = place.scientific(), place.root / "wrappers"
    prefix = Path(place.built(project)["prefix"])
    place.run(project, "wrap", str(directory))
    place.run(project, "mount")
    # A file that was changed just now has to be looked at more closely; that is not this case.
    time.sleep(3)
    environment = place.environment
    wrapped, program = directory / "bin/python", prefix / "bin/python"
    active = {
        **environment,
        "CONDAINER_ADDRESS": prefix.name.partition("-")[2],
        "CONDA_PREFIX": str(prefix),
    }
    try:
        samples = interleaved(
            [
                Contender("wrapper", command([str(wrapped), *NOTHING], env=environment)),
                Contender("wrapper, image active", command([str(wrapped), *NOTHING], env=active)),
                Contender("the program", command([str(program), *NOTHING], env=environment)),
            ],
            place.effort,
        )
    finally:
        place.run(project, "umount", "--force")
    whole, direct, bare = (1000 * sample.median for sample in samples)
    claims = (
        Claim("more than the program", whole - bare, 80, "ms", digits=1),
        Claim("more than the program, image active", direct - bare, 10, "ms", digits=1),
    )
    return Row("wrapper", "a wrapper of `python -c pass`, mounted", samples, claims)


def module(place: Place) -> Row:
    """`module load`, without what bash and Lmod take to start."""
    if not LMOD.exists():
        raise RuntimeError("Lmod is not installed")
    project, directory = place.scientific(), place.root / "modules"
    place.built(project)
    place.run(project, "module", "scientific/1.0", "--dir", str(directory))
    environment = {**place.environment, "PATH": os.environ["PATH"]}
    begin = f". {LMOD}; module use {directory}"
    samples = interleaved(
        [
            Contender(
                "module load",
                command(["bash", "-c", f"{begin}; module load scientific"], env=environment),
            ),
            Contender("bash with Lmod", command(["bash", "-c", begin], env=environment)),
        ],
        place.effort,
    )
    value = 1000 * (samples[0].median - samples[1].median)
    own = Sample("module load alone", (value / 1000,))
    return Row("module", "`module load`", (*samples, own), (Claim("", value, 150, "ms", digits=1),))
