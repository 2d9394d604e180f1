"""Where the URLs of a lock lead: nowhere near this machine unless the user says so.

Whoever can propose a lock could otherwise have files of the builder's read, or services asked that
only the builder can reach.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from condainer.config import Settings
from condainer.errors import InputError, LockfileError
from condainer.inputs import Inputs, read_inputs
from condainer.lock import VCS, Lock, this_platform
from condainer.urls import DEFAULT_PORTS, INDEX_VARIABLES, origin

URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"']+", re.IGNORECASE)
FIND_LINKS = re.compile(r"--find-links (?P<path>/.+)")


def admit(lock: Lock, settings: Settings) -> None:
    """Refuse a lock that would have packages fetched from where only the user may send us.

    A file, this machine and link-local addresses have to be named by the project's own environment
    file and requirements, or by the settings; http is refused where they say https. Raises
    LockfileError before anything is fetched.
    """
    urls = [package.url for package in lock.conda] + [package.url for package in lock.pip]
    doubtful = [url for url in urls if near(url) or _scheme(url) == "http"]
    if not doubtful:
        return
    named = list(_named(settings))
    files = [_path(url) for url in named if _scheme(url) == "file"]
    hosts = {host_of(url) for url in named}
    encrypted = {host_of(url) for url in named if _scheme(url) == "https"}
    plain = {host_of(url) for url in named if _scheme(url) == "http"}
    for url in doubtful:
        what = near(url)
        if what == "a file" and not _inside(_path(url), files):
            raise _refused(url, "a file that the project's own files do not name")
        if what and what != "a file" and host_of(url) not in hosts:
            raise _refused(url, f"{what}, which the project's own files do not name")
        if _scheme(url) == "http" and host_of(url) in encrypted - plain:
            raise _refused(url, "http, but the project's own files say https")


def _refused(url: str, what: str) -> LockfileError:
    return LockfileError(
        f"The lock leads to {what}: {url}",
        "Lock anew with `cnd lock`, or name the place in environment.yml (`channels:`), in the "
        "requirements (`--find-links`, `--index-url`) or as a mirror.",
    )


def _named(settings: Settings) -> Iterator[str]:
    """Yield the URLs that the project's own files, the settings and the environment name."""
    for channel, urls in settings.mirrors:
        yield from (channel, *urls)
    for variable in (*INDEX_VARIABLES, "UV_FIND_LINKS"):
        for word in os.environ.get(variable, "").split():
            yield from _of_text(f"--find-links {word}" if word.startswith("/") else word)
    try:
        inputs = read_inputs(settings, this_platform())
    except InputError:
        # The lock alone is what is built.
        return
    yield from _of_inputs(inputs, settings)


def _of_inputs(inputs: Inputs, settings: Settings) -> Iterator[str]:
    from condainer.solver import channel_of

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


def host_of(url: str) -> str:
    """Return host and port (if not the usual one) of a URL in lower case, or an empty text."""
    try:
        scheme, host, port = origin(url)
    except ValueError:
        return ""
    return host if port in (None, DEFAULT_PORTS.get(scheme)) else f"{host}:{port}"


def near(url: str) -> str:
    """Return what in the neighbourhood of this machine a URL leads to, or an empty text.

    That is a file, this machine itself, or a link-local address, at which clouds serve their
    machines' credentials.
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return "no valid host"
    if parts.scheme.lower().removeprefix(VCS) == "file":
        return "a file"
    if host == "localhost" or host.endswith(".localhost"):
        return "this machine"
    address = _address(host)
    if address is None:
        return ""
    if address.is_loopback or address.is_unspecified:
        return "this machine"
    return "a link-local address" if address.is_link_local else ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is written as, in any form that a resolver takes."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            # `127.1`, `0x7f000001` and `2130706433` are the same machine.
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        return found.ipv4_mapped
    return found
