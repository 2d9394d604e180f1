"""Names and passwords for package servers, as uv finds them; they are in no message and no log.

We download in the place of uv, and so take logins from the same places: its variables, netrc and a
keyring.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from condainer.system import environments, process
from condainer.system.errors import CondainerError
from condainer.system.urls import DEFAULT_PORTS, INDEX_VARIABLES, USER, origin

VARIABLE = re.compile(r"\$\{(?P<name>[A-Z0-9_]+)\}")

Login = tuple[str, str]


def login(url: str) -> Login | None:
    """Return the name and password that uv's variables give for the server of a URL.

    The client itself takes logins from the URL and from netrc.
    """
    if urlsplit(url).username:
        return None
    for name, index in _indexes():
        if origin(index) != origin(url):
            continue
        parts = urlsplit(index)
        variable = re.sub(r"[^A-Z0-9]", "_", name.upper())
        user = os.environ.get(f"UV_INDEX_{variable}_USERNAME") if name else None
        password = os.environ.get(f"UV_INDEX_{variable}_PASSWORD") if name else None
        if user or password:
            return user or "", password or ""
        # A token can have an empty password behind it; without any, a netrc or keyring has that.
        if parts.username and parts.password is not None:
            return unquote(parts.username), unquote(parts.password)
    return None


def logged_in(url: str, logins: Sequence[str]) -> str:
    """Return a URL with the name and password that a requirements file gives its server.

    Parameters: `logins` are lines of that file, as inputs.logins() returns them.
    """
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or parts.username:
        return url
    for index in (word for line in logins for word in line.split() if "://" in word):
        # uv expands variables, whose values need not be valid in a URL.
        user = VARIABLE.sub(_quoted, urlsplit(index).netloc.rpartition("@")[0])
        if user and origin(index) == origin(url):
            return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc}"))
    return url


def unset(text: str) -> str:
    """Return the first unset variable in the user and password of a URL; empty without one."""
    return next((name for name in variables([text]) if name not in os.environ), "")


def variables(texts: Iterable[str]) -> list[str]:
    """Return the names of the variables in the users and passwords of URLs in some texts."""
    users = (user["user"] for text in texts for user in USER.finditer(text))
    return [match["name"] for user in users for match in VARIABLE.finditer(user)]


def server(url: str) -> str:
    """Return the part of a URL that a login depends on: scheme, user and host."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, "", "", ""))


def _quoted(match: re.Match[str]) -> str:
    value = os.environ.get(match["name"])
    return match[0] if value is None else quote(value, safe="")


def from_keyring(url: str) -> Login | None:
    """Return the login that the program `keyring` has, if uv's variable says to ask it."""
    program = process.find_tool("keyring")
    if os.environ.get("UV_KEYRING_PROVIDER") != "subprocess" or program is None:
        return None
    indexes = [index for _, index in _indexes() if origin(index) == origin(url)]
    users = (urlsplit(place).username for place in (url, *indexes))
    user = next((user for user in users if user), None)
    host = urlsplit(url).hostname or ""
    for service in [*(_without_userinfo(index) for index in indexes), host]:
        arguments = ["get", service, unquote(user)] if user else ["--mode", "creds", "get", service]
        try:
            said = process.run([program, *arguments], env=environments.client())
        except CondainerError:
            # It has no login, or no such option; uv continues without it as well.
            continue
        lines = said.stdout.splitlines()
        if user and lines:
            return unquote(user), lines[0]
        if len(lines) > 1:
            return lines[0], lines[1]
    return None


def _indexes() -> Iterator[tuple[str, str]]:
    """Yield name and URL of every index in uv's variables."""
    for variable in INDEX_VARIABLES:
        for item in os.environ.get(variable, "").split():
            name, equals, url = item.partition("=")
            yield (name, url) if equals and "://" not in name else ("", item)


def _without_userinfo(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
