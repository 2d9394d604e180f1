"""What the paths in conda packages may be: files of the environment, and nothing else.

The engine refuses hostile names, versions, builds, entry points and archive members by itself,
but takes the list of files as it is: a `..` in it would copy any file of the builder to any place,
and an absolute path ends the whole process.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from condainer.system.errors import IntegrityError


async def check(archives: Sequence[Path], scratch: Path) -> None:
    """Refuse archives with a file outside of the environment, before anything is linked.

    Parameters: `scratch` is a private directory, for archives so old that they have to be unpacked.
    Raises IntegrityError with the archive and the path.
    """
    found = await asyncio.gather(*(asyncio.to_thread(_paths, item) for item in archives))
    for archive, paths in zip(archives, found, strict=True):
        known = paths if paths is not None else await _unpacked(archive, scratch)
        bad = next((path for path in known if not is_inside(path)), None)
        if bad is not None:
            raise IntegrityError(
                f"{archive.name} would install a file outside of the environment: {bad!r}",
                "Do not use it, and tell the maintainers of the channel that it came from.",
            )


def is_inside(path: str) -> bool:
    """Tell whether a path of a package stays below the directory that it is relative to."""
    return (
        bool(path) and not path.startswith("/") and "\0" not in path and ".." not in path.split("/")
    )


def _paths(archive: Path) -> Iterable[str] | None:
    """Return the paths that an archive installs, or None if it has no list of them."""
    from rattler import PathsJson

    try:
        return [str(entry.relative_path) for entry in PathsJson.from_package_archive(archive).paths]
    except Exception:
        return None


async def _unpacked(archive: Path, scratch: Path) -> Iterable[str]:
    from rattler import PathsJson
    from rattler.package_streaming import extract

    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        try:
            extract(archive, Path(directory))
            found = PathsJson.from_package_directory_with_deprecated_fallback(Path(directory))
            return [str(entry.relative_path) for entry in found.paths]
        except Exception as error:
            raise IntegrityError(
                f"{archive} is not a readable conda package: {error}",
                "Its sha256 is the lock's: choose another build of it in the environment file.",
            ) from None
