"""The first step of `cnd build --from`: a bundle's packages and files, checked and put in place."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from condainer.lock.explicit import parse_explicit
from condainer.lock.lock_paths import CONDA_LOCK, LOCKFILE, RATTLER_LOCKS
from condainer.lock.locks import Lock, PipPackage
from condainer.package_cache import archives
from condainer.package_cache.archives import File
from condainer.packages import admission, git_repositories
from condainer.pypi import build_requirements
from condainer.settings import environments
from condainer.settings.config import PROJECT_FILE, Settings
from condainer.settings.input_files import ENVIRONMENT_FILES, OTHERS, UV_LOCK
from condainer.settings.load import RUNNING
from condainer.system.errors import IntegrityError, LockfileError, StorageError
from condainer.system.files import open_regular, published_file, read_bytes, storage_errors
from condainer.system.machine import this_platform
from condainer.system.reporter import Reporter
from condainer.system.text import counted
from condainer.transfer import bundle_format
from condainer.transfer.bundle_format import Piece

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
    content is left alone, and one that has a lock of its own takes packages only, neither files
    nor records of build tools. Parameters: `load` returns the settings once the project has its
    files. Raises IntegrityError for a bundle that is damaged, lacks something or brings what is
    not taken, LockfileError for one that is not for this platform or leads where it should not,
    StorageError where a file of the project is another one.
    """
    with storage_errors(f"read {path}"):
        stream = open_regular(path)
    with stream:
        reporter.step("Checking the bundle")
        with storage_errors(f"read {path}"):
            brought = _read(stream, path, project)
        reporter.step("Unpacking the bundle", "packages")
        undo: list[Callable[[], None]] = []
        try:
            for name in brought.absent:
                place = project / name
                with storage_errors(f"write {place}"):
                    for directory in reversed([d for d in place.parents if not d.exists()]):
                        directory.mkdir()
                        undo.append(directory.rmdir)
                    with published_file(place, follow=False) as target:
                        target.write(brought.texts[name])
                undo.append(place.unlink)
            settings = load()
            admission.admit(brought.lock, settings)
            count = _unpack_packages(stream, path, brought, settings, reporter)
        except BaseException:
            for remove in reversed(undo):
                with suppress(OSError):
                    remove()
            raise
    reporter.finish()
    return Unpacked(tuple(project / name for name in brought.absent), count)


def unpack_plan(path: Path, project: Path, settings: Settings) -> list[str]:
    """Return what unpack() would do, after checking all of the bundle; raises as that does."""
    with storage_errors(f"read {path}"), open_regular(path) as stream:
        brought = _read(stream, path, project)
    count = bundle_format.packages(brought.pieces)
    steps = [f"unpack {counted(count, 'packages')} of {path} into {settings.package_cache}"]
    return [*steps, *(f"write {project / name}" for name in brought.absent)]


@dataclass(frozen=True)
class _Brought:
    """What a bundle brings to a project; `records` are keys of build tools that it may choose."""

    pieces: tuple[Piece, ...]
    texts: Mapping[str, bytes]
    absent: tuple[str, ...]
    lock: Lock
    records: frozenset[str]


def _read(stream: BinaryIO, path: Path, project: Path) -> _Brought:
    """Check all of a bundle, without writing anything.

    A project with a lock of its own decides for itself what runs: packages are all it takes.
    """
    texts, pieces = _checked(stream, path)
    locks = _complete_locks(texts, pieces, path)
    _check_project(texts, locks, path)
    lock = locks[this_platform()]
    if _has_lock(project):
        return _Brought(pieces, texts, (), lock, frozenset())
    absent = _absent(texts, project)
    if PROJECT_FILE in absent:
        _check_settings(texts, path)
    keys = {
        build_requirements.key_of(package, build_requirements.python_of(lock))
        for lock in locks.values()
        for package in build_requirements.from_source(lock)
    }
    return _Brought(pieces, texts, tuple(absent), lock, frozenset(keys))


def _has_lock(project: Path) -> bool:
    """Tell whether a project has a lock of this platform, of any of its environments."""
    return any(
        name in RATTLER_LOCKS or _is_conda_lock(name) or _platform_of(name) == this_platform()
        for name in os.listdir(project)
    )


def _platform_of(name: str) -> str:
    match = LOCKFILE.fullmatch(name)
    return match["platform"] if match and not match["completed"] else ""


def _is_conda_lock(name: str) -> bool:
    return name == CONDA_LOCK or name.endswith(f".{CONDA_LOCK}")


def _check_project(texts: Mapping[str, bytes], locks: Mapping[str, Lock], path: Path) -> None:
    """Refuse files that are neither locks, nor what they were made from, nor condainer.yml."""
    known = {PROJECT_FILE, *ENVIRONMENT_FILES, *OTHERS, UV_LOCK}
    known |= {source.path for lock in locks.values() for source in lock.sources}
    keys_given = _settings(texts, path)
    several = keys_given.get(environments.FIELD)
    said = [keys_given, *(several.values() if isinstance(several, dict) else ())]
    named = [keys.get("environment_yml") for keys in said if isinstance(keys, dict)]
    known |= {os.path.normpath(name) for name in named if isinstance(name, str)}
    locked = {name for name in texts if LOCKFILE.fullmatch(name) or _is_conda_lock(name)}
    if others := sorted(name for name in texts if name not in known | locked):
        raise IntegrityError(f"{path}: {others[0]!r} is no file of a project", bundle_format.REMEDY)


def _check_settings(texts: Mapping[str, bytes], path: Path) -> None:
    """Refuse a condainer.yml that makes builds run programs."""
    keys_given = _settings(texts, path)
    if running := [name for name in RUNNING if keys_given.get(name)]:
        raise IntegrityError(
            f"{path}: its {PROJECT_FILE} sets `{running[0]}`, which has builds run something, and "
            "is not allowed in a bundle",
            f"Nothing was taken from it. If you want that, write the same {PROJECT_FILE} into the "
            "project yourself.",
        )


def _settings(texts: Mapping[str, bytes], path: Path) -> dict[object, object]:
    """Return what the condainer.yml of a bundle says."""
    from condainer.system import yaml_file

    text = texts.get(PROJECT_FILE, b"").decode("utf-8-sig", "replace")
    content = yaml_file.load(Path(f"{path}: {PROJECT_FILE}"), text, IntegrityError).value
    return content if isinstance(content, dict) else {}


def _checked(stream: BinaryIO, path: Path) -> tuple[dict[str, bytes], tuple[Piece, ...]]:
    """Check every byte of a bundle; return the project's files in it, and its pieces."""
    pieces = bundle_format.read(stream, str(path))
    texts: dict[str, bytes] = {}
    for piece, copy in bundle_format.contents(stream, pieces, str(path)):
        if piece.kind == "project":
            if not bundle_format.is_below(piece.name) or piece.size > PROJECT_LIMIT:
                raise IntegrityError(f"{path}: {piece.name!r} is no file of a project")
            copy(buffer := io.BytesIO())
            texts[piece.name] = buffer.getvalue()
            continue
        if piece.kind == "archive":
            # It raises LockfileError for what is no name of one.
            File(piece.name, piece.sha256, piece.name, ())
        elif piece.kind == "repository":
            git_repositories.check(PipPackage("", piece.name, ""))
        else:
            _check_record(piece, copy, path)
        copy(None)
    return texts, pieces


def _check_record(piece: Piece, copy: Callable[[BinaryIO], None], path: Path) -> str:
    """Return the text of a record of build tools; raises IntegrityError if it is not one."""
    if not build_requirements.KEY.fullmatch(piece.name) or piece.size > PROJECT_LIMIT:
        raise IntegrityError(f"{path}: {piece.name!r} is no record of build tools")
    copy(buffer := io.BytesIO())
    text = buffer.getvalue().decode("utf-8", "replace")
    if build_requirements.parse(text) is None:
        raise IntegrityError(f"{path}: {piece.name!r} is no record of build tools")
    return text


def _absent(texts: Mapping[str, bytes], project: Path) -> list[str]:
    """Return the names of what the project lacks; raise StorageError where it has another one."""
    others = []
    absent = []
    for name, text in texts.items():
        place = project / name
        between = (parent for parent in place.parents if project in parent.parents)
        if any(parent.is_symlink() for parent in between):
            others.append(name)
        elif not os.path.lexists(place):
            absent.append(name)
        elif not _has(place, text):
            others.append(name)
    if others:
        raise StorageError(
            f"{project} has another {' and another '.join(others)} than the bundle",
            "Move it away, or build in a new directory (`cnd -d DIR build --from FILE`).",
        )
    return absent


def _has(place: Path, text: bytes) -> bool:
    try:
        return read_bytes(place) == text
    except OSError:
        return False


def _complete_locks(
    texts: Mapping[str, bytes], pieces: Sequence[Piece], path: Path
) -> dict[str, Lock]:
    """Return the locks by platform; raise unless this one's is there, with all that locks need."""
    there = {(piece.kind, piece.name, piece.sha256) for piece in pieces}
    repositories_there = {piece.name for piece in pieces if piece.kind == "repository"}
    locks: dict[str, Lock] = {}
    whose: set[str | None] = set()
    # The completed form of another tool's lock comes after that, and in its place.
    for name in sorted(texts):
        if _is_conda_lock(name):
            whose.add(name.removesuffix(CONDA_LOCK).rstrip(".") or None)
        if not (match := LOCKFILE.fullmatch(name)):
            continue
        platform = match["platform"]
        whose.add(match["environment"])
        text = texts[name].decode("utf-8", "replace")
        completed = not match["completed"] and name.replace("conda-", "condainer-", 1) in texts
        locks[platform] = parse_explicit(text, f"{path}: {name}", platform, partial=completed)
    if len(whose) > 1:
        raise IntegrityError(f"{path} has locks of several environments", bundle_format.REMEDY)
    for platform, lock in locks.items():
        needed = [("archive", package.filename, package.sha256) for package in lock.conda]
        needed += [
            ("archive", package.filename, package.sha256)
            for package in lock.pip
            if package.url not in repositories_there
        ]
        lacking = [key[1] for key in needed if key not in there]
        if lacking:
            raise IntegrityError(
                f"{path} lacks packages of the lock for {platform}: {', '.join(lacking[:20])}"
            )
    if this_platform() not in locks:
        raise LockfileError(
            f"{path} has locks for {', '.join(locks) or 'no platform'}, but this machine is "
            f"{this_platform()}",
            f"Make it with `cnd bundle --platform {this_platform()}`.",
        )
    return locks


def _unpack_packages(
    stream: BinaryIO, path: Path, brought: _Brought, settings: Settings, reporter: Reporter
) -> int:
    pieces = brought.pieces
    total = bundle_format.packages(pieces)
    done = 0
    with (
        storage_errors(f"keep packages in {settings.package_cache}"),
        archives.partials(archives.writable_root(settings)) as directory,
    ):
        for piece, copy in bundle_format.contents(stream, pieces, str(path)):
            if piece.kind == "project":
                continue
            if piece.kind == "archive":
                file = File(piece.name, piece.sha256, piece.name, ())
                if archives.find(file, settings) is None:
                    partial_file = directory / str(done)
                    with partial_file.open("wb") as target:
                        copy(target)
                    archives.publish(partial_file, file, settings)
            elif piece.kind == "record":
                # A bundle does not replace records that are here already.
                if (
                    piece.name in brought.records
                    and build_requirements.read(piece.name, settings) is None
                ):
                    build_requirements.write(piece.name, _check_record(piece, copy, path), settings)
            else:
                bundled = directory / f"{done}.git"
                with bundled.open("wb") as target:
                    copy(target)
                git_repositories.unbundle(PipPackage("", piece.name, ""), bundled, settings)
            done += piece.kind != "record"
            reporter.progress(done, total)
    return total
