"""The pages of a package index: where it has a file of a given name."""

from __future__ import annotations

import io
import threading
from contextlib import suppress
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

from condainer.network import http
from condainer.network.hosts import near
from condainer.system.files import LARGEST


def find(page: str, filename: str, stop: threading.Event) -> str:
    """Return the URL that the page of a package gives for a file.

    Raises http.Unavailable when the page cannot be read, is too large, or does not have it.
    """
    stream = io.BytesIO()
    # A directory that stands in for an index has the page in this file.
    place = f"{page}index.html" if page.startswith("file://") else page
    http.fetch(place, http.Received(stream, most=LARGEST), stop)
    parser = _Links()
    with suppress(AssertionError):
        # Some parsers of Python take declarations that they do not know for errors of their own.
        parser.feed(stream.getvalue().decode("utf-8", "replace"))
    for link in parser.links:
        with suppress(ValueError):
            # A link may be no URL.
            url = http.joined(page, link).partition("#")[0]
            if unquote(urlsplit(url).path.rpartition("/")[2]) == filename:
                if near(url) not in ("", near(page)):
                    raise http.Unavailable(f"it leads to {near(url)}")
                return url
    raise http.Unavailable(f"its page does not have {filename}")


class _Links(HTMLParser):
    """Collects what a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]
