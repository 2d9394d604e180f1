"""What `cnd build --from` does first: a bundle's packages and files, checked and put in place."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from condainer import archives, buildtools, parcel, places, repositories
from condainer.archives import File
from condainer.config import Settings
from condainer.errors import IntegrityError, LockfileError, StorageError
from condainer.explicit import parse_explicit
from condainer.files import open_regular, published_file, read_bytes, storage_errors
from condainer.lock import Lock, PipPackage, this_platform
from condainer.parcel import Piece
from condainer.report import Reporter

# A lockfile, or a file that it was made from.
PROJECT_LIMIT = 64 << 20


@dataclass(frozen=True)
class Unpacked:
    """What a bundle brought: files that were written into the project, and packages."""

    written: tuple[Path, ...]
    packages: int


def unpack(path: Path, project: Path, load: Callable[[], Settings], reporter: Reporter) -> Unpacked:
    """Take the packages of a bundle into the package cache, and its other files into the project.

    All of it is checked before anything is written; a file that the project has with the same
    content is left alone. Parameters: `load` returns the settings once the project has its files.
    Raises IntegrityError for a bundle that is damaged or lacks something, LockfileError for one
    that is not for this platform or leads where it should not, StorageError where a file of the
    project is another one.
    """
    with storage_errors(f"read {path}"):
        stream = open_regular(path)
    with stream:
        reporter.step("Checking the bundle")
        with storage_errors(f"read {path}"):
            texts, pieces = _checked(stream, path)
        absent = _absent(texts, project)
        lock = _complete_lock(texts, pieces, path)
        reporter.step("Unpacking the bundle", "packages")
        written: list[Path] = []
        try:
            for name in absent:
                with storage_errors(f"write {project / name}"):
                    _place(project / name, texts[name], written)
            settings = load()
            places.admit(lock, settings)
            count = _unpack_packages(stream, path, pieces, settings, reporter)
        except BaseException:
            for file in written:
                with suppress(OSError):
                    file.unlink()
            raise
    reporter.finish()
    return Unpacked(tuple(written), count)


def unpack_plan(path: Path, project: Path, settings: Settings) -> list[str]:
    """Return what unpack() would do, after checking all of the bundle; raises likewise."""
    with storage_errors(f"read {path}"), open_regular(path) as stream:
        texts, pieces = _checked(stream, path)
    absent = _absent(texts, project)
    _complete_lock(texts, pieces, path)
    count = sum(piece.kind not in ("project", "record") for piece in pieces)
    steps = [f"unpack {count} packages of {path} into {settings.package_cache}"]
    return [*steps, *(f"write {project / name}" for name in absent)]


def _checked(stream: BinaryIO, path: Path) -> tuple[dict[str, bytes], tuple[Piece, ...]]:
    """Check every byte of a bundle; return the project's files in it, and its pieces."""
    pieces = parcel.read(stream, str(path))
    texts: dict[str, bytes] = {}
    for piece, copy in parcel.contents(stream, pieces, str(path)):
        if piece.kind == "project":
            if not parcel.is_below(piece.name) or piece.size > PROJECT_LIMIT:
                raise IntegrityError(f"{path}: {piece.name!r} is no file of a project")
            copy(buffer := io.BytesIO())
            texts[piece.name] = buffer.getvalue()
            continue
        if piece.kind == "archive":
            _file_of(piece)
        elif piece.kind == "repository":
            repositories.check(_package_of(piece))
        else:
            _check_record(piece, copy, path)
        copy(None)
    return texts, pieces


def _check_record(piece: Piece, copy: Callable[[BinaryIO], None], path: Path) -> str:
    """Return the text of a record of build tools; raises IntegrityError for what is none."""
    if not buildtools.KEY.fullmatch(piece.name) or piece.size > PROJECT_LIMIT:
        raise IntegrityError(f"{path}: {piece.name!r} is no record of build tools")
    copy(buffer := io.BytesIO())
    text = buffer.getvalue().decode("utf-8", "replace")
    if buildtools.parse(text) is None:
        raise IntegrityError(f"{path}: {piece.name!r} is no record of build tools")
    return text


def _file_of(piece: Piece) -> File:
    """Return the archive that a piece is; raises LockfileError for a name that is none."""
    return File(piece.name, piece.sha256, piece.name, ())


def _package_of(piece: Piece) -> PipPackage:
    return PipPackage("", piece.name, "")


def _absent(texts: dict[str, bytes], project: Path) -> list[str]:
    """Return the names of what the project lacks; raise StorageError where it has another one."""
    others = []
    absent = []
    for name, text in texts.items():
        place = project / name
        if not os.path.lexists(place):
            absent.append(name)
        elif not _has(place, text):
            others.append(name)
        if any(parent.is_symlink() for parent in _parents(place, project)):
            others.append(name)
    if others:
        raise StorageError(
            f"{project} has another {' and another '.join(dict.fromkeys(others))} than the bundle",
            "Move it away, or build in a new directory (`cnd -d DIR build --from FILE`).",
        )
    return absent


def _parents(place: Path, project: Path) -> list[Path]:
    """Return the directories between a project and a file in it."""
    return [parent for parent in place.parents if project in parent.parents]


def _has(place: Path, text: bytes) -> bool:
    try:
        return read_bytes(place) == text
    except OSError:
        return False


def _complete_lock(texts: dict[str, bytes], pieces: Sequence[Piece], path: Path) -> Lock:
    """Return the lock of this platform; raise unless it is there, with all that locks need."""
    there = {(piece.kind, piece.name, piece.sha256) for piece in pieces}
    repositories_there = {piece.name for piece in pieces if piece.kind == "repository"}
    locks: dict[str, Lock] = {}
    for name, text in texts.items():
        if not (name.startswith("conda-") and name.endswith(".lock")):
            continue
        platform = name.removeprefix("conda-").removesuffix(".lock")
        lock = parse_explicit(text.decode("utf-8", "replace"), f"{path}: {name}", platform)
        locks[platform] = lock
        needed = [("archive", package.filename, package.sha256) for package in lock.conda]
        needed += [
            ("archive", package.filename, package.sha256)
            for package in lock.pip
            if package.url not in repositories_there
        ]
        lacking = [key[1] for key in needed if key not in there]
        if lacking:
            raise IntegrityError(f"{path} lacks packages of {name}: {', '.join(lacking[:20])}")
    if this_platform() not in locks:
        raise LockfileError(
            f"{path} has locks for {', '.join(locks) or 'no platform'}, but this machine is "
            f"{this_platform()}",
            f"Make it with `cnd bundle --platform {this_platform()}`.",
        )
    return locks[this_platform()]


def _place(path: Path, text: bytes, written: list[Path]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with published_file(path, follow=False) as stream:
        stream.write(text)
    written.append(path)


def _unpack_packages(
    stream: BinaryIO, path: Path, pieces: Sequence[Piece], settings: Settings, reporter: Reporter
) -> int:
    total = sum(piece.kind not in ("project", "record") for piece in pieces)
    done = 0
    with (
        storage_errors(f"keep packages in {settings.package_cache}"),
        archives.partials(archives.writable_root(settings)) as directory,
    ):
        for piece, copy in parcel.contents(stream, pieces, str(path)):
            if piece.kind == "project":
                continue
            if piece.kind == "archive":
                file = _file_of(piece)
                if archives.find(file, settings) is None:
                    partial_file = directory / str(done)
                    with partial_file.open("wb") as target:
                        copy(target)
                    archives.publish(partial_file, file, settings)
            elif piece.kind == "record":
                buildtools.write(piece.name, _check_record(piece, copy, path), settings)
            else:
                bundled = directory / f"{done}.git"
                with bundled.open("wb") as target:
                    copy(target)
                repositories.unbundle(_package_of(piece), bundled, settings)
            done += piece.kind != "record"
            reporter.progress(done, total)
    return total
