"""Which files programs read of an image, so that only these are read ahead: `condainer.profile`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from condainer.lock.address import OURS
from condainer.mount.backends import State
from condainer.mount.mounts import Image, probe
from condainer.system import files, process
from condainer.system.errors import InputError, MountError, ToolError
from condainer.system.reporter import Reporter

FILE = "condainer.profile"
HEAD = """\
# Files that programs read from the image, by `cnd cache --record`; `cnd cache` reads these alone.
# Lines can be added and removed; what an image does not have is passed over.
"""
BLOCK = 1 << 20
# How many names a command line is given; the longest are of 4 096 bytes.
AT_ONCE = 400
# No profile of ours is as large, in bytes.
LARGEST = 1 << 24


@dataclass(frozen=True)
class Loaded:
    """What was read: how many files and bytes, how many were not there, and the seconds."""

    files: int
    size: int
    missing: int
    seconds: float


def in_memory(prefix: Path) -> list[str]:
    """Return the files below a mounted prefix that are at least partly in memory, sorted.

    These have been read since it was mounted, as long as memory is not scarce. Names that a profile
    cannot hold are left out. Raises ToolError without fincore of util-linux.
    """
    fincore = process.find_tool("fincore")
    if fincore is None:
        raise ToolError("fincore is not installed", "It belongs to util-linux, 2.30 or later.")
    read = []
    names = list(_regular_files(prefix))
    for first in range(0, len(names), AT_ONCE):
        part = names[first : first + AT_ONCE]
        said = process.run([fincore, "--json", "--output", "PAGES,FILE", "--", *part], cwd=prefix)
        rows = json.loads(said.stdout)["fincore"]
        read += [row["file"] for row in rows if int(row["pages"])]
    return sorted(read)


def record(image: Image, project: Path) -> tuple[Path, int]:
    """Write down which files of an image were read since it was mounted; return where and how many.

    Of an image that root has mounted for everybody, it is what everybody has read. Raises
    MountError when it is not mounted, or nothing was read, ToolError, StorageError.
    """
    if probe(image) not in (State.MOUNTED, State.PROVIDED):
        raise MountError(
            f"The image is not mounted at {image.prefix}",
            "Run `cnd mount`, then your program with `cnd exec`, then this again; in a job, "
            "`cnd exec -- sh -c 'COMMAND; cnd cache --record'`.",
        )
    names = in_memory(image.prefix)
    if not names:
        raise MountError(
            f"Nothing has been read of {image.prefix} since it was mounted",
            "Run your program with `cnd exec` first.",
        )
    path = project / FILE
    with files.writing(path):
        text = HEAD + "".join(f"{name}\n" for name in names)
        # A link may lead to a file that must not be replaced.
        files.publish_text(path, text, follow=False)
    return path, len(names)


def _regular_files(prefix: Path) -> Iterator[str]:
    """Yield the names of files, relative to the prefix, that a line of text can hold."""
    for root, _, names in os.walk(prefix):
        for name in names:
            path = os.path.join(root, name)
            below = os.path.relpath(path, prefix)
            said = below.isprintable() and not below.startswith("#") and below == below.strip()
            # Ours are read by every mount.
            ours = below.startswith(f"{OURS}/")
            if said and not ours and os.path.isfile(path) and not os.path.islink(path):
                yield below


def read(project: Path) -> list[str] | None:
    """Return the files that the profile of a project names, None if it has none.

    Raises InputError for a name that leads out of the image, and for what is no small file.
    """
    path = project / FILE
    try:
        text, _ = files.read_small(path, LARGEST)
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: not UTF-8 text", "Record it again with `cnd cache --record`."
        ) from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "Make it a file of its own.") from None
    names = []
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        if name and not name.startswith("#"):
            if os.path.isabs(name) or ".." in name.split("/") or not name.isprintable():
                raise InputError(
                    f"{path}:{number}: {name!r} is no path below the prefix",
                    "Write paths relative to the prefix, such as `bin/python`.",
                )
            names.append(name)
    return names


def load(prefix: Path, names: Sequence[str], reporter: Reporter) -> Loaded:
    """Read files of a mounted image once, so that the operating system keeps them in memory."""
    start = time.monotonic()
    reporter.step("Reading the files of the profile", "percent")
    done = size = 0
    for number, name in enumerate(names):
        # What a link leads to has a line of its own.
        with suppress(OSError), files.open_regular(prefix / name, follow=False) as stream:
            while block := stream.read(BLOCK):
                size += len(block)
            done += 1
        reporter.progress(100 * number // len(names), 100)
    reporter.finish()
    return Loaded(done, size, len(names) - done, time.monotonic() - start)
