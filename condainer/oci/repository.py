"""The repository of a registry, as settings and commands name it: `oci://host[:port]/path`."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass

from condainer.system.errors import ConfigError
from condainer.system.urls import has_user

# A path and a tag as the OCI distribution specification has them.
PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
PATH = re.compile(rf"{PART}(?:/{PART})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Some clients refuse longer ones.
LONGEST = 255
PLACE = re.compile(
    r"(?P<scheme>oci(?:\+http)?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)"
    r"(?::(?P<port>[0-9]{1,5}))?/(?P<path>.*)",
    re.IGNORECASE,
)
HINT = "Write oci://HOST[:PORT]/PATH, such as oci://registry.example.org/group/images."


@dataclass(frozen=True)
class Repository:
    """A repository: `scheme` is https, or http where the setting names that."""

    host: str
    port: int | None
    path: str
    scheme: str = "https"

    def __str__(self) -> str:
        prefix = "oci" if self.scheme == "https" else "oci+http"
        return f"{prefix}://{self.authority}/{self.path}"

    @property
    def authority(self) -> str:
        """Host and port, as files of logins name a registry."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether this machine itself is the registry's host, by its own network."""
        with suppress(ValueError):
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        return self.host == "localhost" or self.host.endswith(".localhost")


def parse(text: str, where: str) -> Repository:
    """Return the repository that a text names; `oci+http://` says that its registry has no TLS.

    Parameters: `where` names who says so. Raises ConfigError.
    """
    if has_user(text):
        raise _wrong(
            text, where, "a user in it", "Log in with `skopeo login HOST`, and leave the user out."
        )
    match = PLACE.fullmatch(text.strip().removesuffix("/"))
    if match is None:
        raise _wrong(text, where, "not of the form oci://HOST[:PORT]/PATH")
    host, path = match["host"].lower(), match["path"]
    port = int(match["port"]) if match["port"] else None
    if host.startswith("["):
        try:
            host = f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            raise _wrong(text, where, "no valid IPv6 address") from None
    if ".." in host or (port is not None and not 0 < port < 65536):
        raise _wrong(text, where, "no valid host or port")
    if "?" in path or "#" in path:
        raise _wrong(text, where, "a query or a fragment in it")
    if "@" in path or ":" in path:
        raise _wrong(text, where, "a tag or a digest in it", "Name the repository only.")
    if path != path.lower():
        raise _wrong(text, where, "capital letters in its path", "Registries want small ones.")
    if not PATH.fullmatch(path) or len(f"{host}/{path}") > LONGEST:
        raise _wrong(text, where, f"no valid path: {path[:LONGEST]!r}")
    scheme = "http" if match["scheme"].lower() == "oci+http" else "https"
    return Repository(host, port, path, scheme)


def _wrong(text: str, where: str, what: str, hint: str = HINT) -> ConfigError:
    return ConfigError(f"{where}: not a repository of a registry: {text[:LONGEST]}: {what}", hint)
