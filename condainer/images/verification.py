"""What `cnd verify` does: choose images, check them, move damaged ones away, report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from condainer import pipeline
from condainer.cache import entries, names, verify
from condainer.cache.entries import IMAGE
from condainer.cache.verify import Verdict
from condainer.images import inventory, rebuild
from condainer.settings.config import Settings
from condainer.system.errors import CondainerError, ConfigError
from condainer.system.reporter import Reporter
from condainer.system.text import human_rate, human_size

# The last line about images without damage.
OK = "OK"


def choose(what: str | None, everything: bool, settings: Settings) -> list[Path]:
    """Return what to check: directories of entries, or one file.

    Raises NotBuiltError for an address that no cache has, ConfigError for two wishes at once.
    """
    if everything:
        if what is not None:
            raise ConfigError(f"`--all` and {what}", "Name one image, or all of them.")
        return _places(settings)
    if what is not None and not names.DIGITS.fullmatch(what):
        # Where the working directory was deleted, this says so.
        path = Path(what).absolute()
        if os.path.lexists(path) or not names.NAME.fullmatch(what):
            return [path]
    return [served(what and inventory.address_of(what, settings), settings)]


def plan(chosen: Sequence[Path], again: bool, keep: bool) -> Iterator[str]:
    """Yield what run() would do."""
    for path in chosen:
        yield f"check {path}"
        if again:
            yield f"build {path.name} again in a private place, and compare"
    if not keep:
        yield "move damaged entries of the writable cache to its quarantine"


def run(
    chosen: Sequence[Path], again: bool, keep: bool, settings: Settings, reporter: Reporter
) -> list[Verdict]:
    """Check images one after the other, and return the verdicts in the same order.

    Raises what a build raises if `again`.
    """
    return [_one(path, again, keep, settings, reporter) for path in chosen]


def _one(path: Path, again: bool, keep: bool, settings: Settings, reporter: Reporter) -> Verdict:
    if path.is_dir() and entries.ENTRY.fullmatch(path.name):
        verdict = verify.verify_entry(path, settings, reporter)
    else:
        verdict = verify.verify_file(path, settings, reporter)
    if again and not verdict.problems:
        if not (verdict.path / IMAGE).exists():
            raise CondainerError(
                f"{path} is not in a cache, and cannot be built again from there",
                "`cnd import` it first.",
            )
        verdict = rebuild.rebuild_entry(verdict, settings, reporter)
    return verdict if keep else verify.move_away(verdict, settings)


def lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield the results of images without damage, and a sum for several."""
    whole = [verdict for verdict in verdicts if not verdict.problems]
    for verdict in whole:
        amount = f"{human_size(verdict.size)} at {human_rate(verdict.size, verdict.seconds)}"
        yield f"{verdict.address}: {', '.join(verdict.checked)} ({amount})"
        yield from (f"  {note}" for note in verdict.notes)
    if len(verdicts) != 1:
        size, seconds = sum(v.size for v in verdicts), sum(v.seconds for v in verdicts)
        amount = f"{human_size(size)} at {human_rate(size, seconds)}"
        yield f"{len(whole)} of {len(verdicts)} images whole, {amount}"
    if len(whole) == len(verdicts):
        yield OK


def served(digits: str | None, settings: Settings) -> Path:
    """Return where the entry of an address stands: the one that is served, or else the first.

    Parameters: `digits` may be the beginning of an address; None means the project's own.
    Raises NotBuiltError if there is none, or if several addresses begin with `digits`.
    """
    remedy = "" if digits or settings.address else f"Run `cnd build{settings.option}`."
    digits = digits or settings.address or pipeline.mount_of(settings).address
    places = _places(settings, digits)
    addresses = {entries.address_in(place) for place in places}
    entries.demand_one(digits, addresses, settings, remedy)
    return next((place for place in places if entries.read_entry(place)), places[0])


def _places(settings: Settings, digits: str = "") -> list[Path]:
    """Return where the entries of all caches stand, whole or not, whose addresses begin so."""
    roots = entries.roots(settings)
    return [place for root in roots for place in entries.entry_directories(root, digits)]
