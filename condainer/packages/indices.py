"""The indices of channels: where they are kept, what reads them, and why they cannot be read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from condainer.network import rattler_client
from condainer.package_cache.archives import private_root
from condainer.settings.config import STAGE, Settings
from condainer.system.errors import NetworkError, OfflineError
from condainer.system.files import storage_errors
from condainer.system.private_directory import claimed_directory
from condainer.system.text import reason
from condainer.system.urls import redacted

if TYPE_CHECKING:
    import rattler
    from rattler import Channel, Gateway, MatchSpec, RepoDataRecord


# What rattler says of bytes that are no index from the first one on, compressed and not.
NO_INDEX = re.compile(r"Unknown frame descriptor|expected value at line 1 column 1$", re.MULTILINE)


@contextmanager
def gateway_to(sources: Sequence[str], settings: Settings) -> Iterator[rattler.Gateway]:
    """Provide what reads the indices of channels: kept ones alone where nothing may be downloaded.

    Parameters: `sources` are the URLs that will be asked. Raises StorageError when there is no
    place for an index at all.
    """
    import rattler

    offline = rattler.SourceConfig(cache_action="force-cache-only")
    remote = [source for source in sources if not source.startswith("file://")]
    with ExitStack() as stack:
        yield rattler.Gateway(
            cache_dir=_kept_indices(settings, stack),
            client=rattler_client.client(),
            per_channel_config=dict.fromkeys(remote, offline) if settings.offline else None,
        )


def _kept_indices(settings: Settings, stack: ExitStack) -> Path:
    """Return the directory of indices: the package cache's, or one for now if none can be written.

    rattler would otherwise look for one of its own, which need not be writable either.
    """
    place, scratch = private_root(settings) / "repodata", settings.staging_directory
    with suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
    if settings.offline or os.access(place, os.W_OK):
        return place
    with storage_errors(f"keep the index of a channel in {place} or in {scratch}"):
        scratch.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(claimed_directory(scratch, STAGE))


async def query(
    gateway: Gateway,
    channels: Sequence[Channel],
    platforms: Sequence[str],
    specs: Sequence[MatchSpec | str],
) -> list[RepoDataRecord]:
    """Return what channels have that matches one of the specs, without its dependencies."""
    by_channel = await gateway.query(
        list(channels),
        list(platforms),  # type: ignore[arg-type]
        list(specs),
        recursive=False,
    )
    return [record for records in by_channel for record in records]


def unread() -> tuple[type[Exception], ...]:
    """Return what rattler raises where a channel cannot be read."""
    from rattler import exceptions

    return exceptions.GatewayError, exceptions.FetchRepoDataError, exceptions.IoError


def unreadable(sources: Sequence[str], text: str) -> NetworkError:
    """Return the error that says why the channels at `sources` cannot be read."""
    asked = [source for source in sources if source in text] or sources
    page = "What comes is no index, but may be the page of a login or of a proxy. "
    return NetworkError(
        f"The channel {redacted(' or '.join(asked))} cannot be read: {redacted(reason(text))}",
        f"{page if NO_INDEX.search(text) else ''}Check the channel's name and the network, or name "
        "a mirror (`mirrors:` in condainer.yml, or CONDAINER_MIRRORS).",
    )


def not_kept(sources: Sequence[str]) -> OfflineError:
    """Return the error that says that channels cannot be read where nothing may be downloaded."""
    return OfflineError(
        "Nothing may be downloaded (`offline`), and the index of the channel "
        f"{redacted(' or '.join(sources))} is not in the package cache",
        "Lock where there is a network, and commit the lockfiles; or mirror the channel "
        "to a directory (`mirrors:` in condainer.yml takes file URLs).",
    )
