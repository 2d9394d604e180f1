"""Private user and mount namespaces, and the mount(2) calls made inside them.

Run as `python -m condainer.system.namespace SOURCE TARGET -- COMMAND …`, it starts a command that
alone sees the directory SOURCE at TARGET.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from condainer.startup import launch
from condainer.startup.namespace import alone, call
from condainer.system.errors import CondainerError, MountError
from condainer.system.text import harmless

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

PR_SET_PDEATHSIG = 1
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_LOWER = 3
CAP_SYS_ADMIN = 21
CAPABILITY_VERSION_3 = 0x20080522

PROBE = "--probe"
REMEDY = (
    "Ask the administrator to allow user namespaces (user.max_user_namespaces above 0; "
    "kernel.unprivileged_userns_clone=1 on Debian 10; "
    "kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu 24.04), "
    "or set `mount_base_directory` to a directory of your own and build again."
)


def enter() -> None:
    """Move this process into a private mount namespace in which it may mount.

    Our user and group stay what they are. Mounts made from here on are seen by this process and
    its children only. The process must have one thread. Raises OSError.
    """
    if os.geteuid() == 0:
        try:
            call("unshare", CLONE_NEWNS)
        except PermissionError:
            # Root of a container may not mount.
            _enter_as_user()
    else:
        _enter_as_user()
    _mount("none", "/", None, MS_REC | MS_PRIVATE)


def _enter_as_user() -> None:
    user, group = os.geteuid(), os.getegid()
    alone("unshare", CLONE_NEWUSER | CLONE_NEWNS)
    # The kernel lets an ordinary user map a group only after this.
    Path("/proc/self/setgroups").write_bytes(b"deny")
    Path("/proc/self/uid_map").write_bytes(b"%d %d 1" % (user, user))
    Path("/proc/self/gid_map").write_bytes(b"%d %d 1" % (group, group))


def available() -> bool:
    """Tell whether this machine lets us enter a namespace and mount there, by trying.

    It tries in a new process: a fork of ours would wait for threads that wait for a file system.
    """
    from condainer.system import process

    try:
        process.run([*launch.module_command("condainer.system.namespace"), PROBE], env=os.environ)
    except process.CommandFailed:
        return False
    return True


def bind(source: Path, target: Path) -> None:
    """Make the directory `source` appear at `target`, over any mount there; raises OSError."""
    _mount(str(source), str(target), None, MS_BIND | MS_REC)


def tmpfs(target: Path) -> None:
    """Mount a small empty file system of ours over a directory; raises OSError."""
    _mount("condainer", str(target), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=64k")


def unmount(target: Path, lazy: bool = False) -> None:
    """Unmount the topmost file system at `target`.

    Parameters: `lazy` detaches it even while it is in use. Raises OSError, with EBUSY when it is in
    use and EPERM when this process may not unmount.
    """
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    call("umount2", os.fsencode(target), flags, path=str(target))


@contextmanager
def mount_right() -> Iterator[None]:
    """Let the programs that are started in the context mount in the namespace of this process.

    An exec drops the capabilities of all users but root; ambient ones stay.
    """
    if os.geteuid() == 0:
        yield
        return
    _set_inheritable(True)
    call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0)
    try:
        yield
    finally:
        call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, CAP_SYS_ADMIN, 0, 0)
        _set_inheritable(False)


def _set_inheritable(wanted: bool) -> None:
    import ctypes

    header = ctypes.create_string_buffer(struct.pack("=Ii", CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    call("capget", header, data)
    # Effective, permitted, inheritable for capabilities 0 to 31, then the same for the others.
    sets = list(struct.unpack("=6I", data.raw[:24]))
    bit = 1 << CAP_SYS_ADMIN
    sets[2] = sets[2] | bit if wanted else sets[2] & ~bit
    call("capset", header, ctypes.create_string_buffer(struct.pack("=6I", *sets)))


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    import ctypes

    call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() or None,
        path=target,
    )


def private_view(directory: Path, backing: Path | None = None, without: str = "") -> None:
    """Cover a directory with a file system of ours that shows the same entries.

    No other user sees or can remove what we add to it: in the real directory, the owner of an entry
    may remove it, and with it every mount on it in any namespace. Entries that cannot be read, such
    as other users' FUSE mounts, are left out. Parameters: new entries go into memory, or into
    `backing`, an empty directory; `without` is the name of an entry to leave out. Raises OSError.
    """
    real = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        names = [name for name in os.listdir(f"/proc/self/fd/{real}") if name != without]
        if backing is None:
            _mount("condainer", str(directory), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700")
        else:
            bind(backing, directory)
        for name in names:
            source, target = Path(f"/proc/self/fd/{real}", name), directory / name
            with contextlib.suppress(OSError):
                _show(source, target)
    finally:
        os.close(real)


def _show(source: Path, target: Path) -> None:
    if source.is_symlink():
        # Links of others would become ours, and the kernel would follow them for us.
        if source.lstat().st_uid in (0, os.geteuid()):
            target.symlink_to(os.readlink(source))
        return
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    bind(source, target)


def command(source: Path, target: Path) -> list[str]:
    """Return the words before a command that make `source` appear at `target` for it alone.

    The directory above `target` must exist; `target` need not.
    """
    return [*launch.module_command("condainer.system.namespace"), str(source), str(target), "--"]


def run_bound(source: Path, target: Path, argv: Sequence[str]) -> NoReturn:
    """Replace this process by a command for which `source` appears at `target`.

    Raises MountError when it cannot appear there, CondainerError when the command cannot start.
    """
    try:
        enter()
    except OSError as error:
        raise MountError(f"No private namespace can be made ({error.strerror})", REMEDY) from error
    # An installer must end when the build is killed.
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        content = os.open(source, os.O_PATH | os.O_DIRECTORY)
        private_view(target.parent)
        target.mkdir(exist_ok=True)
        bind(Path(f"/proc/self/fd/{content}"), target)
        os.close(content)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise MountError(
            f"Cannot make {source} appear at {target}: {error.strerror}{place}"
        ) from error
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        raise CondainerError(f"{argv[0]}: {os.strerror(error.errno or 0)}") from error


def main(arguments: Sequence[str]) -> int:
    """Run `SOURCE TARGET -- COMMAND …`; return an exit code only if the command cannot start.

    With `--probe` alone, only try to enter a namespace.
    """
    if list(arguments) == [PROBE]:
        enter()
        return 0
    if len(arguments) < 4 or arguments[2] != "--":
        print(
            "usage: python -m condainer.system.namespace SOURCE TARGET -- COMMAND …",
            file=sys.stderr,
        )
        return 2
    try:
        run_bound(Path(arguments[0]), Path(arguments[1]), arguments[3:])
    except CondainerError as error:
        print(harmless(f"{error.message}\n{error.hint}"), file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
