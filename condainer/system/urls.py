"""URLs: what in them is secret, and is never shown or written."""

from __future__ import annotations

import re

# User and password, before the host, perhaps with `${VARIABLE}`. The scheme has a limit: one of any
# length takes the square of the time for a long word.
USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,20})://(?P<user>[^/\s?#'\"<>]*)@")
# The token of a conda channel: `https://host/t/TOKEN/channel`; conda takes it from anywhere in the
# path. A second `://` ends the search: without it, a long word takes the square of its time.
TOKEN = re.compile(r"(?P<before>://[^/\s]+(?:(?!(?<=:)//)/[^/\s?#]*)*?)/t/[^/\s]+(?=/)")
# In the URLs of wheels and sdists, whose paths hold letters of the alphabet, only there.
INDEX_TOKEN = re.compile(r"(?P<before>://[^/\s]+)/t/[^/\s]+(?=/)")
# The variables of uv's indexes, the most important one first.
INDEX_VARIABLES = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")
# The variables of all places where uv looks for packages.
PLACE_VARIABLES = (*INDEX_VARIABLES, "UV_FIND_LINKS")
DEFAULT_PORTS = {"http": 80, "https": 443}
# The beginning of a place that is a page of a package index, which links to the file.
PAGE = "page+"
NETRC = "Put user and password into ~/.netrc (mode 0600), and only the plain URL into the file."


def redacted(text: str) -> str:
    """Return a text with `***` in place of the users, passwords and tokens of its URLs."""
    if "@" not in text and "/t/" not in text:
        return text
    return TOKEN.sub(r"\g<before>/t/***", USER.sub(lambda match: _shown(match, "***@"), text))


def without_user(text: str) -> str:
    """Return a text without the users and passwords of its URLs."""
    return USER.sub(lambda match: _shown(match, ""), text) if "@" in text else text


def without_login(url: str) -> str:
    """Return the URL of a conda channel or package without user, password and token."""
    return TOKEN.sub(r"\g<before>", f"{without_user(url)}/").removesuffix("/")


def without_index_login(url: str) -> str:
    """Return the URL of a package index or its files without user, password and token."""
    return INDEX_TOKEN.sub(r"\g<before>", f"{without_user(url)}/").removesuffix("/")


def has_user(text: str) -> bool:
    """Tell whether a URL in a text has a user; the `git@` of SSH does not count."""
    return without_user(text) != text


def has_secret(text: str) -> bool:
    """Tell whether a conda URL in a text has a user, a password or a token."""
    return redacted(text) != text


def _shown(match: re.Match[str], user: str) -> str:
    # Over SSH the user is part of the address, and the key is elsewhere.
    if match["scheme"].lower().endswith("ssh") and ":" not in match["user"]:
        return match[0]
    return f"{match['scheme']}://{user}"


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL: what a login is for.

    Raises ValueError for what has no valid host or port.
    """
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme)
