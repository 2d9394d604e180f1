"""Many clients of a slow server: from a directory on it, an image on it, and a copy of that."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ordinary
from benchmarks.imports import QUICK_CODE
from benchmarks.original import tool
from benchmarks.place import Place
from benchmarks.results import Claim, Row, Sample
from condainer.mount import node_copies
from condainer.mount.node_copies import Source, Wish
from condainer.startup.tool_paths import OPTIONS
from condainer.system import files
from condainer.system.reporter import Silent

# Of the server: microseconds for a question, how many it answers at a time, bytes a second.
LATENCIES = (0, 2000)
PARALLEL = 16
RATE = 500_000_000
CLIENTS = (1, 8, 64)
ROUNDS = 3
# Without matplotlib, which looks for fonts the first time.
CODE = "import numpy, scipy.stats, pandas"
DIRECTORY, IMAGE, STAGED = "plain directory", "image", "staged image"
SOURCE = Path(__file__).with_name("slow_server.c")


@dataclass(frozen=True)
class Scene:
    """What the clients find: `server` has the directory `tree` and the file `image.squashfs`."""

    root: Path
    server: Path
    program: Path
    copy: Path
    code: str


def many_clients(place: Place) -> Row:
    """The first import of many clients at once, each with caches of its own, by what they read."""
    image = Path(place.built(place.scientific("slow"))["image"])
    counts = CLIENTS
    rounds = 1 if place.quick else ROUNDS
    found: dict[str, list[float]] = {}
    asked: dict[str, list[float]] = {}
    with _scene(place, image) as (scene, copying):
        for _ in range(rounds):
            for latency in LATENCIES:
                for count in counts:
                    for what in (DIRECTORY, IMAGE, STAGED):
                        name = _name(what, latency, count)
                        seconds, questions = _first(scene, what, latency, count)
                        found.setdefault(name, []).append(seconds)
                        asked.setdefault(f"{what}, a client", []).append(questions / count)
    samples = [Sample(name, tuple(values)) for name, values in found.items()]
    counted = [Sample(name, tuple(values), "questions") for name, values in asked.items()]
    by_name = {sample.name: sample.median for sample in samples}
    slow = LATENCIES[-1]
    claims = [
        Claim(
            f"as fast as from the directory, {count} clients, 2 ms a question",
            by_name[_name(DIRECTORY, slow, count)] / by_name[_name(IMAGE, slow, count)],
            5,
            at_least=True,
        )
        for count in counts
    ]
    claims += [
        Claim(
            f"the same without latency, staged, {count} clients",
            by_name[_name(STAGED, slow, count)] / by_name[_name(STAGED, 0, count)],
            1.1,
        )
        for count in counts
    ]
    few = _by_question(counted, DIRECTORY) / max(1.0, _by_question(counted, IMAGE))
    claims.append(Claim("fewer questions to the server than the directory", few, 5, at_least=True))
    note = (
        f"`{scene.code}`; a server of FUSE that answers {PARALLEL} questions at a time and gives "
        f"{RATE // 1_000_000} MB/s to all; squashfuse_ll and python as an ordinary user"
    )
    what = "the first import by many clients of a slow server"
    return Row("many_clients", what, (*samples, *counted, copying), tuple(claims), note)


def _by_question(samples: Sequence[Sample], what: str) -> float:
    """Return how many questions about names and attributes a client asks."""
    return next(sample.median for sample in samples if sample.name == f"{what}, a client")


def _name(what: str, latency: int, clients: int) -> str:
    return f"{what}, {latency / 1000:g} ms, {clients} clients"


@contextlib.contextmanager
def _scene(place: Place, image: Path) -> Iterator[tuple[Scene, Sample]]:
    with tempfile.TemporaryDirectory(prefix="condainer-bench-", dir="/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        server = root / "server"
        server.mkdir()
        shutil.copy(image, server / "image.squashfs")
        (server / "image.squashfs").chmod(0o444)
        argv: list[str | Path] = [tool("unsquashfs"), "-quiet", "-no-progress"]
        argv += ["-d", server / "tree", image]
        subprocess.run(argv, check=True, capture_output=True)
        program = root / "slow_server"
        compiler = [tool("cc"), "-O2", "-D_FILE_OFFSET_BITS=64", "-I/usr/include/fuse3"]
        subprocess.run(
            [*compiler, SOURCE, "-o", program, "-lfuse3", "-pthread"],
            check=True,
            capture_output=True,
        )
        code = QUICK_CODE if place.quick else CODE
        scene = Scene(root, server, program, root / "copy.squashfs", code)
        with _staged(scene) as seconds:
            yield scene, Sample("the copy itself, 2 ms, 1 client", (seconds,))


@contextlib.contextmanager
def _staged(scene: Scene) -> Iterator[float]:
    """Have a copy made of the image on the slow server, in memory, as `stage` does it."""
    place = scene.root / "node"
    place.mkdir()
    sha256 = files.sha256_of(scene.server / "image.squashfs")
    with _clients(scene, LATENCIES[-1], 1, as_user=False) as (points, _):
        source = Source(points[0] / "image.squashfs", "0" * 32, sha256)
        start = time.perf_counter()
        made = node_copies.provide(source, Wish(str(place), 1 << 40), Silent())
        seconds = time.perf_counter() - start
    if made is None:
        raise RuntimeError("no copy was made")
    # For the ordinary user, who has no directory of root's.
    shutil.copy(made.path, scene.copy)
    scene.copy.chmod(0o444)
    made.release()
    node_copies.remove(made.path)
    yield seconds


@contextlib.contextmanager
def _clients(
    scene: Scene, latency: int, count: int, as_user: bool = True
) -> Iterator[tuple[tuple[Path, ...], list[int]]]:
    """Yield the mount points of new clients, whose caches are empty.

    In the list that comes with them there is in the end how many questions the server was asked.
    """
    with tempfile.TemporaryDirectory(dir=scene.root) as name:
        Path(name).chmod(0o755)
        points = [Path(name, str(number)) for number in range(count)]
        for point in points:
            point.mkdir()
            if as_user:
                ordinary.own(point)
        before = ordinary.words() if as_user else ()
        numbers = (str(latency), str(PARALLEL), str(RATE))
        argv: list[str | Path] = [*before, scene.program, scene.server, *numbers, *points]
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            if server.stdout.readline() != "mounted\n":
                raise RuntimeError(f"{scene.program.name} could not mount")
            questions: list[int] = []
            try:
                yield tuple(points), questions
            finally:
                questions.append(int(server.communicate()[0].split()[0]))


def _first(scene: Scene, what: str, latency: int, count: int) -> tuple[float, int]:
    """Return how long the first import takes until the last of so many clients has it.

    With it comes how many questions they have asked the server together.
    """
    with contextlib.ExitStack() as stack:
        points, questions = stack.enter_context(_clients(scene, latency, count))
        trees = [point / "tree" for point in points]
        images = [scene.copy if what == STAGED else point / "image.squashfs" for point in points]
        if what != DIRECTORY:
            above = ordinary.own(Path(stack.enter_context(_directory(scene))))
            trees = [ordinary.own(above / str(number)) for number in range(count)]
            for tree in trees:
                stack.callback(_unmount, tree)
        start = time.perf_counter()
        children = [
            _start(scene, tree, None if what == DIRECTORY else image)
            for tree, image in zip(trees, images, strict=True)
        ]
        failed = [child.wait() for child in children if child.wait()]
        seconds = time.perf_counter() - start
        if failed:
            raise RuntimeError(f"{len(failed)} of {count} clients failed: {failed[0]}")
    return seconds, questions[0]


def _unmount(tree: Path) -> None:
    # A client that was interrupted has not mounted, or is still there.
    argv = [*ordinary.words(), tool("fusermount3"), "-u", "-z", str(tree)]
    subprocess.run(argv, check=False, capture_output=True)


def _directory(scene: Scene) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=scene.root)


def _start(scene: Scene, tree: Path, image: Path | None) -> subprocess.Popen[bytes]:
    """Start a client, which mounts the image first if there is one."""
    script = '"$1/bin/python" -c "$2"'
    if image is not None:
        script = f'squashfuse_ll -o {OPTIONS} "$3" "$1" && {script}'
    argv = [*ordinary.words(), "sh", "-c", script, "sh", tree, scene.code, image or ""]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "HOME": "/nonexistent",
    }
    null = subprocess.DEVNULL
    return subprocess.Popen(argv, env=environment, stdin=null, stdout=null, stderr=sys.stderr)
