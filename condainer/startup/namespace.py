"""Into the namespaces of another process of ours, where a private mount is seen."""

import errno
import os
import time

# How often a call that needs a process of one thread is tried, 10 ms apart.
ATTEMPTS = 50


def join(user: str, mount: str, pid: int) -> bool:
    """Move this process into the namespaces of another one of ours.

    False if it has ended or may not be joined. This process must have one thread. Parameters:
    `user` and `mount` are the names of these namespaces; a process with others has reused the
    number of one that ended.
    """
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    opened, others = [here], []
    try:
        path = os.readlink(f"/proc/self/fd/{here}")
        for kind, name in (("user", user), ("mnt", mount)):
            descriptor = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
            opened.append(descriptor)
            if os.readlink(f"/proc/self/fd/{descriptor}") != name:
                return False
            if os.readlink(f"/proc/self/ns/{kind}") != name:
                others.append(descriptor)
        for descriptor in others:
            alone("setns", descriptor, 0)
    except OSError:
        return False
    else:
        _return_to(path, here)
        return True
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _return_to(path: str, here: int) -> None:
    """Go back to the working directory: entering a mount namespace changes to its root."""
    try:
        os.chdir(path)
        is_there = os.path.samestat(os.stat("."), os.fstat(here))
    except OSError:
        is_there = False
    if not is_there:
        # Only the descriptor shows what was mounted outside later.
        os.fchdir(here)


def alone(name: str, *arguments: object) -> None:
    """Make a call that needs a process of one thread; raises OSError."""
    for attempt in range(ATTEMPTS):
        try:
            call(name, *arguments)
            return
        except OSError as error:
            # For the kernel, a joined thread lives for a moment longer.
            if error.errno != errno.EINVAL or attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.01)


def call(name: str, *arguments: object, path: "str | None" = None) -> None:
    """Make a call of the C library that returns 0 or sets errno; raises OSError."""
    # Imported here because most commands need no such call.
    import ctypes

    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
