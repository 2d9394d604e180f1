"""Conda archives that are known by their URL alone: fetched to learn their sha256.

An environment file can name a package by its URL, and locks of other tools can have md5 sums only.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from condainer import packages
from condainer.config import Settings
from condainer.dependencies import Spec
from condainer.errors import InputError, IntegrityError, NetworkError
from condainer.explicit import CONDA_FILENAME
from condainer.files import storage_errors
from condainer.inputs import Inputs
from condainer.lock import CondaPackage
from condainer.report import Reporter
from condainer.solver import Solved, channel_of
from condainer.urls import NETRC, has_secret

if TYPE_CHECKING:
    from rattler import Client

# What conda takes for the URL of a package, with a hash after it.
URL = re.compile(
    r"(?P<url>(https?|file)://[^#\s]+\.(conda|tar\.bz2))(#(?P<hash>\S*))?", re.IGNORECASE
)
BRACKETS = re.compile(r"[\w.-]+\s*\[.*\burl\s*=\s*[\"']?(?P<url>[^\"',\]\s]+).*\]")
HASH = re.compile(r"(?P<md5>[0-9a-f]{32})|(sha256[:=])?(?P<sha256>[0-9a-f]{64})", re.IGNORECASE)
# A hash in the brackets of a spec.
DIGEST = re.compile(r"\b(md5|sha256)\s*=\s*[\"']?(?P<hash>[0-9a-fA-F]+)")


@dataclass(frozen=True)
class Wanted:
    """An archive by its URL, and what is known of its bytes; `where` names who wants it."""

    url: str
    where: str
    md5: str = ""
    sha256: str = ""


def wanted_of(spec: Spec, platform: str) -> Wanted | None:
    """Return the archive that a spec names by its URL, or None if it is a spec of another kind.

    Raises InputError if what it names cannot be locked.
    """
    match = URL.fullmatch(spec.text)
    inner = None if match else BRACKETS.fullmatch(spec.text)
    if match is None and inner is None:
        return None
    url = match["url"] if match else unquote(inner["url"]) if inner else ""
    found = match["hash"] if match else _digest(spec.text)
    digest = HASH.fullmatch(found) if found else None
    if found and digest is None:
        raise InputError(
            f"{spec.where}: neither an md5 nor a sha256: {found!r}",
            "Write `URL#<md5>` or `URL#sha256:<sha256>`, or leave the hash out.",
        )
    package = CondaPackage(url, "")
    if has_secret(url):
        raise InputError(f"{spec.where}: a URL with user, password or token: {url}", NETRC)
    if not CONDA_FILENAME.fullmatch(package.filename):
        raise InputError(
            f"{spec.where}: not the URL of a conda package: {url}",
            "It ends in <name>-<version>-<build>.conda or .tar.bz2.",
        )
    if package.subdir not in (platform, "noarch"):
        raise InputError(
            f"{spec.where}: not a package for {platform}: {url}",
            f"Packages of a channel stand in a directory {platform} or noarch.",
        )
    known = (
        {name: text.lower() for name, text in digest.groupdict().items() if text} if digest else {}
    )
    return Wanted(url, spec.where, **known)


def _digest(text: str) -> str:
    match = DIGEST.search(text)
    return match["hash"] if match else ""


@dataclass(frozen=True)
class OnDisk:
    """Inputs whose packages by URL were fetched; `urls` are the origins by file name and sha256."""

    inputs: Inputs
    urls: Mapping[str, str]

    def restored(self, solved: Sequence[Solved]) -> tuple[Solved, ...]:
        """Return a solution with the origins of packages that were solved for from disk."""
        return tuple(self._restored(item) for item in solved)

    def _restored(self, item: Solved) -> Solved:
        url = self.urls.get(f"{item.package.filename}#{item.package.sha256}")
        if url is None or not item.package.url.startswith("file:"):
            return item
        return replace(item, package=replace(item.package, url=url))


def on_disk(inputs: Inputs, settings: Settings, reporter: Reporter) -> OnDisk:
    """Fetch the packages that the inputs name by URL, so that exactly these are solved for.

    Raises InputError, NetworkError or IntegrityError for one that is not what it should be.
    """
    found = [wanted_of(spec, inputs.platform) for spec in inputs.specs]
    wanted = [item for item in found if item is not None]
    if not wanted:
        return OnDisk(inputs, {})
    local = [item.url for item in wanted if item.url.startswith("file:")]
    if local:
        reporter.warn(f"{', '.join(local)} can be installed only on machines that have the file")
    fetched = dict(zip(wanted, fetch(wanted, settings, reporter), strict=True))
    specs = [
        spec if item is None else Spec(_path(fetched[item], settings).as_uri(), spec.where)
        for spec, item in zip(inputs.specs, found, strict=True)
    ]
    urls = {f"{package.filename}#{package.sha256}": package.url for package in fetched.values()}
    return OnDisk(replace(inputs, specs=tuple(specs)), urls)


def _path(package: CondaPackage, settings: Settings) -> Path:
    return packages.archive_path(package, settings)


def fetch(
    wanted: Sequence[Wanted], settings: Settings, reporter: Reporter
) -> tuple[CondaPackage, ...]:
    """Download archives into the package cache, and return each with its sha256.

    Raises IntegrityError when one has not the hash that is known of it, NetworkError when it
    cannot be downloaded.
    """
    reporter.step("Downloading packages without a known sha256", "packages")
    with storage_errors(f"keep downloaded packages in {settings.package_cache}"):
        return asyncio.run(_fetch_all(wanted, settings, reporter))


async def _fetch_all(
    wanted: Sequence[Wanted], settings: Settings, reporter: Reporter
) -> tuple[CondaPackage, ...]:
    import rattler

    client = rattler.Client.default_client()
    slots = asyncio.Semaphore(packages.PARALLEL_DOWNLOADS)
    done = 0

    async def one(item: Wanted) -> CondaPackage:
        nonlocal done
        async with slots:
            package = await _fetch(item, client, settings)
        done += 1
        reporter.progress(done, len(wanted))
        return package

    return tuple(await asyncio.gather(*(one(item) for item in wanted)))


async def _fetch(item: Wanted, client: Client, settings: Settings) -> CondaPackage:
    directory = settings.package_cache / "archives"
    directory.mkdir(parents=True, exist_ok=True)
    base = item.url.rsplit("/", 2)[0]
    mirrors = channel_of(base, settings).mirrors
    problem: Exception | None = None
    for url in [mirror + item.url.removeprefix(base) for mirror in mirrors] or [item.url]:
        descriptor, name = tempfile.mkstemp(dir=directory)
        partial = Path(name)
        try:
            with open(descriptor, "wb") as stream:
                writer = _Hashing(stream)
                await _download(url, writer, client)
            _check(item, url, writer)
            package = CondaPackage(item.url, writer.sha256.hexdigest())
            target = _path(package, settings)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.chmod(0o644)
            os.replace(partial, target)
            return package
        except IntegrityError as error:
            problem = error
        except FileNotFoundError:
            problem = InputError(f"{item.where}: there is no file {url}", "Write its whole URL.")
        except OSError:
            raise
        except Exception as error:
            problem = NetworkError(
                f"{item.where}: {url} cannot be downloaded: {error}",
                "Check the network, or name a mirror (`mirrors:` in condainer.yml).",
            )
        finally:
            partial.unlink(missing_ok=True)
    assert problem is not None
    raise problem from None


class _Hashing:
    """A writer that computes what locks know of an archive."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.sha256 = hashlib.sha256()
        # Only compared with what another tool wrote; never a proof.
        self.md5 = hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes) -> None:
        self.sha256.update(data)
        self.md5.update(data)
        self.stream.write(data)


async def _download(url: str, writer: _Hashing, client: Client) -> None:
    from rattler.package_streaming import download_to_writer

    if url.startswith("file://"):
        with open(unquote(urlsplit(url).path), "rb") as source:
            shutil.copyfileobj(source, writer, 1 << 20)
    else:
        await download_to_writer(client, url, writer)


def _check(item: Wanted, url: str, found: _Hashing) -> None:
    for kind, known, digest in (
        ("md5", item.md5, found.md5.hexdigest()),
        ("sha256", item.sha256, found.sha256.hexdigest()),
    ):
        if known and known != digest:
            raise IntegrityError(
                f"{item.where}: {url} has the {kind} {digest}, not {known}",
                "Do not use it before whoever keeps the channel has explained the difference.",
            )
