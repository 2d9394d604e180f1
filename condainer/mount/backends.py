"""What is at a mount point, and the programs that mount an image there and unmount it."""

from __future__ import annotations

import enum
import errno
import functools
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from condainer.mount import guard, unpack
from condainer.startup import attach, tool_paths
from condainer.startup.tool_paths import KERNEL, OPTIONS
from condainer.system import files, namespace, process
from condainer.system.errors import MountError, ToolError
from condainer.system.mount_table import PLACE, Mounted, mounted_at

# How long a daemon may take to answer, in seconds; it may wait for a slow file system.
PATIENCE = 10.0
# How often to look again at a mount point that changes during a look.
LOOKS = 5
# How many mounts of ours can lie on top of each other.
LAYERS = 16
# The errors of a FUSE mount whose daemon has gone.
DEAD_ERRORS = (errno.ENOTCONN, errno.EIO, errno.ECONNABORTED, errno.ESTALE)
DEAD_ANSWERS = tuple(b"-%d" % number for number in DEAD_ERRORS)

# How long the kernel keeps what squashfuse said, in seconds: an image never changes. Without these
# options, libfuse asks again after one second, and always for a name that does not exist.
# squashfuse_ll has no such options: it sets the time of existing names itself.
LONG = 10**9
KEPT = f"entry_timeout={LONG},attr_timeout={LONG},negative_timeout={LONG},kernel_cache"

SUPERBLOCK_MAGIC = b"hsqs"
SUPERBLOCK_SIZE = 96
BYTES_USED_OFFSET = 40


class State(enum.Enum):
    """What is at a mount point; PROVIDED is a mount that root made for all users.

    The daemon of a DEAD mount has gone, that of a HUNG one does not answer. UNPACKED is a copy of
    ours, which is no mount.
    """

    ABSENT = "absent"
    MOUNTED = "mounted"
    PROVIDED = "provided"
    DEAD = "dead"
    HUNG = "hung"
    UNPACKED = "unpacked"
    FOREIGN = "foreign"


# What commands can use as it is.
USABLE = (State.MOUNTED, State.PROVIDED, State.UNPACKED)
# What `cnd umount` takes away.
HELD = (State.MOUNTED, State.DEAD, State.HUNG, State.UNPACKED)


class Busy(MountError):
    """A file system is in use and therefore was not unmounted."""


class Refused(MountError):
    """fusermount3 refuses this user, or this place; a private mount works without it."""


def examine(prefix: Path, address: str) -> State:
    """Find out what is at a mount point, from its content and the mount table.

    MOUNTED is a mount of this user, which no other user can have made, whose content has this
    address. PROVIDED is the same for a kernel mount, which only root can have made.
    """
    for _ in range(LOOKS):
        before = mounted_at(prefix)
        state = _seen(prefix, address, before)
        # During a mount or an unmount, ours looks like another user's for a moment.
        if state is not State.FOREIGN or mounted_at(prefix) == before:
            break
    return state


def _seen(prefix: Path, address: str, top: Mounted | None) -> State:
    if top is None or top.kind == PLACE:
        return _of_directory(prefix, address)
    if top.kind != KERNEL and not top.kind.startswith("fuse"):
        # Only we and root can bind a directory here, and only our copies have the mark.
        return State.UNPACKED if unpack.is_there(prefix, address) else State.FOREIGN
    if top.kind != KERNEL and top.owner != os.geteuid():
        return State.FOREIGN
    # A daemon can stop at any moment: a child of ours touches what it serves.
    said = attach.answer(str(prefix), PATIENCE)
    if said is None:
        return State.HUNG if top.owner == os.geteuid() else State.FOREIGN
    device, _, content = said.rpartition(b" ")
    if content in DEAD_ANSWERS:
        return State.DEAD
    if device != b"%d" % top.device:
        # Something was mounted above it later, such as a job's own /tmp.
        return _of_directory(prefix, address)
    if content != f"{address}\n".encode():
        return State.FOREIGN
    provided = top.kind == KERNEL and os.geteuid() != 0
    return State.PROVIDED if provided else State.MOUNTED


def _of_directory(prefix: Path, address: str) -> State:
    if unpack.is_there(prefix, address):
        return State.UNPACKED
    return State.ABSENT if _is_free(prefix) else State.FOREIGN


def is_ours(entry: Mounted) -> bool:
    """Tell whether this user made a mount, and may unmount it."""
    return entry.owner == os.geteuid() or (entry.kind == KERNEL and os.geteuid() == 0)


def _is_free(prefix: Path) -> bool:
    """Tell whether we can mount at a path: nothing is there, or an empty private directory of ours.

    Stand-ins of ours may be in it.
    """
    try:
        prefix.lstat()
        ours = files.is_private_directory(prefix)
        return ours and (not os.listdir(prefix) or guard.is_put(prefix))
    except FileNotFoundError:
        return True
    except OSError:
        return False


@dataclass(frozen=True)
class Backend:
    """A program that makes a file system appear from an image file.

    `command` are its words before the image and the mount point, `directory` is where tools are
    looked for before PATH.
    """

    name: str
    command: tuple[str, ...]
    directory: Path | None

    @functools.cached_property
    def obstacle(self) -> str:
        """Why this process can mount only in a namespace; empty if its mounts are seen outside."""
        # Not asked before it matters: a directory service may be slow to name our account.
        return tool_paths.obstacle(self.directory)

    def start(self, image: Path, prefix: Path, held: Sequence[int] = ()) -> None:
        """Mount an image file at an existing directory; raises MountError.

        Parameters: `held` are descriptors that a daemon keeps open as long as it serves.
        """
        _check_file(image)
        try:
            argv = [*self.command, str(image), str(prefix)]
            environment = tool_paths.environment(self.directory)
            process.run(argv, env=environment, cwd=Path("/"), pass_fds=held)
        except process.CommandFailed as error:
            said = error.stderr.strip()
            refused = "fusermount" in said
            kind = Refused if refused else MountError
            hint = _refused_hint(said) if refused else _failed_hint(said, image)
            raise kind(f"{image} cannot be mounted at {prefix}: {said}", hint) from error


def kernel(directory: Path | None) -> Backend:
    """Return the kernel's squashfs on a loop device, for root."""
    program = tool_paths.find("mount") or "mount"
    command = (program, "-t", KERNEL, "-o", f"{OPTIONS},loop")
    return Backend(KERNEL, command, directory)


def find_fuse(directory: Path | None) -> Backend:
    """Return squashfuse, whose daemon serves the files, from `directory` or PATH.

    Raises ToolError when it or a usable /dev/fuse is missing.
    """
    program = tool_paths.find("squashfuse_ll", directory) or tool_paths.find(
        "squashfuse", directory
    )
    if program is None:
        raise ToolError(
            "squashfuse is needed to mount images, and is not installed",
            "Install the package squashfuse (Debian, Ubuntu, Fedora; on RHEL from EPEL), or run "
            "`cnd prereq --install`, without root; or set CONDAINER_TOOLS to where it is.",
        )
    _check_device()
    name = Path(program).name
    options = OPTIONS if name.endswith("_ll") else f"{OPTIONS},{KEPT}"
    return Backend(name, (program, "-o", options), directory)


def _check_device() -> None:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise ToolError(
            "/dev/fuse does not exist",
            "Ask the administrator to load the kernel module (`modprobe fuse`); "
            "a container needs `--device /dev/fuse`.",
        ) from None
    except OSError as error:
        raise ToolError(
            f"/dev/fuse cannot be opened: {error.strerror}",
            "Ask the administrator for `chmod 0666 /dev/fuse`, which is its usual mode; "
            "a container needs `--device /dev/fuse`.",
        ) from None


def _refused_hint(said: str) -> str:
    """Return the remedy for an error of fusermount3, or of libfuse about it."""
    if "mount_max" in said:
        return "Unmount images that you no longer need (`cnd umount`)."
    if "exec fusermount" in said:
        return "Install the package fuse3, whose fusermount3 lets ordinary users mount."
    if "filesystem type" in said:
        return "Choose a `mount_base_directory` on a local file system."
    return "`cnd exec` and `cnd shell` with `mount: private` work without fusermount3."


def _failed_hint(said: str, image: Path) -> str:
    """Return the remedy for an error of squashfuse or `mount`."""
    if "this version supports only" in said:
        return "Install a newer squashfuse, which knows this compression."
    if "squashfs image" in said or "bad superblock" in said:
        return _damaged_hint(image)
    if "shared librar" in said or "symbol lookup error" in said or "' not found" in said:
        return "Reinstall squashfuse, or run `cnd prereq --install`: it misses its libraries."
    return ""


def _check_file(image: Path) -> None:
    """Refuse a damaged image: squashfuse mounts some truncated ones and fails later."""
    try:
        with files.open_regular(image) as stream:
            head = stream.read(SUPERBLOCK_SIZE)
            size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError:
        raise MountError(f"{image} does not exist", "Build it again with `cnd build`.") from None
    except OSError as error:
        raise MountError(f"{image} cannot be read: {error.strerror}") from error
    if len(head) < SUPERBLOCK_SIZE or not head.startswith(SUPERBLOCK_MAGIC):
        raise MountError(f"{image} is not a squashfs image", _damaged_hint(image))
    (needed,) = struct.unpack_from("<Q", head, BYTES_USED_OFFSET)
    if size < needed:
        raise MountError(
            f"{image} is truncated: {size} of {needed} bytes are there", _damaged_hint(image)
        )


def _damaged_hint(image: Path) -> str:
    return f"Delete {image.parent} and build it again with `cnd build`."


def clear(prefix: Path, tool_directory: Path | None, lazy: bool = False) -> None:
    """Unmount all that is ours at `prefix`; parameters and errors are those of stop().

    What a killed command has begun can be below the mount of the next one, as can dead mounts.
    """
    for _ in range(LAYERS):
        top = mounted_at(prefix)
        if top is None or not is_ours(top):
            return
        stop(prefix, tool_directory, lazy)


def stop(prefix: Path, tool_directory: Path | None, lazy: bool = False) -> None:
    """Unmount the topmost file system at `prefix`.

    Parameters: `lazy` takes it out of sight even while it is in use. Raises Busy when it is in
    use, MountError when it cannot be unmounted.
    """
    try:
        namespace.unmount(prefix, lazy)
        return
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Busy(f"{prefix} is in use") from error
        if error.errno != errno.EPERM:
            raise MountError(f"{prefix} cannot be unmounted: {error.strerror}") from error
    helper = tool_paths.fusermount(tool_directory)
    if helper is None:
        raise ToolError("fusermount3 is not installed", "Install the package fuse3.")
    flags = ["-u", "-z"] if lazy else ["-u"]
    try:
        process.run([helper, *flags, str(prefix)], env=tool_paths.environment(tool_directory))
    except process.CommandFailed as error:
        if "busy" in error.stderr:
            raise Busy(f"{prefix} is in use") from error
        raise MountError(f"{prefix} cannot be unmounted: {error.stderr.strip()}") from error
