"""Environments of as many files as large ones have: what grows with them, and what does not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import grown, miss
from benchmarks.large import Large, prepared
from benchmarks.measure import Contender, Effort, Memory, Phase, command, interleaved, phases, total
from benchmarks.original import tool
from benchmarks.place import TOP, Place
from benchmarks.results import Claim, Row, Sample
from condainer.package_cache.clean import measured
from condainer.system.files import remove_tree
from tests.channel import ensure_channel

PREFIX = "files_"
# How many modules are imported.
IMPORTED = 1_000
CODE = """
import importlib, sys
with open(sys.argv[1]) as names:
    for name in names.read().split():
        importlib.import_module(name)
"""
# Seconds between two looks at the memory: such builds take long, and to look takes time.
INTERVAL = 0.1
FIRST, AGAIN = "first build", "build, packages in the package cache"
STEPS = {
    "Downloading": "downloading",
    "Linking": "linking",
    "Compiling": "compiling",
    "Compressing": "compressing",
}
HIT, MOUNT, IMPORT = "hit", "mount", "first import"
KINDS = {"small": "Small files", "mixed": "Few large files, many small"}
ALL, OWN = "peak memory, all processes", "peak memory, cnd itself"
COUNT = "files in the image"


@dataclass(frozen=True)
class Point:
    """An environment of about so many files; `mixed` with large libraries among them."""

    files: int
    mixed: bool = False

    @property
    def key(self) -> str:
        return f"{PREFIX}{self.kind}_{self.files // 1000}k"

    @property
    def kind(self) -> str:
        return "mixed" if self.mixed else "small"


POINTS = tuple(
    Point(files, mixed) for mixed in (False, True) for files in (10_000, 100_000, 300_000)
)


def grow(point: Point, place: Place) -> Row:
    """Build an environment of many files, and do with its image what people do."""
    files = point.files // 10 if place.quick else point.files
    root = place.root / f"{PREFIX}{point.kind}_{files}"
    channel = grown.ensure_grown(
        root / "channel", ensure_channel(TOP / ".channel"), files, point.mixed
    )
    for part in ("cache", "packages"):
        remove_tree(root / part)
    names = [*grown.packages(files), *(grown.libraries(files) if point.mixed else ())]
    large = prepared(place, root, channel, names)
    tree = root / "tree"
    remove_tree(tree)
    samples = _builds(place, large, tree)
    inside = measured(tree)
    samples += _uses(place, large, tree, grown.modules(files, IMPORTED))
    samples += [
        Sample(COUNT, (inside.files,), ""),
        Sample("files in the cache", (measured(large.cache).files,), ""),
        Sample("files in the package cache", (measured(root / "packages").files,), ""),
    ]
    samples.append(_cleaned(place, large))
    for path in (tree, large.cache, root / "packages"):
        remove_tree(path)
    medians = {sample.name: sample.median for sample in samples}
    claim = Claim("mksquashfs alone", medians[AGAIN] / medians[miss.ALONE], 1.3)
    what = f"an environment of {inside.files} files: {KINDS[point.kind].lower()}"
    note = f"{inside.size / 1e6:.0f} MB, {len(names)} packages and Python"
    return Row(point.key, what, tuple(samples), (claim,), note)


def _builds(place: Place, large: Large, tree: Path) -> list[Sample]:
    """Build with an empty package cache, then again, in turn with mksquashfs alone."""
    build: list[str | Path] = [place.cnd, "build"]
    first, again = Memory(INTERVAL), Memory(INTERVAL)
    new = phases(build, large.project, large.environment, first.watched)
    unsquashfs: list[str | Path] = [tool("unsquashfs"), "-quiet", "-no-progress", "-d", tree]
    subprocess.run([*unsquashfs, large.image], check=True, capture_output=True)
    ours, theirs = [], []
    for _ in range(place.long_effort.least):
        remove_tree(large.cache)
        ours.append(phases(build, large.project, large.environment, again.watched))
        theirs.append(miss.compress_alone(place, tree))
    return [
        *_by_step(FIRST, [new]),
        *_by_step(AGAIN, ours),
        Sample(miss.ALONE, tuple(theirs)),
        *(
            Sample(f"{what}: {name}", (megabytes,), "MB")
            for name, memory in ((FIRST, first), (AGAIN, again))
            for what, megabytes in ((ALL, memory.megabytes), (OWN, memory.own))
        ),
    ]


def _by_step(name: str, runs: Sequence[Sequence[Phase]]) -> list[Sample]:
    """Return the seconds of a build, and of each of its steps."""
    steps = {title: [total(steps, title) for steps in runs] for title in STEPS}
    whole = [total(steps) for steps in runs]
    rest = [seconds - sum(parts) for seconds, *parts in zip(whole, *steps.values(), strict=True)]
    return [
        Sample(name, tuple(whole)),
        *(Sample(f"{name}: {STEPS[title]}", tuple(found)) for title, found in steps.items()),
        Sample(f"{name}: the rest", tuple(rest)),
    ]


def _uses(place: Place, large: Large, tree: Path, modules: Sequence[str]) -> list[Sample]:
    """Find the image, mount it, import from it, and ask about it."""
    # As ordinary users mount, be it root who measures; nothing is compiled twice.
    environment = {**large.environment, "CONDAINER_MOUNT": "direct", "PYTHONDONTWRITEBYTECODE": "1"}
    entry = large.image.parent

    def cnd(*arguments: str) -> Contender:
        argv: list[str | Path] = [place.cnd, *arguments]
        return Contender(arguments[0], command(argv, large.project, environment))

    few = Effort(1, 0) if place.quick else Effort(5, 0)
    command([place.cnd, "build"], large.project, environment)()
    # A file that was changed just now is looked at more closely.
    time.sleep(3)
    hit = Contender(HIT, cnd("build").run)
    mount = Contender(MOUNT, cnd("mount").run, cnd("umount", "--force").run)
    samples = [*interleaved([hit, mount], few)]
    listed = large.root / "modules"
    listed.write_text("\n".join(modules), encoding="utf-8")

    def imported(name: str, root: Path, before: Contender | None = None) -> Contender:
        argv: list[str | Path] = [root / "bin" / "python", "-c", CODE, listed]
        run = command(argv, env={**place.environment, "PYTHONDONTWRITEBYTECODE": "1"})
        return Contender(name, run, before.run if before else lambda: None)

    point = Path(place.root / "m" / f"condainer-{entry.name}")

    def remount() -> None:
        mount.before()
        mount.run()

    samples += interleaved(
        [
            imported(IMPORT, point, Contender("", remount)),
            imported("second import", point),
            imported("import from a plain directory", tree),
        ],
        few,
    )
    mount.before()
    asked = [
        cnd("list"),
        cnd("show", entry.name),
        cnd("verify"),
        cnd("gc", "--older-than", "0d", "--dry-run"),
    ]
    return [*samples, *interleaved(asked, few)]


def _cleaned(place: Place, large: Large) -> Sample:
    """Remove all that builds have left of packages."""
    begun = time.perf_counter()
    command([place.cnd, "clean", "--packages"], large.project, large.environment)()
    return Sample("clean --packages", (time.perf_counter() - begun,))


def by_kind(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each kind of environment of which several sizes were measured."""
    found = {
        kind: [row for row in rows if row.key in keys and row.samples]
        for kind, keys in _keys().items()
    }
    return {
        kind: sorted(ours, key=lambda row: row.sample(COUNT).median)
        for kind, ours in found.items()
        if len(ours) > 1
    }


def _keys() -> dict[str, list[str]]:
    kinds = dict.fromkeys(point.kind for point in POINTS)
    return {kind: [point.key for point in POINTS if point.kind == kind] for kind in kinds}


def with_growth(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows with one for each kind: what grew from the smallest to the largest."""
    grown_ones = {
        row.key: row
        for row in (_growth(kind, ours[0], ours[-1]) for kind, ours in by_kind(rows).items())
    }
    return (*(row for row in rows if row.key not in grown_ones), *grown_ones.values())


def _growth(kind: str, small: Row, large: Row) -> Row:
    few, many = (row.sample(COUNT).median for row in (small, large))

    def ratio(name: str) -> float:
        return large.sample(name).median / small.sample(name).median

    times = many / few
    claims = [
        Claim(f"as many files as long: {name}", ratio(name) / times, 1.0) for name in (FIRST, AGAIN)
    ]
    claims += [Claim(f"as long: {name}", ratio(name), 1.2) for name in (HIT, MOUNT)]
    held = [row.sample(f"{OWN}: {FIRST}").median for row in (small, large)]
    kilobytes = 1000 * (held[1] - held[0]) / (many - few)
    sample = Sample(f"{OWN}, for each file more", (kilobytes,), "kB")
    what = f"from {few:.0f} to {many:.0f} files: {KINDS[kind].lower()}"
    return Row(f"{PREFIX}{kind}_growth", what, (sample,), tuple(claims))
