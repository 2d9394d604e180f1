"""A prefix to a squashfs file, and what an image tells of itself."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import xxhash

from condainer.lock.address import OURS
from condainer.settings.config import STAGE, Settings
from condainer.system import process, threads
from condainer.system.errors import BuildError, IntegrityError, StorageError, ToolError
from condainer.system.files import (
    access_time_kept,
    open_regular,
    sha256_of,
    storage_error_told,
    storage_errors,
    sync_file,
)
from condainer.system.private_directory import claimed_directory
from condainer.system.process import CommandFailed
from condainer.system.reporter import Reporter, Silent

# 1980-01-02: zip tools refuse times before 1980, in any time zone.
FIXED_TIME = 315_619_200
LEAST_VERSION = (4, 4)
HINT = (
    "Install squashfs-tools: `apt install squashfs-tools`, `dnf install squashfs-tools`, or, "
    "without root, `cnd prereq --install`; `tool_directory:` in condainer.yml names the directory "
    "of tools that are not on PATH."
)
BLOCK = 1 << 20
# Of mksquashfs's buffers; by default it takes a quarter of the machine's memory. More does
# not make it faster (docs/benchmarks), and nodes that build are often shared.
MEMORY = "256M"
NONE_KNOWN: Mapping[str, str] = {}
# No recipe is as large, in characters: it names the packages of a lock.
LARGEST_RECIPE = 16 << 20
# A line of a listing: what can be executed, or a link, in `bin`.
PROGRAM = re.compile(
    r"^(?:-..[xs].* \d\d:\d\d /bin/([^/\n]+)|l.* \d\d:\d\d /bin/([^/\n]+?) -> .*)$", re.MULTILINE
)
INFO = re.compile(r", uncompressed size (\d+) bytes")


@dataclass(frozen=True)
class Packed:
    """A finished image file, and the digests that its manifest records."""

    path: Path
    size: int
    sha256: str
    xxh3: str
    tree_sha256: str
    tool: str


def find_mksquashfs(settings: Settings) -> tuple[str, str]:
    """Return path and version of mksquashfs; raises ToolError if it is missing or too old."""
    tool = process.find_tool("mksquashfs", settings.tool_directory)
    if tool is None:
        raise ToolError("mksquashfs is not installed", HINT)
    text = _version_text(tool)
    match = re.search(r"version (\d+)\.(\d+)\S*", text)
    if match is None:
        raise ToolError(f"{tool} does not tell its version: {text.strip()[:200]!r}", HINT)
    if (int(match[1]), int(match[2])) < LEAST_VERSION:
        raise ToolError(f"{tool} is {match[0]}, but reproducible images need 4.4 or newer", HINT)
    return tool, match[0].removeprefix("version ")


def _version_text(tool: str) -> str:
    try:
        return process.run([tool, "-version"]).stdout
    except CommandFailed as error:
        # Some releases exit with 1 after printing their version.
        return error.stderr


def pack(
    directory: Path,
    target: Path,
    settings: Settings,
    reporter: Reporter,
    known: Mapping[str, str] = NONE_KNOWN,
    size: int = 0,
    discard: Callable[[], None] = lambda: None,
) -> Packed:
    """Compress a directory into a squashfs file whose bytes depend on the directory alone.

    Parameters: `known` holds sha256 of files in it, by their paths, that need not be read again;
    `size` is how many bytes its files have, for progress; `discard` is called in a thread
    when the directory is no longer needed. Raises BuildError when mksquashfs fails,
    StorageError when the disk is full.
    """
    tool, version = find_mksquashfs(settings)
    reporter.step("Compressing the image", "percent")
    command = packing(tool, directory, target, settings)
    total, done = size or 1, 0

    def on_line(line: str) -> None:
        nonlocal done
        if match := INFO.search(line):
            done += int(match[1])
            reporter.progress(min(100 * done // total, 100), 100)

    with threads.pool(2) as pool:
        # What mksquashfs reads is in the page cache for both of them.
        tree = pool.submit(tree_digest, directory, known)
        try:
            # Its own progress bar goes to terminals only; what it says of each file goes anywhere.
            process.run([*command, "-info", "-no-progress"], on_line=on_line)
        except CommandFailed as error:
            raise _explained(error, target) from None
        with storage_errors(f"read the image {target}, or {directory}"):
            tree_sha256 = tree.result()
            synced = pool.submit(sync_file, target)
            pool.submit(discard)
            sha256, xxh3 = digests(target)
            synced.result()
    return Packed(target, target.stat().st_size, sha256, xxh3, tree_sha256, version)


def packing(tool: str, directory: Path, target: Path, settings: Settings) -> list[str]:
    """Return the command of mksquashfs that packs a directory reproducibly."""
    compression = ["-comp", settings.compressor]
    if settings.compressor in ("zstd", "gzip", "lzo"):
        compression += ["-Xcompression-level", str(settings.compression_level)]
    return [
        *(tool, str(directory), str(target), "-noappend", "-no-recovery", "-no-xattrs"),
        *("-all-root", "-no-hardlinks", "-reproducible", "-mkfs-time", str(FIXED_TIME)),
        *("-all-time", str(FIXED_TIME), "-exit-on-error"),
        *("-processors", str(settings.jobs), "-mem", MEMORY, *compression),
    ]


def _explained(error: CommandFailed, target: Path) -> Exception:
    text = error.stderr.strip()
    if "No space left" in text or _is_full(target.parent):
        return StorageError(
            f"No space left for the image {target}",
            "Free some space there, or name a larger `cache_directory:` in condainer.yml.",
        )
    return storage_error_told(f"write the image {target}", text) or BuildError(
        f"mksquashfs failed: {error.reason}"
    )


def _is_full(directory: Path) -> bool:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize < BLOCK


def digests(path: Path) -> tuple[str, str]:
    """Return sha256 and XXH3-128 of a file, read once."""
    hasher = hashed(path)
    return hasher.sha256.hexdigest(), hasher.xxh3.hexdigest()


def hashed(
    path: Path,
    reporter: Reporter | None = None,
    follow: bool = True,
    target: BinaryIO | None = None,
) -> Hasher:
    """Return the digests of a whole file, which is copied to `target`; `follow` as for opening."""
    hasher = Hasher(reporter)
    with open_regular(path, follow) as stream:
        hasher.read(stream, os.fstat(stream.fileno()).st_size, target)
    return hasher


class Hasher:
    """Takes both digests, and the size, of what it reads, in one go."""

    def __init__(self, reporter: Reporter | None = None) -> None:
        self.sha256 = hashlib.sha256()
        self.xxh3 = xxhash.xxh3_128()
        self.size = 0
        self.reporter = reporter or Silent()

    def read(self, source: BinaryIO, size: int, target: BinaryIO | None = None) -> None:
        """Read `size` bytes, or to the end of the file, and copy them to `target`.

        The reporter is told the percentage.
        """
        while block := source.read(min(BLOCK, size - self.size)):
            self.sha256.update(block)
            self.xxh3.update(block)
            if target is not None:
                target.write(block)
            self.size += len(block)
            self.reporter.progress(100 * self.size // size, 100)


def tree_digest(directory: Path, known: Mapping[str, str] = NONE_KNOWN) -> str:
    """Return the sha256 of a tree: paths, types, modes, contents and link targets.

    Unlike the image's, it does not depend on how squashfs packs; cache_layout.md has the format.
    """
    total = hashlib.sha256()
    for line in tree_lines(directory, known):
        total.update(line)
    return total.hexdigest()


def tree_lines(directory: Path, known: Mapping[str, str] = NONE_KNOWN) -> Iterator[bytes]:
    """Yield the record of every directory, file and link of a tree; the path is its third field.

    Parameters: `known` as for pack(). Raises BuildError for anything else.
    """
    waiting = [(str(directory), ".")]
    while waiting:
        root, base = waiting.pop()
        yield _line("directory", os.lstat(root).st_mode, base, "")
        with os.scandir(root) as listing:
            entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
        below = "" if base == "." else f"{base}/"
        folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        waiting += [(entry.path, f"{below}{entry.name}") for entry in reversed(folders)]
        for entry in entries:
            relative = f"{below}{entry.name}"
            if entry.is_symlink():
                yield _line("link", None, relative, os.readlink(entry.path))
            elif entry.is_file():
                mode = entry.stat(follow_symlinks=False).st_mode
                yield _line("file", mode, relative, known.get(relative) or sha256_of(entry.path))
            elif not entry.is_dir():
                raise BuildError(f"{entry.path} is neither a file, a directory nor a link")


def _line(kind: str, mode: int | None, relative: str, content: str) -> bytes:
    permissions = "" if mode is None else f"{stat.S_IMODE(mode):04o}"
    return os.fsencode(f"{kind}\0{permissions}\0{relative}\0{content}\n")


def read_recipe(path: Path, settings: Settings) -> str:
    """Return the canonical text that an image carries inside.

    Raises IntegrityError if the file is no image of ours, StorageError if it cannot be read,
    ToolError without unsquashfs.
    """
    command = [unsquashfs(settings), "-no-progress", "-cat", str(path), f"{OURS}/recipe"]
    problem = f"{path} is not an image that Condainer made"
    try:
        with _said_by_unsquashfs(f"read {path}", problem, ""), access_time_kept(path):
            return process.run(command, limit=LARGEST_RECIPE).stdout
    except process.TooMuch:
        raise IntegrityError(
            f"{path}: the recipe inside is larger than {LARGEST_RECIPE} characters"
        ) from None


def programs(path: Path, settings: Settings) -> list[str]:
    """Return the names of the programs in `bin` of an image.

    Links count, wherever they lead. Raises IntegrityError, ToolError.
    """
    command = [unsquashfs(settings), "-no-progress", "-lls", "-d", "", str(path), "bin"]
    with _said_by_unsquashfs(f"read {path}", f"{path} cannot be read"), access_time_kept(path):
        listed = process.run(command).stdout
    return sorted({match[1] or match[2] for match in PROGRAM.finditer(listed)})


@contextmanager
def parts(path: Path, settings: Settings, below: Sequence[str]) -> Iterator[Path]:
    """Unpack what is at or below some paths in an image, for as long as it is read.

    Yields the directory that holds them. Raises as unpack().
    """
    with (
        storage_errors(f"read {path}"),
        claimed_directory(settings.staging_directory, STAGE) as scratch,
    ):
        unpack(unsquashfs(settings), path, scratch / "image", below)
        yield scratch / "image"


def unsquashfs(settings: Settings) -> str:
    """Return the path of unsquashfs; raises ToolError if it is missing."""
    tool = process.find_tool("unsquashfs", settings.tool_directory)
    if tool is None:
        raise ToolError("unsquashfs is not installed", HINT)
    return tool


@contextmanager
def _said_by_unsquashfs(
    doing: str, problem: str, hint: str = "`cnd verify` tells whether it is damaged."
) -> Iterator[None]:
    try:
        yield
    except CommandFailed as error:
        said = error.stderr.strip()
        raise storage_error_told(doing, said) or IntegrityError(
            f"{problem}: {said[:500]}", hint
        ) from None


def unpack(tool: str, path: Path, directory: Path, below: Sequence[str] = ()) -> None:
    """Unpack an image, or what is at or below some paths in it, into a new directory.

    A path may have wildcards. Parameters: `tool` is unsquashfs. Raises IntegrityError if that is
    not possible, StorageError when the disk does not take it.
    """
    command = [tool, "-no-progress", "-no-xattrs", "-quiet", "-d", str(directory), str(path)]
    with _said_by_unsquashfs(f"unpack {path} into {directory}", f"{path} cannot be unpacked"):
        process.run([*command, *below])
