"""Builds and runs, over and over, against two collections that take whatever they can."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.waiting import wait_until
from tests.torture.bench import CND, SMALL, Bench

TEXTS = (SMALL, "dependencies: [probe-prefix]\n", "dependencies: [probe-prefix, probe-files]\n")
# How long it is waited for keepers that are just ending, in seconds.
PATIENCE = 30.0
LONG_AGO = 1e9


@dataclass
class Yard:
    """A cache that several projects share, and what became of them and of the collections."""

    root: Path
    environment: Mapping[str, str]
    templates: list[tuple[str, Mapping[str, bytes]]] = field(default_factory=list)
    runs: int = 0
    built: int = 0
    collections: int = 0
    moved: int = 0
    back: int = 0
    problems: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def cache(self) -> Path:
        """The cache."""
        return self.root / "cache"

    def cnd(self, directory: Path, *arguments: str) -> str:
        """Run cnd in a directory and return its stdout; a failure is a problem."""
        done = subprocess.run(
            [*CND, *arguments],
            cwd=directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode:
            self.problems.append(f"{' '.join(arguments)}: {done.returncode}: {done.stderr.strip()}")
        return done.stdout


def prepared(root: Path, channel: Path) -> Yard:
    """Return a yard whose locks and packages are there, and whose images nobody names."""
    shared = {
        "CONDAINER_CACHE": str(root / "cache"),
        "CONDAINER_PACKAGE_CACHE": str(root / "packages"),
        "CONDAINER_STAGING": str(root / "staging"),
        "CONDAINER_MOUNT_BASE": str(root / "m"),
        "CONDAINER_LINGER": "0",
    }
    yard = Yard(root, {})
    for number, text in enumerate(TEXTS):
        bench = Bench(root / f"template{number}", channel, text, dict(shared))
        files = {path.name: path.read_bytes() for path in bench.project.iterdir()}
        yard.templates.append((str(bench.reference["address"]), files))
        yard.environment = bench.environment
    for note in yard.cache.glob("projects/*"):
        note.unlink()
    return yard


def campaign(yard: Yard, loops: int, workers: int, seed: int) -> Yard:
    """Build and run so many times, by several workers; nothing may fail, and nothing be left."""
    collectors = [threading.Thread(target=_collect, args=(yard,)) for _ in range(2)]
    shares = [loops // workers + (number < loops % workers) for number in range(workers)]
    work = [
        threading.Thread(target=_work, args=(yard, number, share, random.Random(seed + number)))
        for number, share in enumerate(shares)
    ]
    for thread in (*collectors, *work):
        thread.start()
    for thread in work:
        thread.join()
    yard.ended.set()
    for thread in collectors:
        thread.join()
    # In the end all projects go, and what they used is nobody's.
    for number in range(workers):
        shutil.rmtree(yard.root / f"project{number}", ignore_errors=True)
    for address, _ in yard.templates:
        _grow_old(yard.cache, address)
    _collect_once(yard)
    left = [*yard.cache.glob("tmp/*"), *yard.root.glob("staging/*")]
    yard.problems += [f"left: {path}" for path in left]
    return yard


def _collect(yard: Yard) -> None:
    while not yard.ended.is_set():
        _collect_once(yard)


def _collect_once(yard: Yard) -> None:
    output = yard.cnd(yard.root, "gc", "--max-size", "1", "--grace", "0s", "--json")
    if output:
        done = json.loads(output)
        yard.collections += 1
        yard.moved += len(done["moved"])
        yard.back += len(done["back"])


def _work(yard: Yard, number: int, loops: int, chance: random.Random) -> None:
    """Be a project that comes, builds, runs and sometimes goes again."""
    directory = yard.root / f"project{number}"
    for _ in range(loops):
        address, files = chance.choice(yard.templates)
        directory.mkdir(exist_ok=True)
        for name, content in files.items():
            (directory / name).write_bytes(content)
        output = yard.cnd(directory, "build", "--json")
        if not output:
            continue
        yard.built += not json.loads(output)["hit"]
        prefix = yard.cnd(directory, "exec", "probe-prefix").strip()
        if prefix != f"{yard.root}/m/condainer-{address}":
            yard.problems.append(f"{address} ran from {prefix!r}")
        yard.runs += 1
        if chance.random() < 0.7:
            for path in directory.iterdir():
                path.unlink()
            _grow_old(yard.cache, address)
            time.sleep(chance.uniform(0, 0.5))


def _grow_old(cache: Path, address: str) -> None:
    """Let an image look as if nobody had used it for long: only what names it protects it now."""
    # The keeper of a mount notes the end of its use.
    wait_until(lambda: not any(cache.glob(f"leases/{address}.*")), PATIENCE)
    entry = cache / "images" / address[:2] / address
    for path in (entry / "image.squashfs", entry, *cache.glob(f"uses/{address}.*")):
        with suppress(OSError):
            os.utime(path, (LONG_AGO, LONG_AGO))
