"""What the commands tell about a project."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from condainer import __version__
from condainer.cache import entries
from condainer.lock.address import DIGITS, address_of, prefix_of
from condainer.pipeline import current_entry, mount_of
from condainer.settings.config import Settings
from condainer.solve.lock_state import LockState, lock_state
from condainer.system.errors import NotBuiltError
from condainer.system.files import storage_errors
from condainer.system.machine import this_platform
from condainer.system.reporter import Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BLOCK = 1 << 20


def build_plan(settings: Settings) -> list[str]:
    """Return what `cnd build` would do, without doing any of it; raises PolicyError as that."""
    if settings.address is not None:
        entry, lock = entries.pinned(settings.address, settings)
        _check_policy(LockState("current", lock), settings)
        return [f"use the pinned image {entry.image}"]
    state = lock_state(settings)
    _check_policy(state, settings)
    miss = "refuse to build the image (`pull_only`)" if settings.pull_only else "build the image"
    if state.partial is not None:
        return [
            f"look up sha256s, because {state.reason}",
            f"{miss}, unless a cache has the one of these packages",
        ]
    if state.status != "current" or state.lock is None:
        if settings.locked:
            return [f"refuse to solve: the lock is {state.status}: {state.reason}"]
        return [
            f"solve, because the lock is {state.status}: {state.reason}",
            f"{miss}, unless a cache has the one of the new lock",
        ]
    address = address_of(state.lock, settings.mount_base_directory)
    entry_found = entries.look_up(address, settings)
    if entry_found is not None:
        return [f"use {entry_found.image}, which is there"]
    target = entries.entry_directory(settings.cache_directory, address.digest) / entries.IMAGE
    packages = f"{len(state.lock.conda)} conda and {len(state.lock.pip)} pip packages"
    others = () if settings.offline else (*settings.web_caches, *settings.registries)
    asked = [f"take {address.digest} from {place}, if it is there" for place in others]
    if settings.pull_only:
        return [*asked, f"{miss}, if it is not there" if asked else f"{miss}: no cache has it"]
    return [*asked, f"install {packages} and compress them into {target}"]


def _check_policy(state: LockState, settings: Settings) -> None:
    if settings.policy:
        from condainer.solve import allowed

        allowed.demand([(this_platform(), state)], settings)


@dataclass(frozen=True)
class Plan:
    """What has to be done before the image of a project can be used, and where it will be.

    Before there is a lock, neither is known; `entry` is the image that is there.
    """

    steps: tuple[str, ...]
    image: str = "the image"
    prefix: str = "its prefix"
    entry: entries.Entry | None = None


def use_plan(settings: Settings) -> Plan:
    """Return what would be done to use the image of a project, which need not be built yet.

    Raises NotBuiltError for a pin that no cache has, which cannot be built.
    """
    try:
        entry, _ = current_entry(settings)
        return Plan((), str(entry.image), str(entry.prefix), entry)
    except NotBuiltError:
        steps = tuple(build_plan(settings))
    state = lock_state(settings)
    if state.status != "current" or state.lock is None:
        return Plan(steps)
    address = address_of(state.lock, settings.mount_base_directory)
    directory = entries.entry_directory(settings.cache_directory, address.digest)
    return Plan(steps, str(directory / entries.IMAGE), str(address.prefix))


def planned(
    choose: Callable[[], list[Path]], named: bool, settings: Settings
) -> tuple[tuple[str, ...], list[Path]]:
    """Return what has to be done first, and which images are then chosen; raises as `choose`.

    A project's own image, which is meant unless one is `named`, need not be built yet.
    """
    try:
        return (), choose()
    except NotBuiltError:
        if named:
            raise
    plan = use_plan(settings)
    return plan.steps, [Path(plan.image)]


def unmount_plan(settings: Settings) -> str:
    """Return what `cnd umount` would do."""
    try:
        return f"unmount {mount_of(settings).prefix}"
    except NotBuiltError as error:
        return f"unmount nothing: {error.message}"


def status(settings: Settings) -> dict[str, Any]:
    """Return what `cnd status` shows; nothing of it has to exist."""
    from condainer.mount import backends, mount_work, mounts, node_copies

    state = _lock_state(settings)
    entry, digest = _entry(settings, state)
    image = mounts.Image.of(entry) if entry else None
    copies = node_copies.by_address(mount_work.wish_of(settings)) if entry else {}
    prefix = entry.prefix if entry else _prefix(digest, settings)
    several = {"environment": settings.environment_name} if settings.environments else {}
    return {
        "project": str(settings.project),
        **several,
        "lock": state.status,
        "reason": state.reason or None,
        "address": digest,
        "pinned": settings.address is not None,
        "image": str(entry.image) if entry else None,
        "size": entry.manifest.size if entry else None,
        "prefix": str(prefix) if prefix else None,
        "mounted": image is not None and mounts.probe(image) in backends.USABLE,
        "mount": mounts.outlook(image, mounts.Options.of(settings)) if image else None,
        "staged": str(copies[digest]) if digest in copies else None,
        "cache": str(settings.cache_directory),
        "packages": str(settings.package_cache),
    }


def _prefix(digest: str | None, settings: Settings) -> Path | None:
    # The beginning of an address that no cache has belongs nowhere.
    whole = digest is not None and len(digest) == DIGITS
    return prefix_of(digest, settings.mount_base_directory) if digest and whole else None


def _lock_state(settings: Settings) -> LockState:
    if settings.address is None or settings.files.is_there(settings.environment_yml):
        return lock_state(settings)
    return LockState("missing", None, "pinned")


def _entry(settings: Settings, state: LockState) -> tuple[entries.Entry | None, str | None]:
    if settings.address is not None:
        try:
            entry = entries.find(settings.address, settings)
        except NotBuiltError:
            return None, settings.address
        return entry, entry.address
    if state.lock is None:
        return None, None
    address = address_of(state.lock, settings.mount_base_directory)
    return entries.look_up(address, settings), address.digest


def read_into_page_cache(image: Path, reporter: Reporter) -> float:
    """Read an image once, so that the operating system keeps it in memory; return the seconds."""
    start = time.monotonic()
    reporter.step("Reading the image", "percent")
    size = image.stat().st_size
    done = 0
    buffer = bytearray(BLOCK)
    with storage_errors(f"read {image}"), image.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            done += count
            reporter.progress(100 * done // size, 100)
    reporter.finish()
    return time.monotonic() - start


def versions() -> dict[str, str]:
    """Return the versions of Condainer and of what its results depend on."""
    import importlib.metadata
    import platform

    names = ("py-rattler", "uv", "conda-lock")
    return {
        "condainer": __version__,
        "python": platform.python_version(),
        "platform": this_platform(),
        **{name: importlib.metadata.version(name) for name in names},
    }
