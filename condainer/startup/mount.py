"""Have an image mounted that a stamp names, at once; whatever is not as usual is for the long way.

It does what mounts.hold() and mount_work.work_in() do where nothing stands at the mount point, and
imports next to nothing: what takes longer and nobody waits for is left to the keeper.
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


def claim_new(found: dict[str, str]) -> int | None:
    """Mount the image that a stamp names, and return a claim on it; None for the long way.

    Whoever mounts it at the same time is waited for. Whatever is left half-made, the keeper, which
    is started first, takes away.
    """
    base, name = found.get("base"), found["prefix"].rpartition("/")[2]
    if base is None or attach.ESCAPED & {*base} or found["stage"]:
        return None
    command = _command(found)
    if command is None:
        return None
    launch.end_cleanly()
    users = turn = -1
    try:
        view, *_ = attach.look(attach.mount_table(), os.fsencode(base), os.fsencode(name))
        stem = attach.stem_of(base, name, view)
        users = _locked(f"{stem}.users", fcntl.LOCK_SH)
        # The keeper goes by this time.
        os.utime(users)
        turn = _locked(f"{stem}.mount", fcntl.LOCK_EX)
        if not attach.is_mounted(found):
            _mount(found, base, name, stem, command)
        # As everybody who finds it mounted; our own claim has kept it until then.
        return attach.claim_mounted(found)
    except OSError:
        return None
    finally:
        for descriptor in (turn, users):
            if descriptor >= 0:
                os.close(descriptor)


def _command(found: dict[str, str]) -> list[str] | None:
    """Return the command that mounts where all our processes see it, as mount.choice.choose() does.

    None if there is none, or it is for the long way to choose.
    """
    wish, image = found["mount"], found["image"]
    if wish not in (attach.AUTO, attach.DIRECT, attach.KERNEL) or (
        wish == attach.AUTO and attach.in_job()
    ):
        return None
    if wish == attach.KERNEL or (wish == attach.AUTO and tool_paths.kernel_is_safe(image)):
        program = tool_paths.find("mount", found["tools"]) if os.geteuid() == 0 else None
        options = ["-t", tool_paths.KERNEL, "-o", f"{tool_paths.OPTIONS},loop"]
    else:
        program = tool_paths.find("squashfuse_ll", found["tools"]) if _can_mount(found) else None
        options = ["-o", tool_paths.OPTIONS]
    return [program, *options, image] if program else None


def _can_mount(found: dict[str, str]) -> bool:
    """Tell whether squashfuse can mount here for an ordinary user, too."""
    if os.geteuid() == 0:
        return True
    setuid = tool_paths.is_setuid(tool_paths.fusermount(found["tools"]))
    return setuid and not tool_paths.privileges_frozen() and tool_paths.has_account()


def _locked(path: str, kind: int) -> int:
    """Lock a file of ours, and return its descriptor; raises OSError."""
    descriptor = os.open(path, FLAGS, 0o600)
    if not attach.lock(descriptor, path, kind):
        raise FileNotFoundError(path)
    return descriptor


def _mount(found: dict[str, str], base: str, name: str, stem: str, command: list[str]) -> None:
    """Mount at a prefix where nothing is, looked after by a new keeper. Raises OSError."""
    prefix = f"{base.rstrip('/')}/{name}"
    for kind in ("persistent", "verified"):
        if os.path.lexists(f"{stem}.{kind}"):
            raise FileExistsError(f"{stem}.{kind}")
    # Another keeper that is there still has something to do.
    keeper = _locked(f"{stem}.keeper", fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        starter = _begin(found, prefix, stem, keeper)
    finally:
        os.close(keeper)
    try:
        status = command_environment.run([*command, prefix], tool_paths.environment(found["tools"]))
        if status:
            raise ChildProcessError(command[0])
        _confirm(found, prefix)
        stand_ins.put(prefix, os.path.dirname(stem))
    except OSError:
        raise
    except BaseException:
        # The keeper takes away only what is as it should be.
        _unmount(prefix, found["tools"])
        raise
    finally:
        os.waitpid(starter, 0)


def _begin(found: dict[str, str], prefix: str, stem: str, keeper: int) -> int:
    """Make a mount point, and start the keeper of its lock, which has a lease of the image.

    What is returned is the number of a child to be waited for.
    """
    _make_mount_point(prefix)
    lease = ""
    try:
        # What lies below the mount is for the keeper.
        below = os.open(prefix, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            lease = lease_files.take(found["cache"], found["address"]) if found["cache"] else ""
            return _start_keeper(found, stem, lease, keeper, below)
        finally:
            os.close(below)
    except BaseException:
        try:
            if lease:
                os.unlink(lease)
            os.rmdir(prefix)
        except OSError:
            # What is left is as after a kill; what ends us must not get lost.
            pass
        raise


def _make_mount_point(prefix: str) -> None:
    try:
        os.mkdir(prefix, 0o700)
    except FileExistsError:
        if not attach.is_private(prefix) or os.listdir(prefix):
            raise


def _start_keeper(found: dict[str, str], stem: str, lease: str, held: int, below: int) -> int:
    names = ("prefix", "address", "image", "mount", "linger", "tools", "copies")
    given = [*(found[name] for name in names), stem, lease, str(held), str(below)]
    argv = [*launch.module_command("condainer.mount.keeper_of_startup"), *given]
    return launch.start_daemon(argv, tool_paths.keeper_environment(found["tools"]), (held, below))


def _confirm(found: dict[str, str], prefix: str) -> None:
    """Believe a mount only when the content has the address that it should have; raises OSError."""
    answer = attach.answer(prefix, PATIENCE)
    if answer is None:
        raise TimeoutError(prefix)
    if answer.partition(b" ")[2] != found["address"].encode() + b"\n":
        _unmount(prefix, found["tools"])
        raise FileNotFoundError(prefix)


def _unmount(prefix: str, directory: str) -> None:
    """Take a mount out of sight that is not what it should be; what is left is for the keeper."""
    if os.geteuid() == 0:
        names, options = ["umount"], ["-l"]
    else:
        names, options = ["fusermount3", "fusermount"], ["-u", "-z"]
    environment = tool_paths.environment(directory)
    for program in filter(None, (tool_paths.find(name, directory) for name in names)):
        if command_environment.run([program, *options, prefix], environment) == 0:
            return
