"""Into an image, at once if it is mounted already; whatever is not as usual is for the long way.

It does what mounts.hold(), run.command() and shell.environment() do then, and imports next to
nothing: one claim, two looks at the mount table, one at the content.
"""

import _signal
import fcntl
import os
import select

from condainer.startup import command_environment, launch
from condainer.startup.command_environment import SENTINEL as SENTINEL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

# Who runs under one of these ends with it, and so do the daemons started there.
JOBS = (
    ("SLURM_JOB_ID", "SLURM_STEP_ID"),
    ("PBS_JOBID",),
    ("LSB_JOBID",),
    ("FLUX_JOB_ID",),
    ("OAR_JOB_ID",),
)
AUTO, DIRECT, PRIVATE, KERNEL = "auto", "direct", "private", "kernel"
# How long a daemon may take to answer before the long way asks it with more patience, in seconds.
PATIENCE = 1.0
# What the kernel writes otherwise into the mount table.
ESCAPED = frozenset(" \t\n\\#")
FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def command(argv: "Sequence[str]", found: dict[str, str], quiet: bool) -> None:
    """Replace this process by a command in the image that a stamp names.

    Returns if the long way has to be taken. Raises CommandNotStarted.
    """
    if is_mounted(found):
        claim = claim_mounted(found)
    else:
        from condainer.startup import mount

        claim = mount.claim_new(found)
    if claim is None:
        return
    said: list[str] = []
    try:
        given = environment_of(found)
    except ValueError:
        os.close(claim)
        return
    environment = command_environment.after_scripts(
        command_environment.scripts_of(found["prefix"]), given, said.append
    )
    if environment is None:
        os.close(claim)
        return
    for text in said:
        command_environment.tell(text)
    os.set_inheritable(claim, True)
    launch.execute(argv, environment, (found["prefix"], found["address"]), None if quiet else warn)


def warn(text: str) -> None:
    """Print a warning as a Reporter does."""
    command_environment.tell(f"Warning: {text}")


def is_mounted(found: dict[str, str]) -> bool:
    """Tell whether anything at all is mounted at the prefix."""
    base, name = found.get("base", ""), found["prefix"].rpartition("/")[2]
    return b" %s " % os.fsencode(f"{base.rstrip('/')}/{name}") in mount_table()


def environment_of(found: dict[str, str]) -> dict[str, str]:
    """Return the environment of a command, before the image's own scripts."""
    variables, table = {}, []
    for key, text in found.items():
        kind, _, name = key.partition(" ")
        if kind == "variable":
            variables[name] = text
        elif kind == "default":
            value, below, *unless = text.split("\n")
            table.append((name, value, below, unless))
    named, address = found["name"], found["address"]
    place = _stand_ins(found)
    return command_environment.environment(
        found["prefix"], variables, os.environ, named, address, table, place
    )


def _stand_ins(found: dict[str, str]) -> str:
    """Return the stand-ins of an image's commands; empty where nothing of ours can hold them."""
    base, _, name = found["prefix"].rpartition("/")
    directory = f"{base}/.condainer-{os.geteuid()}"
    try:
        return f"{directory}/{name}{command_environment.STAND_INS}" if is_private(directory) else ""
    except OSError:
        # What root has mounted needs no directory of ours.
        return ""


def claim_mounted(found: dict[str, str]) -> int | None:
    """Claim a mount that every process of ours sees, and that is looked after; None if it is not.

    The descriptor keeps it mounted. What the mount table said of it before the claim counts only if
    it says the same after it.
    """
    base, name = found.get("base"), found["prefix"].rpartition("/")[2]
    wish = found["mount"]
    if base is None or ESCAPED & {*base} or wish == PRIVATE or (wish == AUTO and in_job()):
        return None
    place = (os.fsencode(base), os.fsencode(name))
    seen = look(mount_table(), *place)
    view, device, provided, _ = seen
    if device is None or (provided and wish not in (AUTO, KERNEL)):
        return None
    prefix = f"{base.rstrip('/')}/{name}"
    claim = _open_provided(prefix) if provided else _lock(base, name, view)
    if claim is None:
        return None
    try:
        said = answer(prefix)
        if said == expected(found, device) and look(mount_table(), *place) == seen:
            return claim
    except OSError:
        pass
    os.close(claim)
    return None


def expected(found: dict[str, str], device: tuple[int, int]) -> bytes:
    """Return what answer() says of the mount of an image that is what it should be."""
    return b"%d %s\n" % (os.makedev(*device), found["address"].encode())


def in_job() -> bool:
    """Tell whether we run in a batch job, or in a step of one."""
    return any(os.environ.get(name) for names in JOBS for name in names)


def mount_table() -> bytes:
    """Return the text of the mount table of our view."""
    with open("/proc/self/mountinfo", "rb", buffering=0) as stream:
        return stream.readall()


def look(
    table: bytes, base: bytes, name: bytes
) -> tuple[str, tuple[int, int] | None, bool, list[bytes]]:
    """Return what names our view, the device of our mount of an image, and whether it is root's.

    The device is None if none of ours, or more than that, is at the mount point. The last is all
    that the table says of the mount point.
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
    if len(mounts) != 1:
        return named, None, False, mounts
    own, _, rest = mounts[0].partition(b" - ")
    kind, _, options = rest.split(b" ", 2)
    user = os.geteuid()
    fuse = kind.startswith(b"fuse") and b"user_id=%d" % user in options.split(b",")
    # Only root can mount this one.
    squashfs = kind == b"squashfs"
    if not fuse and not squashfs:
        return named, None, False, mounts
    major, minor = own.split(b" ", 3)[2].split(b":")
    return named, (int(major), int(minor)), squashfs and user != 0, mounts


def _lock(base: str, name: str, view: str) -> int | None:
    """Take the lock of a mount's users with the others; None if there is no keeper, or anything."""
    try:
        stem = stem_of(base, name, view)
        keeper = os.open(f"{stem}.keeper", FLAGS)
        try:
            fcntl.flock(keeper, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # Nobody looks after the mount.
            return None
        except BlockingIOError:
            pass
        finally:
            os.close(keeper)
        users = os.open(f"{stem}.users", FLAGS)
        # The keeper has it for a moment after each command, to look whether to unmount.
        if lock(users, f"{stem}.users", fcntl.LOCK_SH):
            # The keeper goes by this time.
            os.utime(users)
            return users
    except OSError:
        pass
    return None


def lock(descriptor: int, path: "str | os.PathLike[str]", kind: int) -> bool:
    """Lock an open file of ours; False if it is not the one at its path any more.

    A cleaner of temporary files may have removed it: others lock the new one. Unless it is locked,
    it is closed. Raises OSError.
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
    """Return how the paths of a mount's lock files begin; see mountlocks.locks_for().

    Raises OSError if our directory of them is not there, or not ours alone.
    """
    directory = f"{base.rstrip('/')}/.condainer-{os.geteuid()}"
    if not is_private(directory):
        raise FileNotFoundError(directory)
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as stream:
        boot = stream.read(8).decode()
    seen = view or "n" + os.readlink("/proc/self/ns/mnt").strip("mnt:[]")
    return f"{directory}/{name}-{boot}-{seen}"


def is_private(directory: str) -> bool:
    """Tell whether this is a directory, not a link, of ours that nobody else can write."""
    status = os.lstat(directory)
    return status.st_mode & 0o170022 == 0o040000 and status.st_uid == os.getuid()


def _open_provided(prefix: str) -> int | None:
    """Claim what root has mounted for everybody: nobody can unmount what a process has open."""
    try:
        return os.open(prefix, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None


def answer(prefix: str, patience: float = PATIENCE) -> bytes | None:
    """Return what is mounted at a prefix: its device and its address; None without an answer.

    In the place of what cannot be read there is the number of the error, negative. A child of ours
    asks: who waits for a daemon of FUSE that has begun with the answer cannot be ended. Parameters:
    `patience` is in seconds.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _ask(prefix, writing)
    os.close(writing)
    said = None
    try:
        # The end of the child closes its end of the pipe, too.
        if select.select([reading], [], [], patience)[0]:
            said = os.read(reading, 200)
    finally:
        os.close(reading)
        # Also when we are interrupted.
        if said is None:
            os.kill(child, _signal.SIGKILL)
        os.waitpid(child, os.WNOHANG if said is None else 0)
    return said


def _ask(prefix: str, writing: int) -> "NoReturn":
    said = b""
    try:
        # Who cannot end must not hold our locks, nor a shell's pipe.
        os.closerange(0, writing)
        os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))
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
