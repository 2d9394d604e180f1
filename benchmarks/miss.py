"""What it costs to build an image, with all packages in the package cache."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import original
from benchmarks.measure import Phase, phases, total
from benchmarks.original import tool
from benchmarks.pins import ONE_MORE
from benchmarks.place import Place
from benchmarks.results import Claim, Row, Sample
from condainer.cache.squashfs import packing
from condainer.settings.load import load_settings
from condainer.system.files import remove_tree

BUILD = "cnd build"
ALONE = "mksquashfs alone"
ORIGINAL = "the original's steps"
COMPRESS, LINK = "Compressing", "Linking"


def miss(place: Place) -> Row:
    """A miss, beside the original's steps and the compressor alone."""
    project = place.scientific("miss")
    image = Path(place.built(project)["image"])
    packages = original.archives(place, project)
    tree = place.root / "tree"
    remove_tree(tree)
    unsquashfs: list[str | Path] = [tool("unsquashfs"), "-quiet", "-no-progress", "-d", tree, image]
    subprocess.run(unsquashfs, check=True, capture_output=True)
    theirs: list[dict[str, float]] = []
    alone, ours = [], []
    sizes = {}
    for number in range(place.long_effort.least):
        place.discard()
        steps = phases([place.cnd, "build"], project, place.environment)
        ours.append(total(steps))
        image = next(place.cache.glob("images/*/*/image.squashfs"))
        sizes[BUILD] = image.stat().st_size
        alone.append(compress_alone(place, tree))
        # It takes by far the longest; two runs of it say enough.
        if number < 2:
            seconds, made = original.build(place, project, packages)
            theirs.append(seconds)
            sizes[ORIGINAL] = made.stat().st_size
    whole = tuple(sum(seconds.values()) for seconds in theirs)
    samples = [Sample(BUILD, tuple(ours)), Sample(ALONE, tuple(alone)), Sample(ORIGINAL, whole)]
    for step in original.STEPS:
        samples.append(Sample(f"original: {step}", tuple(seconds[step] for seconds in theirs)))
    samples += [Sample(f"size: {name}", (size / 1e6,), "MB") for name, size in sizes.items()]
    files = sum(1 for path in tree.rglob("*") if not path.is_dir())
    remove_tree(tree)
    remove_tree(place.root / "original")
    median = statistics.median
    claims = (
        Claim("as fast as the original's steps", median(whole) / median(ours), 6.0, "×", True),
        Claim("mksquashfs alone", median(ours) / median(alone), 1.3),
    )
    note = f"{files} files, {'small' if place.quick else 'scientific'} environment"
    return Row("miss", "a miss, packages in the package cache", tuple(samples), claims, note)


def compress_alone(place: Place, tree: Path) -> float:
    """Run mksquashfs as cnd does, and nothing else; return the seconds."""
    target = place.root / "alone.squashfs"
    target.unlink(missing_ok=True)
    # With the default settings, as those of the suite's environment.
    command = packing(tool("mksquashfs"), tree, target, load_settings(place.root, environ={}))
    start = time.perf_counter()
    subprocess.run([*command, "-no-progress"], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    target.unlink()
    return seconds


def size(row: Row) -> Row:
    """The sizes of the images that the row of a miss made."""
    samples = tuple(sample for sample in row.samples if sample.name.startswith("size: "))
    ours, theirs = (row.sample(f"size: {name}").median for name in (BUILD, ORIGINAL))
    claim = Claim("the original's gzip image", ours / theirs, 0.96, digits=3)
    return Row("size", "image size", samples, (claim,), row.note)


def one_more(place: Place) -> Row:
    """One package added: what is not linking and compressing, beside a build of everything."""
    project = place.scientific("one-more")
    place.built(project)
    before = (project / "environment.yml").read_text(encoding="utf-8")
    text = before.replace("dependencies:\n", f"dependencies:\n  - {ONE_MORE}\n").replace(
        "dependencies: [", f"dependencies: [{ONE_MORE}, "
    )
    # Locked and downloaded beforehand: both builds begin with all archives at hand.
    (project / "environment.yml").write_text(text, encoding="utf-8")
    place.run(project, "lock")
    _forget_compiled(place)
    everything, added, nothing = [], [], []
    for _ in range(place.long_effort.least):
        _build(place, project, before)
        added.append(_build(place, project, text))
        nothing.append(_build(place, project, text))
        _forget_compiled(place)
        everything.append(_build(place, project, text))
        _forget_compiled(place)
    share = _share(place, project)
    rests = [[_rest(steps) for steps in runs] for runs in (everything, added, nothing)]
    names = ("all packages new", "one package new", "no package new, but no image")
    samples = (
        *(
            Sample(f"{name}, without linking and compressing", tuple(rest))
            for name, rest in zip(names, rests, strict=True)
        ),
        Sample(f"share of {ONE_MORE} in all modules", (share,), ""),
    )
    whole, one, none = (statistics.median(rest) for rest in rests)
    # To put the byte code of all other packages in its place is linking, too.
    ratio = (one - none) / (share * (whole - none))
    claim = Claim("its share of what all packages cost when they are new", ratio, 1.5)
    return Row("one_more", "adding one package to that environment", samples, (claim,))


def _build(place: Place, project: Path, text: str) -> list[Phase]:
    (project / "environment.yml").write_text(text, encoding="utf-8")
    place.run(project, "lock")
    place.discard()
    return phases([place.cnd, "build"], project, place.environment)


def _rest(steps: Sequence[Phase]) -> float:
    return total(steps) - total(steps, LINK, COMPRESS)


def _forget_compiled(place: Place) -> None:
    remove_tree(place.root / "packages" / "compiled")


def _share(place: Place, project: Path) -> float:
    """Return the share of the added package's modules in those of all packages."""
    image = next(place.cache.glob("images/*/*/image.squashfs"))
    argv: list[str | Path] = [tool("unsquashfs"), "-lc", image]
    listed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    modules = [line for line in listed if line.endswith(".py")]
    return sum(f"/site-packages/{ONE_MORE}/" in line for line in modules) / len(modules)
