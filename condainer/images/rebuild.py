"""An image built again in a private place, and compared with the one that is served."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from condainer import pipeline
from condainer.cache import entries, squashfs
from condainer.cache.entries import IMAGE, Entry, Manifest
from condainer.cache.papers import Papers, read_papers
from condainer.cache.verify import Rebuilt, Verdict
from condainer.settings.config import COMPRESSORS, Settings
from condainer.system.errors import IntegrityError, LockfileError
from condainer.system.files import storage_errors
from condainer.system.machine import this_platform
from condainer.system.private_directory import claimed_directory, reclaim
from condainer.system.reporter import Reporter
from condainer.system.text import some

IDENTICAL = "identical"
SAME_TREE = "same tree, other packing"
DIFFERENT = "different"
# Differing paths that are named.
SHOWN = 5


def rebuild_entry(verdict: Verdict, settings: Settings, reporter: Reporter) -> Verdict:
    """Build what a whole entry's lock says again, and add the comparison to the verdict.

    Raises what a build raises. The caches are left alone.
    """
    directory = verdict.path
    with storage_errors(f"read {directory}"):
        papers = read_papers(*entries.read_papers(directory), str(directory))
    if papers.lock.platform != this_platform():
        raise LockfileError(f"{directory} is for {papers.lock.platform}: rebuild it there")
    where = settings.staging_directory
    with storage_errors(f"make a private cache in {where}"):
        where.mkdir(parents=True, exist_ok=True)
        reclaim(where)
        claim = claimed_directory(where, "condainer-rebuild")
    with claim as private:
        same = settings_of(papers.manifest, settings, private / "cache")
        rebuilt, _ = pipeline.build(papers.lock, papers.address, same, reporter)
        reporter.step("Comparing the images")
        comparison = compare(directory / IMAGE, papers, rebuilt, private, settings)
    reporter.finish()
    return judged(verdict, comparison, papers)


def settings_of(manifest: Manifest, settings: Settings, cache_directory: Path) -> Settings:
    """Return settings that pack as the manifest says, into a private cache.

    Raises IntegrityError for a compressor that does not exist.
    """
    if manifest.compressor not in COMPRESSORS:
        raise IntegrityError(f"The manifest names an unknown compressor: {manifest.compressor!r}")
    # Images of compressors without levels record 0.
    level = manifest.compression_level or settings.compression_level
    return replace(
        settings,
        cache_directory=cache_directory,
        readonly_caches=(),
        compressor=manifest.compressor,
        compression_level=level,
    )


def compare(
    served: Path, papers: Papers, rebuilt: Entry, private: Path, settings: Settings
) -> Rebuilt:
    """Compare bytes, and where those differ, what is in both images.

    A tree_sha256 in a manifest is what its builder says: the images themselves are unpacked.
    """
    if papers.manifest.sha256 == rebuilt.manifest.sha256:
        return Rebuilt(IDENTICAL, "the bytes of the images", sha256=rebuilt.manifest.sha256)
    trees = []
    for name, path in (("served", served), ("rebuilt", rebuilt.image)):
        squashfs.unpack(squashfs.unsquashfs(settings), path, private / name)
        trees.append(set(squashfs.tree_lines(private / name)))
    compared = f"the content of the images ({_packing(papers.manifest, rebuilt.manifest)})"
    # What stands third in a line is its path.
    paths = tuple(sorted({os.fsdecode(line.split(b"\0")[2]) for line in trees[0] ^ trees[1]}))
    return Rebuilt(DIFFERENT if paths else SAME_TREE, compared, paths)


def _packing(theirs: Manifest, ours: Manifest) -> str:
    one, two = theirs.tools.get("mksquashfs", "unknown"), ours.tools["mksquashfs"]
    if one != two:
        return f"packed by mksquashfs {one}, here by {two}"
    return "packed by the same version of mksquashfs with the same settings"


def judged(verdict: Verdict, comparison: Rebuilt, papers: Papers) -> Verdict:
    """Add a comparison to a verdict: different content is damage, unless built from source."""
    notes = (
        *verdict.notes,
        f"Built again: {comparison.result}; compared were {comparison.compared}",
    )
    problems = verdict.problems
    sdists = [package.name for package in papers.lock.pip if not package.is_wheel]
    if sdists:
        names = ", ".join(sdists)
        notes += (f"Built from source, so that equal bytes are not promised: {names}",)
    if comparison.paths:
        paths = some(comparison.paths, SHOWN)
        if sdists:
            notes += (f"Different in {paths}",)
        else:
            problems += (f"its lock gives another image, different in {paths}",)
    return replace(verdict, rebuilt=comparison, notes=notes, problems=problems)
