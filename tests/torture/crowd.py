"""Many builders of one address at once, with locks that work, do not work, or are everybody's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.torture.bench import Bench

# Another flock(2), in a library that is loaded before the C library.
SHIM = """
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int flock(int descriptor, int how) {
    char link[64], path[PATH_MAX] = "";
    const char *below = getenv("FLOCK_BELOW");
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    if (readlink(link, path, sizeof path - 1) < 0 || strncmp(path, below, strlen(below)) != 0)
        return syscall(SYS_flock, descriptor, how);
    if (strcmp(getenv("FLOCK"), "granted") == 0) return 0;
    if (strcmp(getenv("FLOCK"), "hanging") == 0 && strstr(path, "/locks/")) for (;;) pause();
    if (strcmp(getenv("FLOCK"), "hanging") == 0) return syscall(SYS_flock, descriptor, how);
    errno = ENOSYS;
    return -1;
}
"""


HOWS = ("working", "absent", "granted", "hanging")


@dataclass(frozen=True)
class Crowd:
    """What came of builders that were started at once."""

    builders: int
    built: int
    entries: int
    images: int
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.builders} builders at once, {self.built} built, {self.entries} entry, "
            f"{self.images} image, {len(self.problems)} problems"
        )


def campaign(bench: Bench, builders: int, **environment: str) -> Crowd:
    """Start builders of one address at once; they must all end with the same image."""
    bench.discard()
    children = [bench.start("build", "--json", **environment) for _ in range(builders)]
    problems, results = [], []
    for child in children:
        stdout, stderr = child.communicate(timeout=600)
        if child.returncode:
            problems.append(f"status {child.returncode}: {stderr.strip()}")
        else:
            results.append(json.loads(stdout))
    problems += bench.torn()
    problems += [f"left: {path}" for path in bench.leftovers()]
    return Crowd(
        builders,
        sum(not result["hit"] for result in results),
        len(bench.entries()),
        len({result["sha256"] for result in results}),
        tuple(problems),
    )


def shim(bench: Bench, how: str) -> Mapping[str, str]:
    """Return the environment in which locks are as one of HOWS says, on a bench's cache."""
    if how == "working":
        return {}
    # Cache and package cache, but not the local disk where environments are staged.
    return broken_locks(bench.root, how, bench.cache if how != "absent" else bench.root)


def broken_locks(directory: Path, how: str, below: Path) -> Mapping[str, str]:
    """Return the environment in which flock(2) is `absent`, `granted` to all, or `hanging`.

    Parameters: only for files `below` a directory, as on one file system.
    """
    library = directory / "flock.so"
    if not library.exists():
        source = directory / "flock.c"
        source.write_text(SHIM, encoding="utf-8")
        draft = directory / f"flock.{os.getpid()}.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", draft, source], check=True)
        draft.rename(library)
    return {"LD_PRELOAD": str(library), "FLOCK": how, "FLOCK_BELOW": f"{below}/"}
