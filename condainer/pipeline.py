"""From a project to an image in the cache: lock, address, look up, and build on a miss."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from condainer import __version__
from condainer.activate.scripts import write_activation
from condainer.cache import entries, project_note, trust
from condainer.cache.entries import Entry, Manifest
from condainer.lock.address import DIGITS, Address, address_of, prefix_of
from condainer.lock.explicit import render_explicit
from condainer.lock.locks import Lock
from condainer.mount.safe_base import check_base
from condainer.settings.config import Settings
from condainer.solve.ensure import ensure_lock
from condainer.solve.lock_state import demanded, lock_state, not_current
from condainer.system.errors import CondainerError, NotBuiltError, StorageError
from condainer.system.files import stand_somewhere, user_name
from condainer.system.reporter import Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from condainer.cache.squashfs import Packed
    from condainer.mount.mounts import Image

# How often an image that is collected between look-up and use is looked up again.
ATTEMPTS = 3


@dataclass(frozen=True)
class Built:
    """What a build found or made."""

    entry: Entry
    hit: bool
    locked: bool
    seconds: float
    lock: Lock

    def report(self) -> dict[str, Any]:
        """Return what `cnd build --json` prints."""
        manifest = self.entry.manifest
        return {
            "address": self.entry.address,
            "prefix": str(self.entry.prefix),
            "image": str(self.entry.image),
            "hit": self.hit,
            "locked": self.locked,
            "seconds": round(self.seconds, 3),
            "size": manifest.size,
            "sha256": manifest.sha256,
        }


def ensure(settings: Settings, reporter: Reporter) -> Built:
    """Return the image of a project, building it only if no cache has it.

    Raises TrustError for one that the user's configuration does not trust, PolicyError for one with
    packages of a channel that it forbids, and what a build raises.
    """
    start = time.monotonic()
    if settings.address is not None:
        entry, lock = entries.pinned(settings.address, settings)
        hit, locked = True, False
        _check_policy(lock, settings)
        _note(entry, settings)
    else:
        lock, locked = ensure_lock(settings, reporter, partial(_check_target, settings))
        _check_policy(lock, settings)
        address = address_of(lock, settings.mount_base_directory)
        entry, hit = _found_or_built(lock, address, settings, reporter)
    trust.demand(entry, settings)
    if settings.brought_caches:
        from condainer.cache import brought

        if hit:
            brought.demand(entry, settings, reporter)
        else:
            brought.remember(entry, settings)
    if lock.takeovers:
        reporter.warn(
            "The environment sets variables by which programs run other code than their own: "
            + ", ".join(lock.takeovers)
        )
    write_activation(entry, lock, settings, reporter)
    reporter.finish()
    return Built(entry, hit, locked, time.monotonic() - start, lock)


def _check_policy(lock: Lock, settings: Settings) -> None:
    if settings.policy:
        from condainer.packages import forbidden

        forbidden.demand_lock(lock, str(settings.project), settings)


def _check_target(settings: Settings, lock: Lock | None) -> None:
    """Refuse caches that do not have the image of a lock and could not get it.

    Without a lock, before solving, it may be any that is there. Raises TrustError,
    StorageError.
    """
    if lock is not None:
        entry = entries.look_up(address_of(lock, settings.mount_base_directory), settings)
        if entry is not None:
            trust.check_cache(entry.root, settings)
            return
    elif any(_has_images(root, settings) for root in entries.roots(settings)):
        return
    trust.check_cache(settings.cache_directory, settings)
    from condainer.cache import publish

    try:
        publish.check(settings.cache_directory)
    except StorageError as error:
        error.hint += f" `cnd lock{settings.option}` solves without building."
        raise


def _has_images(root: Path, settings: Settings) -> bool:
    return not trust.refused(root, settings) and any(entries.entry_directories(root))


def current_entry(settings: Settings) -> tuple[Entry, Lock]:
    """Return the image that a project uses, and its lock, without solving or building.

    Raises NotBuiltError when it has to be built first.
    """
    if settings.address is not None:
        return entries.pinned(settings.address, settings)
    state = lock_state(settings)
    if state.lock is None or state.status != "current":
        hint = f"Run `cnd build{settings.option}` first."
        if state.lock is not None and not settings.frozen:
            hint += f" `cnd exec{settings.option} --frozen` runs the image of the lock as it is."
        raise not_current(state, settings, hint)
    address = address_of(state.lock, settings.mount_base_directory)
    entry = entries.look_up(address, settings)
    if entry is None:
        places = ", ".join(str(root) for root in entries.roots(settings))
        raise NotBuiltError(
            f"The image {address.digest} of {settings.title} is not in {places}",
            f"Run `cnd build{settings.option}` first.",
        )
    return entry, state.lock


def behind(entry: Entry, settings: Settings) -> str:
    """Return why the image that is activated is not the project's any more; empty if it is."""
    try:
        state = lock_state(settings)
    except CondainerError as error:
        return error.message
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    if state.lock is None or state.status != "current":
        return f"The lock is {state.status}: {state.reason}"
    newer = address_of(state.lock, settings.mount_base_directory).digest
    return "" if newer == entry.address else f"The lock is of another image, {newer[:8]}"


def mount_of(settings: Settings) -> Image:
    """Return what an address or a project's lock mounts, even if the image is gone from the cache.

    Raises NotBuiltError when there is no lock at all, or no image to complete the address.
    """
    from condainer.mount.mounts import Image

    if settings.address is not None:
        try:
            return Image.of(entries.find(settings.address, settings))
        except NotBuiltError:
            if len(settings.address) < DIGITS:
                raise
            prefix = prefix_of(settings.address, settings.mount_base_directory)
            return Image(Path(), settings.address, prefix)
    address = address_of(demanded(settings, "build"), settings.mount_base_directory)
    directory = entries.entry_directory(settings.cache_directory, address.digest)
    return Image(directory / entries.IMAGE, address.digest, address.prefix)


def _found_or_built(
    lock: Lock, address: Address, settings: Settings, reporter: Reporter
) -> tuple[Entry, bool]:
    """Return the image of an address, and whether it was there; from now on the project names it.

    A garbage collection that chose the image before it could see that moves it away, and back; a
    build that finds it gone takes it back.
    """
    for _ in range(ATTEMPTS):
        present = entries.look_up(address, settings) or _pulled(address, settings, reporter)
        entry, hit = (present, True) if present else _build_ours(lock, address, settings, reporter)
        _note(entry, settings)
        if entry.image.exists():
            break
    return entry, hit


def _note(entry: Entry, settings: Settings) -> None:
    """Let a cache know that the project names an image; nothing is written into a refused one."""
    trust.check_cache(entry.root, settings)
    project_note.note(entry, settings)


def _pulled(address: Address, settings: Settings, reporter: Reporter) -> Entry | None:
    """Return the image of an address if a registry has it; raises as pull.for_build()."""
    if not (settings.registries or settings.web_caches or settings.pull_only):
        return None
    trust.check_cache(settings.cache_directory, settings)
    from condainer.registry import pull

    return pull.for_build(address, settings, reporter)


def _pushed(entry: Entry, settings: Settings, reporter: Reporter) -> None:
    """Push what was built here; a failure is a warning, because the image is there."""
    from condainer.registry import configured, push

    try:
        client = configured.chosen(None, settings, reporter)
        if client in configured.away:
            reporter.warn(f"The image is not pushed: {client.repository} has not answered")
            return
        done = push.push(entry, (), client, settings, reporter)
        reporter.note(f"Pushed {entry.address} to {done.registry}")
    except CondainerError as error:
        reporter.close()
        reporter.warn(f"The image is not pushed: {error.message}")


def _build_ours(
    lock: Lock, address: Address, settings: Settings, reporter: Reporter
) -> tuple[Entry, bool]:
    """Build an image into a cache that can be trusted; sign and push it if that is configured."""
    trust.check_cache(settings.cache_directory, settings)
    entry, hit = build(lock, address, settings, reporter)
    if not hit:
        from condainer.cache import signing
        from condainer.package_cache import limits

        reporter.finish()
        signing.add_to_ours(entry, settings, reporter)
        if settings.push:
            _pushed(entry, settings, reporter)
        limits.keep(settings, reporter)
    return entry, hit


def build(
    lock: Lock, address: Address, settings: Settings, reporter: Reporter
) -> tuple[Entry, bool]:
    """Build an image and publish it; also tell whether another builder did in the meantime.

    Raises LockfileError for a lock that leads where the project's files do not, and as ensure().
    """
    # A hit needs neither the engines nor what starts them.
    from condainer.build import stage
    from condainer.cache import publish, squashfs, trash
    from condainer.packages import admission

    stand_somewhere(settings.project)
    admission.admit(lock, settings)
    # Missing tools and places are told before anything is downloaded.
    squashfs.find_mksquashfs(settings)
    check_base(address.base)
    with publish.building(address, settings, reporter) as directory:
        present = entries.look_up(address, settings) or trash.restored(address, settings)
        if present is not None:
            return present, True
        with _no_umask(), stage.staged(lock, address, settings, reporter) as staged:
            target = directory / entries.IMAGE
            packed = squashfs.pack(
                staged.directory,
                target,
                settings,
                reporter,
                staged.digests,
                staged.size,
                staged.discard,
            )
        reporter.step("Publishing")
        manifest = _manifest(packed, lock, address, settings, reporter)
        text = entries.render_manifest(manifest)
        entry = publish.publish(directory, address, text, render_explicit(lock), settings)
        return entry, False


@contextlib.contextmanager
def _no_umask() -> Iterator[None]:
    """Give staged files the modes that their packages say, under every user's umask."""
    previous = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(previous)


def _manifest(
    packed: Packed, lock: Lock, address: Address, settings: Settings, reporter: Reporter
) -> Manifest:
    import importlib.metadata

    versions = {name: importlib.metadata.version(name) for name in ("py-rattler", "uv")}
    levelled = settings.compressor in ("zstd", "gzip", "lzo")
    return Manifest(
        address=address.digest,
        recipe_sha256=address.sha256,
        prefix=str(address.prefix),
        name=lock.name,
        size=packed.size,
        sha256=packed.sha256,
        xxh3=packed.xxh3,
        tree_sha256=packed.tree_sha256,
        compressor=settings.compressor,
        compression_level=settings.compression_level if levelled else 0,
        builder=user_name(os.getuid()),
        host=os.uname().nodename,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        tools={
            "condainer": __version__,
            "recipe": str(address.recipe),
            "mksquashfs": packed.tool,
            **versions,
        },
        built_from_source=[package.name for package in lock.pip if not package.is_wheel],
    )
