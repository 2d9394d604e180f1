"""The cache of images: look up and publish. Its layout stands in cache_layout.md and only here."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from condainer.address import Address, address_of
from condainer.config import Settings
from condainer.errors import CollisionError, NotBuiltError, StorageError
from condainer.files import (
    CACHEDIR_TAG,
    claimed_directory,
    make_directory,
    publish_directory,
    publish_text,
    read_text,
    reclaim,
    remove_tree,
    storage_errors,
    this_host,
    umask,
    user_name,
)
from condainer.lock import read_explicit, this_platform
from condainer.report import Reporter

FORMAT = 1
IMAGE = "image.squashfs"
MANIFEST = "manifest.json"
LOCK = "explicit.lock"
# How often a waiting builder says whom it waits for, in seconds.
REMINDER = 30.0
# Places of one entry: more than one only where members' incomplete entries pile up.
PLACES = 10


@dataclass(frozen=True)
class Manifest:
    """What is recorded of an image beside it: who made it, how, and the digests of its bytes."""

    address: str
    recipe_sha256: str
    prefix: str
    name: str
    size: int
    sha256: str
    xxh3: str
    tree_sha256: str
    compressor: str
    compression_level: int
    builder: str
    host: str
    created: str
    tools: dict[str, str]
    format: int = FORMAT


@dataclass(frozen=True)
class Entry:
    """An image in a cache, found or just published."""

    address: str
    directory: Path
    manifest: Manifest

    @property
    def image(self) -> Path:
        """The squashfs file."""
        return self.directory / IMAGE

    @property
    def root(self) -> Path:
        """The cache that holds the entry."""
        return self.directory.parents[2]

    @property
    def explicit_lock(self) -> Path:
        """The lock from which the image was built."""
        return self.directory / LOCK

    @property
    def prefix(self) -> Path:
        """The mount point that is baked into the image's files."""
        return Path(self.manifest.prefix)


def roots(settings: Settings) -> tuple[Path, ...]:
    """Return the caches in the order in which they are looked into."""
    return (*settings.readonly_caches, settings.cache_directory)


def entry_directory(root: Path, digest: str) -> Path:
    """Return where the entry of an address stands in a cache."""
    return root / "images" / digest[:2] / digest


def _places(root: Path, digest: str) -> list[Path]:
    """Return all places of an entry: its own, and those beside one that nobody may clear."""
    first = entry_directory(root, digest)
    return [first, *(first.with_name(f"{digest}.{number}") for number in range(1, PLACES))]


def _look_into(root: Path, digest: str) -> Entry | None:
    for place in _places(root, digest):
        entry = _read_entry(place)
        if entry is not None or not place.exists():
            return entry
    return None


def look_up(address: Address, settings: Settings) -> Entry | None:
    """Return the entry of an address, or None: absence is a miss, whatever it comes from.

    Raises CollisionError if the entry was made from another canonical text.
    """
    for root in roots(settings):
        entry = _look_into(root, address.digest)
        if entry is None:
            continue
        if entry.manifest.recipe_sha256 != address.sha256:
            raise CollisionError(
                f"{entry.directory} holds another environment under the same address "
                f"(recipe sha256 {entry.manifest.recipe_sha256}, wanted {address.sha256})",
                "It is not served. If nobody needs it, its owner can delete that directory; "
                "tell the cache's administrator, for this does not happen by accident.",
            )
        return entry
    return None


def find(digits: str, settings: Settings) -> Entry:
    """Return the entry of an address that may be shortened.

    Raises NotBuiltError if there is none, or more than one.
    """
    found: dict[str, Entry] = {}
    for root in roots(settings):
        pattern = f"images/{digits[:2]}/{digits}*"
        for directory in sorted(root.glob(pattern)):
            entry = _read_entry(directory)
            if entry is not None:
                found.setdefault(entry.address, entry)
    places = ", ".join(str(root) for root in roots(settings))
    if not found:
        raise NotBuiltError(
            f"No image with the address {digits} in {places}",
            "Remove `address:` from condainer.yml to use the lock's own image.",
        )
    if len(found) > 1:
        raise NotBuiltError(
            f"{digits} is the beginning of several addresses: {', '.join(sorted(found))}",
            "Write more of its digits.",
        )
    entry = next(iter(found.values()))
    _check_pinned(entry)
    return entry


def _check_pinned(entry: Entry) -> None:
    """Hold an entry that is named by its address alone to its own lock."""
    lock = read_explicit(entry.explicit_lock, this_platform())
    address = address_of(lock, entry.prefix.parent)
    promised = (entry.manifest.address, entry.manifest.recipe_sha256, entry.prefix)
    if promised != (address.digest, address.sha256, address.prefix):
        raise CollisionError(
            f"{entry.directory} does not hold what its address says: its lock has the address "
            f"{address.digest}",
            "It is not served; its owner can delete that directory.",
        )


def _read_entry(directory: Path) -> Entry | None:
    """Read an entry; a missing, incomplete or unreadable one is none."""
    try:
        content = json.loads(read_text(directory / MANIFEST))
        manifest = _manifest(content)
        status = (directory / IMAGE).stat()
        (directory / LOCK).stat()
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    whole = status.st_size == manifest.size and stat.S_ISREG(status.st_mode)
    whole = whole and directory.name.partition(".")[0] == manifest.address
    return Entry(manifest.address, directory, manifest) if whole else None


def _manifest(content: dict[str, Any]) -> Manifest:
    if content["format"] > FORMAT:
        raise ValueError("made by a later version")
    known = {item.name for item in fields(Manifest)}
    return Manifest(**{name: value for name, value in content.items() if name in known})


@contextlib.contextmanager
def building(address: Address, settings: Settings, reporter: Reporter) -> Iterator[Path]:
    """Be the one builder of an address, and yield a private directory in the cache to build into.

    Another builder is waited for; locks only spare duplicate work, so that a cache on which they
    do not work, or a wait that is too long, lets the build go on. Raises StorageError when the
    cache cannot be written.
    """
    root = settings.cache_directory
    with storage_errors(f"write into the cache {root}"):
        prepare(root)
    with _one_builder(address, settings, reporter):
        # What builders of ours on this host left when they were killed.
        reclaim(root / "tmp", f"*.{this_host()}.*.*")
        name = f"{address.digest}.{this_host()}.{os.getpid()}."
        with contextlib.ExitStack() as stack:
            with storage_errors(f"write into the cache {root}"):
                directory = stack.enter_context(claimed_directory(root / "tmp", name))
            yield directory


def prepare(root: Path) -> None:
    """Make the directories of a cache; new ones get the mode of the cache's own directory.

    So a directory that a group shares (setgid and sticky) stays so all the way down. Raises
    OSError when that is not possible, StorageError when the place holds something else.
    """
    if not root.exists():
        make_directory(root, 0o777 & ~umask())
    tag = root / "CACHEDIR.TAG"
    if not tag.exists():
        if any(root.iterdir()):
            _refuse_other_content(root)
        publish_text(tag, CACHEDIR_TAG, 0o444)
        publish_text(root / "format", f"condainer-cache {FORMAT}\n", 0o444)
    mode = stat.S_IMODE(root.stat().st_mode)
    for name in ("images", "tmp", "locks"):
        make_directory(root / name, mode)


def _refuse_other_content(root: Path) -> None:
    known = {"images", "tmp", "locks", "packages", "format", "CACHEDIR.TAG"}
    strangers = sorted(path.name for path in root.iterdir() if path.name not in known)
    strangers = [name for name in strangers if not name.startswith(".")]
    if strangers:
        raise StorageError(
            f"{root} holds something else than a cache of Condainer: {', '.join(strangers[:5])}",
            "Name an empty or a new directory as `cache_directory:` or CONDAINER_CACHE.",
        )


@contextlib.contextmanager
def _one_builder(address: Address, settings: Settings, reporter: Reporter) -> Iterator[None]:
    from filelock import FileLock, Timeout

    root = settings.cache_directory
    group = stat.S_IMODE(root.stat().st_mode) & 0o666
    lock = FileLock(root / "locks" / f"{address.digest}.lock", mode=group, fallback_to_soft=False)
    deadline = time.monotonic() + settings.lock_timeout
    held = False
    while not held:
        left = deadline - time.monotonic()
        try:
            lock.acquire(timeout=0)
            held = True
        except Timeout:
            if left <= 0:
                reporter.warn(
                    f"Waited {settings.lock_timeout:g} s for another builder: building as well"
                )
                break
            reporter.note(f"Waiting for {_who_builds(root, address.digest)}")
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=min(REMINDER, left))
                held = True
        except OSError as error:
            reporter.warn(f"Locks do not work in {root} ({error.strerror}): building without one")
            break
    try:
        yield
    finally:
        # The file stays: to unlink it would let two builders in.
        lock.release(force=True)


def _who_builds(root: Path, digest: str) -> str:
    """Tell from the private directories of builders who is building an address, and since when."""
    for directory in root.glob(f"tmp/{digest}.*"):
        with contextlib.suppress(OSError):
            status = directory.stat()
            since = time.strftime("%H:%M:%S", time.localtime(status.st_mtime))
            host, _, _ = directory.name.removeprefix(f"{digest}.").rpartition(".")
            host, _, pid = host.rpartition(".")
            return (
                f"{user_name(status.st_uid)} on {host} (process {pid}), who builds it since {since}"
            )
    return "another process that builds the same image"


def this_user() -> str:
    """Return the name of the user who runs this process."""
    return user_name(os.getuid())


def publish(
    directory: Path, address: Address, manifest: Manifest, lock_text: str, settings: Settings
) -> Entry:
    """Make a finished image in a builder's directory an entry of the cache, by one rename.

    If somebody else was first, theirs is the entry. Raises StorageError when the cache cannot be
    written, CollisionError as look_up() does.
    """
    root = settings.cache_directory
    with storage_errors(f"publish the image in {root}"):
        (directory / MANIFEST).write_text(
            json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
        (directory / LOCK).write_text(lock_text, encoding="utf-8")
        for item in directory.iterdir():
            item.chmod(0o444)
        directory.chmod(0o755)
        parent = entry_directory(root, address.digest).parent
        make_directory(parent, stat.S_IMODE((root / "images").stat().st_mode))
        for target in _places(root, address.digest):
            if publish_directory(directory, target):
                break
            present = look_up(address, settings)
            if present is not None:
                return present
            if _set_aside(target, root) and publish_directory(directory, target):
                break
    entry = look_up(address, settings)
    if entry is None:
        raise StorageError(
            f"The image could not be published below {parent}: incomplete entries that belong to "
            "others stand there",
            "Ask their owners, or the cache's administrator, to delete them.",
        )
    return entry


def _set_aside(target: Path, root: Path) -> bool:
    """Move an incomplete entry, as a purge of old files leaves it, out of the way.

    In a cache that a group shares, nobody but its owner may: the next place is taken then.
    """
    aside = Path(tempfile.mkdtemp(prefix=f"broken-{target.name}.", dir=root / "tmp"))
    try:
        os.rename(target, aside / target.name)
    except OSError:
        return False
    finally:
        remove_tree(aside)
    return True
