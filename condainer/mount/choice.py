"""Which way an image is mounted: by which program, and for all our processes or privately."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from condainer.mount import backends, unpack
from condainer.mount.backends import Backend, State
from condainer.startup import attach, tool_paths
from condainer.system import namespace
from condainer.system.errors import CondainerError, MountError, ToolError

AUTO, DIRECT, PRIVATE, KERNEL = "auto", "direct", "private", "kernel"
UNPACK = "unpack"


@dataclass(frozen=True)
class Way:
    """A way to mount: the back ends to try in turn, whether in a private namespace, and why.

    Without a back end, the image is unpacked by the program `unsquashfs`.
    """

    backends: tuple[Backend, ...]
    private: bool
    reason: str
    unsquashfs: str = ""

    def report(self) -> dict[str, str | bool]:
        """Return what `cnd status --json` prints of it."""
        name = self.backends[0].name if self.backends else "unsquashfs"
        return {"with": name, "private": self.private, "why": self.reason}


def choose(wish: str, image: Path, state: State, tool_directory: Path | None) -> Way:
    """Return the way to mount an image that is not mounted for us yet.

    Parameters: `wish` is one of config.WAYS, of which AUTO means the fastest safe way; `state` is
    what is at the mount point. Raises MountError when the wish cannot be fulfilled, ToolError.
    """
    taken = state is State.FOREIGN
    if wish == UNPACK:
        return _unpacked("`mount: unpack` says so", tool_directory, taken)
    if wish == KERNEL:
        return _by_kernel(taken, tool_directory)
    quick = tool_paths.kernel_is_safe(str(image)) and wish != DIRECT
    fast = (backends.kernel(tool_directory),) if quick else ()
    try:
        fuse = backends.find_fuse(tool_directory)
    except ToolError as error:
        if not fast and wish == AUTO:
            return unpacked_for(error, tool_directory, taken)
        if not fast:
            raise
        private = taken or wish == PRIVATE
        return Way(fast, private, "there is the kernel's squashfs, and no squashfuse")
    if wish == PRIVATE:
        return Way((*fast, fuse), True, "`mount: private` says so")
    if taken:
        if wish == DIRECT:
            raise MountError(
                "The mount point is taken by something else, and `mount: direct` forbids a private "
                "mount",
                "Use `mount: auto` or `mount: private`.",
            )
        return Way((*fast, fuse), True, "the mount point is taken by something else")
    if wish == DIRECT:
        return Way((_demand_direct(fuse),), False, "`mount: direct` says so")
    job = attach.job()
    if job and namespace.available():
        return Way((*fast, fuse), True, f"{job} has a mount of its own, which ends with it alone")
    if fast:
        reason = "root may use the kernel's squashfs, and the image is root's own and open to all"
        return Way((*fast, fuse), False, reason)
    if fuse.obstacle and not namespace.available():
        return _unpacked(f"{fuse.obstacle}, and there are no user namespaces", tool_directory)
    return Way((fuse,), bool(fuse.obstacle), fuse.obstacle or "the mount point is free")


def for_all_processes(wish: str, image: Path, state: State, tool_directory: Path | None) -> Way:
    """Return the way to mount where all our processes see it; raises as choose()."""
    if wish == UNPACK:
        return _unpacked("`mount: unpack` says so", tool_directory)
    if wish == KERNEL or (wish == AUTO and tool_paths.kernel_is_safe(str(image))):
        way = _by_kernel(state is State.FOREIGN, tool_directory)
    else:
        try:
            fuse = _demand_direct(backends.find_fuse(tool_directory))
        except CondainerError as error:
            alone = isinstance(error, MountError) and namespace.available()
            if wish != AUTO or state is State.FOREIGN or alone:
                raise
            return unpacked_for(error, tool_directory)
        way = Way((fuse,), state is State.FOREIGN, "a shell cannot enter a private namespace")
    if wish == AUTO and way.backends[0].name == tool_paths.KERNEL:
        with suppress(ToolError):
            way = replace(way, backends=(*way.backends, backends.find_fuse(tool_directory)))
    return way


def _unpacked(reason: str, tool_directory: Path | None, taken: bool = False) -> Way:
    """Return the way of an unpacked copy, which is private if the prefix is taken."""
    if taken and not namespace.available():
        raise MountError(
            "Something else is at the mount point, and this machine does not let an unpacked copy "
            "be shown there in a user namespace",
            namespace.REMEDY,
        )
    return Way((), taken, reason, unpack.tool(tool_directory))


def unpacked_for(error: CondainerError, tool_directory: Path | None, taken: bool = False) -> Way:
    """Return the way for a machine that cannot mount; raises its `error` without unsquashfs."""
    try:
        return _unpacked(error.message, tool_directory, taken)
    except ToolError:
        raise error from None


def _by_kernel(taken: bool, tool_directory: Path | None) -> Way:
    if os.geteuid() != 0:
        raise MountError(
            "Only root can mount with the kernel's squashfs",
            "Use `mount: auto`, or ask the administrator for `cnd mount --all-users`.",
        )
    return Way((backends.kernel(tool_directory),), taken, "`mount: kernel` says so")


def _demand_direct(fuse: Backend) -> Backend:
    if fuse.obstacle:
        remedy = "Ask for the package fuse3. " if fuse.obstacle == tool_paths.NO_HELPER else ""
        raise MountError(
            f"An image cannot be mounted for all your processes: {fuse.obstacle}",
            f"{remedy}Use `mount: auto` with `cnd shell` and `cnd exec`, which mount privately.",
        )
    return fuse
