"""Where the URLs of a lock lead: nowhere near this machine unless the user says so.

Otherwise, a proposed lock could make a build read the builder's files, or ask services that only
the builder can reach.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from condainer.inputs.inputs import Inputs
from condainer.inputs.read import read_inputs
from condainer.lock.locks import VCS, Lock
from condainer.network.hosts import NO_HOST, host_of, near
from condainer.packages import forbidden
from condainer.packages.channels import channel_of
from condainer.settings import condarc
from condainer.settings.config import Settings
from condainer.system.errors import InputError, LockfileError
from condainer.system.machine import this_platform
from condainer.system.urls import PLACE_VARIABLES

URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"']+", re.IGNORECASE)
FIND_LINKS = re.compile(r"--find-links (?P<path>/.+)")


def admit(lock: Lock, settings: Settings) -> None:
    """Refuse a lock that would have packages fetched from where only the user may send us.

    A file, this machine and link-local addresses have to be named by the project's own environment
    file and requirements, or by the settings; so has every host that is asked by http. Raises
    LockfileError before anything is fetched, PolicyError for what the user's policy forbids.
    """
    forbidden.demand_lock(lock, str(settings.project), settings)
    urls = [package.url for package in lock.conda] + [package.url for package in lock.pip]
    doubtful = [url for url in urls if near(url) or _scheme(url) == "http"]
    if not doubtful:
        return
    named = list(_named(settings))
    files = [_path(url) for url in named if _scheme(url) == "file"]
    hosts = {host_of(url) for url in named}
    plain = {host_of(url) for url in named if _scheme(url) == "http"}
    for url in doubtful:
        what = near(url)
        if what == NO_HOST:
            raise _refused(url, "no host that all programs would read alike")
        if what == "a file" and not _inside(_path(url), files):
            raise _refused(url, "a file that the project's own files do not name")
        if what and what != "a file" and host_of(url) not in hosts:
            raise _refused(url, f"{what}, which the project's own files do not name")
        if _scheme(url) == "http" and host_of(url) not in plain:
            raise _refused(url, "http, for which the project's own files do not name this host")


def _refused(url: str, what: str) -> LockfileError:
    return LockfileError(
        f"The lock leads to {what}: {url}",
        "Lock again with `cnd lock`, or name the place in environment.yml (`channels:`), in the "
        "requirements (`--find-links`, `--index-url`) or as a mirror.",
    )


def _named(settings: Settings) -> Iterator[str]:
    """Yield the URLs that the project's own files, the settings and the environment name."""
    for channel, urls in settings.mirrors:
        yield from (channel, *urls)
    yield from condarc.in_force().urls()
    for variable in PLACE_VARIABLES:
        for word in os.environ.get(variable, "").split():
            yield from _of_text(f"--find-links {word}" if word.startswith("/") else word)
    try:
        inputs = read_inputs(settings, this_platform())
    except InputError:
        # The lock alone is what is built.
        return
    yield from _of_inputs(inputs, settings)


def _of_inputs(inputs: Inputs, settings: Settings) -> Iterator[str]:
    for channel in inputs.channels:
        with suppress(InputError):
            yield channel_of(channel, settings).url
    for text in [spec.text for spec in inputs.specs] + [r.text for r in inputs.requirements]:
        yield from _of_text(text)


def _of_text(text: str) -> Iterator[str]:
    for match in URL.finditer(text):
        url = match[0].removeprefix(VCS)
        # After a repository's path comes a reference, which can have slashes.
        yield re.sub(r"(?<=[^/:])(/[^@#]*)@.*", r"\1", url) if url != match[0] else url
    if links := FIND_LINKS.match(text):
        yield f"file://{links['path']}"


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower().removeprefix(VCS)


def _path(url: str) -> str:
    """Return the path of a file URL, without the reference to a commit and without `..`."""
    path = unquote(urlsplit(url.removeprefix(VCS)).path)
    if url.startswith(VCS):
        path = path.rpartition("@")[0] or path
    return os.path.normpath(path)


def _inside(path: str, places: Sequence[str]) -> bool:
    return any(path == place or path.startswith(f"{place.rstrip('/')}/") for place in places)
