"""Give a lockfile the hash that conda-lock computes: `conda_lock_hash.py LOCKFILE ARGUMENT...`.

Runs under the interpreter that has conda-lock. Its solver needs conda or mamba, which cannot be had
from a package registry; so its own command is begun, and ended where it has computed the hash.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import conda_lock.conda_lock as command


def main(lockfile: Path, arguments: list[str]) -> None:
    """Run `conda-lock ARGUMENT...` until it compares hashes, and write what it wants to see."""
    compatible = command.backwards_compatible_content_hashes

    def note(*values: Any) -> None:
        lines = lockfile.read_text().splitlines()
        wanted = sorted(compatible(*values))[0]
        lines[lines.index("  content_hash:") + 1] = f"    {values[2]}: {wanted}"
        lockfile.write_text("\n".join(lines) + "\n")
        sys.exit()

    command.backwards_compatible_content_hashes = note
    sys.argv = ["conda-lock", *arguments]
    command.main()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
