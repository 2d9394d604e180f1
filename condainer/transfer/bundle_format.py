"""The file that `cnd bundle` writes: locks, their input files, and all packages.

It is a plain tar archive, uncompressed because packages are compressed. The first member says what
the others are, by kind, name, size and sha256; these have numbers for names, so that no name in the
archive is ever a path. docs/reference/files.md specifies it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from condainer.system.errors import IntegrityError

MANIFEST = "condainer-bundle.json"
FORMAT = "condainer-packages 1"
KINDS = ("project", "archive", "repository", "record")
# The list is read into memory before anything is checked.
MANIFEST_LIMIT = 64 << 20
PIECES_LIMIT = 200_000
BLOCK = tarfile.BLOCKSIZE
REMEDY = "Nothing was taken from it. Copy the file again from where `cnd bundle` wrote it."


@dataclass(frozen=True)
class Piece:
    """A part of a bundle.

    Its `name` is a path below the project, an archive's file name, the URL of a repository with
    the commit, or the key of a record of build tools.
    """

    kind: str
    name: str
    sha256: str
    size: int


def packages(pieces: Sequence[Piece]) -> int:
    """Return how many of some pieces are packages."""
    return sum(piece.kind in ("archive", "repository") for piece in pieces)


# Opens the bytes of a piece.
Source = Callable[[], BinaryIO]


def write(pieces: Sequence[tuple[Piece, Source]], target: BinaryIO) -> None:
    """Write a bundle whose bytes depend on its pieces alone.

    Raises IntegrityError for a piece that does not have its sha256, OSError.
    """
    content = {"format": FORMAT, "pieces": [asdict(piece) for piece, _ in pieces]}
    text = json.dumps(content, indent=1).encode() + b"\n"
    target.write(_header(MANIFEST, len(text)) + text + _padding(len(text)))
    for number, (piece, source) in enumerate(pieces):
        target.write(_header(str(number), piece.size))
        with source() as stream:
            _copy(stream, piece, target, piece.name)
        target.write(_padding(piece.size))
    target.write(bytes(2 * BLOCK))


def read(stream: BinaryIO, where: str) -> tuple[Piece, ...]:
    """Return the pieces that a bundle says it has, in their order; `where` names it in errors.

    Raises IntegrityError for a file that is no bundle, or whose list is not what it should be.
    """
    stream.seek(0)
    size = _member(stream, MANIFEST, where)
    if size > MANIFEST_LIMIT:
        raise _damaged(where, f"its list has {size} bytes")
    try:
        content = json.loads(stream.read(size))
        if content["format"] != FORMAT:
            raise _damaged(where, f"its format is {str(content['format'])[:80]!r}, not {FORMAT!r}")
        items = content["pieces"]
        if not isinstance(items, list) or len(items) > PIECES_LIMIT:
            raise ValueError("not a list of pieces")
        pieces = tuple(_piece(item) for item in items)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(where, f"its list cannot be read: {error}") from None
    names = [(piece.kind, piece.name, piece.sha256) for piece in pieces]
    if len(set(names)) != len(names):
        raise _damaged(where, "its list names something twice")
    return pieces


def contents(
    stream: BinaryIO, pieces: Sequence[Piece], where: str
) -> Iterator[tuple[Piece, Callable[[BinaryIO | None], None]]]:
    """Yield each piece with a function that copies its bytes, or only checks them with None.

    Raises IntegrityError when the archive holds anything else than its list says, or the bytes of
    a piece do not have its sha256.
    """
    stream.seek(0)
    _skip(stream, _member(stream, MANIFEST, where))
    for number, piece in enumerate(pieces):
        size = _member(stream, str(number), where)
        if size != piece.size:
            raise _damaged(where, f"{piece.name} has {size} bytes, not {piece.size}")
        start = stream.tell()

        def copy(target: BinaryIO | None, piece: Piece = piece, start: int = start) -> None:
            stream.seek(start)
            _copy(stream, piece, target, where)

        yield piece, copy
        stream.seek(start)
        _skip(stream, size)
    # Other writers of tar add more zeros.
    end = stream.read(tarfile.RECORDSIZE + 2 * BLOCK)
    if len(end) < 2 * BLOCK or any(end) or stream.read(1):
        raise _damaged(where, "it does not end where its list does")


def is_below(name: str) -> bool:
    """Tell whether a name is that of a file in the project, not hidden, and of nothing else."""
    path = PurePosixPath(name)
    plain = str(path) == name and name.isprintable() and "\\" not in name
    # `..` as well, and what programs read unasked: `.envrc`, `.git/hooks`, `.ssh`.
    hidden = any(part.startswith(".") for part in path.parts)
    return plain and not path.is_absolute() and not hidden


def _piece(item: Any) -> Piece:
    piece = Piece(**{field.name: item[field.name] for field in fields(Piece)})
    sized = isinstance(piece.size, int) and not isinstance(piece.size, bool) and piece.size >= 0
    named = isinstance(piece.name, str) and 0 < len(piece.name) <= 4096
    if piece.kind not in KINDS or not sized or not named or not piece.name.isprintable():
        raise ValueError(f"no valid piece: {str(item)[:200]}")
    if not isinstance(piece.sha256, str) or not re.fullmatch("[0-9a-f]{64}", piece.sha256):
        raise ValueError(f"no valid sha256: {str(item)[:200]}")
    return piece


def _header(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = size
    header.mode = 0o644
    return header.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def _member(stream: BinaryIO, name: str, where: str) -> int:
    """Read the header of the next member, which has to be a plain file of that name."""
    block = stream.read(BLOCK)
    try:
        # Not tarfile.open(): it would follow what links, sparse files and long names say.
        header = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.TarError, ValueError) as error:
        raise _damaged(where, f"no readable archive: {error}") from None
    if header.type != tarfile.REGTYPE or header.name != name:
        raise _damaged(where, f"{name!r} was expected, not {header.name[:80]!r}")
    left = os.fstat(stream.fileno()).st_size - stream.tell()
    if not 0 <= header.size <= left:
        raise _damaged(where, f"it was cut off: {header.size - left} bytes are missing")
    return int(header.size)


def _skip(stream: BinaryIO, size: int) -> None:
    stream.seek(size + (-size % BLOCK), os.SEEK_CUR)


def _copy(stream: BinaryIO, piece: Piece, target: BinaryIO | None, where: str) -> None:
    sha256 = hashlib.sha256()
    left = piece.size
    while left and (block := stream.read(min(left, 1 << 20))):
        left -= len(block)
        sha256.update(block)
        if target is not None:
            target.write(block)
    if left or sha256.hexdigest() != piece.sha256:
        raise _damaged(where, f"{piece.name} does not have its sha256")


def _damaged(where: str, what: str) -> IntegrityError:
    return IntegrityError(f"{where} is not a bundle of packages that can be used: {what}", REMEDY)
