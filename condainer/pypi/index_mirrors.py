"""Mirrors of package indexes: asked in their place, and not seen in locks.

Mirrors keep files in places of their own, so a file is looked for on the mirror's page of its
package, and held to the sha256 of the lock.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from condainer.inputs.inputs import Inputs
from condainer.inputs.requirements import Line
from condainer.lock.locks import PipPackage, pip_name
from condainer.package_cache.archives import File
from condainer.packages import downloads
from condainer.settings.config import Settings
from condainer.system.errors import NetworkError
from condainer.system.process import CommandFailed
from condainer.system.reporter import Reporter, Silent
from condainer.system.urls import INDEX_VARIABLES, PAGE, without_index_login, without_user

# The key of `mirrors:` for the index that is asked by default.
DEFAULT = "pypi"
SIMPLE = re.compile(r"/\+?simple/?$")
# Where the default index keeps a file: by the BLAKE2b of its bytes.
HASHED = re.compile(r"/packages/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60}/[^/]+$")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Index:
    """An index, by its URL or the key for the default one, and the URLs to ask in its place."""

    url: str
    mirrors: tuple[str, ...]

    def has(self, url: str) -> bool:
        """Tell whether a file is one of this index, by its canonical URL."""
        if self.url == DEFAULT:
            return HASHED.search(url) is not None
        return url.startswith(f"{_root(without_user(self.url))}/")


def mirrored(settings: Settings) -> list[Index]:
    """Return the indexes that have mirrors."""
    return [
        Index(name, urls)
        for name, urls in settings.mirrors
        if name == DEFAULT or ("://" in name and SIMPLE.search(name))
    ]


def places(package: PipPackage, settings: Settings) -> tuple[str, ...]:
    """Return where to ask for the file of a package: at mirrors if there are any, else its URL."""
    name = pip_name(package.name)
    urls_of_mirrors = [
        f"{PAGE}{mirror}/{name}/"
        for index in mirrored(settings)
        if index.has(package.url)
        for mirror in index.mirrors
    ]
    for prefix, urls in settings.mirrors:
        if "://" in prefix and package.url.startswith(f"{prefix.rstrip('/')}/"):
            urls_of_mirrors += [url + package.url.removeprefix(prefix.rstrip("/")) for url in urls]
    return tuple(urls_of_mirrors) or (package.url,)


def on_mirrors(inputs: Inputs, settings: Settings, resolve: Callable[[Inputs], Result]) -> Result:
    """Resolve with the first mirrors in place of indexes, with the next while they are silent.

    Raises what `resolve` does.
    """

    def attempt(chosen: Mapping[str, str]) -> Result:
        return resolve(replace(inputs, requirements=_lines(inputs.requirements, chosen)))

    return _attempts(settings, attempt)


def asking_mirrors(settings: Settings, ask: Callable[[], Result]) -> Result:
    """Do the same for what asks indexes that uv's variables name, or the default one."""
    return _attempts(settings, lambda chosen: ask())


def _attempts(settings: Settings, attempt: Callable[[Mapping[str, str]], Result]) -> Result:
    indexes = mirrored(settings)
    count = max((len(index.mirrors) for index in indexes), default=1)
    for number in range(count):
        chosen = {
            index.url: index.mirrors[min(number, len(index.mirrors) - 1)] for index in indexes
        }
        try:
            with _variables(chosen):
                return attempt(chosen)
        except (NetworkError, CommandFailed):
            if number == count - 1:
                raise
    raise AssertionError("there is always one attempt")


@contextmanager
def _variables(chosen: Mapping[str, str]) -> Iterator[None]:
    """Let uv's variables name mirrors for a while."""
    before = {name: os.environ.get(name) for name in INDEX_VARIABLES}
    values = {name: _replaced(value, chosen) for name, value in before.items() if value}
    if DEFAULT in chosen and not (before["UV_DEFAULT_INDEX"] or before["UV_INDEX_URL"]):
        values["UV_DEFAULT_INDEX"] = chosen[DEFAULT]
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name)
        os.environ.update({name: value for name, value in before.items() if value})


def _lines(lines: Sequence[Line], chosen: Mapping[str, str]) -> tuple[Line, ...]:
    return tuple(
        replace(line, text=_replaced(line.text, chosen)) if line.is_option else line
        for line in lines
    )


def _replaced(text: str, chosen: Mapping[str, str]) -> str:
    """Replace the URLs of indexes in a text by those of mirrors, with or without logins."""
    for url, mirror in chosen.items():
        if url != DEFAULT:
            scheme, _, rest = without_user(url).rstrip("/").partition("://")
            user = r"([^/\s?#'\"<>]*@)?"
            whole = rf"{re.escape(scheme)}://{user}{re.escape(rest)}/?(?=\s|$|['\"])"
            text = re.sub(whole, mirror.replace("\\", r"\\"), text)
    return text


def canonical(
    packages: Sequence[PipPackage], settings: Settings, reporter: Reporter
) -> tuple[PipPackage, ...]:
    """Return packages with the URLs that the index itself gives, without logins and mirrors.

    Raises what downloads.fetch() does: some mirrors show only by the bytes of a file where it is.
    """
    found = [(package, _canonical_url(package, settings)) for package in packages]
    unknown = [package.filename for package, url in found if url is None]
    if unknown:
        reporter.warn(
            "Locked with the mirror's URLs, for where the index itself has them is not known: "
            f"{', '.join(unknown)} (install pip beside Condainer)"
        )
    return tuple(
        replace(package, url=url or without_index_login(package.url)) for package, url in found
    )


def _canonical_url(package: PipPackage, settings: Settings) -> str | None:
    """Return the URL that the index itself gives for a package; None if it cannot be known."""
    url = without_index_login(package.url)
    for prefix, urls in settings.mirrors:
        for mirror in map(without_index_login, urls if "://" in prefix else ()):
            if url.startswith(f"{mirror}/"):
                return prefix.rstrip("/") + url.removeprefix(mirror)
    for index in mirrored(settings):
        for root in (without_index_login(_root(mirror)) for mirror in index.mirrors):
            if url.startswith(f"{root}/"):
                return _canonical(package, root, index, settings)
    return url


def _canonical(package: PipPackage, root: str, index: Index, settings: Settings) -> str | None:
    if index.url != DEFAULT:
        return _root(index.url) + without_index_login(package.url).removeprefix(root)
    host = _files_of_default()
    if host is None:
        return None
    if match := HASHED.search(package.url):
        return host + match[0]
    file = File(package.url, package.sha256, package.filename, (package.url,))
    (path,) = downloads.fetch([file], settings, Silent(), "")
    digest = hashlib.blake2b(path.read_bytes(), digest_size=32).hexdigest()
    name = package.url.rpartition("/")[2]
    return f"{host}/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{name}"


def _files_of_default() -> str | None:
    """Return where the default index keeps its files, as pip knows it."""
    try:
        from pip._internal.models.index import PyPI
    except ImportError:
        return None
    return f"https://{PyPI.file_storage_domain}"


def _root(index: str) -> str:
    """Return what the URLs of an index's pages and files have in common."""
    return SIMPLE.sub("", index.rstrip("/"))
