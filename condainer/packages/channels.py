"""Channels: what their names stand for, and which mirrors take their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from condainer.settings import condarc
from condainer.settings.config import Settings
from condainer.system.errors import InputError
from condainer.system.text import reason
from condainer.system.urls import without_login

if TYPE_CHECKING:
    import rattler


SCHEMES = ("https://", "http://", "file://", "s3://", "gs://", "oci://")

CHANNEL_REMEDY = "Write a channel's name or its http or file URL below `channels:`."


@dataclass(frozen=True)
class Channel:
    """A channel: its canonical URL, which locks show, and the URLs to ask in its place."""

    url: str
    mirrors: tuple[str, ...]


def channel_of(name: str, settings: Settings) -> Channel:
    """Return the channel of a name or URL, with the mirrors that the settings give it."""

    site = condarc.in_force()
    asked = site.with_login(_canonical(name, settings))
    # Everybody can read a lock.
    url = without_login(asked)
    own = _mirrors(settings.mirrors, url, settings)
    mirrors = own or _mirrors(site.mirrored_channels, url, settings) or [asked] * (asked != url)
    if not url.startswith(SCHEMES):
        raise InputError(f"channel {name!r}: packages cannot be fetched from {url}", CHANNEL_REMEDY)
    return Channel(url, tuple(mirrors))


def _mirrors(known: Sequence[tuple[str, Sequence[str]]], url: str, settings: Settings) -> list[str]:
    return [mirror for name, urls in known for mirror in urls if _canonical(name, settings) == url]


def expanded(names: Sequence[str]) -> list[str]:
    """Replace `defaults`, which stands for several channels, by what conda takes it for.

    Their own names, such as `pkgs/main`, are those of conda as well.
    """
    site = condarc.in_force()
    names = [part for name in names for part in site.expanded(name) or (name,)]
    if not any(name == "defaults" or name.startswith("pkgs/") for name in names):
        return names
    from conda_lock._vendor.conda.base.constants import DEFAULT_CHANNELS_UNIX

    known: dict[str, tuple[str, ...]] = {"defaults": DEFAULT_CHANNELS_UNIX}
    known |= {url.split("/", 3)[3]: (url,) for url in DEFAULT_CHANNELS_UNIX}
    return [part for name in names for part in known.get(name, (name,))]


def _canonical(name: str, settings: Settings) -> str:
    try:
        known = condarc.in_force().resolved(name)
        return str(rattler_channel(known, settings).base_url).rstrip("/")
    except Exception as error:
        raise InputError(f"channel {name!r}: {reason(error)}", CHANNEL_REMEDY) from None


def rattler_channel(name: str, settings: Settings) -> rattler.Channel:
    import rattler

    # A relative path is relative to the project; a name that is no text cannot be in a URL.
    root = str(settings.project) if str(settings.project).isprintable() else "/"
    return rattler.Channel(name, rattler.ChannelConfig(root_dir=root))
