"""What tests of mounts share: a place, an image in it, and accounts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import condainer
from condainer.mount import backends
from condainer.mount.mounts import Image
from condainer.system import mount_table
from tests.helpers.accounts import accounts as accounts_for
from tests.helpers.mounting import ADDRESS, Account, account, daemons, keepers, make_image
from tests.helpers.needed import needs, needs_program, needs_root

NEEDED = ("mksquashfs", "squashfuse_ll", "fusermount3")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory like /tmp that every account can use, with our code and an image in it."""
    for tool in NEEDED:
        needs_program(tool)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        needs("/dev/fuse")
    place = Path(tempfile.mkdtemp(prefix="condainer-test-", dir="/tmp"))
    place.chmod(0o1777)
    package = Path(condainer.__file__).parent
    shutil.copytree(package, place / "code/condainer")
    make_image(place / "image.squashfs", ADDRESS)
    # What is root's own, root would let the kernel mount.
    os.chown(place / "image.squashfs", 65534, 65534)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def image(place: Path) -> Iterator[Image]:
    """An image whose mount point is in a fresh directory that all can write."""
    base = Path(tempfile.mkdtemp(prefix="base ", dir=place))
    base.chmod(0o1777)
    image = Image(place / "image.squashfs", ADDRESS, base / f"condainer-{ADDRESS}")
    yield image
    for pid in (*keepers(image), *daemons(image)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while mount_table.mounted_at(image.prefix):
        backends.stop(image.prefix, None, lazy=True)


@pytest.fixture(scope="module")
def accounts(place: Path) -> Iterator[list[Account]]:
    """Two ordinary users of this node."""
    needs_root("to make test accounts")
    needs_program("useradd")
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        needs("/dev/fuse that everybody can use")
    with accounts_for(place, 2) as made:
        yield [account(user.name, place) for user in made]
