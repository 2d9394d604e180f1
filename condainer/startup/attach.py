"""Run a command in the image of a stamp; what is unusual is left to the long way.

For a mounted image it does what mounts.hold(), run.command() and shell.environment() do, and
imports next to nothing: one claim, two looks at the mount table, one at the content.
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

# A job ends all of its processes, and so the daemons started in it.
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
# Characters that the kernel escapes in the mount table.
ESCAPED = frozenset(" \t\n\\#")
FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def command(argv: "Sequence[str]", stamped: dict[str, str], quiet: bool) -> None:
    """Replace this process by a command in the image that a stamp names.

    Returns if the long way is needed. Raises CommandNotStarted.
    """
    if is_mounted(stamped):
        claim = claim_mounted(stamped)
    else:
        from condainer.startup import mount

        claim = mount.claim_new(stamped)
    if claim is None:
        return
    said: list[str] = []
    try:
        before, scripts = environment_of(stamped), command_environment.scripts_of(stamped["prefix"])
        environment = command_environment.after_scripts(scripts, before, said.append)
    except ValueError:
        environment = None
    if environment is None:
        os.close(claim)
        return
    for text in said:
        command_environment.tell(text)
    os.set_inheritable(claim, True)
    image = stamped["prefix"], stamped["address"]
    launch.execute(argv, environment, image, None if quiet else warn)


def warn(text: str) -> None:
    """Print a warning as a Reporter does."""
    command_environment.tell(f"Warning: {text}")


def is_mounted(stamped: dict[str, str]) -> bool:
    """Tell whether anything at all is mounted at the prefix."""
    base, name = stamped.get("base", ""), stamped["prefix"].rpartition("/")[2]
    return b" %s " % os.fsencode(f"{base.rstrip('/')}/{name}") in mount_table()


def environment_of(stamped: dict[str, str]) -> dict[str, str]:
    """Return the environment of a command, before the image's own scripts."""
    variables, table = {}, []
    for key, text in stamped.items():
        kind, _, name = key.partition(" ")
        if kind == "variable":
            variables[name] = text
        elif kind == "default":
            value, below, *unless = text.split("\n")
            table.append((name, value, below, unless))
    named, address = stamped["name"], stamped["address"]
    place = _stand_ins(stamped)
    return command_environment.environment(
        stamped["prefix"], variables, os.environ, named, address, table, place
    )


def _stand_ins(stamped: dict[str, str]) -> str:
    """Return the stand-ins of an image's commands; empty where nothing of ours can hold them."""
    base, _, name = stamped["prefix"].rpartition("/")
    directory = f"{base}/.condainer-{os.geteuid()}"
    try:
        return f"{directory}/{name}{command_environment.STAND_INS}" if is_private(directory) else ""
    except OSError:
        # What root has mounted needs no directory of ours.
        return ""


def claim_mounted(stamped: dict[str, str]) -> int | None:
    """Claim a mount that all our processes see and a keeper looks after; None if there is none.

    The descriptor keeps it mounted. The mount table must say the same before and after the claim.
    """
    base, name = stamped.get("base"), stamped["prefix"].rpartition("/")[2]
    wish = stamped["mount"]
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
        if said == expected(stamped, device) and look(mount_table(), *place) == seen:
            return claim
    except OSError:
        pass
    os.close(claim)
    return None


def expected(stamped: dict[str, str], device: tuple[int, int]) -> bytes:
    """Return what answer() says of the mount of an image that is what it should be."""
    return b"%d %s\n" % (os.makedev(*device), stamped["address"].encode())


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
    """Return a name of our view, the device of our mount of an image, and whether root made it.

    The device is None unless exactly one mount, ours or root's, is at the mount point. The last
    value is the lines of the table for the mount point.
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
    """Share the lock of a mount's users; None if the mount has no keeper, or no lock files."""
    try:
        stem = stem_of(base, name, view)
        keeper = os.open(f"{stem}.keeper", FLAGS)
        try:
            fcntl.flock(keeper, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # The mount has no keeper.
            return None
        except BlockingIOError:
            pass
        finally:
            os.close(keeper)
        users = os.open(f"{stem}.users", FLAGS)
        # The keeper has it for a moment after each command, to look whether to unmount.
        if lock(users, f"{stem}.users", fcntl.LOCK_SH):
            # The keeper reads this time as that of the last use.
            os.utime(users)
            return users
    except OSError:
        pass
    return None


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
    directory = f"{base.rstrip('/')}/.condainer-{os.geteuid()}"
    if not is_private(directory):
        raise FileNotFoundError(directory)
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as stream:
        boot = stream.read(8).decode()
    seen = view or "n" + os.readlink("/proc/self/ns/mnt").strip("mnt:[]")
    return f"{directory}/{name}-{boot}-{seen}"


def is_private(directory: str) -> bool:
    """Tell whether this is a directory, not a link, of ours that no other user can write."""
    status = os.lstat(directory)
    return status.st_mode & 0o170022 == 0o040000 and status.st_uid == os.getuid()


def _open_provided(prefix: str) -> int | None:
    """Claim what root has mounted for all users: an open directory cannot be unmounted."""
    try:
        return os.open(prefix, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None


def answer(prefix: str, patience: float = PATIENCE) -> bytes | None:
    """Return the device and the address of what is mounted at a prefix; None without an answer.

    The negative number of an error takes the place of what cannot be read. A child of ours asks,
    because a process that waits for a FUSE daemon cannot always be killed. Parameters: `patience`
    is in seconds.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _ask(prefix, writing)
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
        os.waitpid(child, os.WNOHANG if said is None else 0)
    return said


def _ask(prefix: str, writing: int) -> "NoReturn":
    said = b""
    try:
        # A child that hangs must not hold our locks, nor a shell's pipe.
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
