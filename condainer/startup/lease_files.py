"""The small files in a cache that say who uses an image; with next to no imports.

`cnd exec` must be quick. A cache that cannot be written is used without them.
"""

import os
import pwd
import time

LEASES = "leases"
USES = "uses"
# A link is not followed, and a FIFO does not keep us waiting.
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def take(cache: str, address: str) -> str:
    """Say that this process, or the keeper that it starts, uses an image; return the lease.

    It is empty where the cache has no place for leases or cannot be written. Never raises OSError.
    """
    path = ""
    try:
        name = f"{address}.{this_host()}.{os.getpid()}.{os.urandom(4).hex()}"
        make(f"{cache}/{LEASES}", name)
        path = f"{cache}/{LEASES}/{name}"
    except OSError:
        pass
    use(cache, address)
    return path


def make(directory: str, name: str) -> None:
    """Make the file of a lease; raises OSError."""
    descriptor = _opened(directory, name, os.O_EXCL)
    try:
        # For people, under any umask; an empty lease, as on a full disk, counts as well.
        os.fchmod(descriptor, 0o644)
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        text = f"mounted by {user_name(os.geteuid())} on {name.split('.')[1]}, {since}\n"
        try:  # noqa: SIM105
            os.write(descriptor, os.fsencode(text))
        except OSError:
            pass
    finally:
        os.close(descriptor)


def use(cache: "str | os.PathLike[str]", address: str) -> None:
    """Note that this user uses an image now, where the cache has a place for that."""
    try:
        descriptor = _opened(f"{cache}/{USES}", use_name(address))
        try:
            if os.fstat(descriptor).st_mode & 0o170000 == 0o100000:
                os.utime(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        pass


def use_name(address: str) -> str:
    """Return the name of the file that says when this user used an image."""
    return f"{address}.{os.geteuid()}"


def this_host() -> str:
    """Return a name of this host and its present boot, without a `.`."""
    return f"{os.uname().nodename.partition('.')[0]}-{this_boot()}"


def this_boot() -> str:
    """Return a name of the present boot of this host."""
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as stream:
        return stream.read(8).decode("ascii")


def user_name(number: int) -> str:
    """Return the name of a user, or the number of one that this machine does not know."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _opened(directory: str, name: str, more: int = 0) -> int:
    """Open a file, made if it is missing, in a directory of the cache; raises OSError."""
    place = opened_directory(directory)
    try:
        return os.open(name, FLAGS | more, 0o644, dir_fd=place)
    finally:
        os.close(place)


def opened_directory(path: "str | os.PathLike[str]") -> int:
    """Open a directory of the cache; a link could lead to where another user wants us to write."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
