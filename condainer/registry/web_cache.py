"""A cache on a web server, in the layout of caches on disk; it is only read.

A web server does not list `signatures/`, so its images have none.
"""

from __future__ import annotations

import io
from typing import BinaryIO
from urllib.parse import urlsplit

from condainer.cache import entries
from condainer.network import deadlines, http
from condainer.network.hosts import host_of
from condainer.oci.errors import NoRegistry, NotThere, RegistryError, Unreachable, WrongContent
from condainer.registry.offer import Offer, Tell, checked, promised
from condainer.system.urls import redacted


def offer(url: str, address: str) -> Offer:
    """Return the image of an address in the cache at a URL.

    Raises NotThere, RegistryError, IntegrityError.
    """
    where = f"{url}/images/{address[:2]}/{address}"
    manifest_text = _read(f"{where}/{entries.MANIFEST}", entries.LARGEST)
    with promised(where):
        lock_text = _read(f"{where}/{entries.LOCK}", entries.LARGEST_LOCK)
    papers = checked(manifest_text, lock_text, where, address)

    def image(stream: BinaryIO, tell: Tell) -> None:
        size, place = papers.manifest.size, f"{where}/{entries.IMAGE}"
        received = http.Received(stream, size, size, tell, wanted=papers.manifest.sha256)
        _fetch(place, received)
        if received.is_wrong:
            raise WrongContent(
                f"{place} does not have the sha256 of the manifest beside it",
                "It is not used. Ask the administrator of that server.",
            )

    return Offer(where, urlsplit(url).hostname or url, papers, image, lambda: iter(()))


def _read(url: str, limit: int) -> bytes:
    stream = io.BytesIO()
    received = http.Received(stream, most=limit, within=deadlines.SMALL)
    _fetch(url, received, soon=True)
    if received.is_page:
        raise NoRegistry(
            redacted(f"{url} is no file of a cache: {host_of(url)} answers with an HTML page"),
            "Check the URL under `readonly_caches`; the page may also be that of a proxy or of a "
            "login.",
        )
    return stream.getvalue()


def _fetch(url: str, received: http.Received, soon: bool = False) -> None:
    try:
        http.fetch(url, received, soon=soon)
    except http.TooMuch as error:
        raise WrongContent(
            redacted(f"{url}: {error}"), "It is not used. Ask the administrator of that server."
        ) from None
    except http.Unavailable as error:
        told = redacted(f"{url}: {error}")
        if error.status == 404:
            raise NotThere(told) from None
        hint = f"Check the network, and whether {host_of(url)} has that directory."
        if error.status == 403:
            hint = (
                f"{host_of(url)} lets nobody read it, or is an object store: these say so also of "
                "what they do not have, unless they let everybody list their files."
            )
        kind = Unreachable if error.again or not error.status else RegistryError
        raise kind(told, hint) from None
