"""The keeper of a mount that `startup.mount` makes, which tells it less than mount_work does."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from condainer.mount import guard, keeper, mount_locks
from condainer.mount.backends import State
from condainer.mount.mount_work import Image, Options, Work, duty_of, probe
from condainer.system.reporter import Silent


def main(given: Sequence[str]) -> None:
    """Look after a mount that the process makes that started us.

    Parameters: the fields of the image and of the options, the beginning of the paths of the lock
    files, the lease, and the descriptors of the keeper's lock and of the directory below the mount.
    """
    prefix, address, path, way, linger, tools, copies, stem, lease, held, below = given
    image = Image(Path(path), address, Path(prefix))
    options = Options(way, float(linger), Path(tools) if tools else None, Path(copies))
    locks = mount_locks.locks_at(stem)
    duty = duty_of(Work(image, options, locks, Silent()))
    # Until it is mounted, or could not be.
    os.close(mount_locks.wait_for(locks.mount, exclusive=False))
    if probe(image) is State.MOUNTED:
        guard.put(int(below), image.prefix)
    os.close(int(below))
    keeper.Keeper(replace(duty, lease=lease, held=int(held))).keep()


if __name__ == "__main__":
    main(sys.argv[1:])
