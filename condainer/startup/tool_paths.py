"""The programs that mount and unmount: where they are, and what may be left to the kernel.

It imports next to nothing, because `cnd exec` must be quick.
"""

import os

# The options with which any program mounts images.
OPTIONS = "ro,nosuid,nodev"
# The kernel's own file system, which only root can mount, also where there are user namespaces.
KERNEL = "squashfs"
# What a keeper needs beside PATH.
KEPT = ("HOME", "XDG_DATA_HOME", "LD_LIBRARY_PATH")
# What an ordinary user may lack.
NO_HELPER = "there is no set-user-ID fusermount3 to mount where others look"
# The beginning of the scripts of `cnd wrap`.
WRAPPER = b"#!/bin/bash -p\n# Made by `cnd wrap`"


def find(name: str, directory: "str | os.PathLike[str] | None" = None) -> str | None:
    """Return the path of an executable, or None.

    It is looked for in `directory`, among the tools of `cnd prereq --install`, and in PATH. The
    wrapper of an image's program does not count: it needs the tool itself, to mount the image.
    """
    own = os.path.normpath(f"{root()}/current/programs")
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for place in (directory, own, *directories):
        path = os.path.join(place or "", name)
        if not place or not os.path.isfile(path) or not os.access(path, os.X_OK):
            continue
        # Others could have put theirs into a directory that they can write.
        if (os.path.normpath(place) != own or _is_ours(own)) and not _is_wrapper(path):
            return path
    return None


def fusermount(directory: "str | os.PathLike[str] | None" = None) -> str | None:
    """Return the program with which ordinary users mount and unmount, or None; see find()."""
    return find("fusermount3", directory) or find("fusermount", directory)


def is_setuid(program: str | None) -> bool:
    """Tell whether a program runs as root for every user; raises OSError."""
    status = os.stat(program) if program else None
    return status is not None and status.st_uid == 0 and status.st_mode & 0o4000 != 0


def root() -> str:
    """Return the directory of the tools that the user has let Condainer install."""
    data = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):
        home = os.environ.get("HOME", "")
        data = f"{home if os.path.isabs(home) else '/nonexistent'}/.local/share"
    return f"{data}/condainer/tools"


def _is_wrapper(path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as stream:
            return stream.read(len(WRAPPER)) == WRAPPER
    except OSError:
        # An executable need not be readable.
        return False


def _is_ours(path: str) -> bool:
    status = os.stat(path)
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def environment(directory: "str | os.PathLike[str] | None" = None) -> dict[str, str]:
    """Return a small environment for a daemon, without what a job or a module has set.

    The libraries that modules name in LD_LIBRARY_PATH are not those of the system's tools.
    """
    path = os.environ.get("PATH") or os.defpath
    return {"PATH": f"{directory}:{path}" if directory else path, "LC_ALL": "C"}


def keeper_environment(directory: str = "") -> dict[str, str]:
    """Return the same for a keeper, which finds our own tools to repair a mount.

    Its interpreter may come from a module.
    """
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**environment(directory), **kept}


def kernel_works() -> bool:
    """Tell whether the kernel can probably mount an image for this process."""
    if os.geteuid() != 0 or not os.access("/dev/loop-control", os.R_OK | os.W_OK):
        return False
    with open("/proc/filesystems", "rb", buffering=0) as stream:
        return KERNEL.encode() in stream.readall().split()


def kernel_is_safe(image: str) -> bool:
    """Tell whether the kernel may mount an image for root.

    The kernel trusts a file system more than squashfuse does, so the image must be root's own; and
    all users see what is mounted, so all must be able to read the image.
    """
    if not kernel_works():
        return False
    try:
        status = os.stat(image)
        above = os.path.realpath(image)
        while above != "/":
            above = os.path.dirname(above)
            if not os.stat(above).st_mode & 0o001:
                return False
    except OSError:
        return False
    return status.st_uid == 0 and status.st_mode & 0o026 == 0o004


def obstacle(directory: "str | os.PathLike[str] | None" = None) -> str:
    """Return why squashfuse can mount only in a namespace; empty if its mounts are seen outside.

    Raises OSError.
    """
    if os.geteuid() == 0:
        return ""
    if not is_setuid(fusermount(directory)):
        return NO_HELPER
    with open("/proc/self/status", "rb", buffering=0) as stream:
        if b"NoNewPrivs:\t1" in stream.readall():
            return "set-user-ID programs as fusermount3 gain nothing here (no_new_privs)"
    import pwd

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return f"fusermount3 refuses the number {os.geteuid()}, which has no account here"
    return ""
