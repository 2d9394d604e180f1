"""Mount the image that a stamp names; what is unusual is left to the long way.

It does what mounts.hold() and mount_work.work_in() do where nothing is at the mount point, and
imports next to nothing: the keeper does what takes longer and no command waits for.
"""

import fcntl
import os

from condainer.startup import (
    attach,
    command_environment,
    launch,
    lease_files,
    stand_ins,
    tool_paths,
)

# As backends.PATIENCE: how long a daemon may take to read from a slow file system, in seconds.
PATIENCE = 10.0
FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def claim_new(stamped: dict[str, str]) -> int | None:
    """Mount the image that a stamp names, and return a claim on it; None for the long way.

    It waits for other processes that mount the same image. The keeper is started first: it removes
    what a killed mount leaves.
    """
    place = attach.place_of(stamped)
    if place is None or stamped["stage"]:
        return None
    command = _command(stamped)
    if command is None:
        return None
    launch.end_cleanly()
    users = turn = -1
    try:
        view, *_ = attach.seen_at(*place)
        stem = attach.stem_of(*place, view)
        users = _locked(f"{stem}.users", fcntl.LOCK_SH)
        # The keeper reads this time as that of the last use.
        os.utime(users)
        turn = _locked(f"{stem}.mount", fcntl.LOCK_EX)
        if not attach.is_mounted(stamped):
            _mount(stamped, stem, command)
        # As every process that finds it mounted; our lock of its users keeps it until then.
        return attach.claim_mounted(stamped)
    except OSError:
        return None
    finally:
        for descriptor in (turn, users):
            if descriptor >= 0:
                os.close(descriptor)


def _command(stamped: dict[str, str]) -> list[str] | None:
    """Return the command that mounts where all our processes see it, as mount.choice.choose() does.

    None if there is none, or only the long way can choose.
    """
    wish, image, tools = stamped["mount"], stamped["image"], stamped["tools"]
    if wish not in (attach.AUTO, attach.DIRECT, attach.KERNEL) or attach.wants_its_own(wish):
        return None
    if wish == attach.KERNEL or (wish == attach.AUTO and tool_paths.kernel_is_safe(image)):
        program = tool_paths.find("mount", tools) if os.geteuid() == 0 else None
        options = ["-t", tool_paths.KERNEL, "-o", f"{tool_paths.OPTIONS},loop"]
    elif tool_paths.obstacle(tools):
        return None
    else:
        program = tool_paths.find("squashfuse_ll", tools)
        options = ["-o", tool_paths.OPTIONS]
    return [program, *options, image] if program else None


def _locked(path: str, kind: int) -> int:
    """Lock a file of ours, and return its descriptor; raises OSError."""
    descriptor = os.open(path, FLAGS, 0o600)
    if not attach.lock(descriptor, path, kind):
        raise FileNotFoundError(path)
    return descriptor


def _mount(stamped: dict[str, str], stem: str, command: list[str]) -> None:
    """Mount at the prefix, where nothing is, looked after by a new keeper. Raises OSError."""
    # As the keeper knows it, which looks for a daemon that was told this: not below links.
    prefix = stamped["prefix"]
    for kind in ("persistent", "verified"):
        if os.path.lexists(f"{stem}.{kind}"):
            raise FileExistsError(f"{stem}.{kind}")
    # A keeper that still has the lock is not done with the last mount.
    keeper = _locked(f"{stem}.keeper", fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        starter = _begin(stamped, prefix, stem, keeper)
    finally:
        os.close(keeper)
    try:
        environment = tool_paths.environment(stamped["tools"])
        if command_environment.run([*command, prefix], environment):
            raise ChildProcessError(command[0])
        _confirm(stamped, prefix)
        stand_ins.put(prefix, os.path.dirname(stem))
    except OSError:
        raise
    except BaseException:
        # The keeper unmounts only an image that has the right address.
        _unmount(prefix, stamped["tools"])
        raise
    finally:
        os.waitpid(starter, 0)


def _begin(stamped: dict[str, str], prefix: str, stem: str, keeper: int) -> int:
    """Make a mount point, and start the keeper of its lock, which has a lease of the image.

    It returns the number of a child to wait for.
    """
    _make_mount_point(prefix)
    lease = ""
    try:
        # The keeper writes into the directory below the mount.
        below = os.open(prefix, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if stamped["cache"]:
                lease = lease_files.take(stamped["cache"], stamped["address"])
            return _start_keeper(stamped, stem, lease, keeper, below)
        finally:
            os.close(below)
    except BaseException:
        try:
            if lease:
                os.unlink(lease)
            os.rmdir(prefix)
        except OSError:
            # A kill leaves the same; the exception that ends us matters more.
            pass
        raise


def _make_mount_point(prefix: str) -> None:
    try:
        os.mkdir(prefix, 0o700)
    except FileExistsError:
        if not attach.is_private(prefix) or os.listdir(prefix):
            raise


def _start_keeper(stamped: dict[str, str], stem: str, lease: str, held: int, below: int) -> int:
    # See mount.keeper.Duty.
    names = ("image", "address", "prefix", "tools", "copies")
    duty: dict[str, object] = {name: stamped[name] for name in names}
    duty |= {"way": stamped["mount"], "linger": float(stamped["linger"]), "stem": stem}
    duty |= {"lease": lease, "held": held, "below": below}
    argv = [*launch.module_command("condainer.mount.keeper"), repr(duty)]
    return launch.start_daemon(argv, tool_paths.keeper_environment(stamped["tools"]), (held, below))


def _confirm(stamped: dict[str, str], prefix: str) -> None:
    """Raise OSError unless the mount holds the address that it should have."""
    answer = attach.answer(prefix, PATIENCE)
    if answer is None:
        raise TimeoutError(prefix)
    if answer.partition(b" ")[2] != stamped["address"].encode() + b"\n":
        _unmount(prefix, stamped["tools"])
        raise FileNotFoundError(prefix)


def _unmount(prefix: str, directory: str) -> None:
    """Detach a mount that is not what it should be; the keeper removes the rest."""
    if os.geteuid() == 0:
        program, options = tool_paths.find("umount", directory), ["-l"]
    else:
        program, options = tool_paths.fusermount(directory), ["-u", "-z"]
    if program:
        command_environment.run([program, *options, prefix], tool_paths.environment(directory))
