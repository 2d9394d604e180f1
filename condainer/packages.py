"""Conda packages on disk: fetched into the package cache, checked, and linked into a prefix."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

from condainer import linked
from condainer.config import Settings
from condainer.errors import BuildError, IntegrityError, NetworkError
from condainer.files import sha256_of, storage_error_told, storage_errors
from condainer.lock import CondaPackage
from condainer.report import Reporter
from condainer.solver import channel_of

if TYPE_CHECKING:
    from rattler import Client, PackageRecord, RepoDataRecord

PARALLEL_DOWNLOADS = 8


def fetch(
    packages: Sequence[CondaPackage], settings: Settings, reporter: Reporter
) -> tuple[Path, ...]:
    """Return the archives of packages in the package cache, downloading what is missing.

    Every archive is checked against the sha256 of the lock. Raises IntegrityError when what a
    channel serves has another one, NetworkError when it cannot be downloaded.
    """
    with ThreadPoolExecutor(settings.jobs) as pool:
        good = pool.map(lambda p: _is_good(archive_path(p, settings), p), packages)
        missing = [package for package, is_good in zip(packages, good, strict=True) if not is_good]
    if missing:
        reporter.step("Downloading conda packages", "packages")
        with storage_errors(f"keep downloaded packages in {settings.package_cache}"):
            asyncio.run(_fetch_all(missing, settings, reporter))
    return tuple(archive_path(package, settings) for package in packages)


def archive_path(package: CondaPackage, settings: Settings) -> Path:
    """Return where the archive of a package stands in the package cache."""
    directory = settings.package_cache / "archives" / package.sha256[:2] / package.sha256
    return directory / package.filename


def _is_good(path: Path, package: CondaPackage) -> bool:
    try:
        return sha256_of(path) == package.sha256
    except FileNotFoundError:
        return False


async def _fetch_all(
    packages: Sequence[CondaPackage], settings: Settings, reporter: Reporter
) -> None:
    import rattler

    client = rattler.Client.default_client()
    slots = asyncio.Semaphore(PARALLEL_DOWNLOADS)
    done = 0

    async def one(package: CondaPackage) -> None:
        nonlocal done
        async with slots:
            await _fetch(package, client, settings)
        done += 1
        reporter.progress(done, len(packages))

    tasks = [asyncio.create_task(one(package)) for package in packages]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _fetch(package: CondaPackage, client: Client, settings: Settings) -> None:
    target = archive_path(package, settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    problem: Exception | None = None
    for url in _places(package, settings):
        descriptor, name = tempfile.mkstemp(dir=target.parent)
        partial = Path(name)
        try:
            with open(descriptor, "wb") as stream:
                digest = await _download(url, stream, client)
            if digest != package.sha256:
                problem = IntegrityError(
                    f"{url} has the sha256 {digest}, but the lock says {package.sha256}",
                    "Do not use it before whoever keeps the channel has explained the difference; "
                    "`cnd lock` accepts what the channel's index says now.",
                )
                continue
            partial.chmod(0o644)
            os.replace(partial, target)
            return
        except OSError:
            raise
        except Exception as error:
            problem = NetworkError(
                f"{url} cannot be downloaded: {error}",
                "Check the network, or name a mirror (`mirrors:` in condainer.yml).",
            )
        finally:
            partial.unlink(missing_ok=True)
    assert problem is not None
    raise problem from None


def _places(package: CondaPackage, settings: Settings) -> list[str]:
    """Return the URLs of a package: at its channel's mirrors if there are any, else its own."""
    base = package.url.rsplit("/", 2)[0]
    mirrors = channel_of(base, settings).mirrors
    return [mirror + package.url.removeprefix(base) for mirror in mirrors] or [package.url]


class _Hashing:
    """A writer that computes the sha256 of what passes through it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.sha256.update(data)
        self.stream.write(data)


async def _download(url: str, stream: BinaryIO, client: Client) -> str:
    from rattler.package_streaming import download_to_writer

    writer = _Hashing(stream)
    if url.startswith("file://"):
        with open(unquote(urlsplit(url).path), "rb") as source:
            shutil.copyfileobj(source, writer, 1 << 20)
    else:
        await download_to_writer(client, url, writer)
    return writer.sha256.hexdigest()


def link(
    archives: Sequence[Path],
    directory: Path,
    prefix: Path,
    scratch: Path,
    settings: Settings,
    reporter: Reporter,
    hard_links: bool = False,
) -> list[str]:
    """Install packages into `directory`, with the paths in their files pointing below `prefix`.

    With `hard_links`, files are those of the package cache where that is on the same file system:
    whoever changes one has to put a new file in its place.

    Returns the names of the packages, dependencies first. They are unpacked in the package cache
    or, where rattler cannot lock that, in the private directory `scratch`. Raises IntegrityError
    when an archive cannot be unpacked, BuildError when linking fails, StorageError when a disk is
    full.
    """
    reporter.step("Linking conda packages", "packages")
    target = _Target(directory, prefix, hard_links)
    order = asyncio.run(_link(archives, target, scratch, settings, reporter))
    linked.check(directory)
    return order


@dataclass(frozen=True)
class _Target:
    """Where packages are linked, what their files say where they are, and whether by hard links."""

    directory: Path
    prefix: Path
    hard_links: bool


async def _link(
    archives: Sequence[Path],
    target: _Target,
    scratch: Path,
    settings: Settings,
    reporter: Reporter,
) -> list[str]:
    import rattler
    from rattler import exceptions

    records = await asyncio.gather(*(_record(archive) for archive in archives))
    progress = _LinkProgress(reporter, len(records))
    try:
        try:
            await _install(records, target, settings.package_cache, progress)
        except exceptions.InstallerError as error:
            if "cache lock" not in str(error):
                raise
            reporter.warn(f"Locks do not work in {settings.package_cache}: unpacking elsewhere")
            await _install(records, target, scratch, progress)
    except (exceptions.InstallerError, exceptions.LinkError, exceptions.TransactionError) as error:
        doing = f"link conda packages from {settings.package_cache} into {target.directory}"
        raise storage_error_told(doing, str(error)) or BuildError(
            f"Linking the conda packages into {target.directory} failed: {error}",
            f"If a package in {settings.package_cache} is damaged, delete that directory: "
            "it is filled again by the next build.",
        ) from None
    by_name = sorted(records, key=_name)
    return [_name(record) for record in rattler.PackageRecord.sort_topologically(list(by_name))]


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
        alternative_target_prefix=target.prefix,
        # The archives were checked, but what was unpacked from them earlier can have changed.
        package_cache=rattler.PackageCache.new_layered(
            [cache / "unpacked"], validation_mode=ValidationMode.full()
        ),
        config=rattler.Config.from_toml(f"allow-hard-links = {str(target.hard_links).lower()}"),
        installed_packages=[],
        execute_link_scripts=False,
        show_progress=False,
        reporter=progress,  # type: ignore[arg-type]
        client=rattler.Client.default_client(),
    )


def _name(record: PackageRecord) -> str:
    return str(record.name.normalized)


async def _record(archive: Path) -> RepoDataRecord:
    from rattler import RepoDataRecord

    try:
        return await RepoDataRecord.from_package_archive(archive)
    except Exception as error:
        # Its hash is what the lock says, so the channel itself serves a damaged package.
        raise IntegrityError(
            f"{archive} is not a readable conda package: {error}",
            "Its sha256 is the lock's: choose another build of it in the environment file.",
        ) from None


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
