"""What conda archives would put into a prefix, read without unpacking them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from condainer.packages.conda_packages import read_record
from condainer.startup.frozen import dataclass

if TYPE_CHECKING:
    from rattler import PathsJson, RepoDataRecord
    from rattler.package.paths_json import PathsEntry

# With a longer one, or one with a blank, the first lines of scripts are written in ways that
# differ: 127 bytes are the limit for `#!<prefix>/bin/python3.11`.
LONGEST_PREFIX = 108


@dataclass(frozen=True)
class Content:
    """A package: the record that its archive holds, and its files as they are listed in it."""

    record: RepoDataRecord
    paths: PathsJson | None

    @property
    def name(self) -> str:
        """The package's name."""
        return str(self.record.name.normalized)

    @property
    def entries(self) -> list[PathsEntry]:
        """Its files and links; none where the archive has no list of today's form."""
        return list(self.paths.paths) if self.paths else []

    @property
    def is_noarch_python(self) -> bool:
        """Whether its modules go to where the python of the prefix looks for them."""
        kind = self.record.noarch
        return kind is not None and bool(kind.python)


def read_contents(archives: Sequence[Path]) -> list[Content]:
    """Read what archives hold; raises IntegrityError for one that cannot be read."""

    async def records() -> list[RepoDataRecord]:
        return list(await asyncio.gather(*(read_record(archive) for archive in archives)))

    found = asyncio.run(records())
    return [Content(record, _paths(path)) for record, path in zip(found, archives, strict=True)]


def _paths(archive: Path) -> PathsJson | None:
    from rattler import PathsJson

    try:
        return PathsJson.from_package_archive(archive)
    except Exception:
        # Archives of long ago have other lists; to link them is left to who knows them.
        return None


def library(contents: Sequence[Content]) -> str:
    """Return where the python among packages has its modules, relative to the prefix."""
    for content in contents:
        if content.name == "python":
            said = content.record.python_site_packages_path
            minor = ".".join(str(content.record.version).split(".")[:2])
            return said or f"lib/python{minor}/site-packages"
    return ""


def place(entry: str, content: Content, site_packages: str) -> str:
    """Return where a file of a package goes, relative to the prefix."""
    if content.is_noarch_python:
        for begin, target in (("site-packages/", f"{site_packages}/"), ("python-scripts/", "bin/")):
            if entry.startswith(begin):
                return target + entry.removeprefix(begin)
    return entry


def doubts(contents: Sequence[Content], prefix: Path) -> Iterator[str]:
    """Tell why a prefix of these packages would depend on the engine that links them."""
    if len(str(prefix)) > LONGEST_PREFIX or " " in str(prefix):
        yield f"scripts in {prefix} are written in ways that differ"
    site = library(contents)
    owners: Counter[str] = Counter()
    for content in contents:
        if content.paths is None or any(entry.sha256 is None for entry in content.entries):
            yield f"the archive of {content.name} has an old format"
        elif any(entry.no_link or entry.path_type.directory for entry in content.entries):
            yield f"{content.name} has directories, or files that must not be linked"
        if content.is_noarch_python and not site:
            yield f"{content.name} needs a python, and there is none"
        owners.update({place(str(e.relative_path), content, site) for e in content.entries})
    shared = sorted(path for path, number in owners.items() if number > 1)
    if shared:
        more = f" and {len(shared) - 1} more files" if len(shared) > 1 else ""
        yield f"several packages have {shared[0]}{more}"
