"""Writing into a cache: make it, be the only builder of an address, publish by one rename."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from condainer.cache.entries import (
    FORMAT,
    LOCK,
    MANIFEST,
    Entry,
    entry_directory,
    look_up,
    places,
)
from condainer.cache.leases import LEASES, USES
from condainer.cache.project_note import PROJECTS
from condainer.lock.address import Address
from condainer.settings.config import Settings
from condainer.system.errors import StorageError
from condainer.system.files import (
    CACHEDIR_TAG,
    make_directory,
    publish_directory,
    publish_text,
    remove_tree,
    storage_errors,
    sync_directory,
    umask,
    user_name,
)
from condainer.system.private_directory import claimed_directory, read_claim, reclaim
from condainer.system.reporter import Reporter
from condainer.system.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from filelock import FileLock

# How often a waiting builder says which one it waits for, in seconds.
REMINDER = 30.0
# How long a file system may take to answer a request for a lock, in seconds.
PATIENCE = 10.0
# How an image comes into a cache, and what those who do it are said to be doing.
BUILD, PULL, IMPORT = "build", "pull", "import"
DOING = {BUILD: "building", PULL: "pulling", IMPORT: "importing"}
# What the file `format` of a cache says.
FORMAT_LINE = f"condainer-cache {FORMAT}\n"
# What tells that a directory is a cache.
PAPERS = {"CACHEDIR.TAG": CACHEDIR_TAG, "format": FORMAT_LINE}
# Where damaged entries go, and those that a garbage collection takes away.
QUARANTINE, TRASH = "quarantine", "trash"
# Where members note what they use: without these, a cache works as well.
NOTES = (LEASES, USES, PROJECTS, TRASH)
# Where members give names to images.
NAMES = "names"
# Older caches lack these, and so does one that cannot be written.
OPTIONAL = (*NOTES, NAMES)
# What a cache's owner lets `cnd gc` do.
POLICY = "policy.yml"
# Where those who vouch for entries put their signatures.
SIGNATURES = "signatures"


@contextlib.contextmanager
def building(
    address: Address, settings: Settings, reporter: Reporter, doing: str = BUILD
) -> Iterator[Path]:
    """Be the only builder of an address, and yield a private directory in the cache to build into.

    Another builder is waited for; locks only spare duplicate work, so that a cache on which they
    do not work, or a wait that is too long, lets the build go on. Raises StorageError when the
    cache cannot be written. Parameters: `doing` is what those who wait are told, one of DOING.
    """
    root = settings.cache_directory
    with storage_errors(f"write into the cache {root}"):
        prepare(root)
    with _one_builder(address, settings, reporter, doing):
        # What builders of ours on this host left when they were killed.
        reclaim(root / "tmp")
        with contextlib.ExitStack() as stack:
            with storage_errors(f"write into the cache {root}"):
                directory = stack.enter_context(
                    claimed_directory(root / "tmp", address.digest, doing)
                )
            yield directory


def prepare(root: Path) -> None:
    """Make the directories of a cache; new ones get the mode of the cache's own directory.

    So a directory that a group shares (setgid and sticky) stays so all the way down. Raises
    OSError when that is not possible, StorageError when the place holds something else.
    """
    if not root.exists():
        make_directory(root, 0o777 & ~umask())
    absent = [name for name in PAPERS if not (root / name).exists()]
    if len(absent) == len(PAPERS):
        refuse_other_content(root)
    for name in absent:
        publish_text(root / name, PAPERS[name], 0o444)
    mode = stat.S_IMODE(root.stat().st_mode)
    for path in missing(root):
        with contextlib.suppress(OSError) if path.name in OPTIONAL else contextlib.nullcontext():
            make_directory(path, mode)


def check(root: Path) -> None:
    """Refuse a place where no cache can be written; nothing is written to find that out.

    Raises StorageError, also when the place holds something else.
    """
    with storage_errors(f"write into the cache {root}"):
        if root.is_dir() and not any((root / name).exists() for name in PAPERS):
            refuse_other_content(root)
        for place in (root / "images", root / "tmp"):
            _check_writable(place)


def _check_writable(place: Path) -> None:
    there = next(path for path in (place, *place.parents) if os.path.exists(path))
    if not there.is_dir():
        number = errno.ENOTDIR
    elif not os.access(there, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
    else:
        return
    raise OSError(number, os.strerror(number), str(there))


def missing(root: Path) -> list[Path]:
    """Return the directories that a cache should have and has not."""
    paths = [root / name for name in ("images", "tmp", "locks", SIGNATURES)]
    notes = [root / name for name in OPTIONAL]
    absent = [path for path in paths if not path.is_dir()]
    return absent + [path for path in notes if not os.path.lexists(path)]


def refuse_other_content(root: Path, hidden: bool = False) -> None:
    """Raise StorageError if a directory holds what belongs to no cache.

    Parameters: `hidden` looks at hidden files as well, except at a file system's snapshots.
    """
    known = {"images", "tmp", "locks", "packages", "engines", QUARANTINE, "format", "CACHEDIR.TAG"}
    known |= {*OPTIONAL, POLICY, SIGNATURES}
    known |= {".snapshot", ".snapshots", ".zfs"}
    strangers = sorted(path.name for path in root.iterdir() if path.name not in known)
    strangers = [name for name in strangers if hidden or not name.startswith(".")]
    if strangers:
        # Only `cnd share` looks at hidden files, and is given the directory itself.
        where = "" if hidden else " as `cache_directory:` or CONDAINER_CACHE"
        raise StorageError(
            f"{root} holds something else than a cache of Condainer: {', '.join(strangers[:5])}",
            f"Name an empty or a new directory{where}.",
        )


@contextlib.contextmanager
def _one_builder(
    address: Address, settings: Settings, reporter: Reporter, doing: str
) -> Iterator[None]:
    from filelock import FileLock

    root = settings.cache_directory
    group = stat.S_IMODE(root.stat().st_mode) & 0o666
    lock = FileLock(
        root / "locks" / f"{address.digest}.lock",
        mode=group,
        fallback_to_soft=False,
        thread_local=False,
    )
    deadline = time.monotonic() + settings.lock_timeout
    waited = 0.0
    held = False
    try:
        while not (held := _acquired(lock, waited)):
            left = deadline - time.monotonic()
            if left <= 0:
                reporter.warn(
                    f"Waited {settings.lock_timeout:g} s for another process: "
                    f"{DOING[doing]} as well"
                )
                break
            reporter.note(f"Waiting for {_other(root, address.digest)}")
            waited = min(REMINDER, left)
    except OSError as error:
        reason = error.strerror or str(error)
        reporter.warn(f"Locks do not work in {root} ({reason}): {DOING[doing]} without one")
    try:
        yield
    finally:
        # The file stays: to unlink it would let two builders in.
        if held:
            lock.release(force=True)


def _acquired(lock: FileLock, seconds: float) -> bool:
    """Wait so long for a lock, and tell whether it is ours.

    In a thread, because a file system whose server is gone may never answer. Raises OSError when
    it does not answer, or when locks do not work at all.
    """
    import threading

    from filelock import Timeout

    outcome: list[bool | OSError] = []

    def acquire() -> None:
        try:
            lock.acquire(timeout=seconds)
            outcome.append(True)
        except Timeout:
            outcome.append(False)
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=acquire, daemon=True)
    thread.start()
    thread.join(seconds + PATIENCE)
    if not outcome:
        raise OSError(errno.ETIMEDOUT, "the file system does not answer")
    if isinstance(outcome[0], OSError):
        raise outcome[0]
    return outcome[0]


def _other(root: Path, digest: str) -> str:
    """Tell from the private directories of builders who makes an image, how, and since when."""
    for directory in root.glob(f"tmp/{digest}.*"):
        with contextlib.suppress(OSError):
            status = directory.stat()
            since = time.strftime("%H:%M:%S", time.localtime(status.st_mtime))
            claim = read_claim(directory)
            if claim is not None:
                user = user_name(status.st_uid)
                place = f"on {printable(claim.host)} (process {claim.pid})"
                doing = DOING.get(claim.doing, "making")
                return f"{user} {place}, who has been {doing} this image since {since}"
    return "another process that makes the same image"


def publish(
    directory: Path, address: Address, manifest_text: bytes, lock_text: str, settings: Settings
) -> Entry:
    """Make a finished image in a builder's directory an entry of the cache, by one rename.

    If another builder was first, the entry is theirs. Parameters: `manifest_text` is not changed,
    because it may be signed. Raises StorageError when the cache cannot be written, CollisionError
    as look_up() does.
    """
    root = settings.cache_directory
    with storage_errors(f"publish the image in {root}"):
        (directory / MANIFEST).write_bytes(manifest_text)
        (directory / LOCK).write_text(lock_text, encoding="utf-8")
        for item in directory.iterdir():
            item.chmod(0o444)
        directory.chmod(0o755)
        parent = entry_directory(root, address.digest).parent
        make_directory(parent, stat.S_IMODE((root / "images").stat().st_mode))
        for target in places(root, address.digest):
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
    import tempfile

    aside = Path(tempfile.mkdtemp(prefix=f"broken-{target.name}.", dir=root / "tmp"))
    try:
        os.rename(target, aside / target.name)
    except OSError:
        return False
    finally:
        remove_tree(aside)
    return True


def move_aside(directory: Path, root: Path, where: str) -> Path:
    """Move an entry, by one rename, to where no reader looks; return the new place.

    Parameters: `where` is QUARANTINE or TRASH. Raises OSError where that is not permitted.
    """
    status = root.stat()
    if not os.path.lexists(root / where):
        make_directory(root / where, stat.S_IMODE(status.st_mode))
        if os.geteuid() == 0:
            # An administrator's collection must not take the place away from the cache's owner.
            os.chown(root / where, status.st_uid, status.st_gid, follow_symlinks=False)
    if (root / where).is_symlink():
        # Another member of the group may have made it, to get at what is moved there.
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(root / where))
    now = time.time()
    since = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}.{int(now % 1 * 1e6):06}Z"
    target = root / where / f"{directory.name.partition('.')[0]}.{since}"
    os.rename(directory, target)
    return target


def quarantine(directory: Path, root: Path) -> Path:
    """Move a damaged entry where no reader looks, as move_aside() does; return the new place."""
    target = move_aside(directory, root, QUARANTINE)
    sync_directory(directory.parent)
    return target
