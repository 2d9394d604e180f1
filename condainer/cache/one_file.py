"""The one-file form of an entry: the image, then manifest and lock, then a line with their lengths.

It begins with the unchanged bytes of the image, so that everything that reads squashfs reads it:
what comes after the file system is ignored. cache_layout.md specifies it.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from condainer.cache import entries
from condainer.cache.entries import Entry
from condainer.cache.papers import Papers, differences, read_papers
from condainer.cache.squashfs import Hasher, hashed
from condainer.system.errors import IntegrityError
from condainer.system.files import open_regular
from condainer.system.reporter import Reporter

MAGIC = "condainer-bundle 1"
LINE = re.compile(rb"condainer-bundle 1 (\d{20}) (\d{10}) (\d{10}) ([0-9a-f]{64})\n")
LENGTH = len(MAGIC) + 3 + 20 + 10 + 10 + 1 + 64 + 1
BEGINNING = b"condainer-bundle "
SQUASHFS = b"hsqs"
# mksquashfs fills an image up to a multiple of this.
PADDING = 4096
NOT_OURS = "Only a file that `cnd export` wrote can be imported."


@dataclass(frozen=True)
class Bundle:
    """What a one-file image says of itself, read but not yet checked against its bytes."""

    size: int
    papers_text: bytes
    papers: Papers
    sha256: str


def write(entry: Entry, target: BinaryIO, reporter: Reporter) -> Papers:
    """Write an entry as one file, checking the image against its manifest on the way.

    Raises IntegrityError when they disagree; what was written is worth nothing then.
    """
    manifest_text, lock_text = entries.read_papers(entry.directory)
    papers = read_papers(manifest_text, lock_text, str(entry.directory))
    hasher = hashed(entry.image, reporter, follow=False, target=target)
    if problems := differences(papers.manifest, hasher):
        raise IntegrityError(
            f"{entry.directory} is damaged: {'; '.join(problems)}",
            f"`cnd verify {entry.address}` moves it away; `cnd build` builds it again.",
        )
    hasher.sha256.update(manifest_text + lock_text)
    lengths = f"{hasher.size:020} {len(manifest_text):010} {len(lock_text):010}"
    line = f"{MAGIC} {lengths} {hasher.sha256.hexdigest()}\n"
    target.write(manifest_text + lock_text + line.encode())
    return papers


def read(stream: BinaryIO, where: str) -> Bundle | None:
    """Read the papers of a one-file image, or None if the file has none.

    Raises IntegrityError when they are damaged, or made by a later version.
    """
    size = os.fstat(stream.fileno()).st_size
    stream.seek(max(0, size - LENGTH))
    last = stream.read(LENGTH)
    match = LINE.fullmatch(last)
    if match is None:
        if BEGINNING in last:
            raise IntegrityError(f"{where}: the last line cannot be read: {last!r}")
        stream.seek(0)
        return None
    image, manifest, lock = (int(match[number]) for number in (1, 2, 3))
    if image + manifest + lock + LENGTH != size:
        raise IntegrityError(
            f"{where} has {size} bytes, but its last line says {image + manifest + lock + LENGTH}"
        )
    if manifest > entries.LARGEST or lock > entries.LARGEST_LOCK:
        # Both are read into memory before anything vouches for them.
        raise IntegrityError(f"{where}: manifest and lock are too large to be what `cnd` wrote")
    stream.seek(image)
    text = stream.read(manifest + lock)
    papers = read_papers(text[:manifest], text[manifest:], where)
    stream.seek(0)
    return Bundle(image, text, papers, match[4].decode())


def check(
    bundle: Bundle, stream: BinaryIO, reporter: Reporter, target: BinaryIO | None = None
) -> list[str]:
    """Read the image part, copy it to `target`, and return what is wrong with its bytes."""
    stream.seek(0)
    hasher = Hasher(reporter)
    hasher.read(stream, bundle.size, target)
    problems = differences(bundle.papers.manifest, hasher)
    hasher.sha256.update(bundle.papers_text)
    if not problems and hasher.sha256.hexdigest() != bundle.sha256:
        problems.append("manifest or lock are not what was exported: their sha256 differs")
    return problems


def wrong_length(path: Path, size: int) -> tuple[str, ...]:
    """Return whether a bare image is shorter than its file system, or has something after it."""
    with open_regular(path) as stream:
        superblock = stream.read(48)
    if superblock[:4] != SQUASHFS or len(superblock) < 48:
        return ("it is no squashfs image",)
    (used,) = struct.unpack_from("<Q", superblock, 40)
    if size < used:
        return (f"it was cut off: it has {size} of {used} bytes",)
    if size > -(-used // PADDING) * PADDING:
        return (f"{size - used} bytes after its file system are no manifest and lock",)
    return ()
