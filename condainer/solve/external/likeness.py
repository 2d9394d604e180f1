"""Make what an external engine linked equal to what the embedded one would have.

Only then have images of one address the same bytes, whichever engine built them. Engines differ in
what they record in conda-meta, in the scripts that they write for entry points, and in what they
leave besides: byte code, logs and marks. The packages' own files are held to their sha256.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from condainer.solve.external.package_contents import Content, library, place
from condainer.system.errors import BuildError, IntegrityError
from condainer.system.files import remove_tree, sha256_of

if TYPE_CHECKING:
    from rattler.package.paths_json import PathsEntry

META = Path("conda-meta")
# The kernel's limit of old; what installers write instead of a longer first line differs.
LONGEST_SHEBANG = 127
ENTRY_POINT = """\
#!{prefix}/bin/{python}
# -*- coding: utf-8 -*-
import re
import sys

from {module} import {name}

if __name__ == '__main__':
\tsys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])
\tsys.exit({function}())
"""


class Differs(Exception):
    """A file of which the embedded engine would have made something else."""


@dataclass(frozen=True)
class Linked:
    """Where an engine linked to, and where it unpacked the archives for that.

    `directory` is where the files are, `prefix` where they believe to be.
    """

    directory: Path
    prefix: Path
    unpacked: Path


def establish(linked: Linked, contents: Sequence[Content]) -> None:
    """Check the files of packages, and write or remove everything else.

    Raises BuildError when a package or a file of it is missing, IntegrityError when a file is not
    the package's, Differs when what was linked cannot be made equal.
    """
    site = library(contents)
    wanted: set[str] = set()
    records = {}
    for content in contents:
        stem = _stem(content)
        if not (linked.directory / META / f"{stem}.json").is_file():
            raise BuildError(
                f"The engine did not install {content.name} where it was told to ({linked.prefix})",
                "`cnd prereq` shows the engine in force; without `conda_exe:` it is the embedded "
                "one.",
            )
        paths = sorted(
            [*_files(linked, content, site), *_entry_points(linked, content, site)],
            key=lambda path: PurePosixPath(path["_path"]).parts,
        )
        names = [path["_path"] for path in paths]
        wanted.update(names)
        records[str(META / f"{stem}.json")] = _record(content, paths, names)
    _remove_others(linked.directory, wanted)
    (linked.directory / META).mkdir(exist_ok=True)
    for name, record in records.items():
        (linked.directory / name).write_text(json.dumps(record), "utf-8")


def _stem(content: Content) -> str:
    name = str(content.record.file_name)
    return name.removesuffix(".conda").removesuffix(".tar.bz2")


def _files(linked: Linked, content: Content, site: str) -> Iterator[dict[str, Any]]:
    for entry in content.entries:
        name = place(str(entry.relative_path), content, site)
        path = linked.directory / name
        if entry.path_type.softlink:
            yield _link(linked.unpacked / _stem(content), path, name, entry)
        elif path.is_symlink() or not path.is_file():
            raise BuildError(f"The engine did not install {name} of {content.name}")
        else:
            yield _file(linked, name, entry, content)


def _link(unpacked: Path, path: Path, name: str, entry: PathsEntry) -> dict[str, Any]:
    """Describe a link; one out of the prefix, of which engines make a copy, becomes one again."""
    source = unpacked / entry.relative_path
    if path.is_file() and not path.is_symlink() and source.is_symlink():
        path.unlink()
        path.symlink_to(os.readlink(source))
    if not path.is_symlink():
        raise BuildError(f"The engine did not install the link {name}")
    target = hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
    return {
        "_path": name,
        "path_type": "softlink",
        **_of_package(entry),
        "sha256_in_prefix": target,
    }


def _file(linked: Linked, name: str, entry: PathsEntry, content: Content) -> dict[str, Any]:
    path = linked.directory / name
    found = sha256_of(path)
    described = {"_path": name, "path_type": "hardlink", **_of_package(entry)}
    placeholder = entry.prefix_placeholder
    if placeholder is not None:
        source = linked.unpacked / _stem(content) / entry.relative_path
        if placeholder.file_mode.text and _is_long(source, placeholder.placeholder, linked.prefix):
            raise Differs(f"the first line of {name} is too long for the kernel")
        return {
            **described,
            "sha256_in_prefix": found,
            "size_in_bytes": path.stat().st_size,
            "file_mode": placeholder.file_mode.mode,
            "prefix_placeholder": placeholder.placeholder,
        }
    if described["sha256"] != found:
        raise IntegrityError(
            f"The engine wrote another {name} than {content.name} has",
            "The disk was full, or failed, for a moment, or the engine is not what it seems: build "
            "again, or remove `conda_exe:` from the configuration.",
        )
    return described


def _is_long(source: Path, placeholder: str, prefix: Path) -> bool:
    """Tell whether a script's first line is too long once it names the prefix."""
    with source.open("rb") as stream:
        first = stream.readline().rstrip(b"\n")
    named = first.replace(placeholder.encode(), os.fsencode(prefix))
    return first.startswith(b"#!") and named != first and len(named) > LONGEST_SHEBANG


def _of_package(entry: PathsEntry) -> dict[str, Any]:
    assert entry.sha256 is not None
    # A size of nothing is not told from no size.
    return {"sha256": entry.sha256.hex(), "size_in_bytes": entry.size_in_bytes or 0}


def _entry_points(linked: Linked, content: Content, site: str) -> Iterator[dict[str, Any]]:
    """Write the scripts for the entry points of a package, as the embedded engine does."""
    if not content.is_noarch_python:
        return
    unpacked = linked.unpacked / _stem(content)
    if not unpacked.is_dir():
        raise BuildError(f"The engine did not unpack {content.name} where it was told to")
    try:
        told = json.loads((unpacked / "info" / "link.json").read_text("utf-8"))
    except FileNotFoundError:
        return
    python = PurePosixPath(site).parts[1]
    for definition in told.get("noarch", {}).get("entry_points") or ():
        command, _, target = str(definition).partition("=")
        module, _, function = target.strip().partition(":")
        name = f"bin/{command.strip()}"
        if PurePosixPath(name).parts[1:] != (command.strip(),) or command.strip() == "..":
            raise IntegrityError(f"{content.name} has an entry point outside of bin: {definition}")
        text = ENTRY_POINT.format(
            prefix=linked.prefix,
            python=python,
            module=module.strip(),
            name=function.strip().partition(".")[0],
            function=function.strip(),
        )
        path = linked.directory / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text, "utf-8")
        path.chmod(0o755)
        digest = hashlib.sha256(text.encode()).hexdigest()
        yield {
            "_path": name,
            "path_type": "unix_python_entry_point",
            "sha256": digest,
            "size_in_bytes": path.stat().st_size,
        }


def _record(
    content: Content, paths: Sequence[dict[str, Any]], names: Sequence[str]
) -> dict[str, Any]:
    """Return what conda-meta says of a package."""
    record: dict[str, Any] = json.loads(content.record.to_json())
    return {
        **record,
        "fn": str(content.record.file_name),
        "url": str(content.record.url),
        "files": list(names),
        "paths_data": {"paths_version": 1, "paths": list(paths)},
    }


def _remove_others(directory: Path, wanted: set[str]) -> None:
    """Remove all files that are in no package, and the directories that are empty then."""
    for root, folders, names in os.walk(directory, topdown=False):
        for name in [*names, *folders]:
            path = Path(root, name)
            if str(path.relative_to(directory)) in wanted:
                continue
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            elif not any(path.iterdir()):
                remove_tree(path)
