"""Writing one conda package, .conda or .tar.bz2, from a tree of files."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard

# As long as conda-build's own: any real prefix is shorter, so binaries can be patched in place.
PLACEHOLDER = ("/opt/channel_build/_h_env" + "_placehold" * 30)[:255]

# 2024-01-01: one fixed time makes two builds equal, and zip tools refuse times before 1980.
BUILD_TIME = 1_704_067_200

ZSTD_LEVEL = 2


@dataclass(frozen=True)
class Recipe:
    """What a package says about itself.

    Args:
        name: the conda name.
        version: the version.
        build: the build string.
        depends: match specs of what it needs.
        subdir: `linux-64` or `noarch`.
        noarch: `python` or `generic` when the subdir is `noarch`.
        entry_points: console scripts the installer makes, for `noarch: python` only.
        license: the licence, where known.
    """

    name: str
    version: str
    build: str = "0"
    depends: tuple[str, ...] = ()
    subdir: str = "noarch"
    noarch: str | None = "generic"
    entry_points: tuple[str, ...] = ()
    license: str = ""

    @property
    def stem(self) -> str:
        """The file name without its extension."""
        return f"{self.name}-{self.version}-{self.build}"


def write_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file of a package's tree with a mode that does not depend on the umask.

    Args:
        path: the file; directories that lead to it are made.
        text: its content.
        mode: its permissions.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def write_conda(tree: Path, recipe: Recipe, channel: Path) -> Path:
    """Write the tree as a .conda archive into the channel.

    Args:
        tree: the directory that holds the package's files as they lie in a prefix.
        recipe: what the package says about itself.
        channel: the channel's directory.
    """
    archive = _place(channel, recipe, ".conda")
    parts = {
        "metadata.json": json.dumps({"conda_pkg_format_version": 2}).encode(),
        f"pkg-{recipe.stem}.tar.zst": _zstd_tar(tree),
        f"info-{recipe.stem}.tar.zst": _zstd_tar(None, _info_files(tree, recipe)),
    }
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as container:
        for name, content in parts.items():
            container.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), content)
    return archive


def write_tar_bz2(tree: Path, recipe: Recipe, channel: Path) -> Path:
    """Write the tree as an archive in the old .tar.bz2 format into the channel.

    Args:
        tree: the directory that holds the package's files as they lie in a prefix.
        recipe: what the package says about itself.
        channel: the channel's directory.
    """
    archive = _place(channel, recipe, ".tar.bz2")
    with bz2.open(archive, "wb", compresslevel=1) as stream:
        _write_tar(stream, tree, _info_files(tree, recipe))
    return archive


def _place(channel: Path, recipe: Recipe, extension: str) -> Path:
    directory = channel / recipe.subdir
    directory.mkdir(parents=True, exist_ok=True)
    return directory / (recipe.stem + extension)


def _members(tree: Path) -> Iterator[tuple[str, Path]]:
    """All files, links and empty directories below the tree, in a fixed order."""
    for folder, subfolders, files in os.walk(tree):
        subfolders.sort()
        here = Path(folder)
        links = [name for name in subfolders if (here / name).is_symlink()]
        for name in sorted(files + links):
            yield (here / name).relative_to(tree).as_posix(), here / name
        if here != tree and not subfolders and not files:
            yield here.relative_to(tree).as_posix(), here


def _info_files(tree: Path, recipe: Recipe) -> dict[str, bytes]:
    # An empty directory is in the archive, but conda's metadata has no word for it, and installers
    # do not make it.
    files = [(name, path) for name, path in _members(tree) if path.is_symlink() or path.is_file()]
    paths = [_path_entry(name, path, tree) for name, path in files]
    index: dict[str, object] = {
        "arch": "x86_64" if recipe.subdir == "linux-64" else None,
        "build": recipe.build,
        "build_number": 0,
        "depends": list(recipe.depends),
        "license": recipe.license,
        "name": recipe.name,
        "platform": "linux" if recipe.subdir == "linux-64" else None,
        "subdir": recipe.subdir,
        "timestamp": BUILD_TIME * 1000,
        "version": recipe.version,
    }
    if recipe.noarch:
        index["noarch"] = recipe.noarch
    infos: dict[str, object] = {
        "info/about.json": {"license": recipe.license, "summary": f"{recipe.name}, repacked"},
        "info/index.json": index,
        "info/paths.json": {"paths": paths, "paths_version": 1},
    }
    if recipe.noarch == "python":
        points = {"type": "python", "entry_points": list(recipe.entry_points)}
        infos["info/link.json"] = {"noarch": points, "package_metadata_version": 1}
    texts = {name: json.dumps(value, indent=1, sort_keys=True) for name, value in infos.items()}
    texts["info/files"] = "".join(f"{entry['_path']}\n" for entry in paths)
    texts["info/has_prefix"] = "".join(
        f'{entry["prefix_placeholder"]} {entry["file_mode"]} "{entry["_path"]}"\n'
        for entry in paths
        if "file_mode" in entry
    )
    return {name: text.encode() for name, text in sorted(texts.items()) if text}


def _path_entry(name: str, path: Path, tree: Path) -> dict[str, object]:
    """One entry of paths.json; a file that contains the placeholder is marked for replacement."""
    if path.is_symlink():
        # conda-build's convention: the target's content, or nothing's where it is a directory.
        target = path.resolve()
        content = target.read_bytes() if target.is_file() and _inside(target, tree) else b""
        return _hashed({"_path": name, "path_type": "softlink"}, content)
    content = path.read_bytes()
    entry: dict[str, object] = {"_path": name, "path_type": "hardlink"}
    if PLACEHOLDER.encode() in content:
        entry["prefix_placeholder"] = PLACEHOLDER
        entry["file_mode"] = "binary" if b"\0" in content else "text"
    return _hashed(entry, content)


def _inside(path: Path, tree: Path) -> bool:
    return path.is_relative_to(tree.resolve())


def _hashed(entry: dict[str, object], content: bytes) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    return {**entry, "sha256": digest, "size_in_bytes": len(content)}


def _zstd_tar(tree: Path | None, infos: dict[str, bytes] | None = None) -> bytes:
    packed = io.BytesIO()
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    with compressor.stream_writer(packed, closefd=False) as stream:
        _write_tar(stream, tree, infos or {})
    return packed.getvalue()


def _write_tar(stream: IO[bytes], tree: Path | None, infos: dict[str, bytes]) -> None:
    # A large block keeps the number of writes, and so of compressor calls, small.
    with tarfile.open(fileobj=stream, mode="w|", bufsize=1 << 20) as tar:
        for name, content in infos.items():
            header = tarfile.TarInfo(name)
            header.size, header.mode, header.mtime = len(content), 0o644, BUILD_TIME
            tar.addfile(header, io.BytesIO(content))
        for name, path in _members(tree) if tree else ():
            _add_file(tar, name, path)


def _add_file(tar: tarfile.TarFile, name: str, path: Path) -> None:
    status = path.lstat()
    header = tarfile.TarInfo(name)
    header.mtime, header.mode = BUILD_TIME, stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        header.type, header.linkname, header.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
        tar.addfile(header)
    elif stat.S_ISDIR(status.st_mode):
        header.type, header.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(header)
    else:
        header.size = status.st_size
        with path.open("rb") as content:
            tar.addfile(header, content)
