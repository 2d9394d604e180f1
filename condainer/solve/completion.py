"""Locks of other tools without the sha256 of all packages: completed with that of their channel.

An md5 does not protect from a forged file, so it is used once: to find the package in the channel's
index. Without any hash, the package that the channel has now is taken. The result is kept in a file
of ours beside the lock.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from condainer.lock.explicit import (
    checked,
    is_ours,
    read_explicit,
    render_explicit,
)
from condainer.lock.lock_paths import completed_path, lockfile_path
from condainer.lock.locks import CondaPackage, Lock, source_of
from condainer.network import client_settings, silence
from condainer.packages import by_url, downloads
from condainer.packages.admission import admit
from condainer.packages.by_url import Wanted
from condainer.packages.channels import channel_of
from condainer.packages.indices import gateway_to, query
from condainer.settings.config import Settings
from condainer.system.errors import IntegrityError, LockfileError, NetworkError, StorageError
from condainer.system.reporter import Reporter, Silent
from condainer.system.text import counted, reason


def path_of(lock: Lock, settings: Settings) -> Path:
    """Return where the completed form of a lock stands, which is never a file of another tool."""
    theirs = lockfile_path(settings, lock.platform)
    return completed_path(settings, lock.platform) if lock.origin == theirs.name else theirs


def kept(lock: Lock, settings: Settings) -> Lock | None:
    """Return what an earlier completion of this lock found, if it is still the same packages."""
    try:
        read = settings.files.read
        completed = read_explicit(path_of(lock, settings), lock.platform, read=read)
    except (FileNotFoundError, LockfileError):
        return None
    theirs = source_of(settings.project / lock.origin, settings.project, read)
    # It can have been edited.
    same = _without_hashes(completed) == _without_hashes(lock)
    return completed if same and theirs in completed.sources else None


def _without_hashes(lock: Lock) -> tuple[object, ...]:
    return [package.url for package in lock.conda], lock.pip, lock.origin, lock.environment


def complete(lock: Lock, settings: Settings, reporter: Reporter) -> Lock:
    """Return a lock with the sha256 of every package, and keep it beside the project's own files.

    Raises IntegrityError when the channel has a file of that name with another md5, NetworkError
    when a package is neither in its index nor can be downloaded, LockfileError for packages without
    any hash where only what is locked may be built.
    """
    _tell_hashless(lock, settings, reporter)
    admit(lock, settings)
    client_settings.prepare(settings, reporter)
    without = [package for package in lock.conda if not package.sha256]
    if settings.offline and (remote := [p for p in without if not _is_at_hand(p, settings)]):
        raise downloads.offline_error([f"the sha256 of {package.url}" for package in remote])
    reporter.step("Looking up the sha256 of locked packages")
    digests = asyncio.run(_in_index(without, settings))
    absent = [p for p in without if p.url not in digests]
    wanted = [Wanted(p.url, lock.origin, p.md5) for p in absent]
    if wanted:
        # No longer in the index, but perhaps still on the server.
        fetched = by_url.fetch(wanted, settings, reporter)
        digests |= {package.url: package.sha256 for package in fetched}
    conda = tuple(CondaPackage(p.url, p.sha256 or digests[p.url]) for p in lock.conda)
    whole = checked(replace(lock, conda=conda), lock.origin)
    path = path_of(lock, settings)
    try:
        if settings.files.is_there(path) and not is_ours(path, settings.files.read):
            raise OSError(0, "it is another tool's")
        settings.files.publish(path, render_explicit(whole))
    except OSError as error:
        # It only spares asking the channel the next time.
        reporter.warn(f"{path} cannot be written: {error.strerror}")
    reporter.finish()
    return whole


def _tell_hashless(lock: Lock, settings: Settings, reporter: Reporter) -> None:
    bare = [package for package in lock.conda if not (package.sha256 or package.md5)]
    if not bare:
        return
    place = path_of(lock, settings).name
    packages = counted(len(bare), "packages")
    message = f"{lock.origin}: {packages} without a hash, such as {bare[0].url}"
    if settings.locked:
        raise LockfileError(
            message, f"Run `cnd build` without --locked, and commit {place}, which has them then."
        )
    reporter.warn(f"{message}: what the channel has now is taken, and noted in {place}")


def _is_at_hand(package: CondaPackage, settings: Settings) -> bool:
    channel = channel_of(package.url.rsplit("/", 2)[0], settings)
    return all(place.startswith("file://") for place in channel.mirrors or (channel.url,))


async def _in_index(packages: Sequence[CondaPackage], settings: Settings) -> dict[str, str]:
    """Return the sha256 by URL of those packages that are in the index of their channel."""
    by_channel: dict[str, list[CondaPackage]] = defaultdict(list)
    for package in packages:
        by_channel[package.url.rsplit("/", 2)[0]].append(package)
    digests: dict[str, str] = {}
    for channel, members in by_channel.items():
        digests |= await _of_channel(channel, members, settings)
    return digests


async def _of_channel(
    url: str, packages: Sequence[CondaPackage], settings: Settings
) -> dict[str, str]:
    import rattler

    channel = channel_of(url, settings)
    places = channel.mirrors or (channel.url,)
    wanted = {(package.subdir, package.filename): package for package in packages}
    problem: Exception | None = None
    for place in places:
        try:
            with gateway_to(places, settings) as gateway:
                subdirs = sorted({package.subdir for package in packages})
                names = sorted({package.name for package in packages})
                asked = query(gateway, [rattler.Channel(place)], subdirs, names)
                records = await silence.watched(asked, [place], Silent())
        except StorageError:
            raise
        except Exception as error:
            problem = error
            continue
        digests = {}
        for record in records:
            package = wanted.get((str(record.subdir), record.file_name))
            if package is not None and record.sha256 is not None:
                md5 = record.md5.hex() if record.md5 else package.md5
                if package.md5 not in ("", md5):
                    raise IntegrityError(
                        f"{package.url} is locked with the md5 {package.md5}, but the channel has "
                        f"{md5}",
                        "Do not use it before the channel's maintainers have explained the "
                        "difference.",
                    )
                digests[package.url] = record.sha256.hex()
        return digests
    raise NetworkError(
        f"The channel {url} cannot be read, and its packages are locked without sha256: "
        f"{reason(problem)}",
        "Check the network, or name a mirror (`mirrors:` in condainer.yml).",
    )
