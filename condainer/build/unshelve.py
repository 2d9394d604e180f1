"""Write byte code from the shelves of the package cache for a prefix; runs beside a build.

Run as `python -m condainer.build.unshelve DIRECTORY PREFIX WORKERS`, where the file
DIRECTORY/shelves holds paths of shelves, each ended by a NUL. What the shelf of number N has goes
below DIRECTORY/N; when all of it stands there, and the shelf was undamaged, DIRECTORY/N.json
appears and says what it is. A process of its own, because neither what patches byte code nor what
writes thousands of files leaves the interpreter to others; its workers are plain forks, for it has
one thread.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from condainer.build import bytecode_shelf
from condainer.build.compile_tree import end_with_parent, start_worker

SHELVES = "shelves"
# What can be said of a module: its source, the source's sha256, its target and the sha256 of what
# was written there, or None for a source that is not valid Python.
Written = tuple[str, str, str, "str | None"]


def unshelve(shelf: Path, directory: Path, prefix: str) -> list[Written] | None:
    """Write the modules of a shelf below a directory, for a prefix; None if it is damaged.

    Modules whose path gets too long are left out. Raises OSError when the disk does not take it.
    """
    kept = bytecode_shelf.read(shelf)
    if kept is None:
        return None
    written: list[Written] = []
    folders: set[str] = set()
    for module in kept.modules:
        if module.code is None:
            written.append((module.source, module.sha256, module.target, None))
            continue
        pieces = bytecode_shelf.for_prefix(module, kept.prefix, prefix)
        if pieces is None:
            continue
        path = f"{directory}/{module.target}"
        folder = os.path.dirname(path)
        if folder not in folders:
            os.makedirs(folder, exist_ok=True)
            folders.add(folder)
        _write(path, pieces)
        digest = hashlib.sha256(b"".join(pieces)).hexdigest()
        written.append((module.source, module.sha256, module.target, digest))
    return written


def _write(path: str, content: bytecode_shelf.Pieces) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        if os.writev(descriptor, content) != sum(map(len, content)):
            # What does not take a module whole is a disk without space.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)


def _work(directory: Path, prefix: str, shelves: Sequence[tuple[int, Path]]) -> None:
    for number, shelf in shelves:
        written = unshelve(shelf, directory / str(number), prefix)
        if written is not None:
            draft = directory / f"{number}.draft"
            draft.write_text(json.dumps(written), "utf-8")
            draft.rename(directory / f"{number}.json")


def _shares(shelves: Sequence[Path], workers: int) -> Iterator[list[tuple[int, Path]]]:
    """Yield what each worker does: about the same number of bytes."""
    sizes = {n: s.stat().st_size if s.is_file() else 0 for n, s in enumerate(shelves)}
    shares: list[list[tuple[int, Path]]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for number in sorted(sizes, key=lambda n: -sizes[n]):
        least = loads.index(min(loads))
        loads[least] += sizes[number]
        shares[least].append((number, shelves[number]))
    yield from (share for share in shares if share)


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; the status is 1 if something could not be written."""
    # Killed, a build cannot end us.
    end_with_parent()
    directory, prefix, workers = Path(arguments[0]), arguments[1], int(arguments[2])
    listed = (directory / SHELVES).read_bytes().split(b"\0")
    shelves = [Path(os.fsdecode(path)) for path in listed if path]
    first, *others = _shares(shelves, workers)
    children = [start_worker(partial(_work, directory, prefix, share)) for share in others]
    try:
        _work(directory, prefix, first)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    failures = [child for child in children if os.waitpid(child, 0)[1]]
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
