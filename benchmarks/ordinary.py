"""An ordinary user, in whose name root measures what users get."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

NAME = "nobody"


def words() -> tuple[str, ...]:
    """Return what root writes before a command that an ordinary user shall run; else nothing."""
    if os.geteuid() != 0:
        return ()
    user = pwd.getpwnam(NAME)
    return ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")


def own(path: Path) -> Path:
    """Make a directory that belongs to that user, and return it."""
    path.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        user = pwd.getpwnam(NAME)
        os.chown(path, user.pw_uid, user.pw_gid)
    return path
