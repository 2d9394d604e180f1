"""Importing scientific packages from an image and from a plain directory, warm and cold.

An ordinary user imports, and mounts by squashfuse; root mounts by the kernel.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import ordinary
from benchmarks.measure import Contender, Effort, command, interleaved
from benchmarks.original import tool
from benchmarks.place import Place
from benchmarks.results import Claim, Row, Sample
from benchmarks.slow import slow_disk
from condainer.startup.tool_paths import OPTIONS
from condainer.system.files import remove_tree

PLAIN, KERNEL = "plain directory", "kernel, root"
LOW, HIGH = "squashfuse_ll, ordinary user", "squashfuse, ordinary user"
# Not a way to work, but it shows what waking another processor costs.
TOGETHER = "squashfuse_ll on the processor of the import"
# What a file system that many use at once gives one of them.
READS = 500
CODE = "import numpy, scipy.stats, pandas, matplotlib.pyplot"
QUICK_CODE = "import rich.console, requests, click"


def imports(place: Place) -> tuple[Row, Row]:
    """Return the rows of warm and of cold imports."""
    project = place.scientific("imports")
    image = Path(place.built(project)["image"])
    tree = place.root / "tree"
    remove_tree(tree)
    argv: list[str | Path] = [tool("unsquashfs"), "-quiet", "-no-progress", "-d", tree, image]
    subprocess.run(argv, check=True, capture_output=True)
    code = QUICK_CODE if place.quick else CODE
    missing = []
    with contextlib.ExitStack() as stack:
        roots = {PLAIN: tree}
        for name in (LOW, KERNEL, HIGH):
            try:
                roots[name] = stack.enter_context(_mounted(place, image, name))
            except (RuntimeError, subprocess.CalledProcessError) as error:
                missing.append(f"{name}: {str(error)[-200:]}")
        contenders = [Contender(name, _import(place, root, code)) for name, root in roots.items()]
        if LOW in roots:
            together = _beside_its_daemon(_import(place, roots[LOW], code), roots[LOW])
            contenders.append(Contender(TOGETHER, together))
        warm = interleaved(contenders, Effort(3, 3.0) if place.quick else Effort(7, 25.0))
    cold = _cold(place, image, tree, code)
    remove_tree(tree)
    by_name = {sample.name: sample.median for sample in warm}
    limits = {LOW: 1.15, KERNEL: 1.05}
    claims = tuple(
        Claim(f"plain directory, {name}", by_name[name] / by_name[PLAIN], limit)
        for name, limit in limits.items()
        if name in by_name
    )
    what = "importing numpy, scipy, pandas, matplotlib from the image, "
    if place.quick:
        what = "importing rich, requests, click from the image, "
    return Row("imports_warm", what + "warm", warm, claims, problem="; ".join(missing)), Row(
        "imports_cold", what + "cold", *cold
    )


def _import(place: Place, root: Path, code: str) -> Callable[[], None]:
    environment = {**ordinary.environment(place), "PYTHONDONTWRITEBYTECODE": "1"}
    return command([*ordinary.words(), root / "bin" / "python", "-c", code], env=environment)


def _beside_its_daemon(run: Callable[[], object], point: Path) -> Callable[[], None]:
    """Return a function that has an import and the daemon of its mount share one processor."""
    argv = ["pgrep", "-f", f"squashfuse_ll .*{point}$"]
    found = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    daemon = int(found.split()[0])

    def together() -> None:
        allowed = os.sched_getaffinity(0)
        one = {min(allowed)}
        os.sched_setaffinity(daemon, one)
        os.sched_setaffinity(0, one)
        try:
            run()
        finally:
            os.sched_setaffinity(0, allowed)
            os.sched_setaffinity(daemon, allowed)

    return together


@contextlib.contextmanager
def _mounted(place: Place, image: Path, how: str) -> Iterator[Path]:
    program = how.partition(",")[0]
    point = ordinary.own(place.root / f"mount-{program}")
    if how == KERNEL:
        mount: list[str | Path] = [
            tool("mount"),
            "-t",
            "squashfs",
            "-o",
            f"{OPTIONS},loop",
            image,
            point,
        ]
        unmount: list[str | Path] = [tool("umount"), point]
    else:
        mount = [*ordinary.words(), tool(program), "-o", OPTIONS, image, point]
        unmount = [*ordinary.words(), tool("fusermount3"), "-u", point]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield point
    finally:
        subprocess.run(unmount, check=True, capture_output=True)


def _cold(
    place: Place, image: Path, tree: Path, code: str
) -> tuple[tuple[Sample, ...], tuple[Claim, ...], str, str]:
    """Import with nothing in the page cache; the mount is part of it."""
    if os.geteuid() != 0:
        return (), (), "", "only root can empty the page cache"

    def from_image(how: str) -> None:
        with _mounted(place, image, how) as root:
            _import(place, root, code)()

    def slowly(run: Callable[[], object]) -> Callable[[], None]:
        def limited() -> None:
            with slow_disk(image, READS):
                run()

        return limited

    from_tree = _import(place, tree, code)
    effort = Effort(1, 0) if place.quick else Effort(5, 0)
    runs: dict[str, Callable[[], object]] = {PLAIN: from_tree}
    for how in (LOW, KERNEL):
        runs[how] = functools.partial(from_image, how)
    samples = interleaved(
        [Contender(name, run, drop_page_cache) for name, run in runs.items()], effort
    )
    claims = _cold_claims(samples)
    slow = f"{READS} reads a second"
    problem = ""
    try:
        limited = interleaved(
            [
                Contender(f"{name}, {slow}", slowly(run), drop_page_cache)
                for name, run in runs.items()
            ],
            effort,
        )
        claims += _cold_claims(limited)
        samples = (*samples, *limited)
    except OSError as error:
        problem = f"the disk cannot be slowed down: {error}"
    note = "with mounting and unmounting; the page cache of this machine was emptied each time"
    return samples, tuple(claims), note, problem


def _cold_claims(samples: tuple[Sample, ...]) -> list[Claim]:
    plain, *mounted = samples
    return [
        Claim(f"plain directory, {sample.name}", sample.median / plain.median, 1.0)
        for sample in mounted
    ]


def drop_page_cache() -> None:
    """Empty the page cache, so that what is read next comes from the disk; for root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
