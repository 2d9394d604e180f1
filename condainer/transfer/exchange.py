"""Entries of a cache as single files: written by `cnd export`, read by `cnd import`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from condainer.cache import entries, one_file, publish, signing, trust
from condainer.cache.entries import Entry
from condainer.cache.one_file import Bundle
from condainer.cache.papers import disagreements, recipe_problems
from condainer.cache.squashfs import unsquashfs
from condainer.settings.config import Settings
from condainer.system.errors import IntegrityError, LockfileError, StorageError
from condainer.system.files import open_regular, published_file, storage_errors
from condainer.system.machine import this_platform
from condainer.system.reporter import Reporter

REMEDY = "Nothing was imported. Copy the file again from where it was exported."


@dataclass(frozen=True)
class Moved:
    """What an export wrote, or an import took in or found."""

    entry: Entry
    path: Path
    size: int
    seconds: float
    present: bool = False

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        manifest = self.entry.manifest
        return {
            "address": self.entry.address,
            "image": str(self.entry.image),
            "file": str(self.path),
            "size": self.size,
            "sha256": manifest.sha256,
            "present": self.present,
            "seconds": round(self.seconds, 3),
        }


def export(digits: str, path: Path, settings: Settings, reporter: Reporter) -> Moved:
    """Write the entry of an address, which may be shortened, into one self-describing file.

    The file appears when all of it is written and checked. Raises NotBuiltError without an entry,
    IntegrityError for a damaged one, StorageError when the file cannot be written.
    """
    start = time.monotonic()
    entry = entries.find(digits, settings)
    demand_file(path)
    # A missing tool is told before anything is copied.
    unsquashfs(settings)
    reporter.step(f"Exporting {entry.address}", "percent")
    with storage_errors(f"export {entry.image} to {path}"), published_file(path) as target:
        papers = one_file.write(entry, target, reporter)
        problems = disagreements(papers) + recipe_problems(entry.image, papers.address, settings)
        if problems:
            raise IntegrityError(f"{entry.directory} is damaged: {'; '.join(problems)}")
    reporter.finish()
    return Moved(entry, path, path.stat().st_size, time.monotonic() - start)


def demand_file(path: Path) -> None:
    """Raise StorageError for a device or a FIFO, which the file would replace, or no directory."""
    if path.exists() and not path.is_file():
        raise StorageError(f"{path} is no regular file", "Name a file that may be written.")
    directory = path.absolute().parent
    if not directory.is_dir():
        raise StorageError(
            f"Cannot write {path}: {directory} is no directory", "Make it, or choose another place."
        )


def receive(path: Path, settings: Settings, reporter: Reporter) -> Moved:
    """Put the entry that a file holds into the cache, after everything in it was checked.

    Raises IntegrityError for a file that is damaged or is no such file, LockfileError for one of
    another platform, CollisionError as entries.look_up(), TrustError for a cache that is not to be
    used, StorageError when it cannot be written.
    """
    start = time.monotonic()
    with storage_errors(f"read {path}"):
        stream = open_regular(path)
    with stream:
        bundle = read_bundle(stream, path)
        address = bundle.papers.address
        reporter.step(f"Importing {address.digest}", "percent")
        entry = present = entries.look_up(address, settings)
        if entry is None:
            trust.check_cache(settings.cache_directory, settings)
            with publish.building(address, settings, reporter, publish.IMPORT) as directory:
                # Another process may have been faster.
                present = entries.look_up(address, settings)
                entry = present or _taken(bundle, stream, path, directory, settings, reporter)
        if present is not None:
            with storage_errors(f"read {path}"):
                _refuse(path, one_file.check(bundle, stream, reporter))
    reporter.finish()
    if present is None:
        signing.add_to_ours(entry, settings, reporter)
    return Moved(entry, path, bundle.size, time.monotonic() - start, present is not None)


def _taken(
    bundle: Bundle,
    stream: BinaryIO,
    path: Path,
    directory: Path,
    settings: Settings,
    reporter: Reporter,
) -> Entry:
    """Copy the image of a file into a builder's directory, check it, and publish it."""
    unsquashfs(settings)
    papers, image = bundle.papers, directory / entries.IMAGE
    with storage_errors(f"copy {path} to {image}"), image.open("wb") as target:
        _refuse(path, one_file.check(bundle, stream, reporter, target))
    _refuse(path, recipe_problems(image, papers.address, settings))
    text, lock = papers.manifest_text, papers.lock_text
    return publish.publish(directory, papers.address, text, lock, settings)


def import_plan(path: Path, settings: Settings) -> list[str]:
    """Return what receive() would do, after a look at the papers in the file; raises the same."""
    with storage_errors(f"read {path}"), open_regular(path) as stream:
        address = read_bundle(stream, path).papers.address
    entry = entries.look_up(address, settings)
    if entry is not None:
        return [f"check {path}, and use {entry.image}, which is there"]
    target = entries.entry_directory(settings.cache_directory, address.digest)
    return [f"check {path}", f"copy its image, manifest and lock to {target}"]


def read_bundle(stream: BinaryIO, path: Path) -> Bundle:
    """Read what a file for this machine says of itself, and hold its papers to each other.

    Raises IntegrityError or LockfileError as receive().
    """
    with storage_errors(f"read {path}"):
        bundle = one_file.read(stream, str(path))
        if bundle is None:
            raise IntegrityError(f"{path} {_foreign(stream.read(4))}", one_file.NOT_OURS)
    _refuse(path, disagreements(bundle.papers))
    platform = bundle.papers.lock.platform
    if platform != this_platform():
        raise LockfileError(
            f"{path} is an image for {platform}, but this machine is {this_platform()}",
            f"Import it on a {platform} machine.",
        )
    return bundle


def _foreign(first: bytes) -> str:
    if first == one_file.SQUASHFS:
        return "is a squashfs image without manifest and lock at its end, or it was cut off"
    return "is not an image that Condainer exported"


def _refuse(path: Path, problems: list[str]) -> None:
    if problems:
        raise IntegrityError(f"{path} is damaged: {'; '.join(problems)}", REMEDY)
