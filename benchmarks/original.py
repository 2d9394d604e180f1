"""What the original Condainer does for one environment, by its own commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.place import TOP, Place
from condainer.system.files import remove_tree

STEPS = ("link", "pip", "compile", "gzip")


def archives(place: Place, project: Path) -> list[Path]:
    """Return the conda archives of a locked project, in the package cache."""
    lock = next(project.glob("conda-*-*.lock")).read_text(encoding="utf-8")
    digests = [line.rpartition("#sha256:")[2] for line in lock.splitlines() if "#sha256:" in line]
    kept = place.root / "packages" / "archives"
    return [next((kept / digest[:2] / digest).iterdir()) for digest in digests]


def build(place: Place, project: Path, packages: Sequence[Path]) -> tuple[dict[str, float], Path]:
    """Build as the original does, and return the seconds of each step, and the image.

    conda itself cannot be had from a package registry: rattler links in its place, with hard links
    and without checking what it unpacked before, which is faster than any conda.
    """
    work = place.root / "original"
    prefix, image = work / "prefix", work / "image.squashfs"
    remove_tree(work)
    work.mkdir()
    link = [sys.executable, "-m", "benchmarks.link", str(place.root / "packages"), str(prefix)]
    python = str(prefix / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--no-index", "--find-links", str(place.wheels)]
    commands: dict[str, list[str]] = {
        "link": [*link, *map(str, packages)],
        "pip": [*pip, "-r", str(project / "requirements.txt")],
        "compile": [python, "-m", "compileall", "-q", str(prefix)],
        "gzip": ["mksquashfs", str(prefix), str(image), "-noappend"],
    }
    seconds = {}
    for step, argv in commands.items():
        start = time.perf_counter()
        where = TOP if step == "link" else work
        done = subprocess.run(
            argv, cwd=where, env=place.environment, capture_output=True, text=True
        )
        seconds[step] = time.perf_counter() - start
        # compileall's status tells of files that are not Python, too; the original overlooks it.
        if done.returncode and step != "compile":
            raise RuntimeError(f"{step}: {done.stderr.strip()[-800:]}")
    return seconds, image


def tool(name: str) -> str:
    """Return the path of a tool; raises RuntimeError if it is missing."""
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is not installed")
    return path
