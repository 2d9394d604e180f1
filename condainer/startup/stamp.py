"""What was seen of a project when its image was last found, to tell quickly if that still holds.

This is read before anything else: it imports nothing that a bare interpreter has not imported. A
stamp holds the list of what was looked at and what was seen there, so that looking again is one
comparison: of the bytes of small files, whose changes no preserved time or coarse clock can hide,
and of what lstat says of the rest. It lies in the user's own cache directory, where no other user
can write one.
"""

import os
import sys

from condainer import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"condainer-stamp-3"
DIRECTORY = "condainer-stamps"
# A larger file, in bytes, is remembered by its sha256.
LARGE = 1 << 20
# The digits of a whole address.
DIGITS = 32
# How long a stamp is believed, in seconds: after that a build touches the project's note again.
LIFE = 20 * 3600
# The variables beside CONDAINER_* that settings depend on.
NAMES = (
    *(b"HOME", b"XDG_CACHE_HOME", b"XDG_CONFIG_HOME", b"TMPDIR"),
    # These can make a lock stale.
    *(b"UV_INDEX", b"UV_DEFAULT_INDEX", b"UV_INDEX_URL", b"UV_EXTRA_INDEX_URL", b"UV_FIND_LINKS"),
)
# No settings: what an activation sets, and what names the project or its environment, by which a
# stamp is found.
NO_SETTINGS = (
    *(b"CONDAINER_ADDRESS", b"CONDAINER_PREFIX", b"CONDAINER_PROJECT"),
    b"CONDAINER_ENVIRONMENT",
)
# Those that hold paths, which may be relative to the working directory.
PATHS = (
    *(b"CONDAINER_CACHE", b"CONDAINER_READONLY_CACHES", b"CONDAINER_PACKAGE_CACHE"),
    *(b"CONDAINER_READONLY_PACKAGE_CACHES", b"CONDAINER_STAGING", b"CONDAINER_MOUNT_BASE"),
    *(b"CONDAINER_TOOLS", b"CONDAINER_CONDA_EXE", b"CONDAINER_INSTALLER", b"TMPDIR"),
)
# Not that of the file system, which may lack characters of an environment's name.
ENCODING = ("utf-8", "surrogateescape")
# The beginning of what is seen of a file that can be read.
IS = b"is "
FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# How something is looked at: the first letter of an item of the list, before the path.
CONTENT, DIGEST, FILE, PLACE, TARGET, DATED, NUMBER = b"c", b"d", b"f", b"p", b"t", b"w", b"n"


def named(project: str, name: str, overrides: "Sequence[str]" = (), environment: str = "") -> str:
    """Return the key of the stamp of a project's image, or of one with a name or an address.

    Parameters: `overrides` are the settings of the command line; without a name, `environment` is
    the one of several in the project. Keys differ, because no path of a project has two slashes in
    a row, and no name begins with one.
    """
    if name:
        return "//".join((project, name, *overrides))
    return f"{project}///{environment}" if environment else project


def path_of(project: str) -> str | None:
    """Return where the stamp of a project directory is, None for a user without a directory."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not cache.startswith("/"):
        home = os.environ.get("HOME", "")
        if not home.startswith("/"):
            return None
        cache = f"{home}/.cache"
    # The hash of a text differs from process to process. The path is compared anyway. In a user
    # namespace, as in a private mount, owners look otherwise: its stamp is another.
    key = hash((os.lstat("/").st_uid, *os.fsencode(project))) & 0xFFFF_FFFF_FFFF_FFFF
    return f"{cache}/{DIRECTORY}/{project.rpartition('/')[2][:40]}-{key:016x}"


def valid(project: str) -> dict[str, str] | None:
    """Return what was found for a project, if all that it depends on is still as it was."""
    path = path_of(project)
    data = _own(path) if path is not None else None
    if data is None:
        return None
    head, _, rest = data.partition(b"\n")
    words = head.split(b" ")
    if len(words) != 3 or words[0] != MAGIC or not (words[1] + words[2]).isdigit():
        return None
    first, second = int(words[1]), int(words[1]) + int(words[2])
    # Without the last byte it was cut off.
    if len(rest) <= second or rest[-1:] != b"\n":
        return None
    if observed(project, rest[first:second].split(b"\0")) != rest[second:-1]:
        return None
    fields = {}
    for field in rest[:first].decode(*ENCODING).split("\0"):
        name, _, value = field.partition("=")
        fields[name] = value
    return fields


def render(stamped: dict[str, str], plan: list[bytes], seen: bytes) -> bytes:
    """Return the text of a stamp: what was found, what to look at, and what was seen there."""
    fields = b"\0".join(f"{name}={value}".encode(*ENCODING) for name, value in stamped.items())
    items = b"\0".join(plan)
    return b"%s %d %d\n%s%s%s\n" % (MAGIC, len(fields), len(items), fields, items, seen)


def observed(project: str, plan: list[bytes], known: dict[bytes, bytes] | None = None) -> bytes:
    """Look at everything in a list, and return what is seen, each with its length.

    Parameters: `known` is what was seen already of some items, which are not looked at again.
    """
    seen = _surroundings(project)
    for item in plan:
        kind, path = item[:1], item[1:]
        if known and item in known:
            seen.append(known[item])
        elif kind == CONTENT:
            seen.append(_content(path))
        elif kind == DIGEST:
            seen.append(_digest(path))
        else:
            seen.append(_state(kind, path))
    return b"".join([b"%d:%s" % (len(part), part) for part in seen])


def _surroundings(project: str) -> list[bytes]:
    """Return what of this process a result depends on: code, user, directory, and variables."""
    variables = []
    relative = False
    for name, value in os.environb.items():
        ours = name.startswith(b"CONDAINER_") and name not in NO_SETTINGS
        if ours or name in NAMES:
            variables.append(b"%s=%s" % (name, value))
            relative = relative or (name in PATHS and (value[:1] != b"/" or b":" in value))
    variables.sort()
    package = os.path.dirname(os.path.dirname(__file__))
    code = os.stat(package)
    about = (__version__, sys.hexversion, package, code.st_ino, code.st_mtime_ns, code.st_ctime_ns)
    # A personality such as linux32 has locks of its own.
    machine = os.uname().machine
    user = (os.geteuid(), os.getegid(), sorted(os.getgroups()))
    # In another directory of the project, only these are other paths.
    here = os.getcwd() if relative else ""
    return [os.fsencode(f"{about} {machine} {user} {here} {project}"), b"\0".join(variables)]


def _content(path: bytes, limit: int = LARGE) -> bytes:
    try:
        descriptor = os.open(path, FLAGS)
    except OSError as error:
        return absent(error.errno or 0)
    try:
        parts = [IS]
        while limit >= 0 and (part := os.read(descriptor, LARGE)):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts)
    except OSError as error:
        return absent(error.errno or 0)
    finally:
        os.close(descriptor)


def absent(error: int) -> bytes:
    """Return what is seen of what cannot be looked at."""
    return b"no %d" % error


def dated(status: os.stat_result) -> bytes:
    """Return what is seen of a file as DATED."""
    return b"%s %d" % (_owner(status), status.st_mtime_ns)


def _owner(status: os.stat_result) -> bytes:
    return b"%o %d %d" % (status.st_mode, status.st_uid, status.st_gid)


def _digest(path: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(_content(path, sys.maxsize)).digest()


def _state(kind: bytes, path: bytes) -> bytes:
    """Return what matters of the state of a path.

    FILE is all that tells one file from another on every node that sees it; PLACE is who may change
    a directory or link, TARGET the same of what a link leads to, DATED adds the time when it was
    written; NUMBER tells which directory it is.
    """
    try:
        status = os.lstat(path) if kind in (FILE, PLACE) else os.stat(path)
        if kind == NUMBER:
            return b"%d" % status.st_ino
        if kind == DATED:
            return dated(status)
        owner = _owner(status)
        if kind == FILE:
            times = (status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
            return b"%s %d %d %d %d" % (owner, *times)
        if status.st_mode & 0o170000 == 0o120000:
            return b"%s %s" % (owner, os.readlink(path))
        return owner
    except OSError as error:
        return absent(error.errno or 0)


def _own(path: str) -> bytes | None:
    """Return the content of a file that only we can write, as its directory; None for another."""
    above, _, name = path.rpartition("/")
    try:
        directory = os.open(above, FLAGS | os.O_NOFOLLOW | os.O_DIRECTORY)
        try:
            if not _only_ours(directory):
                return None
            descriptor = os.open(name, FLAGS | os.O_NOFOLLOW, dir_fd=directory)
        finally:
            os.close(directory)
        with open(descriptor, "rb", buffering=0) as stream:
            return stream.readall() if _only_ours(descriptor) else None
    except OSError:
        return None


def _only_ours(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022
