"""The end of the daemon behind a mount, noticed at once."""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from pathlib import Path

from condainer.system import mount_table

# How often a kernel that cannot tell is asked, in seconds.
PAUSE = 0.2
# How often to look at a mount whose daemon is not found, because it has gone already.
UNSEEN = 0.2


def until_gone(prefix: Path, patience: float) -> bool:
    """Wait for the end of a daemon behind a mount; False if there was none to wait for.

    Parameters: `patience` is how long to wait for a mount, in seconds.
    """
    handles = []
    for pid in _daemons(prefix):
        with suppress(ProcessLookupError):
            try:
                handles.append(os.pidfd_open(pid))
            except OSError as error:
                if isinstance(error, ProcessLookupError):
                    raise
                _ask_until_gone(pid)
                return True
    if not handles:
        served = _is_served(prefix)
        mount_table.wait_for_change(min(patience, UNSEEN) if served else patience)
        return served
    try:
        poll = select.poll()
        for handle in handles:
            poll.register(handle, select.POLLIN)
        poll.poll()
    finally:
        for handle in handles:
            os.close(handle)
    return True


def _is_served(prefix: Path) -> bool:
    """Tell whether a daemon, and not the kernel, serves what is mounted."""
    top = mount_table.mounted_at(prefix)
    return top is not None and top.kind.startswith("fuse")


def _ask_until_gone(pid: int) -> None:
    # Before Linux 5.3.
    while os.path.exists(f"/proc/{pid}"):
        time.sleep(PAUSE)


def _daemons(prefix: Path) -> list[int]:
    """Return the processes of ours that serve a mount: squashfuse was told where to mount."""
    if not _is_served(prefix):
        return []
    found, place = [], os.fsencode(prefix)
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if not process.name.isdigit() or process.stat().st_uid != os.geteuid():
                continue
            words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            if b"squashfuse" in os.path.basename(words[0]) and words[-1] == place:
                found.append(int(process.name))
    return found
