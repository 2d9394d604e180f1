"""What an external executable plans to install, held to what was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from condainer.network import silence
from condainer.packages.indices import gateway_to, query, unread, unreadable
from condainer.settings.config import Settings
from condainer.solve.external.conda_exe import SAID, Executable
from condainer.system.errors import IntegrityError, ToolError
from condainer.system.reporter import Silent

if TYPE_CHECKING:
    from rattler import RepoDataRecord

# What is raised where an answer is not what it should be.
UNFIT: tuple[type[Exception], ...] = (KeyError, TypeError, ValueError, AttributeError)


def planned(executable: Executable, items: Any, sources: Sequence[str]) -> list[RepoDataRecord]:
    """Return the packages of a plan; raises ToolError when it is not what was asked for."""
    from rattler.exceptions import InvalidPackageNameError, InvalidVersionError

    try:
        return [_record(item, sources) for item in items]
    except (*UNFIT, InvalidPackageNameError, InvalidVersionError) as error:
        raise unusable(executable, f"{type(error).__name__}: {error}") from None


def unusable(executable: Executable, reason: str) -> ToolError:
    return ToolError(
        f"{executable.path} gave an answer that cannot be used: {reason[:SAID]}",
        "Is it a conda, mamba or micromamba, and does `conda create --dry-run --json` work with "
        "it? Without `conda_exe:` the embedded engine is used.",
    )


def _record(item: Mapping[str, Any], sources: Sequence[str]) -> RepoDataRecord:
    """Return a package of a plan, held to what was asked for; raises what UNFIT has."""
    import rattler
    from rattler.package import BuildString

    url = str(item["url"])
    source = next((place for place in sources if url.startswith(f"{place}/")), "")
    if not source:
        raise ValueError(f"{url} is in none of the channels asked for")
    subdir, _, filename = url.removeprefix(f"{source}/").rpartition("/")
    if not filename or "/" in subdir:
        raise ValueError(f"{url} is no package of {source}")
    sha256, md5 = str(item.get("sha256") or ""), str(item.get("md5") or "")
    package = rattler.PackageRecord(
        str(item["name"]),
        rattler.VersionWithSource(str(item["version"])),
        BuildString.new_unchecked(str(item.get("build_string") or item.get("build") or "")),
        int(item.get("build_number") or 0),
        subdir,
        depends=[str(spec) for spec in item.get("depends") or ()],
        sha256=bytes.fromhex(sha256) if sha256 else None,
        md5=bytes.fromhex(md5) if md5 else None,
    )
    return rattler.RepoDataRecord(package, filename, url, source)


def completed(
    records: Sequence[RepoDataRecord], sources: Sequence[str], platform: str, settings: Settings
) -> list[RepoDataRecord]:
    """Take from the channels' indices what an executable gave without a sha256.

    Raises IntegrityError if an index speaks of another package at the same URL.
    """
    lacking = [record for record in records if record.sha256 is None]
    if not lacking:
        return list(records)
    known = asyncio.run(
        _indexed([str(r.name.normalized) for r in lacking], sources, platform, settings)
    )
    for record in lacking:
        listed = known.get(str(record.url))
        digests = {listed.md5, record.md5} - {None} if listed is not None else set()
        if len(digests) > 1:
            raise IntegrityError(
                f"{record.url} has another md5 for the engine than in the channel's index",
                "Lock again: perhaps the channel has just changed.",
            )
    return [known.get(str(r.url), r) if r.sha256 is None else r for r in records]


async def _indexed(
    names: Sequence[str], sources: Sequence[str], platform: str, settings: Settings
) -> dict[str, RepoDataRecord]:
    """Return what the indices of the channels say of packages, by URL."""
    import rattler

    try:
        with gateway_to(sources, settings) as gateway:
            channels = [rattler.Channel(source) for source in sources]
            asked = query(gateway, channels, [platform, "noarch"], names)
            records = await silence.watched(asked, sources, Silent())
    except unread() as error:
        raise unreadable(sources, str(error)) from None
    return {str(record.url): record for record in records}
