"""Names of platforms, as conda has them."""

from __future__ import annotations

import os


def this_platform() -> str:
    """Return the conda subdir of this machine, such as `linux-64`."""
    machine = os.uname().machine
    return {"x86_64": "linux-64"}.get(machine, f"linux-{machine}")
