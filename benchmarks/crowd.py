"""Many `cnd exec` at once, and caches with many images."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.measure import Contender, Effort, command, interleaved
from benchmarks.original import tool
from benchmarks.place import Place
from benchmarks.results import Claim, Row
from condainer.system.files import remove_tree

PROCESSES = 64
IMAGES = 10_000


def execs(place: Place) -> Row:
    """The throughput of many commands at once, from the image and from a plain directory."""
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
    environment = {**place.environment, "PYTHONDONTWRITEBYTECODE": "1"}
    inside: list[str | Path] = [place.cnd, "exec", "--", "python", "-c", code]
    plain: list[str | Path] = [tree / "bin" / "python", "-c", code]
    count = 16 if place.quick else PROCESSES
    effort = Effort(2, 0) if place.quick else Effort(3, 0)
    crowd = Contender("cnd exec", _at_once(inside, project, environment, count))
    # For root, `auto` is the kernel; ordinary users get squashfuse_ll.
    by_fuse = {**environment, "CONDAINER_MOUNT": "direct"}
    daemon = Contender("cnd exec, squashfuse_ll", _at_once(inside, project, by_fuse, count))
    directory = Contender("plain directory", _at_once(plain, project, environment, count))
    place.run(project, "mount")
    try:
        mounted = interleaved([crowd, directory], effort)
    finally:
        place.run(project, "umount", "--force")
    remounted = Contender("cnd exec, mounted again each time", crowd.run)
    unmounted = interleaved([remounted, daemon], effort)
    remove_tree(tree)
    own, theirs = (sample.median for sample in mounted)
    limit = "the throughput of a plain directory"
    claims = (
        Claim(f"{limit}, both in memory", theirs / own, 0.9, at_least=True),
        Claim(f"{limit}, image not in memory", theirs / unmounted[0].median, 0.9, at_least=True),
    )
    note = f"{count} times `python -c '{code}'`"
    return Row("crowd", f"{count} `cnd exec` at once", (*mounted, *unmounted), claims, note)


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
