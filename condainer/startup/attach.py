"""Claim the mount of an image that a stamp names; what is unusual is left to the long way.

It does what mounts.hold() does for a mounted image, and imports next to nothing: one claim, two
looks at the mount table, one at the content.
"""

import _signal
import fcntl
import os
import select

from condainer.startup import namespace
from condainer.startup.command_environment import SENTINEL, close_all_but

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    # A name of our view, a device, whether root has mounted it, and lines of the mount table.
    Seen = tuple[str, tuple[int, int] | None, bool, list[bytes]]

# A job ends all of its processes, and so the daemons started in it.
JOBS = (
    ("SLURM_JOB_ID", "SLURM_STEP_ID"),
    ("PBS_JOBID",),
    ("LSB_JOBID",),
    ("FLUX_JOB_ID",),
    ("OAR_JOB_ID",),
)
# How a line of the mount table says that the place of a private mount is there.
PLACE = b" - tmpfs "
AUTO, DIRECT, PRIVATE, KERNEL = "auto", "direct", "private", "kernel"
# How the path of the file ends that says in which namespace a private mount is.
RECORD = ".namespace"
# How long a daemon may take to answer before the long way asks it with more patience, in seconds.
PATIENCE = 1.0
# Characters that the kernel escapes in the mount table.
ESCAPED = frozenset(" \t\n\\#")
FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC

# The children that were left without an answer, by the prefixes that they look at.
_left: dict[str, int] = {}


def is_mounted(stamped: dict[str, str]) -> bool:
    """Tell whether anything at all is mounted at the prefix."""
    base, name = stamped.get("base", ""), stamped["prefix"].rpartition("/")[2]
    return b" %s " % os.fsencode(mount_point(base, name)) in mount_table()


def place_of(stamped: dict[str, str]) -> tuple[str, str] | None:
    """Return the base directory and the name of a prefix; None if the mount table escapes them."""
    base, name = stamped.get("base"), stamped["prefix"].rpartition("/")[2]
    return None if base is None or ESCAPED & {*base} else (base, name)


def mount_point(base: str, name: str) -> str:
    """Return the path of a prefix as the mount table writes it."""
    return f"{base.rstrip('/')}/{name}"


def seen_at(base: str, name: str) -> "Seen":
    """Look at a prefix in the mount table as it is now."""
    return look(mount_table(), os.fsencode(base), os.fsencode(name))


def claim_mounted(stamped: dict[str, str]) -> int | None:
    """Claim a mount that is seen here and a keeper looks after; None if there is none.

    All our processes see it, or we are inside of a private one, which is taken whatever is wished.
    The descriptor keeps it mounted. The mount table must say the same before and after the claim.
    """
    place, wish = place_of(stamped), stamped["mount"]
    if place is None:
        return None
    view, device, provided, lines = seen = seen_at(*place)
    # A private mount is on a place that was made for it.
    inside = len(lines) > 1
    unwanted = wish not in (AUTO, KERNEL) if provided else wants_its_own(wish)
    if device is None or (unwanted and not inside):
        return None
    try:
        if inside:
            stem = stem_inside(beginning_of(directory_of(place[0]), place[1]))
            claim = share(stem) if stem else None
        elif provided:
            # An open directory cannot be unmounted.
            claim = os.open(mount_point(*place), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            claim = share(stem_of(*place, view))
    except OSError:
        return None
    return None if claim is None else _confirmed(claim, stamped, place, seen)


def claim_private(stamped: dict[str, str]) -> int | None:
    """Enter the namespace of our job's mount, and claim that; None if there is none.

    This process must have one thread. It may be in the namespace also if there is no claim.
    """
    place = place_of(stamped)
    if place is None:
        return None
    claim = None
    try:
        view, *_ = seen_at(*place)
        stem = f"{stem_of(*place, view)}-{private_name(stamped['mount'])}"
        claim = share(stem)
        with open(f"{stem}{RECORD}", "rb", buffering=0) as stream:
            keeper, mount, user = stream.read(200).decode().split()
        if claim is not None and namespace.join(user, mount, int(keeper)):
            return _confirmed(claim, stamped, place, seen_at(*place))
    except (OSError, ValueError):
        pass
    if claim is not None:
        os.close(claim)
    return None


def _confirmed(
    claim: int, stamped: dict[str, str], place: tuple[str, str], seen: "Seen"
) -> int | None:
    """Return a claim if what was seen at the prefix is the image, and is there still."""
    device = seen[1]
    try:
        if device:
            said = answer(mount_point(*place))
            wanted = b"%d %s\n" % (os.makedev(*device), stamped["address"].encode())
            if said == wanted and seen_at(*place) == seen:
                return claim
    except OSError:
        pass
    os.close(claim)
    return None


def job() -> str:
    """Return the name of the batch job, or of its step, that we run in; empty outside of any."""
    for names in JOBS:
        words = [os.environ[name] for name in names if os.environ.get(name)]
        if words:
            text = "-".join(["job", *words])
            return "".join(sign if sign.isalnum() else "_" for sign in text)
    return ""


def wants_its_own(wish: str) -> bool:
    """Tell whether a process needs a private mount, given the setting `mount`.

    A job does: the daemon that a step of it starts ends with the step, and with it the mount.
    """
    return wish == PRIVATE or (wish == AUTO and job() != "")


def private_name(wish: str) -> str:
    """Return how the names of a private mount's lock files end, given the setting `mount`."""
    name = job() if wish == AUTO else ""
    return f"private-{name}" if name else "private"


def mount_table() -> bytes:
    """Return the text of the mount table of our view."""
    with open("/proc/self/mountinfo", "rb", buffering=0) as stream:
        return stream.readall()


def look(table: bytes, base: bytes, name: bytes) -> "Seen":
    """Return a name of our view, the device of our mount of an image, and whether root made it.

    The device is None unless exactly one mount of an image, ours or root's, is at the mount point.
    The last value is the lines of the table for the mount point.
    """
    prefix = base.rstrip(b"/") + b"/" + name
    longest, view, mounts = b"", b"", []
    for line in table.splitlines():
        fields = line.split(b" ", 6)
        path = fields[4]
        if path == prefix:
            mounts.append(line)
        elif len(path) >= len(longest) and (base + b"/").startswith(path.rstrip(b"/") + b"/"):
            longest, view = path, fields[6]
    peers = [word[7:] for word in view.partition(b" - ")[0].split() if word.startswith(b"shared:")]
    named = f"s{os.fsdecode(peers[0])}" if peers else ""
    *below, top = mounts or [b""]
    # Those of a private mount are the place that was made for it.
    if not top or not all(PLACE in line for line in below):
        return named, None, False, mounts
    own, _, rest = top.partition(b" - ")
    kind, _, options = rest.split(b" ", 2)
    user = os.geteuid()
    fuse = kind.startswith(b"fuse") and b"user_id=%d" % user in options.split(b",")
    # Only root can mount this one.
    squashfs = kind == b"squashfs"
    if not fuse and not squashfs:
        return named, None, False, mounts
    major, minor = own.split(b" ", 3)[2].split(b":")
    return named, (int(major), int(minor)), squashfs and user != 0, mounts


def is_locked(path: "str | os.PathLike[str]") -> bool:
    """Tell whether another process holds a file, as far as that can be told.

    Raises OSError if it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def share(stem: str) -> int | None:
    """Share the lock of a mount's users; None if the mount has no keeper.

    Parameters: `stem` is how the paths of its lock files begin. Raises OSError if it has none.
    """
    if not is_locked(f"{stem}.keeper"):
        return None
    users = os.open(f"{stem}.users", FLAGS)
    # The keeper has it for a moment after each command, to look whether to unmount.
    if not lock(users, f"{stem}.users", fcntl.LOCK_SH):
        return None
    # The keeper reads this time as that of the last use.
    os.utime(users)
    return users


def lock(descriptor: int, path: "str | os.PathLike[str]", kind: int) -> bool:
    """Lock an open file of ours; False, and the file closed, if its path names another file.

    A cleaner of temporary files may have removed it, and others lock the new one. Raises OSError.
    """
    locked = False
    try:
        fcntl.flock(descriptor, kind)
        status = os.fstat(descriptor)
        locked = status.st_uid == os.geteuid() and os.path.samestat(status, os.lstat(path))
    except FileNotFoundError:
        pass
    finally:
        if not locked:
            os.close(descriptor)
    return locked


def stem_of(base: str, name: str, view: str) -> str:
    """Return how the paths of a mount's lock files begin; see mount_locks.locks_for().

    Raises OSError if our directory of them is not there, or not ours alone.
    """
    return beginning_of(directory_of(base), name) + (view or own_view())


def directory_of(base: str) -> str:
    """Return our directory of lock files, and of stand-ins; raises OSError as stem_of()."""
    directory = f"{base.rstrip('/')}/.condainer-{os.geteuid()}"
    if not is_private(directory):
        raise FileNotFoundError(directory)
    return directory


def beginning_of(directory: str, name: str) -> str:
    """Return how the paths of the lock files of a mount point begin, in all views of this boot."""
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as stream:
        return f"{directory}/{name}-{stream.read(8).decode()}-"


def own_view() -> str:
    """Return the name of the view of a mount namespace that shares its mounts with no other."""
    return "n" + os.readlink("/proc/self/ns/mnt").strip("mnt:[]")


def stem_inside(beginning: str) -> str | None:
    """Return the stem of the private mount in whose namespace we are, None if there is none.

    Parameters: `beginning` is that of its mount point.
    """
    directory, ours = os.path.dirname(beginning), os.readlink("/proc/self/ns/mnt").encode()
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        if not (path.startswith(beginning) and path.endswith(RECORD)):
            continue
        try:
            with open(path, "rb", buffering=0) as stream:
                if ours in stream.read(200).split():
                    return path.removesuffix(RECORD)
        except OSError:
            # Its keeper has ended.
            continue
    return None


def is_private(directory: "str | os.PathLike[str]") -> bool:
    """Tell whether this is a directory, not a link, of ours that no other user can write.

    Raises OSError.
    """
    status = os.lstat(directory)
    return status.st_mode & 0o170022 == 0o040000 and status.st_uid == os.getuid()


def answer(prefix: str, patience: float = PATIENCE) -> bytes | None:
    """Return the device and the address of what is mounted at a prefix; None without an answer.

    The negative number of an error takes the place of what cannot be read. A child of ours asks,
    because a process that waits for a FUSE daemon cannot always be killed; as long as one is left
    that waits, there is no answer, and no other is sent after it. Parameters: `patience` is in
    seconds.
    """
    if prefix in _left and not _has_ended(_left[prefix]):
        return None
    _left.pop(prefix, None)
    reading, writing = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            _ask(prefix, writing)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    said = None
    try:
        # When the child ends, its end of the pipe is closed too.
        if select.select([reading], [], [], patience)[0]:
            said = os.read(reading, 200)
    finally:
        os.close(reading)
        # Also when we are interrupted.
        if said is None:
            os.kill(child, _signal.SIGKILL)
            _left[prefix] = child
        else:
            os.waitpid(child, 0)
    return said


def _has_ended(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _ask(prefix: str, writing: int) -> "NoReturn":
    said = b""
    try:
        # A child that hangs must not hold our locks, nor a shell's pipe.
        close_all_but((writing,))
        place = os.open(prefix, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        said = b"%d " % os.fstat(place).st_dev
        said += os.read(os.open(SENTINEL, os.O_RDONLY, dir_fd=place), 100)
    except OSError as error:
        said += b"-%d" % (error.errno or 0)
    finally:
        try:
            os.write(writing, said)
        finally:
            os._exit(0)
