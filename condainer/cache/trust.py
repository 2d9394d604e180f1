"""Whose images are run: what the user's configuration demands of caches and entries.

docs/explanation/security.md says what each policy protects from, and what it does not.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from condainer.cache import entries
from condainer.cache.entries import Entry
from condainer.settings import config
from condainer.settings.config import Settings
from condainer.system import ownership
from condainer.system.errors import CondainerError, ConfigError, TrustError
from condainer.system.files import storage_errors, user_name

# A directory that a group shares: `cnd share` makes it so.
SHARED = stat.S_ISGID | stat.S_ISVTX | stat.S_IWGRP


def demand(entry: Entry, settings: Settings) -> str | None:
    """Refuse an entry that must not be run.

    Returns the sha256 that the bytes which are mounted must have, or None if they are taken as
    they are. Raises TrustError that names the place, ConfigError under `trust: signed` without a
    list of signers.
    """
    if settings.trust != "anyone":
        check_cache(entry.root, settings)
        _check_entry(entry, settings)
    return _signed_sha256(entry, settings) if settings.trust == "signed" else None


def refused(root: Path, settings: Settings) -> str:
    """Return why a cache is not used, or nothing."""
    try:
        check_cache(root, settings)
    except CondainerError as error:
        return error.message
    return ""


def warnings(settings: Settings) -> list[str]:
    """Return why caches of the settings are not used."""
    roots = [root for root in entries.roots(settings) if os.path.exists(root)]
    return [problem for root in roots if (problem := refused(root, settings))]


def check_cache(root: Path, settings: Settings) -> None:
    """Refuse a cache that users whom we do not trust could fill or replace.

    One that is missing may be made, if nobody else could make it in our place. Raises TrustError,
    StorageError for what cannot be looked at.
    """
    if settings.trust == "anyone" or _is_named(root, settings):
        return
    with storage_errors(f"use the cache {root}"):
        problem = next(_problems(root), None)
    if problem is not None:
        raise TrustError(
            f"The cache {root} is not used: {problem}",
            "If you trust all who can change it with all that you run, name it under "
            f"`trusted_caches:` in {config.user_file()}; otherwise choose another "
            "`cache_directory:`.",
        )


def _is_named(root: Path, settings: Settings) -> bool:
    named = settings.named_caches
    return root in named or root in [Path(os.path.realpath(path)) for path in named]


def _problems(root: Path) -> Iterator[str]:
    """Yield why a cache cannot be trusted: by what it is itself, and by the way to it.

    On the way, members of our groups may be able to replace it: with a cache of theirs, which
    would be used as well.
    """
    owners = set(ownership.ours())
    groups = ownership.our_groups()
    with contextlib.suppress(FileNotFoundError):
        status = root.stat()
        yield from _own_problems(status)
        owners |= {status.st_uid} if _is_shared(status) else set()
    for place, status in ownership.way_to(root):
        owner = status.st_uid
        if not (owner in owners or ownership.is_above(owner) or ownership.is_member(owner, groups)):
            yield f"{place}, which leads there, belongs to {user_name(owner)}"
        link, sticky = stat.S_ISLNK(status.st_mode), status.st_mode & stat.S_ISVTX
        shared = status.st_gid in groups and not status.st_mode & stat.S_IWOTH
        if not (link or sticky or shared) and ownership.others_write(status):
            yield f"others can replace what is in {place}, which leads there"


def _own_problems(status: os.stat_result) -> Iterator[str]:
    if status.st_mode & stat.S_IWOTH:
        yield "everybody can write into it"
    shared = _is_shared(status)
    if status.st_uid not in ownership.ours() and not shared:
        yield f"it belongs to {user_name(status.st_uid)}, and is not the cache of a group of yours"
    # We trust what we shared with a group ourselves, even if we are not in it.
    own = status.st_uid == os.geteuid() and status.st_mode & SHARED == SHARED
    if not own and ownership.others_write(status) and status.st_gid not in ownership.our_groups():
        yield "a group that you are not in can write into it"


def _is_shared(status: os.stat_result) -> bool:
    """Tell whether a directory is the cache of a group that we are in."""
    shared = status.st_mode & SHARED == SHARED and not status.st_mode & stat.S_IWOTH
    return shared and status.st_gid in ownership.our_groups()


def _check_entry(entry: Entry, settings: Settings) -> None:
    """Refuse an entry that others than its owner could have changed; a few calls of lstat."""
    with storage_errors(f"look at {entry.directory}"):
        problem = next(_entry_problems(entry, settings), None)
    if problem is not None:
        raise TrustError(
            f"{problem[0]} {problem[1]}: the image is not used",
            "`cnd share` repairs modes; the owner, or the cache's administrator, can delete what "
            "should not be there.",
        )


def _entry_problems(entry: Entry, settings: Settings) -> Iterator[tuple[Path, str]]:
    base = entry.root.stat()
    owners = {*ownership.ours(), base.st_uid}
    for level in (entry.root / "images", entry.directory.parent):
        status = level.lstat()
        if stat.S_ISLNK(status.st_mode) and status.st_uid not in owners:
            yield level, "is a link of another user"
        elif not stat.S_ISLNK(status.st_mode) and status.st_mode & ~base.st_mode & stat.S_IWOTH:
            yield level, "can be written by everybody"
    status = entry.directory.lstat()
    owner = status.st_uid
    if not stat.S_ISDIR(status.st_mode):
        yield entry.directory, "is not a directory"
    members_add = base.st_mode & ownership.WRITABLE or _is_named(entry.root, settings)
    if not members_add and owner not in owners:
        yield entry.directory, f"belongs to {user_name(owner)}, who could not have put it there"
    for name in ("", entries.MANIFEST, entries.LOCK, entries.IMAGE):
        place = entry.directory / name
        status = place.lstat()
        if name and not stat.S_ISREG(status.st_mode):
            yield place, "is not a regular file"
        if status.st_uid != owner and not ownership.is_above(status.st_uid):
            yield place, f"belongs to {user_name(status.st_uid)}, its directory to another"
        if status.st_mode & ownership.WRITABLE:
            yield place, "can be written by others than its owner"


def _signed_sha256(entry: Entry, settings: Settings) -> str:
    """Return the sha256 of the image that an allowed signer vouches for.

    The signed bytes alone are believed, not what was read of the manifest before.
    """
    allowed = allowed_signers(settings)
    try:
        text = entries.read_papers(entry.directory)[0]
        manifest = entries.parse_manifest(text.decode())
    except (OSError, *entries.UNREADABLE):
        manifest = None
    if manifest is None or manifest != entry.manifest:
        raise TrustError(f"{entry.directory} was changed while it was looked at")
    from condainer.cache import signing

    refused = []
    for signature in signing.signatures(entry, text, allowed):
        if signature.allowed:
            return manifest.sha256
        refused.append(f"\n     {signature.line()}")
    raise TrustError(
        f"{entry.image} is not signed by anybody whom {allowed} names" + "".join(refused),
        f"Check it with `cnd verify --rebuild {entry.address}` and `cnd sign {entry.address}` it, "
        "or ask a signer to.",
    )


def allowed_signers(settings: Settings) -> Path:
    """Return the file that says who may sign; raises ConfigError if none is configured."""
    if settings.allowed_signers is None:
        raise ConfigError(
            "`trust: signed` needs `allowed_signers:`, the file that says who may sign",
            f"Name it in {config.user_file()}; ssh-keygen(1) describes it under ALLOWED SIGNERS.",
        )
    return settings.allowed_signers


def trusts_user(uid: int, entry: Entry, settings: Settings) -> bool:
    """Tell whether a user could make us run code anyway, by what the policy lets them put there.

    Raises OSError when the entry is gone.
    """
    if uid in (0, os.geteuid()):
        return True
    if settings.trust == "signed" or uid in ownership.ours():
        # In a user namespace, all others look alike.
        return False
    root = entry.root.stat()
    if uid in (root.st_uid, entry.directory.lstat().st_uid):
        return True
    return _is_shared(root) and ownership.is_member(uid, (root.st_gid,))
