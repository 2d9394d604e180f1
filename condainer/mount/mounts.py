"""Mount an image at its prefix: until it is unmounted, while it is used, or privately."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from condainer.mount import backends, choice, mount_locks, private, unpack
from condainer.mount.backends import Refused, State
from condainer.mount.choice import Way
from condainer.mount.mount_locks import Locks
from condainer.mount.mount_work import (
    DEFAULT,
    Image,
    Options,
    Taken,
    Work,
    probe,
    provide,
    staged,
    unverified,
    work_in,
)
from condainer.mount.private import Joined, Place, owner
from condainer.mount.safe_base import check_base
from condainer.startup import tool_paths
from condainer.startup.attach import private_name, wants_its_own
from condainer.system import files, namespace
from condainer.system.errors import CondainerError, MountError
from condainer.system.mount_table import has_place, mounted_at, wait_for_change
from condainer.system.reporter import Reporter, Silent

__all__ = ["Hold", "Image", "Options", "State", "check_base", "hold", "mount", "outlook", "probe"]

# The pause between looks at a mount that is repaired, in seconds.
PAUSE = 0.2


@dataclass(frozen=True)
class Hold:
    """A claim on a mount: it lasts until every process that has the descriptor has ended.

    `private` says that the mount is in a namespace that only processes of ours have entered.
    """

    descriptor: int
    private: bool

    def release(self) -> None:
        """Give up this process's part of the claim."""
        os.close(self.descriptor)


def outlook(image: Image, options: Options) -> dict[str, str | bool]:
    """Return what mounts an image for commands, or would mount it, and why: for `cnd status`."""
    state = probe(image)
    entry = mounted_at(image.prefix)
    if mount_locks.of_our_namespace(image.prefix) is not None and state is State.MOUNTED:
        return {"with": entry.kind if entry else "", "private": True, "why": "we are inside of it"}
    if state is State.PROVIDED and options.way in (choice.AUTO, choice.KERNEL):
        return {"with": tool_paths.KERNEL, "private": False, "why": "root mounted it for all users"}
    if state is State.UNPACKED and options.way in (choice.AUTO, choice.UNPACK):
        return {"with": "unsquashfs", "private": False, "why": "it is unpacked already"}
    if state is State.MOUNTED and entry is not None and not wants_its_own(options.way):
        kind = entry.kind.removeprefix("fuse.")
        return {"with": kind, "private": False, "why": "it is mounted already"}
    try:
        return choice.choose(options.way, image.path, state, options.tool_directory).report()
    except CondainerError as error:
        return {"with": "nothing", "private": False, "why": error.message}


def is_inside(image: Image) -> bool:
    """Tell whether this process is in the namespace of a private mount of the image."""
    inside = mount_locks.of_our_namespace(image.prefix)
    return inside is not None and _is_repaired(image, inside)


def mount(
    image: Image,
    options: Options = DEFAULT,
    report: Reporter | None = None,
    shell: int | None = None,
) -> Path | None:
    """Mount an image where every process of this user sees it, until `unmount`.

    Parameters: with `shell`, the number of a process, the mount is kept until that process has
    ended or the returned file, its claim, is deleted.
    Raises MountError when it cannot be mounted, ToolError when a tool or device is missing.
    """
    check_base(image.prefix.parent)
    locks = mount_locks.locks_for(image.prefix)
    claim = mount_locks.claim(locks)
    try:
        state = answered(image, options)
        if state is State.FOREIGN and os.geteuid() == 0:
            mount_locks.remove_left(image.prefix)
            state = answered(image, options)
        if _is_provided(image, options, state):
            return None
        way = choice.for_all_processes(options.way, image.path, state, options.tool_directory)
        if way.private:
            raise Taken
        noted = None
        try:
            if shell is not None:
                noted = mount_locks.claim_for_shell(locks, shell)
            work = Work(image, options, locks, report or Silent(), way, kept=True)
            try:
                provide(work)
            except Refused as error:
                if options.way != choice.AUTO or namespace.available():
                    raise
                provide(replace(work, way=choice.unpacked_for(error, options.tool_directory)))
        except BaseException:
            if noted is not None:
                noted.unlink(missing_ok=True)
            raise
        if shell is None:
            mount_locks.write(locks.persistent)
        return noted
    except Taken:
        raise _taken(image, options) from None
    finally:
        os.close(claim)


def _is_provided(image: Image, options: Options, state: State) -> bool:
    """Tell whether the user wants the mount of root, whose bytes are not verified."""
    allowed = options.way in (choice.AUTO, choice.KERNEL) and image.sha256 is None
    return allowed and state is State.PROVIDED


def answered(image: Image, options: Options) -> State:
    """Return what is at the mount point.

    Raises MountError if its daemon does not answer, or if a mount is demanded and a copy is there.
    """
    state = probe(image)
    if state is State.UNPACKED and options.way not in (choice.AUTO, choice.UNPACK):
        raise MountError(
            f"An unpacked copy is at {image.prefix}, and `mount: {options.way}` demands a mount",
            "Run `cnd umount` first.",
        )
    if state is State.HUNG:
        raise MountError(
            f"The daemon behind {image.prefix} has not answered for {backends.PATIENCE:g} s",
            "The file system of the image may be slow: try again. `cnd umount --force` takes the "
            "mount away from all processes that use it, and the next command mounts it again.",
        )
    return state


def _taken(image: Image, options: Options) -> MountError:
    if probe(image) in (State.MOUNTED, State.UNPACKED):
        return MountError(
            f"{image.prefix} was mounted without verification", "Run `cnd umount` first."
        )
    alone = "Use `cnd shell` or `cnd exec`: they mount the image privately."
    away = "Move it away if it is yours; `mount: auto` mounts the image for your commands alone."
    return MountError(
        f"{image.prefix} is taken by {owner(image.prefix)}",
        away if options.way == choice.UNPACK else alone,
    )


def hold(
    image: Image,
    options: Options = DEFAULT,
    report: Reporter | None = None,
) -> Hold:
    """Mount an image if it is not mounted, and claim it for this process and what it executes.

    The claim ends with the last process that inherited it; `linger` seconds later the image is
    unmounted. Where the prefix is taken, this process, which must have one thread, enters a
    namespace that all processes of this user share and in which the image is mounted.
    Raises MountError, ToolError, IntegrityError.
    """
    check_base(image.prefix.parent)
    report = report or Silent()
    inside = mount_locks.of_our_namespace(image.prefix)
    state = answered(image, options)
    if inside is None and state is State.FOREIGN and files.is_private_directory(image.prefix):
        # A mount looks like this for a moment while its keeper removes it.
        os.close(mount_locks.claim(mount_locks.locks_for(image.prefix)))
        state = answered(image, options)
    if inside is not None and not (state is State.MOUNTED and unverified(image, inside)):
        claim = mount_locks.claim(inside)
        # Its keeper may have had the lock until now, and unmounted it.
        if _is_repaired(image, inside):
            return _held(claim, private=True)
        os.close(claim)
        state = State.FOREIGN
    if _is_provided(image, options, state):
        return _hold_provided(image)
    if state is State.UNPACKED or not (state is State.FOREIGN or wants_its_own(options.way)):
        try:
            return _hold_shared(image, options, report)
        except Taken:
            state = State.FOREIGN
        except Refused as error:
            if options.way != choice.AUTO:
                raise
            if not namespace.available():
                way = choice.unpacked_for(error, options.tool_directory)
                return _hold_shared(image, options, report, way)
            state = State.FOREIGN
    way = choice.choose(options.way, image.path, state, options.tool_directory)
    if way.private and way.unsquashfs:
        return _hold_aside(image, options, way, report)
    if way.private:
        return _hold_private(image, options, way, report)
    # For a job on a machine without namespaces, or an image that can only be unpacked.
    try:
        return _hold_shared(image, options, report)
    except Taken:
        raise _taken(image, options) from None


def _is_repaired(image: Image, inside: Locks) -> bool:
    """Tell whether the private mount that we are inside of is there; its keeper repairs it.

    We may not have the right to. Raises as answered().
    """
    end = time.monotonic() + backends.PATIENCE
    while answered(image, DEFAULT) is not State.MOUNTED:
        kept = mount_locks.is_locked(inside.keeper)
        if not (kept and has_place(image.prefix)) or time.monotonic() > end:
            return False
        wait_for_change(PAUSE)
    return True


def _hold_shared(image: Image, options: Options, report: Reporter, way: Way | None = None) -> Hold:
    """Claim the mount that all our processes see, and make it if it is missing.

    Raises Taken.
    """
    locks = mount_locks.locks_for(image.prefix)
    claim = mount_locks.claim(locks)
    try:
        provide(Work(image, options, locks, report, way))
        if probe(image) is State.UNPACKED:
            unpack.claim(image.prefix)
    except BaseException:
        os.close(claim)
        raise
    return _held(claim, private=False)


def _held(claim: int, private: bool) -> Hold:
    os.set_inheritable(claim, True)
    return Hold(claim, private)


def _hold_provided(image: Image) -> Hold:
    """Claim what root has mounted: an open directory cannot be unmounted."""
    try:
        descriptor = os.open(image.prefix, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise MountError(f"{image.prefix} has gone: {error.strerror}", "Try again.") from error
    if probe(image) is not State.PROVIDED:
        os.close(descriptor)
        raise MountError(f"{image.prefix} has been unmounted just now", "Try again.")
    return _held(descriptor, private=False)


def _hold_aside(image: Image, options: Options, way: Way, report: Reporter) -> Hold:
    """Claim our copy beside the prefix, and enter a namespace that shows it at the prefix.

    The namespace ends with this process, so it needs no keeper.
    """
    private.demand_safe(image.prefix, options.trusted)
    copy = replace(image, prefix=unpack.aside(image.prefix))
    files.make_directory(copy.prefix.parent, 0o700)
    try:
        held = _hold_shared(copy, options, report, replace(way, private=False))
    except Taken:
        raise _taken(copy, options) from None
    try:
        private.show(copy.prefix, image.prefix, options.trusted)
    except BaseException:
        held.release()
        raise
    return replace(held, private=True)


def _hold_private(image: Image, options: Options, way: Way, report: Reporter) -> Hold:
    """Join, or make, the namespace in which the image is mounted for our processes alone."""
    name = private_name(options.way)
    locks = mount_locks.locks_for(image.prefix, f"{name}-verified" if image.sha256 else name)
    claim = mount_locks.claim(locks)
    work = Work(image, options, locks, report, way, others=mount_locks.locks_for(image.prefix))
    try:
        joined = private.join(locks) is Joined.BY_KEEPER
        if not joined or answered(image, options) is not State.MOUNTED or unverified(image, locks):
            _mount_privately(work)
    except BaseException:
        os.close(claim)
        raise
    return _held(claim, private=True)


def _mount_privately(work: Work) -> None:
    turn = mount_locks.wait_for(work.locks.mount, exclusive=True)
    try:
        # Outside the namespace, where all our processes see the copy.
        with staged(work) as prepared:
            _mount_in_namespace(prepared)
    except Taken:
        raise MountError(f"{work.image.prefix} cannot be mounted, even privately") from None
    finally:
        os.close(turn)


def _mount_in_namespace(work: Work) -> None:
    prefix = work.image.prefix
    place = None
    try:
        if private.join(work.locks) is not Joined.NOT:
            place = Place(*mount_locks.announce(prefix), None)
            private.lay_again(prefix, work.options.trusted)
        else:
            place = private.enter(prefix, work.locks, work.options.trusted)
        if place.cover is not None:
            work.report.note(
                f"{owner(prefix)} is at {prefix}: what this command writes to {prefix.parent} "
                f"goes to {place.cover}"
            )
        with namespace.mount_right():
            work_in(work, place)
    finally:
        if place is not None:
            # A new keeper has inherited it.
            os.close(place.announced)
            mount_locks.withdraw(place.notice)
