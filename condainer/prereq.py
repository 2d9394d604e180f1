"""The tools and devices that Condainer needs, and what each can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from condainer import capabilities
from condainer.cache import signing, squashfs
from condainer.pypi import wheels
from condainer.settings.config import Settings
from condainer.solve import engines
from condainer.startup import tool_paths
from condainer.system import namespace, process
from condainer.system.errors import CondainerError, ToolError

DEVICE = "/dev/fuse"
# What brings the system's packages.
PACKAGES = (
    "`apt install squashfs-tools squashfuse fuse3`, or "
    "`dnf install squashfs-tools squashfuse fuse3` (EPEL); without root, "
    "`cnd prereq --install` brings all but fusermount3."
)
# Without one of these an image is unpacked; without fusermount3, it is mounted in a namespace.
MOUNTING = ("squashfuse_ll", DEVICE)

# What a tool is called that cannot do something.
WITHOUT = {"multithreaded": "single-threaded", "reproducible": "not reproducible"}


@dataclass(frozen=True)
class Check:
    """A tool or device: where it is, its version and abilities, or the problem and its remedy."""

    name: str
    found: str
    problem: str = ""
    required: bool = True
    version: str = ""
    can: tuple[tuple[str, bool], ...] = ()
    remedy: str = ""

    @property
    def mark(self) -> str:
        """In one word: `ok`, `missing`, or `no` for what one can do without."""
        return "ok" if not self.problem else "missing" if self.required else "no"

    def line(self) -> str:
        """Return the line that `cnd prereq` prints."""
        version = f" ({self.version})" if self.version else ""
        abilities = ", ".join(
            what if able else WITHOUT.get(what, f"no {what}") for what, able in self.can
        )
        more = f"{version}: {abilities}" if abilities else version
        return f"{self.name:18} {self.mark:8} {self.problem or self.found + more}"

    def report(self) -> dict[str, object]:
        """Return what `cnd prereq --json` prints of it."""
        return {
            "ok": not self.problem,
            "found": self.found or None,
            "version": self.version or None,
            "can": dict(self.can),
            "problem": self.problem or None,
            "hint": self.remedy or None,
            "required": self.required,
        }


def check(settings: Settings) -> list[Check]:
    """Return the state of everything that building, mounting and running need."""
    mounting = [_squashfuse(settings), _fusermount(settings), _fuse_device()]
    return [
        _mksquashfs(settings),
        # In whose place images are unpacked.
        _tool("unsquashfs", settings, "squashfs-tools", required=bool(instead(mounting))),
        *mounting,
        _asked("engine", partial(engines.in_force, settings)),
        _uv(),
        _tool("bash", settings, "bash", required=False, remedy=""),
        _ssh_keygen(),
        _namespaces(),
    ]


def demand(checks: Sequence[Check]) -> None:
    """Raise ToolError if something that is required is not there."""
    missing = [check for check in checks if check.problem and check.required]
    if missing:
        names = ", ".join(check.name for check in missing)
        raise ToolError(f"Missing: {names}", _remedies(missing))


def instead(checks: Sequence[Check]) -> str:
    """Return what happens without what mounting needs, and the remedy; empty if it is there."""
    missing = [check for check in checks if check.problem and check.name in MOUNTING]
    if not missing:
        return ""
    names = " and ".join(check.name for check in missing)
    return (
        f"Without {names}, an image is not mounted, but unpacked once per machine "
        f"(`mount: unpack`). To mount it: {_remedies(missing)}"
    )


def _remedies(missing: Sequence[Check]) -> str:
    return " ".join(dict.fromkeys(check.remedy for check in missing if check.remedy))


def _tool(
    name: str, settings: Settings, package: str, required: bool = True, remedy: str = PACKAGES
) -> Check:
    path = process.find_tool(name, settings.tool_directory)
    if path is not None:
        return Check(name, path, required=required)
    return Check(name, "", f"not found (package {package})", required, remedy=remedy)


def _mksquashfs(settings: Settings) -> Check:
    try:
        path, version = squashfs.find_mksquashfs(settings)
    except CondainerError as error:
        return Check("mksquashfs", "", error.message, remedy=PACKAGES)
    return Check("mksquashfs", path, version=version, can=capabilities.of_mksquashfs(path))


def _either(names: Sequence[str], settings: Settings, package: str) -> Check:
    """Return the first of several tools that is there, or what is missing without the first."""
    tools = [_tool(name, settings, package, required=False) for name in names]
    return next((tool for tool in tools if not tool.problem), tools[0])


def _squashfuse(settings: Settings) -> Check:
    tool = _either(("squashfuse_ll", "squashfuse"), settings, "squashfuse")
    if tool.problem:
        return tool
    version = capabilities.squashfuse_version(tool.found)
    return replace(tool, version=version, can=capabilities.of_squashfuse(tool.found))


def _fusermount(settings: Settings) -> Check:
    tool = _either(("fusermount3", "fusermount"), settings, "fuse3")
    if tool.problem:
        return tool
    can = (("setuid", tool_paths.is_setuid(tool.found)),)
    return replace(tool, version=capabilities.version(tool.found), can=can)


def _fuse_device() -> Check:
    try:
        os.close(os.open(DEVICE, os.O_RDWR))
    except OSError as error:
        problem = f"{os.strerror(error.errno or 0)} (`modprobe fuse`, mode 0666)"
        remedy = (
            f"Ask the administrator for `modprobe fuse` and {DEVICE} with mode 0666; a "
            f"container needs `--device {DEVICE}`."
        )
        return Check(DEVICE, "", problem, required=False, remedy=remedy)
    return Check(DEVICE, "can be opened")


def _asked(name: str, ask: Callable[[], str]) -> Check:
    """Return what is told of a part of Condainer, or why it cannot be used."""
    try:
        return Check(name, ask())
    except CondainerError as error:
        return Check(name, "", error.message, remedy=error.hint)


def _uv() -> Check:
    tool = _asked("uv", wheels.find_uv)
    return tool if tool.problem else replace(tool, version=capabilities.version(tool.found))


def _ssh_keygen() -> Check:
    tool = replace(_asked("ssh-keygen", signing.tool), required=False)
    problem = f"{tool.problem}: images cannot be signed" if tool.problem else ""
    return replace(tool, problem=problem)


def _namespaces() -> Check:
    available = namespace.available()
    problem = "" if available else "not available: environments are staged at their mount point"
    return Check("user namespaces", "available" if available else "", problem, required=False)
