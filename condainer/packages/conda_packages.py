"""Conda packages on disk: fetched into the package cache, checked, and linked into a prefix."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from condainer.lock.locks import CondaPackage
from condainer.network import rattler_client
from condainer.package_cache import archives as package_caches
from condainer.package_cache.archives import UNPACKED, File
from condainer.packages import archive_paths, downloads, linked_files
from condainer.packages.channels import channel_of
from condainer.packages.linked_files import Linked
from condainer.settings.config import Settings
from condainer.system import machine
from condainer.system.errors import BuildError, IntegrityError
from condainer.system.files import storage_error_told, storage_errors
from condainer.system.machine import this_platform
from condainer.system.reporter import Reporter
from condainer.system.text import reason

SHA256 = re.compile("[0-9a-f]{64}")

if TYPE_CHECKING:
    from rattler import PackageRecord, RepoDataRecord


def fetch(
    packages: Sequence[CondaPackage], settings: Settings, reporter: Reporter
) -> tuple[Path, ...]:
    """Return the archives of packages in the package caches, downloading what is missing.

    No other user can change them. Raises what downloads.fetch() does.
    """
    files = [file_of(package, settings) for package in packages]
    paths = downloads.fetch(files, settings, reporter, "Downloading conda packages")
    with storage_errors(f"keep packages in {package_caches.private_root(settings)}"):
        return tuple(
            package_caches.held(path, file.sha256, settings)
            for path, file in zip(paths, files, strict=True)
        )


def file_of(package: CondaPackage, settings: Settings) -> File:
    """Return the archive of a package: at its channel's mirrors if there are any, else its URL."""
    base = package.url.rsplit("/", 2)[0]
    mirrors = channel_of(base, settings).mirrors
    places = tuple(mirror + package.url.removeprefix(base) for mirror in mirrors)
    return File(package.url, package.sha256, package.filename, places or (package.url,))


def link(
    archives: Sequence[Path],
    directory: Path,
    prefix: Path,
    scratch: Path,
    settings: Settings,
    reporter: Reporter,
    platform: str = "",
    hard_links: bool = False,
) -> Linked:
    """Install packages into `directory`, with the paths in their files pointing below `prefix`.

    With `hard_links`, files are those of the package cache where that is on the same file system:
    to change one, put a new file in its place.

    They are unpacked in the package cache or, where that does not keep them or rattler cannot lock
    it, in the private directory `scratch`; `platform` is that of the packages, by default this
    machine's.
    Raises IntegrityError when an archive cannot be unpacked, BuildError when linking fails,
    StorageError when a disk is full.
    """
    reporter.step("Linking conda packages", "packages")
    target = _Target(directory, prefix, hard_links, platform or this_platform())
    records, before = asyncio.run(_link(archives, target, scratch, settings, reporter))
    # The engine held more than a kilobyte for each file.
    machine.give_back_memory()
    vouched = linked_files.check(directory, before)
    for package in before:
        # Not earlier: by their times, they are recognised as those that were there before.
        package_caches.note_use(Path(package))
    return Linked(tuple(ordered(records)), vouched)


@dataclass(frozen=True)
class _Target:
    """Where and how packages are linked; `prefix` is what their files say where they are."""

    directory: Path
    prefix: Path
    hard_links: bool
    platform: str


async def _link(
    archives: Sequence[Path],
    target: _Target,
    scratch: Path,
    settings: Settings,
    reporter: Reporter,
) -> tuple[list[RepoDataRecord], linked_files.States]:
    """Return the packages, and the states of those that were unpacked before."""
    from rattler import exceptions

    # One hashes archives, the other waits for the interpreter.
    records, checked = await asyncio.gather(
        asyncio.gather(*(read_record(archive) for archive in archives)),
        archive_paths.check(archives, scratch),
        return_exceptions=True,
    )
    if isinstance(records, BaseException):
        raise records
    if isinstance(checked, BaseException):
        raise checked
    progress = _LinkProgress(reporter, len(records))
    # No hash of the lock vouches for what is unpacked, so it must be ours.
    kept = package_caches.keeps_unpacked(settings)
    cache = package_caches.private_root(settings) if kept else scratch
    before = linked_files.states(cache / UNPACKED / _stem(record) for record in records)
    try:
        try:
            await _install(records, target, cache, progress)
        except exceptions.InstallerError as error:
            if "cache lock" not in str(error):
                raise
            reporter.warn(f"Locks do not work in {cache}: unpacking elsewhere")
            await _install(records, target, scratch, progress)
    except (exceptions.InstallerError, exceptions.LinkError, exceptions.TransactionError) as error:
        doing = f"link conda packages from {cache} into {target.directory}"
        raise storage_error_told(doing, str(error)) or BuildError(
            f"Linking the conda packages into {target.directory} failed: {reason(error)}",
            f"If a package in {cache} is damaged, delete that directory: "
            "it is filled again by the next build.",
        ) from None
    return list(records), before


def ordered(records: Sequence[RepoDataRecord]) -> list[str]:
    """Return the names of packages, dependencies first."""
    from rattler import PackageRecord

    by_name = sorted(records, key=_name)
    return [_name(record) for record in PackageRecord.sort_topologically(list(by_name))]


async def _install(
    records: Sequence[RepoDataRecord],
    target: _Target,
    cache: Path,
    progress: _LinkProgress,
) -> None:
    import rattler
    from rattler.package_cache import ValidationMode

    await rattler.install(
        list(records),
        target_prefix=target.directory,
        platform=rattler.Subdir(target.platform),
        alternative_target_prefix=target.prefix,
        # The archives were checked, but what was unpacked from them earlier can have changed.
        package_cache=rattler.PackageCache.new_layered(
            [cache / UNPACKED], validation_mode=ValidationMode.full()
        ),
        config=rattler.Config.from_toml(f"allow-hard-links = {str(target.hard_links).lower()}"),
        installed_packages=[],
        execute_link_scripts=False,
        show_progress=False,
        reporter=progress,  # type: ignore[arg-type]
        client=rattler_client.client(),
    )


def _name(record: PackageRecord) -> str:
    return str(record.name.normalized)


def _stem(record: PackageRecord) -> str:
    """Return what the engine calls a package that it unpacked."""
    return f"{_name(record)}-{record.version}-{record.build}"


async def read_record(archive: Path) -> RepoDataRecord:
    from rattler import RepoDataRecord

    try:
        record = await RepoDataRecord.from_package_archive(archive)
    except Exception as error:
        # Its hash is what the lock says, so the channel itself serves a damaged package.
        raise IntegrityError(
            f"{archive} is not a readable conda package: {reason(error)}",
            "Its sha256 is the lock's: choose another build of it in the environment file.",
        ) from None
    # In a package cache, the directory has the name of what was asked for.
    named = archive.parent.name
    if SHA256.fullmatch(named) and record.sha256 != bytes.fromhex(named):
        raise IntegrityError(
            f"{archive} was changed after it was checked: its sha256 is another one",
            "Find out what writes into that package cache, and build again.",
        )
    return record


class _LinkProgress:
    """Passes rattler's callbacks on as a count of linked packages."""

    def __init__(self, reporter: Reporter, total: int) -> None:
        self.reporter = reporter
        self.total = total
        self.done = 0

    def on_link_complete(self, index: int) -> None:
        self.done += 1
        self.reporter.progress(self.done, self.total)

    def __getattr__(self, name: str) -> object:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *arguments, **keywords: 0
