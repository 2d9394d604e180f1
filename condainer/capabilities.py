"""What the system's tools can do: tried out where that is possible, or else read in the program."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from condainer.cache.squashfs import FIXED_TIME
from condainer.system import process
from condainer.system.errors import CondainerError
from condainer.system.process import CommandFailed

Abilities = tuple[tuple[str, bool], ...]

# Options by which mksquashfs is tried out.
MKSQUASHFS = {
    "zstd": ("-comp", "zstd"),
    "reproducible": ("-reproducible", "-mkfs-time", str(FIXED_TIME)),
    "multithreaded": ("-processors", "2"),
}
# What stands in a squashfuse that can do it: the option, and functions of libfuse and libzstd.
SQUASHFUSE = {
    "zstd": b"ZSTD_decompress",
    "timeout": b"timeout=%u",
    "multithreaded": b"fuse_session_loop_mt",
    "notify_pipe": b"notify_pipe=%s",
}


def of_mksquashfs(tool: str) -> Abilities:
    """Try out what mksquashfs can do, with an empty directory."""
    with tempfile.TemporaryDirectory(prefix="condainer-") as name:
        source = Path(name, "empty")
        source.mkdir()
        return tuple(
            (what, _works([tool, str(source), str(Path(name, what)), "-noappend", *options]))
            for what, options in MKSQUASHFS.items()
        )


def _works(command: list[str]) -> bool:
    try:
        process.run(command)
    except CondainerError:
        return False
    return True


def of_squashfuse(tool: str) -> Abilities:
    """Look what squashfuse was built with; only a mount would show it otherwise."""
    content = b"".join(_content(path) for path in (tool, *_libraries(tool)))
    return tuple((what, sign in content) for what, sign in SQUASHFUSE.items())


def _libraries(tool: str) -> list[str]:
    """Return the libraries of squashfuse itself that a program needs."""
    ldd = process.find_tool("ldd")
    if ldd is None:
        return []
    try:
        text = process.run([ldd, tool]).stdout
    except CondainerError:
        return []
    return re.findall(r"=> (\S*/libsquashfuse\S*)", text)


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def squashfuse_version(tool: str) -> str:
    """Return the version that squashfuse prints with its help, which it calls a failure."""
    try:
        done = process.run([tool, "--help"])
        text = done.stdout + done.stderr
    except CommandFailed as error:
        text = error.stderr
    except CondainerError:
        return ""
    match = re.search(r"squashfuse (\d[\w.]*)", text)
    return match[1] if match else ""


def version(tool: str) -> str:
    """Return the version that a tool prints when it is asked for that."""
    try:
        text = process.run([tool, "--version"]).stdout
    except CondainerError:
        return ""
    match = re.search(r"\d+(\.\d+)+", text)
    return match[0] if match else ""
