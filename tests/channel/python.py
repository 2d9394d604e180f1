"""The package `python`, made from the interpreter that runs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.channel.elf import Patchelf, is_elf, relative_rpath
from tests.channel.package import PLACEHOLDER, Recipe, write_conda, write_file

SHORT = f"{sys.version_info.major}.{sys.version_info.minor}"

LEFT_OUT = shutil.ignore_patterns(
    *("site-packages", "dist-packages", "__pycache__", "*.pyc", "*.a", "*.o"),
    *("test", "tests", "idlelib", "turtledemo", "_bundled"),
    *("_test*.so", "_ctypes_test*.so", "_xxtest*.so", "xxlimited*.so"),
    # Debian's own: they would forbid pip, or reach out of the prefix.
    *("EXTERNALLY-MANAGED", "sitecustomize.py"),
)

# Debian keeps packages out of site-packages; a conda prefix has nothing but site-packages. The
# module `site` is frozen into the interpreter, so that only sitecustomize can change what it does.
DEBIAN_SCHEME = "prefix_scheme = 'posix_local'"
CONDA_SCHEME = "prefix_scheme = 'posix_prefix'"
SITECUSTOMIZE = """\
import os
import site
import sys

if sys.prefix == sys.base_prefix:
    site.addsitedir(os.path.join(os.path.dirname(os.__file__), "site-packages"))
"""


def write_python(work: Path, channel: Path, patchelf: Patchelf) -> None:
    """Write the running interpreter and its standard library as the package `python`.

    Args:
        work: an empty directory to stage the files in.
        channel: the channel's directory.
        patchelf: the program that makes the libraries found in any prefix.
    """
    _copy_standard_library(work / "lib" / f"python{SHORT}")
    _copy_programs(work / "bin")
    _copy_shared_library(work / "lib")
    _remove_links_that_leave(work)
    _strip_debugging(work / "lib")
    _make_relocatable(work, patchelf)
    _forget_other_places(work, patchelf)
    _put_placeholder(work)
    recipe = Recipe(
        name="python",
        version=platform.python_version(),
        build="0_cpython",
        subdir="linux-64",
        noarch=None,
        license="Python-2.0",
    )
    write_conda(work, recipe, channel)


def _copy_standard_library(stdlib: Path) -> None:
    shutil.copytree(sysconfig.get_path("stdlib"), stdlib, symlinks=True, ignore=LEFT_OUT)
    write_file(stdlib / "site-packages/README.txt", "Packages are installed in this directory.\n")
    headers = Path(sysconfig.get_path("include"))
    if headers.is_dir():
        shutil.copytree(headers, stdlib.parent.parent / "include" / f"python{SHORT}")
    source = (stdlib / "sysconfig.py").read_text()
    if DEBIAN_SCHEME in source:
        (stdlib / "sysconfig.py").write_text(source.replace(DEBIAN_SCHEME, CONDA_SCHEME))
        write_file(stdlib / "sitecustomize.py", SITECUSTOMIZE)


def _copy_programs(programs: Path) -> None:
    programs.mkdir()
    base = Path(sys.base_prefix, "bin")
    shutil.copy2((base / f"python{SHORT}").resolve(), programs / f"python{SHORT}")
    for name in (f"pydoc{SHORT}", f"python{SHORT}-config"):
        if (base / name).is_file():
            shutil.copy2(base / name, programs / name)
            (programs / name.replace(SHORT, "3")).symlink_to(name)
    for link in ("python", "python3"):
        (programs / link).symlink_to(f"python{SHORT}")


def _copy_shared_library(libraries: Path) -> None:
    """Copy libpython and its links, where the interpreter is linked with one of its own."""
    for source in Path(sys.base_prefix, "lib").glob("libpython3*.so*"):
        shutil.copy2(source, libraries / source.name, follow_symlinks=False)


def _remove_links_that_leave(tree: Path) -> None:
    for folder, subfolders, files in os.walk(tree):
        for path in (Path(folder, name) for name in subfolders + files):
            if path.is_symlink() and (path.readlink().is_absolute() or not path.exists()):
                path.unlink()


def _strip_debugging(libraries: Path) -> None:
    """Drop debugging sections, most of a libpython's size, where binutils are at hand."""
    if strip := shutil.which("strip"):
        for library in filter(is_elf, sorted(libraries.iterdir())):
            subprocess.run([strip, "--strip-debug", library], check=True)


def _make_relocatable(tree: Path, patchelf: Patchelf) -> None:
    for file in filter(is_elf, sorted(tree.rglob("*"))):
        # What names no old prefix finds its libraries as it is.
        if sys.base_prefix in patchelf.rpath(file):
            patchelf.set_rpath(file, relative_rpath(file, tree / "lib"))


def _forget_other_places(tree: Path, patchelf: Patchelf) -> None:
    """Let the interpreter fail where its own files are missing, as conda's does.

    It would take the system's libpython, or the standard library of the old prefix, if the image
    goes while it starts: conda's has its library inside, and no prefix but that of its image.
    """
    libraries = {library.name for library in (tree / "lib").glob("libpython3*.so*")}
    for program in filter(is_elf, sorted((tree / "bin").iterdir())):
        for name in libraries.intersection(patchelf.needed(program)):
            patchelf.replace_needed(program, name, f"$ORIGIN/../lib/{name}")
    # The string alone, and as long as it was; the end of it may be that of another string.
    old = b"\0" + sys.base_prefix.encode() + b"\0"
    new = old[:2] + b"-" + old[3:]
    for file in (tree / "bin" / f"python{SHORT}", *(tree / "lib").glob("libpython3*.so*")):
        if is_elf(file):
            file.write_bytes(file.read_bytes().replace(old, new))


def _put_placeholder(tree: Path) -> None:
    """Write the placeholder over the old prefix in text files.

    Binaries get none: linkers share the tails of strings, so that patching one string in an
    executable may change another, and python looks for its prefix beside itself anyway.
    """
    base = sys.base_prefix
    # "/usr" stands in too many unrelated places (/usr/bin/env); there, only the program counts.
    suffix = "" if base.count("/") > 1 else "/bin/python"
    old, new = (base + suffix).encode(), (PLACEHOLDER + suffix).encode()
    for file in sorted(tree.rglob("*")):
        if file.is_symlink() or not file.is_file():
            continue
        content = file.read_bytes()
        if old in content and b"\0" not in content:
            file.write_bytes(content.replace(old, new))
