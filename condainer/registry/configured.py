"""The registries and web caches of the settings, each with one client."""

from __future__ import annotations

import functools

from condainer.network import client_settings
from condainer.oci.client import Client
from condainer.oci.repository import Repository, parse
from condainer.settings.config import Settings
from condainer.system.errors import ConfigError, OfflineError
from condainer.system.reporter import Reporter

# Where registries are named, for messages.
WHERE = "`registries` or CONDAINER_REGISTRIES"
# Those that have not answered: this process does not ask them again.
away: set[Client | str] = set()


def places(settings: Settings, reporter: Reporter) -> list[Client | str]:
    """Return the URLs of web caches and the clients of registries, in the order to ask them.

    None when `offline` is set; those that are `away` are not among them. Raises ConfigError for
    what is no repository of a registry.
    """
    named: list[Client | str] = [*settings.web_caches, *_named(settings)]
    if settings.offline or not named:
        return []
    client_settings.prepare(settings, reporter)
    return [place for place in named if place not in away]


def clients(settings: Settings, reporter: Reporter, otherwise: str = "") -> list[Client]:
    """Return a client for each registry; raises ConfigError without one, OfflineError.

    Parameters: `otherwise` is what the command of the user can do instead of naming one there.
    """
    _demand_network(settings)
    named = _named(settings)
    if not named:
        raise ConfigError(
            "No registry is named",
            "Name one under `registries:` in the user's or site's file, or in "
            f"CONDAINER_REGISTRIES{otherwise}.",
        )
    client_settings.prepare(settings, reporter)
    return named


def chosen(named: str | None, settings: Settings, reporter: Reporter) -> Client:
    """Return the client of a named registry, or else of the first one of the settings.

    Raises as clients().
    """
    if named is None:
        return clients(settings, reporter, ", or write `--to oci://HOST/PATH`")[0]
    _demand_network(settings)
    client_settings.prepare(settings, reporter)
    return _client(parse(named, "--to"))


def _demand_network(settings: Settings) -> None:
    if settings.offline:
        raise OfflineError("No registry is asked: `offline` is set", "Unset CONDAINER_OFFLINE.")


def _named(settings: Settings) -> list[Client]:
    """Return the clients of the settings; raises ConfigError for what is no repository."""
    return [*dict.fromkeys(_client(parse(text, WHERE)) for text in settings.registries)]


@functools.cache
def _client(repository: Repository) -> Client:
    return Client(repository)
