"""Stand-ins for the commands of an image that is unmounted while a shell or script uses it.

Such a shell has the image's `bin` in PATH. Without stand-ins it would find the commands of the
system and silently go on with another Python. So there are stand-ins in the next directory of PATH,
for when the daemon behind the mount has died, and in the directory below the mount, for when it is
unmounted (mount.guard).
"""

import os

from condainer.startup.command_environment import STAND_INS

# The one script in the directory; all names are links to it.
STUB = ".condainer-guard"
# It waits for the image to come back, because shells remember where they found a command.
SCRIPT = """\
#!/bin/sh
bin={bin}
command=$bin/${{0##*/}}
for time in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    # Only the directory below the mount has this.
    [ -e "$bin/{stub}" ] || [ ! -x "$command" ] || exec "$command" "$@"
    /bin/sleep 0.1
done
echo "cnd: $command: the image is not mounted any more: activate it again" >&2
exit 125
"""


def put(prefix: str, directory: str) -> None:
    """Have stand-ins of the commands of a mounted image in our directory of lock files.

    They stay there for shells that still have them in PATH. Raises OSError.
    """
    name = prefix.rpartition("/")[2]
    place = f"{directory}/{name}{STAND_INS}"
    if os.path.exists(f"{place}/{STUB}"):
        return
    new = f"{directory}/{name}.{os.getpid()}{STAND_INS}"
    try:
        fill(new, prefix, _executables(f"{prefix}/bin"))
        # A directory without its stub is of no use.
        _remove(place)
        os.rename(new, place)
    except OSError:
        # Another process was quicker, and its stand-ins are the same.
        if not os.path.exists(f"{place}/{STUB}"):
            raise
    finally:
        _remove(new)


def fill(directory: str, prefix: str, names: "list[str]") -> None:
    """Make a directory of stand-ins of these commands of an image; raises OSError."""
    os.mkdir(directory, 0o700)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(f"{directory}/{STUB}", flags, 0o500)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        os.fchmod(descriptor, 0o500)
        stream.write(SCRIPT.format(bin=quoted(f"{prefix}/bin"), stub=STUB))
    for name in names:
        os.symlink(STUB, f"{directory}/{name}")


def _executables(directory: str) -> list[str]:
    """Return the names of all executables; raises OSError, for none must be left out."""
    names = []
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        path = f"{directory}/{name}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            names.append(name)
    # If the daemon died, all answers were no.
    os.stat(os.path.dirname(directory))
    return names


def quoted(text: str) -> str:
    """Return a text as one word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _remove(directory: str) -> None:
    try:
        for name in os.listdir(directory):
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)
    except OSError:
        # It is not there, or another process removes it.
        pass
