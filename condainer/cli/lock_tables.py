"""What `cnd lock` prints: for each platform, whether its lock is current and what has moved."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from condainer.cli import tables
from condainer.lock.contents import Difference, changes_report, contents_of, difference
from condainer.settings import virtual
from condainer.settings.config import Settings
from condainer.solve.lock_state import LockState
from condainer.solve.other_locks import disagreeing
from condainer.solve.relock import Relocked

States = Sequence[tuple[str, LockState]]


def states_report(states: States) -> dict[str, Any]:
    """Return what `cnd lock --check --json` prints."""
    return {
        "current": all(state.status == "current" for _, state in states),
        "platforms": [
            {
                "platform": platform,
                "status": state.status,
                "reason": state.reason or None,
                "virtual_packages": dict(state.lock.virtual) if state.lock else {},
            }
            for platform, state in states
        ],
    }


def states_summary(states: States, settings: Settings) -> Iterator[str]:
    """Yield what `cnd lock --check` says of locks that are current."""
    for platform, state in states:
        lock = state.lock
        source = f", and taken from {lock.origin}" if lock is not None and lock.origin else ""
        yield f"The lock for {platform} is current{source}"
        if lock is not None:
            yield from disagreeing(lock, settings)
        if lock is None or not lock.sources or lock.origin:
            continue
        now = virtual.overrides(settings.virtual_packages, os.environ, platform)
        if now != lock.virtual:
            yield f"It was made with {_chosen(lock.virtual)}; now it would be {_chosen(now)}"


def _chosen(packages: tuple[tuple[str, str], ...]) -> str:
    names = " ".join(f"{name}={version or 'absent'}" for name, version in packages)
    return f"the virtual packages {names}" if names else "no virtual packages chosen"


def report(
    relocked: Sequence[Relocked], files: Sequence[Path], settings: Settings
) -> dict[str, Any]:
    """Return what `cnd lock --json` prints: of the first platform, and then of each."""
    platforms = [_platform(item, settings) for item in relocked]
    first = {key: platforms[0][key] for key in ("address", "platform", "conda", "pip")}
    return {
        **first,
        "changed": any(item["solved"] and not item["equal"] for item in platforms),
        "lockfiles": [str(path) for path in files],
        "platforms": platforms,
    }


def _platform(item: Relocked, settings: Settings) -> dict[str, Any]:
    from condainer.lock.address import address_of

    return {
        "platform": item.platform,
        "address": address_of(item.new, settings.mount_base_directory).digest,
        "solved": item.solved is not None,
        "reason": item.reason or None,
        "conda": [package.filename for package in item.new.conda],
        "pip": [package.filename for package in item.new.pip],
        "virtual_packages": dict(item.new.virtual),
        **changes_report(_difference(item)),
    }


def _difference(item: Relocked) -> Difference:
    old = item.old or replace(item.new, conda=(), pip=(), variables=())
    return difference(contents_of(old, Path()), contents_of(item.new, Path()))


def table(relocked: Sequence[Relocked]) -> Iterator[str]:
    """Yield what changes against the old locks, below a line for each platform if several."""
    for item in relocked:
        lines = list(tables.changes(_difference(item)))
        if len(relocked) > 1 and lines:
            yield f"{item.platform}:"
        yield from lines


def summary(relocked: Sequence[Relocked], dry: bool = False) -> Iterator[str]:
    """Yield a sentence for each platform."""
    done = "Would lock" if dry else "Locked"
    for item in relocked:
        counts = f"{len(item.new.conda)} conda and {len(item.new.pip)} pip packages"
        if item.solved is None:
            yield f"The lock for {item.platform} is current ({counts}); --upgrade moves packages"
            continue
        difference = _difference(item)
        moves = [
            f"{len(packages)} {verb}"
            for verb, packages in (
                ("added", difference.added),
                ("removed", difference.removed),
                ("moved", difference.changed),
            )
            if packages
        ]
        what = ", ".join(moves) or "nothing moved"
        yield f"{done} {counts} for {item.platform}" + (f": {what}" if item.old else "")
