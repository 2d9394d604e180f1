"""What a site has set for conda: honoured where it says how channels are reached, or else named.

Channels by name mean what they mean to conda there; how servers are reached is taken over. What
chooses other packages is not: only the environment file says that, so that it gives everybody the
same environment.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer.system import yaml_file
from condainer.system.errors import ConfigError
from condainer.system.files import read_text
from condainer.system.urls import redacted, without_login

SITE = (Path("/etc/conda"), Path("/var/lib/conda"))
FETCHED = ("https://", "http://", "file://")
# Keys that are honoured, by what they hold.
SCALARS = ("channel_alias", "ssl_verify")
LISTS = ("channels", "default_channels")
MAPS = ("custom_channels", "custom_multichannels", "mirrored_channels", "proxy_servers")
# Keys that are not honoured though they could change what is fetched, and what to do instead.
# The second is the value that means nothing here.
OTHERS: dict[str, tuple[str, Any]] = {
    "channel_priority": ("channels are strictly ordered", "strict"),
    "pinned_packages": ("pin them in the environment file", []),
    "create_default_packages": ("name them in the environment file", []),
    "disallowed_packages": ("nothing is refused by name", []),
    "track_features": ("name packages in the environment file", []),
    "allowlist_channels": ("no channel is refused", []),
    "whitelist_channels": ("no channel is refused", []),
    "denylist_channels": ("no channel is refused", []),
    "migrated_custom_channels": ("use `custom_channels`", {}),
    "use_only_tar_bz2": ("both formats are used", False),
    "repodata_fns": ("the whole index is used", ["repodata.json"]),
    "client_ssl_cert": ("servers that ask for a certificate cannot be reached", None),
    "offline": ("`offline: true` in condainer.yml, or CONDAINER_OFFLINE=1", False),
}


@dataclass(frozen=True)
class Condarc:
    """The settings that are honoured, and a line for each that is not."""

    channel_alias: str = ""
    channels: tuple[str, ...] = ()
    default_channels: tuple[str, ...] = ()
    custom_channels: tuple[tuple[str, str], ...] = ()
    multichannels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    mirrored_channels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    proxies: tuple[tuple[str, str], ...] = ()
    certificates: str = ""
    channels_file: str = ""
    ignored: tuple[str, ...] = ()

    def resolved(self, name: str) -> str:
        """Return the URL that the name of a channel stands for, or the name itself."""
        if "://" in name or name.startswith(("/", ".", "~")):
            return name
        for known, base in sorted(self.custom_channels, key=lambda item: -len(item[0])):
            if name == known or name.startswith(f"{known}/"):
                return f"{base}/{name}"
        return f"{self.channel_alias}/{name}" if self.channel_alias else name

    def expanded(self, name: str) -> tuple[str, ...] | None:
        """Return the channels that a name stands for together; None if it is no such name."""
        if name == "defaults" and self.default_channels:
            return self.default_channels
        return dict(self.multichannels).get(name)

    def urls(self) -> list[str]:
        """Return all URLs of channels, without logins."""
        several = (*self.multichannels, *self.mirrored_channels)
        names = [self.channel_alias, *self.default_channels]
        names += [url for _, url in self.custom_channels]
        names += [name for known, urls in several for name in (known, *urls)]
        return [without_login(self.resolved(name)) for name in names if name]

    def with_login(self, url: str) -> str:
        """Return a URL with the password or token that is set for its server."""
        for base in (self.channel_alias, *(base for _, base in self.custom_channels)):
            bare = without_login(base)
            if f"{url}/".startswith(f"{base}/"):
                return url
            if bare != base and f"{url}/".startswith(f"{bare}/"):
                return base + url.removeprefix(bare)
        return url

    def spec(self, text: str) -> str:
        """Return a spec with the URL of its channel, where the name means another one here."""
        channel, separator, rest = text.partition("::")
        if not separator or "[" in channel:
            return text
        return f"{self.resolved(channel.strip())}::{rest}"

    def unused(self, channels: Sequence[str]) -> str:
        """Return what to say of its own channels, if an environment does not name them all."""
        left = [name for name in self.channels if name not in channels and name != "nodefaults"]
        if not left or (left == ["defaults"]):
            return ""
        return (
            f"{self.channels_file}: `channels` is ignored ({', '.join(left)}): the "
            "environment file names its channels, so that it means the same everywhere"
        )


def in_force(environ: Mapping[str, str] | None = None) -> Condarc:
    """Return what the files of this user and machine say, each read once."""
    return _read(tuple(files(os.environ if environ is None else environ)))


def files(environ: Mapping[str, str]) -> list[Path]:
    """Return the files that conda would read, the most important last.

    Not those of an active environment, which may be another one each time.
    """
    named = environ.get("HOME", "")
    home = Path(named if os.path.isabs(named) else "/nonexistent")
    configuration = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    executable = environ.get("CONDA_EXE")
    root = environ.get("CONDA_ROOT") or (executable and str(Path(executable).parent.parent))
    directories = [*SITE, *([Path(root)] if root else []), configuration / "conda"]
    paths: list[Path] = []
    for directory in dict.fromkeys([*directories, home / ".config" / "conda", home / ".conda"]):
        paths += [directory / ".condarc", directory / "condarc"]
        paths += sorted((directory / "condarc.d").glob("*.y*ml"))
    paths.append(home / ".condarc")
    paths += [Path(environ[name]) for name in ("CONDARC", "MAMBARC") if environ.get(name)]
    # What cannot be looked at, as in another user's installation, is not there for conda, either.
    return [path for path in dict.fromkeys(paths) if os.path.isfile(path)]


@functools.cache
def _read(paths: tuple[Path, ...]) -> Condarc:
    reader = _Reader()
    for path in paths:
        try:
            value = yaml_file.load(path, read_text(path, "utf-8-sig"), ConfigError).value
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            reader.ignored.append(f"{path}: ignored, because it cannot be read: {error}")
            continue
        if isinstance(value, dict):
            reader.add(path, value)
        elif value is not None:
            reader.ignored.append(f"{path}: ignored, because it is not a mapping")
    return reader.condarc()


class _Reader:
    """Collects what several files say, as conda merges them: later ones win, lists are joined."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.places: dict[str, Path] = {}
        self.ignored: list[str] = []

    def add(self, path: Path, values: Mapping[Any, Any]) -> None:
        for key, value in values.items():
            if value is None:
                continue
            self.places[str(key)] = path
            if key in SCALARS:
                self.values[key] = value
            elif key in LISTS:
                mine = [_text(item) for item in _listed(value)]
                self.values[key] = list(dict.fromkeys([*mine, *self.values.get(key, [])]))
            elif key in MAPS and isinstance(value, dict):
                self.values[key] = {**self.values.get(key, {}), **value}
            elif key in MAPS:
                self._ignore(key, "it is no mapping")
            elif key in OTHERS and value != OTHERS[key][1]:
                self._ignore(key, OTHERS[key][0])

    def condarc(self) -> Condarc:
        return Condarc(
            channel_alias=_url(self.values.get("channel_alias", "")),
            channels=tuple(self.values.get("channels", ())),
            default_channels=tuple(self.values.get("default_channels", ())),
            custom_channels=tuple(
                (str(name).strip("/"), _url(base)) for name, base in self._items("custom_channels")
            ),
            multichannels=tuple(
                (str(name), tuple(_text(part) for part in _listed(parts)))
                for name, parts in self._items("custom_multichannels")
            ),
            mirrored_channels=tuple(self._mirrors()),
            proxies=tuple(self._proxies()),
            certificates=self._certificates(),
            channels_file=str(self.places.get("channels", "")),
            ignored=tuple(dict.fromkeys(self.ignored)),
        )

    def _ignore(self, key: str, why: str) -> None:
        self.ignored.append(f"{self.places[key]}: `{key}` is ignored: {why}")

    def _items(self, key: str) -> Iterable[tuple[Any, Any]]:
        values: dict[Any, Any] = self.values.get(key, {})
        return values.items()

    def _mirrors(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        for name, given in self._items("mirrored_channels"):
            urls = [_url(url) for url in _listed(given)]
            usable = tuple(url for url in urls if url.startswith(FETCHED))
            for url in urls:
                if url not in usable:
                    self._ignore("mirrored_channels", f"{redacted(url)} is no http or file URL")
            if usable:
                yield str(name), usable

    def _proxies(self) -> Iterator[tuple[str, str]]:
        for scheme, url in self._items("proxy_servers"):
            if scheme in ("http", "https") and isinstance(url, str):
                yield str(scheme), _text(url)
            elif url:
                self._ignore("proxy_servers", f"a proxy for `{scheme}` only")

    def _certificates(self) -> str:
        value = self.values.get("ssl_verify", True)
        if isinstance(value, str) and value.lower() not in ("true", "truststore", "yes"):
            if value.lower() not in ("false", "no"):
                return os.path.expanduser(_text(value))
            value = False
        if value is False:
            why = "certificates are always checked; name the file of your site's authority there"
            self._ignore("ssl_verify", why)
        return ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    """Return a value as text, with the variables of the environment in it, as conda does."""
    return os.path.expandvars(str(value))


def _url(value: Any) -> str:
    text = _text(value).rstrip("/")
    return Path(text).as_uri() if text.startswith("/") else text
