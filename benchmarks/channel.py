"""The local channel of the tests, with what larger environments need besides."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.pins import DEEP, PIP, WHEELS
from tests.channel import ensure_channel
from tests.channel.build import NAME, SUBDIRS
from tests.channel.wheels import write_wheel

DONE = "benchmarks.json"


def ensure_large_channel(root: Path, base: Path) -> Path:
    """Return a channel with the wheels of `pins`, made once.

    Parameters: `root` is where it is kept, `base` where the tests keep theirs. What cannot be
    downloaded of the optional wheels is left out.
    """
    channel = root / NAME
    key = f"{sorted(WHEELS.items())}{sorted(DEEP.items())}\n"
    if (channel / DONE).is_file() and (channel / DONE).read_text() == key:
        return channel
    shutil.rmtree(channel, ignore_errors=True)
    for subdir in SUBDIRS:
        shutil.copytree(ensure_channel(base) / subdir, channel / subdir, copy_function=os.link)
    wheels = root / "wheels"
    _download(WHEELS, wheels)
    try:
        _download(DEEP, wheels)
    except RuntimeError as error:
        print(f"without PyTorch: {error}", file=sys.stderr)
    for number, wheel in enumerate(sorted(wheels.glob("*.whl"))):
        work = root / "stages" / str(number)
        work.mkdir(parents=True)
        write_wheel(wheel, work, channel)
        shutil.rmtree(work)
    index(channel)
    (channel / DONE).write_text(key)
    return channel


def ensure_wheels(directory: Path) -> Path:
    """Return a directory with the wheels of the pip requirements: an index without a network."""
    if not directory.is_dir():
        _download(PIP, directory)
    return directory


def _download(pins: Mapping[str, str], directory: Path) -> None:
    wanted = [f"{name}=={version}" for name, version in pins.items()]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--only-binary", ":all:", "--no-deps", "--dest", str(directory)]
    done = subprocess.run([*pip, *options, *wanted], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pip could not download {wanted}:\n{done.stderr.strip()[-500:]}")


def index(channel: Path) -> None:
    """Write the index of a channel again."""
    # Imported here, for it is slow and a finished channel does not need it.
    from rattler.index import index_fs

    for subdir in SUBDIRS:
        # Hard links to the tests' own must not be written through.
        for old in (channel / subdir).glob("repodata.json*"):
            old.unlink()
    asyncio.run(index_fs(channel, write_zst=False, write_shards=False))
