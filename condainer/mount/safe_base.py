"""Whether a directory is a safe place for mount points."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from condainer.system import files
from condainer.system.errors import MountError


def check_base(base: Path) -> None:
    """Refuse a place where others could put another directory in place of our mount point.

    Makes the directory if it is missing. Raises MountError, StorageError.
    """
    if not base.exists():
        with files.storage_errors(f"create {base}"):
            files.make_directory(base, 0o755)
    real = Path(os.path.realpath(base))
    trusted = {0, os.geteuid()}
    known = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    if not any(line.split()[0] == "0" for line in known):
        # In a namespace that does not map root, root's directories show the overflow user.
        trusted.add(int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii")))
    for directory in (real, *real.parents):
        status = directory.stat()
        loose = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
        if loose or status.st_uid not in trusted:
            raise MountError(
                f"{base} is no safe place for mount points: others can replace what is in "
                f"{directory}",
                "Choose a `mount_base_directory` that only you or root can change, or that is "
                "sticky as /tmp is.",
            )
