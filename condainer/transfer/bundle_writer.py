"""What `cnd bundle` does: locks and all their packages, written into one file."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from condainer.lock.explicit import render_explicit
from condainer.lock.lock_paths import completed_path, conda_lock_path, lockfile_path
from condainer.lock.locks import ABSENT, Lock, PipPackage
from condainer.package_cache import archives
from condainer.package_cache.archives import File
from condainer.packages import downloads, git_repositories
from condainer.pypi import build_requirements
from condainer.settings.config import PROJECT_FILE, Settings
from condainer.system.errors import InputError
from condainer.system.files import (
    open_regular,
    published_file,
    read_bytes,
    sha256_of,
    storage_errors,
)
from condainer.system.reporter import Reporter
from condainer.transfer import bundle_format, exchange, fetching
from condainer.transfer.bundle_format import Piece, Source
from condainer.transfer.fetching import Fetched


@dataclass(frozen=True)
class Packed:
    """What `cnd bundle` wrote."""

    path: Path
    platforms: tuple[str, ...]
    pieces: tuple[Piece, ...]

    def report(self) -> dict[str, Any]:
        """Return what `cnd bundle --json` prints."""
        return {
            "file": str(self.path),
            "size": self.path.stat().st_size,
            "platforms": list(self.platforms),
            "files": [piece.name for piece in self.pieces if piece.kind == "project"],
            "packages": bundle_format.packages(self.pieces),
        }


def pack(path: Path, settings: Settings, platforms: Sequence[str], reporter: Reporter) -> Packed:
    """Write the locks of some platforms, by default of this one, with their packages to a file.

    Raises what fetching.fetch() does, InputError for a project that cannot be carried,
    StorageError when the file cannot be written.
    """
    exchange.demand_file(path)
    fetched = fetching.fetch(settings, platforms, reporter)
    reporter.step("Writing the bundle")
    with (
        storage_errors(f"write {path}"),
        archives.partials(archives.private_root(settings)) as drafts,
    ):
        pieces = [
            *_project_pieces(fetched.locks, settings),
            *(
                _archive_piece(f, p)
                for f, p in zip(fetched.needs.files, fetched.paths, strict=True)
            ),
            *_repository_pieces(fetched.needs.repositories, drafts, settings),
            *_tool_pieces(fetched, settings),
        ]
        with published_file(path) as target:
            bundle_format.write(pieces, target)
    reporter.finish()
    wanted = tuple(lock.platform for lock in fetched.locks)
    return Packed(path, wanted, tuple(piece for piece, _ in pieces))


def _project_pieces(locks: Sequence[Lock], settings: Settings) -> list[tuple[Piece, Source]]:
    """Return the locks, and all files that decide whether they are current."""
    texts: dict[str, bytes] = {}
    files = settings.files
    for lock in locks:
        path = lockfile_path(settings, lock.platform)
        there = files.is_file(path)
        texts[path.name] = files.read(path) if there else render_explicit(lock).encode()
        if lock.origin == path.name:
            texts[completed_path(settings, lock.platform).name] = render_explicit(lock).encode()
        for source in lock.sources:
            if source.sha256 != ABSENT:
                texts[source.path] = files.read(source.place(settings.project))
    named = os.path.relpath(settings.environment_yml, settings.project)
    for name in (named, conda_lock_path(settings).name, PROJECT_FILE):
        if files.is_file(settings.project / name):
            texts.setdefault(name, files.read(settings.project / name))
    outside = [name for name in texts if not bundle_format.is_below(name)]
    if outside:
        raise InputError(
            f"{', '.join(outside)}: not in the project's directory, or hidden there, so it cannot "
            "be carried",
            f"Move it below {settings.project}, and lock again.",
        )
    return [_text_piece("project", name, text) for name, text in texts.items()]


def _text_piece(kind: str, name: str, text: bytes) -> tuple[Piece, Source]:
    piece = Piece(kind, name, hashlib.sha256(text).hexdigest(), len(text))
    return piece, partial(io.BytesIO, text)


def _archive_piece(file: File, path: Path) -> tuple[Piece, Source]:
    piece = Piece("archive", file.filename, file.sha256, path.stat().st_size)
    return piece, partial(open_regular, path)


def _tool_pieces(fetched: Fetched, settings: Settings) -> list[tuple[Piece, Source]]:
    """Return what packages from source need to be built, and the records that say so."""
    pieces: dict[str, tuple[Piece, Source]] = {}
    there = {file.sha256 for file in fetched.needs.files}
    for lock in fetched.locks:
        for package in build_requirements.from_source(lock):
            key = build_requirements.key_of(package, build_requirements.python_of(lock))
            path = build_requirements.path_of(key, settings)
            if path.is_file():
                pieces[key] = _text_piece("record", key, read_bytes(path))
        for file, place in downloads.find(
            build_requirements.known(lock, settings), settings
        ).items():
            if place is not None and file.sha256 not in there:
                pieces[file.sha256] = _archive_piece(file, place)
    return list(pieces.values())


def _repository_pieces(
    packages: Sequence[PipPackage], drafts: Path, settings: Settings
) -> list[tuple[Piece, Source]]:
    pieces: list[tuple[Piece, Source]] = []
    for number, package in enumerate(packages):
        path = drafts / f"{number}.git"
        git_repositories.bundle(package, path, settings)
        piece = Piece("repository", package.url, sha256_of(path), path.stat().st_size)
        pieces.append((piece, partial(open_regular, path)))
    return pieces
