"""A cache on a file system that is mounted read-only: hits work, a miss says what to do."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from tests.torture.bench import STORAGE, Bench, Figures
from tests.torture.places import read_only
from tests.torture.shims import Fault, Faulty


def campaign(bench: Bench) -> Figures:
    """Hit, miss and run in a read-only cache."""
    problems: list[str] = []
    bench.build()
    before = _state(bench.cache)
    with read_only(bench.cache, bench.root / "read-only") as cache:
        shut = {"CONDAINER_CACHE": str(cache)}
        faulty = Faulty(bench.root, (cache,))
        counting = faulty.environment(Fault(0, errno.EROFS))
        hit = bench.build(**shut, **counting)
        if not hit["hit"] or not hit["image"].startswith(f"{cache}/"):
            problems.append(f"no hit in a read-only cache: {hit}")
        calls, _, first = faulty.counted()
        if calls:
            problems.append(f"a hit tried to write {calls} times into the cache: {first}")
        ran = bench.run("exec", "probe-prefix", **shut)
        if ran.stdout.strip() != hit["prefix"]:
            problems.append(f"exec: {ran.stdout} {ran.stderr}")
        project = {path: path.read_bytes() for path in bench.project.iterdir()}
        (bench.project / "environment.yml").write_text(f"{bench.text}variables: {{OTHER: '1'}}\n")
        miss = bench.run("build", **shut)
        if miss.status != STORAGE or str(cache) not in miss.message or "name" not in miss.message:
            problems.append(f"a miss: status {miss.status}, {miss.stderr}")
        for path, content in project.items():
            path.write_bytes(content)
    if _state(bench.cache) != before:
        problems.append("something in the cache has changed")
    shutil.rmtree(bench.root / "read-only")
    bench.discard()
    line = f"read-only cache: hit, exec and miss, {calls} writes tried, {len(problems)} problems"
    return Figures((line,), tuple(problems))


def _state(root: Path) -> dict[str, tuple[int, int]]:
    return {
        os.path.join(directory, name): (status.st_mtime_ns, status.st_ctime_ns)
        for directory, folders, names in os.walk(root)
        for name in (*folders, *names, "")
        for status in [os.lstat(os.path.join(directory, name))]
    }
