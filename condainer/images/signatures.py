"""What `cnd sign` does: check every byte of images, and sign their manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from condainer.cache import entries, names, signing, trust, verify
from condainer.cache.entries import Entry
from condainer.cache.verify import Verdict
from condainer.images import verification
from condainer.settings.config import Settings
from condainer.system.errors import ConfigError, IntegrityError
from condainer.system.reporter import Reporter


@dataclass(frozen=True)
class Vouched:
    """An entry that was signed, its key, and the path of the signature."""

    entry: Entry
    key: Path
    path: Path

    def report(self) -> dict[str, str]:
        """Return what `--json` prints of it."""
        return {
            "address": self.entry.address,
            "image": str(self.entry.image),
            "sha256": self.entry.manifest.sha256,
            "key": str(self.key),
            "signature": str(self.path),
        }


def choose(addresses: Sequence[str], everything: bool, settings: Settings) -> list[Path]:
    """Return the entries to sign; without an address, the project's own image.

    Raises NotBuiltError for an address that no cache has, ConfigError for two wishes at once.
    """
    if everything:
        if addresses:
            raise ConfigError(f"`--all` and {addresses[0]}", "Name some images, or all of them.")
        return list(entries.entry_directories(settings.cache_directory))
    if not addresses:
        return [verification.served(None, settings)]
    named = (names.address(text, settings) for text in addresses)
    return [verification.served(digits, settings) for digits in named]


def plan(chosen: Sequence[Path], key: Path | None, again: bool, settings: Settings) -> list[str]:
    """Return what run() would do; raises ConfigError without a key."""
    public_key = signing.key_of(settings, key)
    what = "check it, build it again" if again else "check it"
    return [f"{what}, and sign {path} with {public_key}" for path in chosen]


def run(
    chosen: Sequence[Path], key: Path | None, again: bool, settings: Settings, reporter: Reporter
) -> Iterator[Vouched]:
    """Sign images one after the other, each after every byte of it was checked.

    Parameters: `again` builds each once more and signs the same bytes only. Raises IntegrityError
    that names the damaged ones when the others are signed, and what signing.add() raises.
    """
    # What is missing is told before an image is read.
    signing.tool()
    public_key = signing.key_of(settings, key)
    verdicts = []
    for path in chosen:
        verdict = verify.verify_entry(path, settings, reporter)
        verdicts.append(verdict)
        entry = entries.read_entry(path)
        if entry is not None and not verdict.problems:
            trust.check_cache(entry.root, settings)
            if again:
                _demand_rebuilt(verdict, settings, reporter)
            signature = signing.add(entry, verdict.manifest, public_key)
            yield Vouched(entry, public_key, signature)
    verify.demand(verdicts)


def _demand_rebuilt(verdict: Verdict, settings: Settings, reporter: Reporter) -> None:
    """Compare with the manifest that will be signed: its owner could show another in between."""
    from condainer.images import rebuild

    rebuilt = rebuild.rebuild_entry(verdict, settings, reporter).rebuilt
    signed = entries.parse_manifest(verdict.manifest.decode())
    if rebuilt is None or rebuilt.sha256 != signed.sha256:
        raise IntegrityError(
            f"{verdict.path} is not signed: built again, the image has other bytes",
            f"`cnd verify --rebuild {signed.address}` tells what differs.",
        )
