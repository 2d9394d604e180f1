"""A channel of archives on disk, for engines that mix packages by URL with no others."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from condainer.inputs.inputs import Inputs
from condainer.packages.conda_packages import read_record

if TYPE_CHECKING:
    from rattler import RepoDataRecord

ARCHIVE = re.compile(r"file://\S+\.(conda|tar\.bz2)")
NAME = "packages-by-url"


def archives_named(inputs: Inputs) -> list[Path | None]:
    """Return, spec by spec, the archive that it names by its URL, or None."""
    return [
        Path(unquote(urlsplit(spec.text).path)) if ARCHIVE.fullmatch(spec.text) else None
        for spec in inputs.specs
    ]


def make_channel(archives: Sequence[Path], place: Path) -> tuple[str, list[str]]:
    """Make a channel that has these archives only; return its URL, and an exact spec for each.

    Raises IntegrityError for an archive that cannot be read.
    """
    from rattler.index import index_fs

    channel = place / NAME
    records = asyncio.run(_records(archives))
    for archive, record in zip(archives, records, strict=True):
        directory = channel / str(record.subdir)
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(archive, directory / archive.name)
    (channel / "noarch").mkdir(exist_ok=True)
    asyncio.run(index_fs(channel, write_zst=False, write_shards=False))
    url = channel.as_uri()
    return url, [f"{url}::{r.name.normalized} =={r.version} {r.build}" for r in records]


async def _records(archives: Sequence[Path]) -> list[RepoDataRecord]:
    return list(await asyncio.gather(*(read_record(archive) for archive in archives)))
