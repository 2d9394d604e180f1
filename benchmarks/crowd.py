"""Many `cnd exec` at once, and caches with many images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import ordinary
from benchmarks.measure import Contender, Effort, command, interleaved
from benchmarks.original import tool
from benchmarks.place import Place
from benchmarks.results import Claim, Row
from condainer.system.files import remove_tree

PROCESSES = 64
IMAGES = 10_000


def execs(place: Place) -> Row:
    """The throughput of many commands at once, from the image and from a plain directory.

    An ordinary user gets squashfuse_ll, root the kernel.
    """
    project = place.scientific("crowd")
    built = place.built(project)
    tree = place.root / "tree"
    remove_tree(tree)
    argv: list[str | Path] = [
        tool("unsquashfs"),
        "-quiet",
        "-no-progress",
        "-d",
        tree,
        built["image"],
    ]
    subprocess.run(argv, check=True, capture_output=True)
    code = "import requests" if place.quick else "import pandas"
    inside: list[str | Path] = [place.cnd, "exec", "--", "python", "-c", code]
    plain: list[str | Path] = [*ordinary.words(), tree / "bin" / "python", "-c", code]
    count = 16 if place.quick else PROCESSES
    effort = Effort(2, 0) if place.quick else Effort(3, 0)
    theirs, _ = ordinary.project(place, project)
    silent = {"PYTHONDONTWRITEBYTECODE": "1"}
    environment = {**ordinary.environment(place), **silent}
    crowds = {
        "squashfuse_ll, ordinary user": _at_once(
            [*ordinary.words(), *inside], theirs, environment, count
        )
    }
    if os.geteuid() == 0:
        as_root = {**place.environment, **silent}
        crowds["kernel, root"] = _at_once(inside, project, as_root, count)
    directory = Contender("plain directory", _at_once(plain, theirs, environment, count))
    place.run(project, "mount")
    ordinary.cnd(place, theirs, "mount")()
    try:
        mounted = interleaved(
            [directory, *(Contender(f"cnd exec, {how}", run) for how, run in crowds.items())],
            effort,
        )
    finally:
        place.run(project, "umount", "--force")
        ordinary.cnd(place, theirs, "umount", "--force")()
    unmounted = interleaved(
        [
            Contender(f"cnd exec, {how}, mounted again each time", run)
            for how, run in crowds.items()
        ],
        effort,
    )
    remove_tree(tree)
    plainly = mounted[0].median
    claims = [
        Claim(
            f"the throughput of a plain directory, {how}{when}",
            plainly / sample.median,
            0.9,
            at_least=True,
        )
        for when, samples in (("", mounted[1:]), (", image not in memory", unmounted))
        for how, sample in zip(crowds, samples, strict=True)
    ]
    note = f"{count} times `python -c '{code}'`"
    return Row("crowd", f"{count} `cnd exec` at once", (*mounted, *unmounted), tuple(claims), note)


def _at_once(
    argv: Sequence[str | Path], cwd: Path, env: Mapping[str, str], count: int
) -> Callable[[], None]:
    def run() -> None:
        null = subprocess.DEVNULL
        children = [
            subprocess.Popen(argv, cwd=cwd, env=env, stdin=null, stdout=null, stderr=null)
            for _ in range(count)
        ]
        failed = [child.wait() for child in children if child.wait()]
        if failed:
            raise RuntimeError(f"{len(failed)} of {count} commands failed: {failed[0]}")

    return run


def many_images(place: Place) -> Row:
    """A hit and `cnd list` in a cache of many images."""
    project = place.project("many")
    place.discard()
    built = place.built(project)
    full = place.root / "full-cache"
    remove_tree(full)
    shutil.copytree(place.cache, full)
    count = IMAGES // 10 if place.quick else IMAGES
    _fill(full, Path(built["image"]).parent, count)
    crowded = {**place.environment, "CONDAINER_CACHE": str(full)}
    small, large = place.project("many-small"), place.project("many-large")
    place.built(small)
    place.built(large, CONDAINER_CACHE=str(full))
    hits = interleaved(
        [
            Contender("hit, empty cache", command([place.cnd, "build"], small, place.environment)),
            Contender("hit, full cache", command([place.cnd, "build"], large, crowded)),
        ],
        place.effort,
    )
    effort = Effort(1, 0) if place.quick else Effort(5, 0)
    lists = interleaved(
        [Contender("list, full cache", command([place.cnd, "list"], large, crowded))], effort
    )
    remove_tree(full)
    claims = (
        Claim("in an empty cache, for a hit", hits[1].median / hits[0].median, 1.2),
        Claim("for `cnd list`", lists[0].median, 1.0, "s"),
    )
    return Row("many_images", f"a cache of {count} images", (*hits, *lists), claims)


def _fill(cache: Path, entry: Path, count: int) -> None:
    """Put entries beside the first that differ in their address alone; images are holes."""
    manifest = json.loads((entry / "manifest.json").read_text(encoding="utf-8"))
    lock = (entry / "explicit.lock").read_bytes()
    for number in range(count - 1):
        # The golden ratio spreads addresses evenly.
        address = f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"
        target = cache / "images" / address[:2] / address
        target.mkdir(parents=True)
        text = json.dumps({**manifest, "address": address, "prefix": f"/tmp/condainer-{address}"})
        (target / "manifest.json").write_text(text, encoding="utf-8")
        (target / "explicit.lock").write_bytes(lock)
        with (target / "image.squashfs").open("wb") as stream:
            stream.truncate(manifest["size"])
