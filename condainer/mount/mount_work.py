"""How an image comes to its prefix in the view of this process: mounted, repaired, confirmed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from condainer.cache import leases
from condainer.mount import backends, choice, guard, keeper, mount_locks, node_copies, unpack
from condainer.mount.backends import State
from condainer.mount.choice import Way
from condainer.mount.mount_locks import Locks
from condainer.mount.node_copies import Copy, Source, Wish
from condainer.mount.private import Place
from condainer.startup import stand_ins
from condainer.system import files, namespace, quantities
from condainer.system.errors import MountError
from condainer.system.private_directory import claimed_directory
from condainer.system.reporter import Reporter, Silent

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Mounting must do with the standard library alone.
    from condainer.cache.entries import Entry
    from condainer.settings.config import Settings

# The directories of verified copies; named as config.STAGE, so that those of killed processes are
# found.
COPY = "condainer-stage"


@dataclass(frozen=True)
class Image:
    """An image file, its content address, and its prefix.

    With `sha256`, a private copy of exactly these bytes is mounted instead of the file itself.
    `cache` is the cache that gets a lease while the image is mounted, `tree_sha256` the digest of
    its content, without which it cannot be unpacked, and `stated_sha256` that of the file, without
    which it is not copied to this node.
    """

    path: Path
    address: str
    prefix: Path
    sha256: str | None = None
    cache: Path | None = None
    tree_sha256: str = ""
    stated_sha256: str = ""

    @classmethod
    def of(cls, entry: Entry, leased: bool = True) -> Image:
        """Return the image of a cache's entry."""
        root = entry.root if leased else None
        return cls(
            entry.image,
            entry.address,
            entry.prefix,
            cache=root,
            tree_sha256=entry.manifest.tree_sha256,
            stated_sha256=entry.manifest.sha256,
        )


@dataclass(frozen=True)
class Options:
    """How to mount: one of config.WAYS, seconds to linger, and where tools and copies are.

    `trusted` tells of the number of a user whether we may mount on a directory of theirs, `stage`
    whether a copy on this node is mounted.
    """

    way: str = choice.AUTO
    linger: float = 2.0
    tool_directory: Path | None = None
    copies: Path = Path("/tmp")
    trusted: Callable[[int], bool] = lambda user: True
    stage: Wish = Wish()

    @classmethod
    def of(cls, settings: Settings, trusted: Callable[[int], bool] = lambda user: True) -> Options:
        """Return what the settings say."""
        return cls(
            settings.mount,
            settings.linger,
            settings.tool_directory,
            settings.staging_directory,
            trusted,
            wish_of(settings),
        )


DEFAULT = Options()


def wish_of(settings: Settings) -> Wish:
    """Return what the settings say of copies on this node."""
    limit = quantities.size(settings.stage_max_size, "stage_max_size")
    return Wish(settings.stage, limit)


@dataclass(frozen=True)
class Work:
    """An image to mount, and its lock files.

    Without a `way`, it is chosen when it is needed; `kept` says that the mount stays without users.
    Of a private mount, `others` are the lock files of the mount that all our processes see.
    `staged` is the copy to mount in the place of the image.
    """

    image: Image
    options: Options
    locks: Locks
    report: Reporter
    way: Way | None = None
    kept: bool = False
    others: Locks | None = None
    staged: Copy | None = None


class Taken(Exception):
    """Something other than our mount is at the prefix."""


def probe(image: Image) -> State:
    """Find out what is at the image's mount point; see `backends.examine`."""
    return backends.examine(image.prefix, image.address)


def provide(work: Work) -> None:
    """Mount the image in the view of this process, with a keeper, unless it is mounted.

    The caller has claimed the mount. Raises Taken.
    """
    state = probe(work.image)
    if state in (State.MOUNTED, State.UNPACKED) and not unverified(work.image, work.locks):
        if state is State.MOUNTED:
            # Even of a kept mount, the keeper refreshes the lease.
            _look_after(work)
        else:
            _note_use(work.image)
        return
    turn = mount_locks.wait_for(work.locks.mount, exclusive=True)
    try:
        work_in(work)
    finally:
        os.close(turn)


def _note_use(image: Image) -> None:
    if image.cache is not None:
        leases.use(image.cache, image.address)


def unverified(image: Image, locks: Locks) -> bool:
    """Tell whether verified bytes are wanted, and what is mounted is not verified."""
    if image.sha256 is None:
        return False
    try:
        return locks.verified.read_text(encoding="ascii") != image.sha256
    except OSError:
        return True


def _look_after(work: Work, place: Place | None = None) -> None:
    """Make sure that there is a keeper, which has a lease of the image."""
    keeper.ensure(duty_of(work, place), work.image.cache)


def duty_of(work: Work, place: Place | None = None) -> keeper.Duty:
    """Return what a keeper has to know of a mount, without what keeper.ensure() fills in."""
    image, options = work.image, work.options
    duty = keeper.Duty(
        image=str(image.path),
        address=image.address,
        prefix=str(image.prefix),
        way=options.way,
        linger=options.linger,
        tools=str(options.tool_directory or ""),
        copies=str(options.copies),
        stem=work.locks.stem,
        sha256=image.sha256 or "",
    )
    if work.staged is not None:
        duty = replace(duty, staged=str(work.staged.path), claimed=work.staged.claim)
    if place is not None:
        duty = replace(
            duty,
            notice=str(place.notice),
            announced=place.announced,
            cover=str(place.cover or ""),
            others=work.others.stem if work.others else "",
        )
    return duty


def main(duty: keeper.Duty) -> None:
    """Repair a mount for its keeper."""
    image = Image(Path(duty.image), duty.address, Path(duty.prefix), duty.sha256 or None)
    tools = Path(duty.tools) if duty.tools else None
    options = Options(duty.way, duty.linger, tools, Path(duty.copies))
    locks = mount_locks.locks_at(duty.stem)
    place = Place(Path(duty.notice), -1, None) if duty.notice else None
    claim = mount_locks.take(locks.users, exclusive=False, wait=False)
    turn = mount_locks.take(locks.mount, exclusive=True, wait=False)
    # Otherwise the keeper is about to unmount, or another process repairs.
    if claim is not None and turn is not None:
        with namespace.mount_right() if place else nullcontext():
            # Others wait for a repair, so it does not copy the image again.
            staged = node_copies.claimed(Path(duty.staged)) if duty.staged else None
            work_in(Work(image, options, locks, Silent(), staged=staged), place)


def work_in(work: Work, place: Place | None = None) -> None:
    """Mount in the view of this process, whose turn it is. Raises Taken."""
    image, locks = work.image, work.locks
    state = probe(image)
    if state in (State.MOUNTED, State.UNPACKED):
        if unverified(image, locks):
            raise Taken
        if state is State.MOUNTED:
            _look_after(work, place)
        return
    way = work.way or choice.choose(
        work.options.way, image.path, state, work.options.tool_directory
    )
    if way.private and place is None:
        raise Taken
    if way.unsquashfs:
        _unpack(work, way)
        return
    if place is not None:
        # The copy was made outside the namespace.
        _mount(work, way, state, place)
        return
    with staged(work) as prepared:
        _mount(prepared, way, state, None)


@contextmanager
def staged(work: Work) -> Iterator[Work]:
    """Yield the work with a claimed copy of the image on this node, if one is wanted.

    A verified image has a private copy already. Raises IntegrityError.
    """
    image = work.image
    # Before it is opened: the lease may come after the copy, or after the mount.
    _note_use(image)
    if work.staged is not None or image.sha256 is not None:
        yield work
        return
    source = Source(image.path, image.address, image.stated_sha256)
    copy = node_copies.provide(source, work.options.stage, work.report)
    try:
        yield replace(work, staged=copy)
    finally:
        if copy is not None:
            copy.release()


def _mount(work: Work, way: Way, state: State, place: Place | None) -> None:
    image, locks = work.image, work.locks
    if not work.kept:
        # Before the mount exists, so that its keeper removes it even if we are killed.
        _look_after(work, place)
    if state is State.DEAD:
        work.report.note(f"Repairing the mount of {image.prefix}, whose daemon has gone.")
        backends.clear(image.prefix, work.options.tool_directory, lazy=True)
    else:
        # A kept mount was unmounted by another program; a repaired mount stays kept.
        locks.persistent.unlink(missing_ok=True)
    locks.verified.unlink(missing_ok=True)
    if probe(image) is not State.ABSENT:
        raise Taken
    if place is None:
        _make_mount_point(image.prefix)
    guard.remove(image.prefix)
    # What is in the directory below appears however the image is unmounted.
    below = os.open(image.prefix, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _start(work, way)
        _confirm(image)
        guard.put(below, image.prefix)
        with files.storage_errors(f"write to {locks.users.parent}"):
            stand_ins.put(str(image.prefix), str(locks.users.parent))
        if image.sha256 is not None:
            mount_locks.write(locks.verified, image.sha256)
        if work.kept:
            _look_after(work)
    except BaseException:
        backends.clear(image.prefix, work.options.tool_directory, lazy=True)
        mount_locks.remove_mount_point(image.prefix)
        raise
    finally:
        os.close(below)


def _unpack(work: Work, way: Way) -> None:
    """Unpack the image at the prefix, where it stays until `cnd umount`. Raises Taken."""
    image, locks = work.image, work.locks
    if probe(image) is State.DEAD:
        backends.clear(image.prefix, work.options.tool_directory, lazy=True)
    if probe(image) is not State.ABSENT:
        raise Taken
    guard.remove(image.prefix)
    locks.verified.unlink(missing_ok=True)
    _note_use(image)
    work.report.note(f"The image is not mounted, but unpacked: {way.reason}")
    work.report.step(f"Unpacking the image at {image.prefix}")
    with _file_of(work) as path:
        unpack.put(path, image.tree_sha256, image.prefix, way.unsquashfs)
    if image.sha256 is not None:
        mount_locks.write(locks.verified, image.sha256)
    work.report.finish()


def _start(work: Work, way: Way) -> None:
    """Mount by the first back end that can."""
    held = (work.staged.claim,) if work.staged else ()
    # The mount keeps a private copy open, and no other process can open a file without a name.
    with _file_of(work) as path:
        for backend in way.backends[:-1]:
            with suppress(MountError):
                backend.start(path, work.image.prefix, held)
                return
        way.backends[-1].start(path, work.image.prefix, held)


@contextmanager
def _file_of(work: Work) -> Iterator[Path]:
    """Yield the file of an image, or a private copy with exactly the bytes that are wanted."""
    if work.image.sha256 is None:
        yield work.staged.path if work.staged else work.image.path
        return
    doing = f"copy {work.image.path} to {work.options.copies}"
    with ExitStack() as stack:
        with files.storage_errors(doing):
            directory = stack.enter_context(claimed_directory(work.options.copies, COPY))
            target, source = directory / "image.squashfs", work.image.path
            with files.open_regular(source) as stream, target.open("xb") as copy:
                node_copies.copy_verified(stream, copy, work.image.sha256, source)
        yield target


def _confirm(image: Image) -> None:
    """Raise MountError unless the mount holds the address that it should have."""
    if probe(image) is not State.MOUNTED:
        raise MountError(
            f"{image.path} does not hold the environment {image.address}",
            f"Delete {image.path.parent} and build it again with `cnd build`.",
        )


def _make_mount_point(prefix: Path) -> None:
    try:
        prefix.mkdir(0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise files.storage_error(f"create the mount point {prefix}", error) from error
    if not files.is_private_directory(prefix):
        raise Taken


if __name__ == "__main__":
    main(keeper.Duty.given())
