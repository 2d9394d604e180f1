"""What the figures were measured on and with."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.place import Place

# Tool: the arguments that make it tell its version.
TOOLS = {
    "mksquashfs": ["-version"],
    "squashfuse_ll": ["--help"],
    "nix-build": ["--version"],
    "make": ["--version"],
}
VERSION = re.compile(r"\d+\.\d+[\w.]*")


def machine() -> tuple[tuple[str, str], ...]:
    """Return what distinguishes this machine, without its name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (
        ("processor", _processor()),
        ("processors", str(len(os.sched_getaffinity(0)))),
        ("memory", f"{memory / 1e9:.0f} GB"),
        ("kernel", platform.release()),
        ("system", platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")),
        ("load before the run", f"{os.getloadavg()[0]:.2f}"),
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def versions(place: Place) -> tuple[tuple[str, str], ...]:
    """Return the versions of cnd, of what it uses, and of its contenders."""
    found = [("commit", _commit()), ("python", platform.python_version())]
    listed = subprocess.run(
        [place.venv / "bin" / "uv", "pip", "list", "--python", place.python],
        capture_output=True,
        text=True,
        env=place.environment,
    ).stdout
    for line in listed.splitlines():
        name, _, version = line.partition(" ")
        if name in ("condainer", "py-rattler", "uv", "conda-lock"):
            found.append((name, version.strip()))
    for tool, arguments in TOOLS.items():
        if path := shutil.which(tool):
            done = subprocess.run([path, *arguments], capture_output=True, text=True)
            match = VERSION.search(done.stdout + done.stderr)
            found.append((tool, match[0] if match else "?"))
        else:
            found.append((tool, "not installed"))
    return tuple(found)


def _commit() -> str:
    argv = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(argv, cwd=Path(__file__).parent, capture_output=True, text=True)
    return done.stdout.strip() or "not from a repository"
