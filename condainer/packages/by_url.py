"""Conda archives that are known by their URL alone: fetched to learn their sha256.

An environment file can name a package by its URL, and locks of other tools can have md5 sums only.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from condainer.inputs.conda_specs import Spec
from condainer.inputs.inputs import Inputs
from condainer.lock.explicit import CONDA_FILENAME
from condainer.lock.locks import CondaPackage, Solved
from condainer.package_cache import archives
from condainer.packages import conda_packages, downloads, forbidden
from condainer.settings.config import Settings
from condainer.system.errors import CondainerError, InputError, IntegrityError, NetworkError
from condainer.system.files import digest_of, storage_errors
from condainer.system.reporter import Reporter, Silent
from condainer.system.urls import NETRC, has_secret

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


def named(inputs: Inputs) -> list[Wanted]:
    """Return the archives that specs name by their URLs; raises as wanted_of()."""
    wanted = (wanted_of(spec, inputs.platform) for spec in inputs.specs)
    return [item for item in wanted if item is not None]


def wanted_of(spec: Spec, platform: str) -> Wanted | None:
    """Return the archive that a spec names by its URL, or None if it is a spec of another kind.

    Raises InputError if what it names cannot be locked.
    """
    match = URL.fullmatch(spec.text)
    inner = None if match else BRACKETS.fullmatch(spec.text)
    if match is None and inner is None:
        return None
    url = match["url"] if match else unquote(inner["url"]) if inner else ""
    named = match or DIGEST.search(spec.text)
    stated = named["hash"] if named else ""
    digest = HASH.fullmatch(stated) if stated else None
    if stated and digest is None:
        raise InputError(
            f"{spec.where}: neither an md5 nor a sha256: {stated!r}",
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

    Raises InputError, NetworkError or IntegrityError for one that is not what it should be,
    PolicyError for one from a forbidden channel.
    """
    by_spec = [wanted_of(spec, inputs.platform) for spec in inputs.specs]
    wanted = [item for item in by_spec if item is not None]
    if not wanted:
        return OnDisk(inputs, {})
    forbidden.demand_channels(((item.url, item.where) for item in wanted), settings)
    local = [item.url for item in wanted if item.url.startswith("file:")]
    if local:
        reporter.warn(f"{', '.join(local)} can be installed only on machines that have the file")
    fetched = dict(zip(wanted, fetch(wanted, settings, reporter), strict=True))
    specs = [
        spec if item is None else Spec(_path(fetched[item], settings).as_uri(), spec.where)
        for spec, item in zip(inputs.specs, by_spec, strict=True)
    ]
    urls = {f"{package.filename}#{package.sha256}": package.url for package in fetched.values()}
    return OnDisk(replace(inputs, specs=tuple(specs)), urls)


def _path(package: CondaPackage, settings: Settings) -> Path:
    (path,) = conda_packages.fetch([package], settings, Silent())
    return path


def fetch(
    wanted: Sequence[Wanted], settings: Settings, reporter: Reporter
) -> tuple[CondaPackage, ...]:
    """Download archives into the package cache, and return each with its sha256.

    One whose sha256 is known and that is there already is not asked for. Raises IntegrityError when
    one does not have its known hash, NetworkError when it cannot be downloaded,
    OfflineError when it must not be.
    """
    missing = [item for item in dict.fromkeys(wanted) if not _is_cached(item, settings)]
    if settings.offline and (remote := [item for item in missing if not _is_local(item, settings)]):
        raise downloads.offline_error([f"{item.where}: {item.url}" for item in remote])
    fetched: dict[Wanted, CondaPackage] = {}
    if missing:
        reporter.step("Downloading packages by their URL", "packages")
        with storage_errors(f"keep downloaded packages in {settings.package_cache}"):
            fetched = downloads.at_once(missing, _fetch, settings, reporter)
    return tuple(fetched.get(item) or CondaPackage(item.url, item.sha256) for item in wanted)


def _is_cached(item: Wanted, settings: Settings) -> bool:
    if not item.sha256:
        return False
    file = conda_packages.file_of(CondaPackage(item.url, item.sha256), settings)
    return archives.find(file, settings) is not None


def _is_local(item: Wanted, settings: Settings) -> bool:
    return all(place.startswith("file://") for place in _places(item, settings))


def _places(item: Wanted, settings: Settings) -> Sequence[str]:
    """Return where to ask for an archive: at its channel's mirrors if there are any."""
    return conda_packages.file_of(CondaPackage(item.url, ""), settings).places


def _fetch(item: Wanted, partial: Path, settings: Settings, stop: threading.Event) -> CondaPackage:
    problem: CondainerError | None = None
    for url in _places(item, settings):
        try:
            sha256 = downloads.fetch_unknown(url, partial, stop)
            _check(item, url, sha256, partial)
            package = CondaPackage(item.url, sha256)
            archives.publish(partial, conda_packages.file_of(package, settings), settings)
            return package
        except (NetworkError, IntegrityError) as error:
            problem = _absent(url, item) or error
        if stop.is_set():
            break
    assert problem is not None
    if not problem.message.startswith(item.where):
        problem.message = f"{item.where}: {problem.message}"
    raise problem


def _absent(url: str, item: Wanted) -> InputError | None:
    if not url.startswith("file://") or Path(unquote(urlsplit(url).path)).exists():
        return None
    return InputError(f"{item.where}: there is no file {url}", "Write its whole URL.")


def _check(item: Wanted, url: str, sha256: str, path: Path) -> None:
    # The md5 is only compared with what another tool wrote; never a proof.
    md5 = item.md5 and digest_of(path, "md5")
    known = (("sha256", item.sha256, sha256), ("md5", item.md5, md5))
    for kind, wanted, digest in known:
        if wanted and wanted != digest:
            raise IntegrityError(
                f"{url} has the {kind} {digest}, not {wanted}",
                "Do not use it before the channel's maintainers have explained the difference.",
            )
