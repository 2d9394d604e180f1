"""squashfs-tools and squashfuse, repacked from Debian's packages."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.channel.elf import Patchelf, is_elf
from tests.channel.package import Recipe, write_conda

TOOLS = ("squashfs-tools", "squashfuse")

# Both tools need most of these libraries, and one file must not belong to two packages.
LIBRARIES = "squashfs-libs"

# The C library is every host's own, and a setuid fusermount cannot come from a package.
FROM_HOST = {"libc6", "libgcc-s1", "fuse", "fuse3"}


class Unavailable(Exception):
    """What a part of the channel is made of is not at hand."""


def write_squashfs_tools(debs: Path, work: Path, channel: Path, patchelf: Patchelf) -> None:
    """Write the tools, and the libraries they need, as packages for linux-64.

    Args:
        debs: where Debian's packages are kept from one build of the channel to the next.
        work: an empty directory to stage the files in.
        channel: the channel's directory.
        patchelf: the program that makes the libraries found in any prefix.
    """
    if not shutil.which("dpkg-deb"):
        raise Unavailable("squashfs-tools and squashfuse: no dpkg on this machine")
    debs.mkdir(parents=True, exist_ok=True)
    unpacked, versions = work / "unpacked", {}
    for package in _with_dependencies(TOOLS, debs):
        versions[package] = _unpack(package, debs, unpacked / package)
    programs: list[Path] = []
    for tool in TOOLS:
        tree = work / tool
        programs += _copy_programs(unpacked / tool, tree, patchelf)
        _write(tree, tool, versions[tool], (LIBRARIES,), channel)
    tree = work / LIBRARIES
    _copy_libraries(programs, unpacked, tree / "lib", patchelf)
    _write(tree, LIBRARIES, versions[TOOLS[0]], (), channel)


def _write(tree: Path, name: str, version: str, depends: tuple[str, ...], channel: Path) -> None:
    recipe = Recipe(name, version, depends=depends, subdir="linux-64", noarch=None)
    write_conda(tree, recipe, channel)


def _with_dependencies(packages: Iterable[str], debs: Path) -> list[str]:
    """List the packages and all that they depend on, downloading them on the way if possible."""
    known: list[str] = []
    pending = list(packages)
    while pending:
        _download([package for package in pending if not _archive(package, debs)], debs)
        known += pending
        names = {name for package in pending for name in _dependencies(package, debs)}
        pending = sorted(names - FROM_HOST - set(known))
    return known


def _download(packages: list[str], debs: Path) -> None:
    """Download what apt can give; what it cannot is taken from the installed files later."""
    if packages and shutil.which("apt-get"):
        # The sandbox user may not write to our directory.
        apt = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages]
        subprocess.run(apt, cwd=debs, capture_output=True)


def _archive(package: str, debs: Path) -> Path | None:
    return next(iter(sorted(debs.glob(f"{package}_*.deb"))), None)


def _field(package: str, name: str, debs: Path) -> str:
    if archive := _archive(package, debs):
        command = ["dpkg-deb", "--field", str(archive), name]
    else:
        command = ["dpkg-query", "--show", "--showformat", f"${{{name}}}", package]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise Unavailable(f"{package}: neither apt nor dpkg has it ({result.stderr.strip()})")
    return result.stdout.strip()


def _dependencies(package: str, debs: Path) -> list[str]:
    groups = _field(package, "Depends", debs).split(",")
    return [re.split(r"[ (|:]", group.strip())[0] for group in groups if group.strip()]


def _unpack(package: str, debs: Path, target: Path) -> str:
    """Put the package's files into the target directory and tell the upstream version."""
    target.mkdir(parents=True)
    if archive := _archive(package, debs):
        subprocess.run(["dpkg-deb", "--extract", archive, target], check=True)
    else:
        _copy_installed(package, target)
    version = _field(package, "Version", debs)
    return re.sub(r"^\d+:|[-+~].*$", "", version)


def _copy_installed(package: str, target: Path) -> None:
    listing = subprocess.run(["dpkg", "-L", package], check=True, capture_output=True, text=True)
    for path in map(Path, listing.stdout.splitlines()):
        # Not what leads to a directory: /lib itself is a link where /usr is merged.
        if path.is_file():
            copy = target / path.relative_to("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy, follow_symlinks=False)


def _copy_programs(unpacked: Path, tree: Path, patchelf: Patchelf) -> list[Path]:
    (tree / "bin").mkdir(parents=True)
    copies = []
    for source in sorted((unpacked / "usr/bin").iterdir()):
        copy = Path(shutil.copy2(source, tree / "bin" / source.name, follow_symlinks=False))
        if is_elf(copy):
            patchelf.set_rpath(copy, "$ORIGIN/../lib")
            copies.append(copy)
    return copies


def _copy_libraries(
    programs: Iterable[Path], unpacked: Path, libraries: Path, patchelf: Patchelf
) -> None:
    """Copy the libraries the programs need, and those these need in turn, under their sonames."""
    libraries.mkdir(parents=True)
    sources = {path.name: path for path in sorted(unpacked.rglob("*.so*"))}
    pending = list(programs)
    while pending:
        for name in patchelf.needed(pending.pop()):
            copy = libraries / name
            # What was not unpacked is the C library, which is every host's own.
            if name in sources and not copy.exists():
                shutil.copyfile(sources[name].resolve(), copy)
                copy.chmod(0o644)
                patchelf.set_rpath(copy, "$ORIGIN")
                pending.append(copy)
