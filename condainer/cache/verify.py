"""Whether an image is what manifest, lock and address say; damaged ones are moved away."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from condainer.cache import entries as cache
from condainer.cache import one_file, publish, signing, trust
from condainer.cache.papers import (
    Papers,
    differences,
    disagreements,
    read_papers,
    recipe_problems,
)
from condainer.cache.signing import Signature
from condainer.cache.squashfs import hashed, read_recipe
from condainer.settings.config import Settings
from condainer.system.errors import (
    CondainerError,
    IntegrityError,
    StorageError,
    ToolError,
)
from condainer.system.files import open_regular, user_name
from condainer.system.reporter import Reporter

NO_UNSQUASHFS = "the recipe inside was not checked: unsquashfs is not installed"


@dataclass(frozen=True)
class Rebuilt:
    """How a second build compares; `compared` says what with what, `paths` where they differ.

    `sha256` is that of the image of the second build.
    """

    result: str
    compared: str
    paths: tuple[str, ...] = ()
    sha256: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the check of an image found.

    `checked` names what was compared, `size` and `seconds` what was read of the image;
    `manifest` is the text that all was compared with, `signatures` are those of it.
    Without `certain`, something could not be read, which need not be the image's fault. `inode` is
    that of the directory that was checked.
    """

    path: Path
    address: str | None = None
    checked: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    size: int = 0
    seconds: float = 0.0
    certain: bool = True
    inode: int = 0
    quarantined: Path | None = None
    rebuilt: Rebuilt | None = None
    manifest: bytes = b""
    signatures: tuple[Signature, ...] = ()

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "path": str(self.path),
            "address": self.address,
            "ok": not self.problems,
            "checked": self.checked,
            "problems": self.problems,
            "notes": self.notes,
            "size": self.size,
            "mb_per_second": round(self.size / max(self.seconds, 1e-6) / 1e6, 1),
            "quarantined": str(self.quarantined) if self.quarantined else None,
            "rebuild": self.rebuilt.result if self.rebuilt else None,
            "compared": self.rebuilt.compared if self.rebuilt else None,
            "signatures": [signature.report() for signature in self.signatures],
        }


def verify_entry(directory: Path, settings: Settings, reporter: Reporter) -> Verdict:
    """Check an entry: bytes against manifest, manifest against lock, lock against address.

    What is inside the image is looked at only when its bytes are what they should be.
    """
    named = cache.address_in(directory)
    reporter.step(f"Verifying {named}", "percent")
    verdict = Verdict(directory, named)
    try:
        verdict = replace(verdict, inode=directory.stat().st_ino)
        manifest, lock = cache.read_papers(directory)
        papers = read_papers(manifest, lock, str(directory))
        verdict = _check_signatures(replace(verdict, manifest=manifest), papers, settings)
        verdict = _check_bytes(verdict, papers, reporter)
        problems = list(verdict.problems)
        checked = ["image against manifest", "manifest against lock", "lock against address"]
        problems += disagreements(papers)
        if papers.address.digest != named:
            problems.append(f"the lock gives the address {papers.address.digest}, not {named}")
        verdict = replace(verdict, checked=tuple(checked), problems=tuple(problems))
        if not problems:
            verdict = _look_inside(verdict, directory / cache.IMAGE, papers, settings)
    except IntegrityError as error:
        verdict = replace(verdict, problems=(*verdict.problems, error.message))
    except StorageError as error:
        verdict = replace(verdict, problems=(*verdict.problems, error.message), certain=False)
    except (FileNotFoundError, NotADirectoryError) as error:
        verdict = replace(verdict, problems=(f"{Path(error.filename).name} is missing",))
    except OSError as error:
        problem = f"{error.filename or directory} cannot be read: {error.strerror}"
        verdict = replace(verdict, problems=(problem,), certain=error.errno in cache.NO_FILE)
    reporter.finish()
    return verdict


def _check_signatures(verdict: Verdict, papers: Papers, settings: Settings) -> Verdict:
    """Add what the signatures of an entry are worth; the image is no worse without them."""
    entry = cache.Entry(cache.address_in(verdict.path), verdict.path, papers.manifest)
    try:
        signatures = tuple(signing.signatures(entry, verdict.manifest, settings.allowed_signers))
    except CondainerError as error:
        note = f"signatures were not checked: {error.message}"
        return replace(verdict, notes=(*verdict.notes, note))
    notes = (*verdict.notes, *(signature.line() for signature in signatures))
    return replace(verdict, notes=notes, signatures=signatures)


def _check_bytes(verdict: Verdict, papers: Papers, reporter: Reporter) -> Verdict:
    start = time.monotonic()
    hasher = hashed(verdict.path / cache.IMAGE, reporter, follow=False)
    problems, seconds = tuple(differences(papers.manifest, hasher)), time.monotonic() - start
    return replace(verdict, problems=problems, size=hasher.size, seconds=seconds)


def _look_inside(verdict: Verdict, image: Path, papers: Papers, settings: Settings) -> Verdict:
    try:
        problems = recipe_problems(image, papers.address, settings)
    except ToolError:
        return replace(verdict, notes=(*verdict.notes, NO_UNSQUASHFS))
    checked = (*verdict.checked, "recipe inside against lock")
    return replace(verdict, checked=checked, problems=(*verdict.problems, *problems))


def verify_file(path: Path, settings: Settings, reporter: Reporter) -> Verdict:
    """Check a file: an entry's image with its papers, an exported image, or a bare one.

    Raises StorageError when it cannot be read, IntegrityError for what is no image of ours.
    """
    if path.name == cache.IMAGE and (path.parent / cache.MANIFEST).exists():
        return verify_entry(path.resolve().parent, settings, reporter)
    try:
        with open_regular(path) as stream:
            reporter.step(f"Verifying {path}", "percent")
            start = time.monotonic()
            bundle = one_file.read(stream, str(path))
            if bundle is None:
                verdict = _bare_image(path, settings, reporter)
            else:
                problems = tuple(one_file.check(bundle, stream, reporter))
                problems += tuple(disagreements(bundle.papers))
                checked = ("image against manifest", "manifest against lock", "lock and address")
                seconds = time.monotonic() - start
                address = bundle.papers.address.digest
                verdict = Verdict(path, address, checked, problems, (), bundle.size, seconds)
                if not problems:
                    verdict = _look_inside(verdict, path, bundle.papers, settings)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from None
    except IntegrityError as error:
        verdict = Verdict(path, problems=(error.message,))
    reporter.finish()
    return verdict


def _bare_image(path: Path, settings: Settings, reporter: Reporter) -> Verdict:
    """Tell of an image without manifest what it says it is, and whether a cache has the same."""
    recipe = read_recipe(path, settings)
    address = xxhash.xxh3_128_hexdigest(recipe.encode())
    start = time.monotonic()
    hasher = hashed(path, reporter)
    seconds = time.monotonic() - start
    problems = one_file.wrong_length(path, hasher.size)
    notes = ["there is no manifest beside it: its bytes were compared with those of caches only"]
    for root in cache.roots(settings):
        for place in cache.entry_directories(root, address):
            entry = cache.read_entry(place)
            if entry is not None:
                same = entry.manifest.sha256 == hasher.sha256.hexdigest()
                kind = "the same bytes as" if same else "OTHER BYTES than"
                notes.append(f"it has {kind} {entry.directory}")
    if len(notes) == 1:
        notes.append("no cache has an entry of its address")
    return Verdict(path, address, ("recipe inside",), problems, tuple(notes), hasher.size, seconds)


def move_away(verdict: Verdict, settings: Settings) -> Verdict:
    """Move a damaged entry of the writable cache where no reader looks, or say why not."""
    root, directory = settings.cache_directory, verdict.path
    if not verdict.problems or cache.root_of(directory) not in cache.roots(settings):
        return verdict
    if not verdict.certain:
        return _stays(verdict, "It could not be read, which need not be its own fault")
    if cache.root_of(directory) != root or root in settings.readonly_caches:
        return _stays(verdict, "This cache is only read here")
    if trust.refused(root, settings):
        return _stays(verdict, "Nothing is written into a cache that is not used")
    try:
        if directory.stat().st_ino != verdict.inode:
            # The next builder's entry, which is good, must stay.
            return _noted(verdict, "Another entry has taken its place in the meantime")
        target = publish.quarantine(directory, root)
    except FileNotFoundError:
        return _noted(verdict, "Another process moved or deleted it in the meantime")
    except OSError as error:
        return _stays(verdict, f"It cannot be moved away ({error.strerror})")
    notes = (*verdict.notes, f"Moved to {target}; the next build makes a new one")
    if os.path.ismount(prefix := _prefix(target)):
        notes += (f"{prefix} is a mount point: end what runs from there, and `cnd umount`",)
    return replace(verdict, quarantined=target, notes=notes)


def _prefix(directory: Path) -> str:
    entry = cache.read_entry(directory)
    return str(entry.prefix) if entry else ""


def _stays(verdict: Verdict, reason: str) -> Verdict:
    try:
        owner = f"its owner, {user_name(verdict.path.stat().st_uid)},"
    except OSError:
        owner = "its owner"
    note = f"{reason}: until {owner} deletes {verdict.path}, do not use this cache for it"
    return _noted(verdict, note)


def _noted(verdict: Verdict, note: str) -> Verdict:
    return replace(verdict, notes=(*verdict.notes, note))


def demand(verdicts: Sequence[Verdict]) -> None:
    """Raise an IntegrityError that names every damaged image, if there is one."""
    damaged = [verdict for verdict in verdicts if verdict.problems]
    if damaged:
        lines = [_line(verdict) for verdict in damaged]
        text = f"{len(damaged)} of {len(verdicts)} images damaged" if len(verdicts) > 1 else ""
        raise IntegrityError("\n     ".join([text, *lines] if text else lines))


def _line(verdict: Verdict) -> str:
    return "\n     ".join([f"{verdict.path}: {'; '.join(verdict.problems)}", *verdict.notes])
