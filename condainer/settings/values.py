"""The values of configuration keys: from a text or from YAML to what the settings hold."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from condainer.settings.config import COMPRESSORS, KEYS, POLICIES, UNPACKED, WAYS
from condainer.system import quantities
from condainer.system.errors import ConfigError
from condainer.system.quantities import MAX_SECONDS
from condainer.system.urls import NETRC, has_secret, has_user, origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Whether a copy of an image on the node is mounted; or else the directory for that.
STAGES = ("auto", "never", "always")
CHOICES = {"compressor": COMPRESSORS, "mount": WAYS, "trust": POLICIES, "unpacked": UNPACKED}
# With these, what packages write the path of their environment into cannot be read.
NOT_IN_PREFIX = frozenset("'\"\\$`:")
# One of several places with colons between: a URL, which may have a port, or a path.
PLACE = re.compile(
    r"[a-z]+://(?:[^/:@]*(?::[^/@]*)?@)?(?:\[[^]]*\]|[^/:]*)(?::\d+(?=[/:]|$))?[^:]*|[^:]+",
    re.IGNORECASE,
)
URL = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
# Keys that are written as people write ages and sizes.
QUANTITIES = {
    "stage_max_size": quantities.size,
    "packages_max_size": quantities.size,
    "packages_older_than": quantities.age,
}


def from_text(name: str, text: str, where: str, base: Path) -> Any:
    """Convert the text of an environment variable or command line option."""
    if name in ("readonly_caches", "readonly_package_caches"):
        return typed(name, PLACE.findall(text), where, base)
    if name == "registries":
        return typed(name, text.split(), where, base)
    if name == "mirrors":
        mirrors: dict[str, list[str]] = {}
        for pair in text.split():
            channel, equals, url = pair.partition("=")
            if not equals or "://" not in url:
                raise ConfigError(f"{where}: {pair!r} is not of the form CHANNEL=URL")
            mirrors.setdefault(channel, []).append(url)
        return typed(name, mirrors, where, base)
    if name == "virtual_packages":
        pairs = [pair.partition("=") for pair in text.split()]
        return typed(name, {part: version for part, _, version in pairs}, where, base)
    kind = _kind(name)
    try:
        if kind == "bool":
            words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
            return words[text.lower()]
        return typed(name, {"int": int, "float": float}.get(kind, str)(text), where, base)
    except (KeyError, ValueError):
        wanted = {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
        raise ConfigError(f"{where}: must be {wanted}, not {text!r}") from None


def typed(name: str, value: Any, where: str, base: Path) -> Any:
    """Check the type of a value and convert it to what Settings holds."""
    kind = _kind(name)
    if name == "mount_base_directory":
        return _mount_base(value, where, base)
    if kind.startswith("Path"):
        return _path(value, where, base)
    if name in ("readonly_caches", "readonly_package_caches", "trusted_caches"):
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list):
            raise ConfigError(f"{where}: must be a list of directories")
        if name == "readonly_caches":
            return tuple(_place(item, where, base) for item in items)
        return tuple(_path(item, where, base) for item in items)
    if name == "registries":
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ConfigError(f"{where}: must be a list of registries", "Write oci://HOST/PATH.")
        return tuple(dict.fromkeys(items))
    if name == "mirrors":
        return _mirrors(value, where)
    if name == "virtual_packages":
        return _virtual_packages(value, where)
    if name == "policy":
        from condainer.settings import policy

        return policy.rules(value, where)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "float" and number and 0 <= value <= MAX_SECONDS:
        return float(value)
    if name in CHOICES and value in CHOICES[name]:
        return value
    if name == "stage":
        return _stage(value, where, base)
    if name in QUANTITIES:
        QUANTITIES[name](str(value), where)
        return str(value)
    if name == "address":
        return _address(value, where)
    if name == "environment":
        return _environment(value, where)
    if name == "conda_exe":
        path = _path(value, where, base)
        return str(path) if "/" in value else value
    wanted = {
        "bool": "true or false",
        "int": "a whole number from 0",
        "float": f"a number from 0 to {MAX_SECONDS:g}",
        "str": "one of " + ", ".join(CHOICES.get(name, ())),
    }[kind]
    raise ConfigError(f"{where}: must be {wanted}, not {value!r}")


def _kind(name: str) -> str:
    return str(KEYS[name].type)


def _place(value: Any, where: str, base: Path) -> Path | str:
    """Return a directory, or the URL of one on a server."""
    if not isinstance(value, str) or not URL.match(value):
        return _path(value, where, base)
    if has_user(value):
        raise ConfigError(f"{where}: user or password in the URL of a cache: {value}", NETRC)
    parts = urlsplit(value if _has_server(value) else "")
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return _path(unquote(parts.path), where, base)
    odd = parts.query or parts.fragment or not value.isprintable()
    if parts.scheme not in ("https", "http") or not parts.hostname or odd:
        raise ConfigError(
            f"{where}: {value}: not the URL of a directory",
            "Write https://HOST/DIRECTORY, file:///DIRECTORY, or a path.",
        )
    return value.rstrip("/")


def _has_server(url: str) -> bool:
    """Tell whether a URL has a host and a port that can be, or none at all."""
    try:
        origin(url)
    except ValueError:
        return False
    return True


def _path(value: Any, where: str, base: Path) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ConfigError(f"{where}: must be a path, not {value!r}")
    if "\n" in value:
        raise ConfigError(f"{where}: a path with a line break cannot be used")
    try:
        expanded = Path(value).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{where}: {value}: {error}", "Write the path in full.") from None
    if not expanded.is_absolute():
        # Only what is relative needs a working directory, which may have been deleted.
        expanded = base.absolute() / expanded
    return Path(os.path.normpath(expanded))


def _mount_base(value: Any, where: str, base: Path) -> Path:
    path = _path(value, where, base)
    if odd := next((sign for sign in str(path) if sign in NOT_IN_PREFIX or sign < " "), ""):
        raise ConfigError(
            f"{where}: {str(path)!r}: {odd!r} cannot be in the path of an environment",
            "Scripts, PATH and Python modules of packages have that path in them, without quoting "
            "it. Choose another directory.",
        )
    return path


def _address(value: Any, where: str) -> str:
    text = str(value).lower()
    if not 4 <= len(text) <= 32 or set(text) - set("0123456789abcdef"):
        raise ConfigError(
            f"{where}: must be an address (4 to 32 hexadecimal digits), not {value!r}",
            "`cnd status` shows the address of a project; quote it if it has digits only.",
        )
    return text


def _stage(value: Any, where: str, base: Path) -> str:
    if value in STAGES:
        return str(value)
    # A word that is none of these is more likely a mistake than a directory.
    if not isinstance(value, str) or not value.startswith(("/", "~")):
        raise ConfigError(
            f"{where}: must be one of {', '.join(STAGES)}, or the whole path of a directory, "
            f"not {value!r}"
        )
    return str(_path(value, where, base))


def _environment(value: Any, where: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", value):
        raise ConfigError(f"{where}: must be the name of an environment, not {value!r}")
    return value


def _mirrors(value: Any, where: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: must be a mapping of channels to URLs")
    mirrors = []
    for channel, urls in value.items():
        items = [urls] if isinstance(urls, str) else urls
        if not isinstance(items, list) or not items:
            raise ConfigError(f"{where}: {channel}: must be a URL or a list of URLs")
        for url in items:
            begins = isinstance(url, str) and url.startswith(("http://", "https://", "file://"))
            if not begins or not _has_server(url):
                raise ConfigError(f"{where}: {channel}: {url!r} is not an http or file URL")
            if has_secret(url):
                # The engine would write it into the package cache, beside the index.
                raise ConfigError(
                    f"{where}: {channel}: user, password or token in the URL of a mirror: {url}",
                    NETRC,
                )
        mirrors.append((str(channel), tuple(url.rstrip("/") for url in items)))
    return tuple(mirrors)


def _virtual_packages(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: must be a mapping of virtual packages to versions")
    from condainer.settings import virtual

    return tuple(sorted(virtual.checked(str(k), str(v), where) for k, v in value.items()))
