"""Lay out a directory as the base environment of a conda installation."""

from __future__ import annotations

import compileall
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

# What conda imports beyond the dependencies of Condainer.
MODULES = ("pycosat", "conda_package_handling", "archspec", "distro", "frozendict", "tqdm")
MISSING = "conda's own dependencies (the test extra): "
LIBRARY = Path("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
# conda's default solver, libmamba, is a library that is only in conda channels. What cannot be
# reached on loopback cannot be reached a moment later either.
CONDARC = "solver: classic\nremote_max_retries: 0\nremote_backoff_factor: 0\n"
LAUNCHER = """\
#!{prefix}/bin/python
import sys

from conda.cli import main

if __name__ == "__main__":
    sys.exit(main())
"""


def conda_missing() -> str:
    """Return which of conda's dependencies are not installed, or an empty text."""
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    return MISSING + ", ".join(missing) if missing else ""


def lay_out(directory: Path, prefix: Path | None = None) -> Path:
    """Make a conda installation and return its executable.

    Args:
        directory: where it is written; made if it does not exist.
        prefix: the path that its scripts name, if it is to be moved there.
    """
    prefix = prefix or directory
    library = directory / LIBRARY
    library.mkdir(parents=True)
    _restore_conda(library / "conda")
    # As installers leave it: nobody compiles it at each start.
    compileall.compile_dir(library / "conda", quiet=2)
    _link_dependencies(library / "dependencies")
    # Relative to its own place.
    (library / "dependencies.pth").write_text("dependencies\n")
    (directory / "bin").mkdir()
    interpreter = Path(os.path.realpath(sys.executable))
    (directory / "bin" / "python").symlink_to(interpreter)
    (directory / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\n")
    (directory / ".condarc").write_text(CONDARC)
    (directory / "conda-meta").mkdir()
    (directory / "conda-meta" / "history").touch()
    executable = directory / "bin" / "conda"
    executable.write_text(LAUNCHER.format(prefix=prefix))
    executable.chmod(0o755)
    return executable


def _link_dependencies(target: Path) -> None:
    """Fill a directory with links to all that is installed here, but for conda-lock's metadata.

    By these it is a plugin, and conda would import all of it at each start.
    """
    target.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for item in Path(place).iterdir():
            if not item.name.startswith("conda_lock-"):
                (target / item.name).symlink_to(item)


def _restore_conda(target: Path) -> None:
    """Copy the conda inside conda-lock, and give its modules the names that they had."""
    spec = importlib.util.find_spec("conda_lock")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "_vendor" / "conda"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "testing"))
    for path in target.rglob("*.py"):
        text = path.read_text("utf-8")
        named = re.sub(r"\bconda_lock\._?vendor\.conda\b", "conda", text)
        if named != text:
            path.write_text(named, "utf-8")
