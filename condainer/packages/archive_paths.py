"""What the paths in conda packages may be: files of the environment, and nothing else.

The engine refuses hostile names, versions, builds, entry points and archive members by itself,
but takes the list of files as it is: a `..` in it would copy any file of the builder to any place,
and an absolute path ends the whole process.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from condainer.system.errors import IntegrityError
from condainer.system.text import reason

if TYPE_CHECKING:
    from rattler import PathsJson


async def check(archives: Sequence[Path], scratch: Path) -> None:
    """Refuse archives with a file outside of the environment, before anything is linked.

    Parameters: `scratch` is a private directory, for archives so old that they have to be unpacked.
    Raises IntegrityError with the archive and the path.
    """
    outside = await asyncio.gather(*(asyncio.to_thread(_outside, item) for item in archives))
    for archive, listed in zip(archives, outside, strict=True):
        bad = await _unpacked(archive, scratch) if listed is None else listed
        if bad:
            raise IntegrityError(
                f"{archive.name} would install a file outside of the environment: {bad[0]!r}",
                "Do not use it, and tell the maintainers of the channel that it came from.",
            )


def is_inside(path: str) -> bool:
    """Tell whether a path of a package stays below the directory that it is relative to."""
    return (
        bool(path) and not path.startswith("/") and "\0" not in path and ".." not in path.split("/")
    )


def _outside(archive: Path) -> list[str] | None:
    """Return what an archive would install outside, or None if it has no list of its files."""
    from rattler import PathsJson

    try:
        return _bad(PathsJson.from_package_archive(archive))
    except Exception:
        return None


def _bad(listed: PathsJson) -> list[str]:
    paths = (str(entry.relative_path) for entry in listed.paths)
    return [path for path in paths if not is_inside(path)]


async def _unpacked(archive: Path, scratch: Path) -> list[str]:
    from rattler import PathsJson
    from rattler.package_streaming import extract

    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        try:
            extract(archive, Path(directory))
            return _bad(PathsJson.from_package_directory_with_deprecated_fallback(Path(directory)))
        except Exception as error:
            raise IntegrityError(
                f"{archive} is not a readable conda package: {reason(error)}",
                "Its sha256 is the lock's: choose another build of it in the environment file.",
            ) from None
