"""Where the suite works: an ordinary installation of cnd, a channel, caches and projects."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.channel import ensure_large_channel, ensure_wheels
from benchmarks.measure import Effort
from benchmarks.pins import REQUIREMENTS, SCIENTIFIC, SMALL
from condainer.system.files import remove_tree
from tests.channel.build import NAME
from tests.slurm.site import public_python

TOP = Path(__file__).resolve().parents[1]
ROOT = TOP / ".benchmarks"


@dataclass(frozen=True)
class Place:
    """Directories of the suite, and how often to repeat."""

    root: Path
    venv: Path
    channel: Path
    wheels: Path
    quick: bool

    @property
    def effort(self) -> Effort:
        """For what takes milliseconds."""
        return Effort(7, 2.0) if self.quick else Effort(21, 12.0)

    @property
    def long_effort(self) -> Effort:
        """For what takes seconds."""
        return Effort(1, 0.0) if self.quick else Effort(3, 0.0)

    @property
    def cnd(self) -> Path:
        return self.venv / "bin" / "cnd"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python3"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of all contenders: nothing of the user's own configuration reaches it."""
        home = self.root / "home"
        dropped = ("CONDAINER_", "PYTHON", "UV_", "PIP_", "VIRTUAL_ENV", "CONDA_")
        plain = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        return {
            **plain,
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "CONDAINER_CACHE": str(self.root / "cache"),
            "CONDAINER_PACKAGE_CACHE": str(self.root / "packages"),
            "CONDAINER_STAGING": str(self.root / "staging"),
            "CONDAINER_MOUNT_BASE": str(self.root / "m"),
            "CONDAINER_MIRRORS": f"conda-forge={self.channel.as_uri()}",
            "CONDAINER_LINGER": "0",
            "UV_CACHE_DIR": str(self.root / "uv"),
            "UV_FIND_LINKS": str(self.wheels),
            "UV_NO_INDEX": "1",
        }

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def run(self, project: Path, *arguments: str, **more: str) -> str:
        """Run cnd in a project and return what it prints; raises RuntimeError if it fails."""
        done = subprocess.run(
            [self.cnd, *arguments],
            cwd=project,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"cnd {' '.join(arguments)}: {done.stderr.strip()[-800:]}")
        return done.stdout

    def built(self, project: Path, **more: str) -> Mapping[str, Any]:
        """Build a project and return what `cnd build --json` prints."""
        result: Mapping[str, Any] = json.loads(self.run(project, "build", "--json", **more))
        return result

    def project(self, name: str, text: str = SMALL, requirements: str = "") -> Path:
        """Return a new project that has its environment file and nothing else."""
        path = self.root / "projects" / name
        remove_tree(path)
        path.mkdir(parents=True)
        (path / "environment.yml").write_text(text, encoding="utf-8")
        if requirements:
            (path / "requirements.txt").write_text(requirements, encoding="utf-8")
        return path

    def scientific(self, name: str = "scientific") -> Path:
        """Return a project with the scientific environment, or the small one in a quick run."""
        if self.quick:
            return self.project(name, SMALL, "tqdm==4.70.1\n")
        return self.project(name, SCIENTIFIC, REQUIREMENTS)

    def discard(self) -> None:
        """Take all images out of the cache, so that the next build is a miss."""
        shutil.rmtree(self.cache, ignore_errors=True)


def ensure_place(quick: bool, with_packages: bool = True) -> Place:
    """Set up what the suite needs, as far as it is not there from the last run.

    Parameters: `with_packages` says whether it gets packages that can be installed.
    """
    ROOT.mkdir(exist_ok=True)
    (ROOT / ".gitignore").write_text("*\n")
    # Without a home directory, nobody has stamps.
    (ROOT / "home").mkdir(exist_ok=True)
    channel, wheels = ROOT / NAME, ROOT / "pip"
    if with_packages:
        ensure_large_channel(ROOT, TOP / ".channel")
        ensure_wheels(wheels)
    return Place(ROOT, _installed(ROOT / "venv"), channel, wheels, quick)


def _installed(venv: Path) -> Path:
    """Install the project as a user would, not editable; with what it was installed from noted."""
    sources = [TOP / "pyproject.toml", *sorted((TOP / "condainer").rglob("*.py"))]
    contents = b"".join(path.read_bytes() for path in sources)
    # Some rows are measured as an ordinary user, who does not see root's home.
    base = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    with suppress(LookupError):
        base = Path(public_python())
    key = f"{hashlib.sha256(contents).hexdigest()} {base}"
    stamp = venv / "installed"
    if stamp.is_file() and stamp.read_text() == key:
        return venv
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", base, venv], check=True)
    command: list[str | Path] = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        venv / "bin" / "python3",
    ]
    # setuptools would add what an earlier build left.
    shutil.rmtree(TOP / "build", ignore_errors=True)
    subprocess.run(
        [*command, "--compile-bytecode", "--reinstall-package", "condainer", TOP], check=True
    )
    shutil.rmtree(TOP / "build", ignore_errors=True)
    stamp.write_text(key)
    return venv
