"""Other tools in the state in which nothing has to be done."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.measure import Contender, command
from benchmarks.original import tool
from benchmarks.pins import PIP
from benchmarks.place import Place


def _directory(place: Place, name: str) -> Path:
    path = place.root / "contenders" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def uv_sync(place: Place) -> Contender:
    """A project of uv with the same pip requirements, locked and synchronised."""
    project = _directory(place, "uv")
    wanted = ", ".join(f'"{name}=={PIP[name]}"' for name in ("sqlalchemy", "tqdm"))
    (project / "pyproject.toml").write_text(
        f'[project]\nname = "project"\nversion = "1"\nrequires-python = "{_version(place)}"\n'
        f"dependencies = [{wanted}]\n[tool.uv]\nfind-links = ['{place.wheels}']\nno-index = true\n"
        "environments = [\"sys_platform == 'linux'\"]\n"
    )
    environment = {k: v for k, v in place.environment.items() if k not in ("UV_NO_INDEX",)}
    argv: list[str | Path] = [place.venv / "bin" / "uv", "sync", "--python", place.python.resolve()]
    command(argv, project, environment)()
    return Contender("uv sync", command(argv[:2], project, environment))


def _version(place: Place) -> str:
    """Return the minor version of the interpreter that the wheels are for, as a specifier."""
    code = "import sys; print('==%d.%d.*' % sys.version_info[:2])"
    argv = [str(place.python), "-c", code]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def nix_build(place: Place) -> Contender:
    """A derivation that is in the store, without daemon and network."""
    project = _directory(place, "nix")
    (project / "environment.yml").write_text("dependencies: [python]\n")
    (project / "default.nix").write_text(
        'derivation { name = "environment"; system = builtins.currentSystem;\n'
        '  builder = "/bin/sh"; args = [ "-c" "echo done > $out" ]; src = ./environment.yml; }\n'
    )
    (project / "conf").mkdir(exist_ok=True)
    settings = "sandbox = false\nbuild-users-group =\nsubstitute = false\n"
    (project / "conf" / "nix.conf").write_text(settings)
    places = {"CONF": "conf", "STATE": "var", "LOG": "log", "STORE": "store"}
    environment = {
        **place.environment,
        **{f"NIX_{name}_DIR": str(project / folder) for name, folder in places.items()},
    }
    run = command([tool("nix-build"), "default.nix"], project, environment)
    run()
    return Contender("nix-build", run)


def make(place: Place) -> Contender:
    """A Makefile whose one target is newer than what it is made from."""
    project = _directory(place, "make")
    (project / "environment.yml").write_text("dependencies: [python]\n")
    (project / "Makefile").write_text("image: environment.yml\n\ttouch image\n")
    run = command([tool("make"), "--silent"], project, place.environment)
    run()
    return Contender("make", run)


def conda_lock(place: Place) -> Contender:
    """A lockfile of conda-lock whose hash says that nothing changed."""
    project = place.project(
        "conda-lock", "channels: [conda-forge]\ndependencies: [python, click]\n"
    )
    place.run(project, "lock")
    # It wants to see a conda before it knows that it has nothing to solve.
    conda = project / "conda"
    conda.write_text("#!/bin/sh\necho conda 26.1.0\n")
    conda.chmod(0o755)
    lockfile = project / "conda-lock.yml"
    arguments: list[str | Path] = ["lock", "--check-input-hash", "--conda", conda]
    arguments += ["-p", "linux-64", "-f", project / "environment.yml", "--lockfile", lockfile]
    hasher = Path(__file__).with_name("conda_lock_hash.py")
    command([place.python, hasher, lockfile, *arguments], project, place.environment)()
    script = place.venv / "bin" / "conda-lock"
    run = command([script, *arguments], project, place.environment)
    run()
    return Contender("conda-lock --check-input-hash", run)
