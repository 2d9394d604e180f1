"""`cnd` installed where every account can run it, as on the login node of a cluster."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.slurm import public_python

TOP = Path(__file__).resolve().parents[2]


def install(place: Path) -> Path:
    """Make a virtual environment with `cnd` and all that it needs, and return its `bin`.

    The files are those of this interpreter's own environment, so nothing is downloaded. Raises
    LookupError when there is no Python that other accounts can run.
    """
    uv = Path(sys.executable).with_name("uv")
    made = place / "venv"
    subprocess.run([uv, "venv", "-q", "--python", public_python(), made], check=True)
    packages = made / "lib" / "python{}.{}".format(*sys.version_info[:2]) / "site-packages"
    for found in _needed("condainer", {}).values():
        if found.name != "condainer":
            _copy(found, packages)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TOP / "condainer", packages / "condainer", ignore=ignored)
    program = made / "bin/cnd"
    text = (TOP / "bin/cnd").read_text(encoding="utf-8")
    program.write_text(f"#!{made}/bin/python\n" + text.partition("\n")[2], encoding="utf-8")
    program.chmod(0o755)
    subprocess.run([made / "bin/python", "-m", "compileall", "-q", packages], check=False)
    return made / "bin"


def _needed(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """Return a distribution and all that it needs, by their names."""
    if name not in found:
        found[name] = distribution(name)
        for text in found[name].requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                _needed(wanted.name.lower().replace("_", "-"), found)
    return found


def _copy(found: Distribution, packages: Path) -> None:
    for path in found.files or ():
        source = Path(str(found.locate_file(path)))
        if source.is_file():
            target = packages / path
            target.parent.mkdir(parents=True, exist_ok=True)
            # With its time, by which byte code is known to be that of its source.
            shutil.copy2(source, target)
