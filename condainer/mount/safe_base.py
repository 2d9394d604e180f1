"""Whether a directory is a safe place for mount points."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from condainer.system import files, ownership
from condainer.system.errors import MountError

REMEDY = "Name another directory for mount points: `mount_base_directory`, CONDAINER_MOUNT_BASE."


def check_base(base: Path) -> None:
    """Refuse a place where others could replace our mount point by another directory.

    Makes the directory if it is missing. Raises MountError, StorageError.
    """
    if not base.exists():
        with files.storage_errors(f"create {base}", REMEDY):
            files.make_directory(base, 0o755)
    real = Path(os.path.realpath(base))
    for directory in (real, *real.parents):
        status = directory.stat()
        loose = status.st_mode & ownership.WRITABLE and not status.st_mode & stat.S_ISVTX
        if loose or not ownership.is_above(status.st_uid):
            raise MountError(
                f"{base} is no safe place for mount points: others can replace what is in "
                f"{directory}",
                "Choose a `mount_base_directory` that only you or root can change, or that is "
                "sticky as /tmp is.",
            )
