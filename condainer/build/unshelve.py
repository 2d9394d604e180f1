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
from typing import BinaryIO

import xxhash

from condainer.build import bytecode_shelf
from condainer.build.bytecode_shelf import Module
from condainer.build.compile_tree import end_with_parent, start_worker

SHELVES = "shelves"
# What can be said of a module: its source, the source's sha256, its target and the sha256 of what
# was written there, or None for a source that is not valid Python.
Written = tuple[str, str, str, "str | None"]


class Damaged(Exception):
    """A shelf is not what was written."""


def unshelve(shelf: Path, directory: Path, prefix: str) -> list[Written] | None:
    """Write the modules of a shelf below a directory, for a prefix; None if it is damaged.

    What was written of a damaged one is worth nothing. Modules whose path gets too long are left
    out. Raises OSError when the disk does not take it.
    """
    try:
        with open(shelf, "rb", buffering=0) as stream:
            return _unshelve(stream, directory, prefix)
    except (Damaged, FileNotFoundError, IsADirectoryError):
        return None


def _unshelve(stream: BinaryIO, directory: Path, prefix: str) -> list[Written]:
    size = os.fstat(stream.fileno()).st_size
    beginning = stream.read(bytecode_shelf.HEAD)
    length = bytecode_shelf.length_of_index(beginning)
    if length > size:
        raise Damaged
    index = stream.read(length)
    if beginning != bytecode_shelf.head(index):
        raise Damaged
    old, rows = bytecode_shelf.parsed(index)
    total = xxhash.xxh3_128(beginning + index)
    # One place for all: new memory costs more than to read what is in the page cache.
    buffer = memoryview(bytearray(max((0, *(row[3] for row in rows)))))
    written: list[Written] = []
    folders: set[str] = set()
    for source, sha256, target, size, at in rows:
        if size < 0:
            written.append((source, sha256, target, None))
            continue
        code = buffer[:size]
        if stream.readinto(code) != size:  # type: ignore[attr-defined]
            raise Damaged
        total.update(code)
        pieces = bytecode_shelf.for_prefix(Module(source, sha256, target, code, at), old, prefix)
        if pieces is None:
            continue
        path = f"{directory}/{target}"
        folder = os.path.dirname(path)
        if folder not in folders:
            os.makedirs(folder, exist_ok=True)
            folders.add(folder)
        _write(path, pieces)
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
        written.append((source, sha256, target, digest.hexdigest()))
    if stream.read() != total.digest():
        raise Damaged
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
    sizes = {n: _size(shelf) for n, shelf in enumerate(shelves)}
    shares: list[list[tuple[int, Path]]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for number in sorted(sizes, key=lambda n: -sizes[n]):
        least = loads.index(min(loads))
        loads[least] += sizes[number]
        shares[least].append((number, shelves[number]))
    yield from (share for share in shares if share)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


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
