"""A channel of archives on disk, for engines that mix packages by URL with no others."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from condainer.inputs.environment_yml import Inputs
from condainer.solve.external.package_contents import Content, read_contents

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
    contents = read_contents(archives)
    for archive, content in zip(archives, contents, strict=True):
        directory = channel / str(content.record.subdir)
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(archive, directory / archive.name)
    (channel / "noarch").mkdir(exist_ok=True)
    asyncio.run(index_fs(channel, write_zst=False, write_shards=False))
    url = channel.as_uri()
    return url, [f"{url}::{_exact(content)}" for content in contents]


def _exact(content: Content) -> str:
    return f"{content.name} =={content.record.version} {content.record.build}"
