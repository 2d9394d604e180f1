"""squashfs-tools and squashfuse without root: from the channel, into the user's own directory.

`tools/<digest>/` holds one set of packages, with the lock that it was made from; the link
`tools/current` says which is in use, and its `programs/` is where tools are looked for.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer.inputs.conda_specs import Spec
from condainer.inputs.environment_yml import DEFAULT_CHANNEL
from condainer.inputs.inputs import Inputs
from condainer.lock.address import address_of
from condainer.lock.explicit import checked, render_explicit
from condainer.lock.locks import Lock
from condainer.network import client_settings
from condainer.packages import conda_packages
from condainer.settings.config import Settings
from condainer.solve import conda_solver
from condainer.startup import tool_paths
from condainer.system import namespace, process
from condainer.system.errors import CondainerError, ToolError
from condainer.system.files import make_directory, publish_link, remove_tree, storage_errors
from condainer.system.machine import this_platform
from condainer.system.private_directory import claimed_directory, reclaim
from condainer.system.reporter import Reporter

WANTED = ("squashfs-tools", "squashfuse")
# Only these: other programs that come with them must not take the place of the system's.
PROGRAMS = ("mksquashfs", "unsquashfs", "squashfuse", "squashfuse_ll")
DRAFT = "tools"
LOCK = "explicit.lock"
CURRENT = "current"
MODE = 0o755


@dataclass(frozen=True)
class Provisioned:
    """Where the tools stand, what they consist of, and whether they were installed now."""

    directory: Path
    lock: Lock
    new: bool

    def report(self) -> dict[str, Any]:
        """Return what `cnd prereq --install --json` prints of it."""
        return {
            "directory": str(self.directory),
            "packages": [package.filename for package in self.lock.conda],
            "new": self.new,
        }


def plan() -> str:
    """Return what install() would do."""
    return f"install {' and '.join(WANTED)} from {DEFAULT_CHANNEL} into {tool_paths.root()}"


def install(settings: Settings, reporter: Reporter) -> Provisioned:
    """Install the tools in the newest versions, or find that they are there, and use them from now.

    Raises what solving, downloading and linking raise, ToolError if they do not run here.
    """
    client_settings.prepare(settings, reporter)
    lock = _locked(settings, reporter)
    root = Path(tool_paths.root())
    directory = root / address_of(lock, root).digest
    new = not (directory / LOCK).is_file()
    with storage_errors(f"install tools in {root}"):
        make_directory(root, MODE)
        reclaim(root)
        with claimed_directory(root, DRAFT) as scratch:
            if new:
                draft = scratch / directory.name
                _fill(draft, directory, scratch, lock, settings, reporter)
                remove_tree(directory)
                os.rename(draft, directory)
            publish_link(root / CURRENT, directory.name)
        _remove_others(directory)
    reporter.finish()
    return Provisioned(directory, lock, new)


def _locked(settings: Settings, reporter: Reporter) -> Lock:
    inputs = Inputs(
        name="tools",
        platform=this_platform(),
        platforms=(this_platform(),),
        channels=(DEFAULT_CHANNEL,),
        specs=tuple(Spec(name, "cnd prereq --install") for name in WANTED),
    )
    solved = conda_solver.solve(inputs, settings, reporter)
    lock = Lock(inputs.platform, tuple(item.package for item in solved), name=inputs.name)
    return checked(lock, "the solution")


def _fill(
    draft: Path,
    directory: Path,
    scratch: Path,
    lock: Lock,
    settings: Settings,
    reporter: Reporter,
) -> None:
    """Link the packages into `draft` for use in `directory`, and try them out."""
    archives = conda_packages.fetch(lock.conda, settings, reporter)
    conda_packages.link(archives, draft, directory, scratch, settings, reporter)
    programs = draft / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        if (draft / "bin" / name).exists():
            (programs / name).symlink_to(f"../bin/{name}")
    draft.chmod(MODE)
    programs.chmod(MODE)
    _try_out(draft, directory)
    # Last: what has it is whole.
    (draft / LOCK).write_text(render_explicit(lock), encoding="utf-8")


def _try_out(draft: Path, directory: Path) -> None:
    empty = draft.parent / "empty"
    empty.mkdir()
    image = draft.parent / "empty.squashfs"
    # Its libraries may be looked for where it will stand.
    runner = namespace.command(draft, directory) if namespace.available() else ()
    program = (directory if runner else draft) / "programs" / "mksquashfs"
    try:
        process.run([*runner, str(program), str(empty), str(image), "-noappend"])
    except CondainerError as error:
        raise ToolError(
            f"The mksquashfs of the channel does not run on this machine: {error.message}",
            "Ask the administrator for squashfs-tools and squashfuse.",
        ) from None


def _remove_others(directory: Path) -> None:
    """Remove earlier versions; what runs of them keeps its files open."""
    for other in directory.parent.iterdir():
        if re.fullmatch("[0-9a-f]{32}", other.name) and other != directory:
            remove_tree(other)
