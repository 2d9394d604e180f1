"""Other tools make the same environment from our locks as we do.

The table in docs/explanation/locking.md is what is measured here; `WRITE_TABLES=1 pytest` of this
file writes it again.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import rattler
from rattler.lock import Environment

from condainer.pypi.wheels import find_uv
from tests.channel import ChannelServer, serve
from tests.conda_executable import conda_missing, lay_out
from tests.helpers import tiny
from tests.helpers.needed import needs
from tests.helpers.projects import Project

TOP = Path(__file__).resolve().parents[2]
DOCUMENT = TOP / "docs/explanation/locking.md"
BLOCK = re.compile(r"(<!-- compatibility -->\n).*?(\n<!-- end -->)", re.DOTALL)
ENVIRONMENT = "dependencies: [python, pip, click, probe-files, {pip: [alpha]}]\n"
# What can be exported, with the endings that other tools know the files by.
ENDINGS = {
    "explicit": "lock",
    "environment": "yml",
    "requirements": "txt",
    "pylock": "toml",
    "pixi": "lock",
    "conda": "lock",
}
FILES = ("conda-lock.yml", "conda-linux-64.lock", *ENDINGS)
TITLES = ("`conda-lock.yml`", "`conda-linux-64.lock`", *(f"`--export {form}`" for form in ENDINGS))
PIP_PART = {("python", "alpha 1.0"), ("python", "beta 2.0")}
# What a tool says of a file that it does not take, and what the table says.
REFUSALS = {
    "Could not parse explicit URL": "reads md5 only",
    "UnknownLockfileVersion": "own format only",
    "validation error": "own format only",
}
Packages = frozenset[tuple[str, str]]
# The wheel of conda-lock has conda's modules, but not this file, which `conda run` needs.
CONDA_SH = """\
conda() {
    case "$1" in
        activate | deactivate) eval "$("$CONDA_EXE" shell.posix "$@")" ;;
        *) "$CONDA_EXE" "$@" ;;
    esac
}
"""


@dataclass(frozen=True)
class Made:
    """A built project with all that can be exported from it, and the other tools."""

    project: Project
    sha256: str
    packages: Packages
    conda: Path
    work: Path
    channel: str

    def file(self, name: str) -> Path:
        path = self.project.path / name
        return path if path.exists() else self.work / f"{name}.{ENDINGS[name]}"

    def run(self, *command: str | Path) -> None:
        """Run another tool; its failure is that of the test."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.work,
            env={
                **os.environ,
                # A pip that is not the environment's own would write elsewhere.
                "PATH": f"{self.work / 'guard'}:/usr/bin:/bin",
                "CONDA_PKGS_DIRS": str(self.work / "pkgs"),
                "CONDA_ENVS_DIRS": str(self.work / "envs"),
                "CONDARC": str(self.conda.parents[1] / ".condarc"),
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                "PIP_NO_CACHE_DIR": "1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Refused(f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


class Refused(Exception):
    """Another tool does not take a file."""


def packages_in(names: Sequence[str]) -> Packages:
    """Return name and version, or file name, of the packages to which the paths belong."""
    found = set()
    for name in names:
        if match := re.search(r"(?:^|/)conda-meta/(.+)\.json$", name):
            found.add(("conda", match[1]))
        if match := re.search(r"site-packages/([^/]+)-([^/-]+)\.dist-info(?:/|$)", name):
            found.add(("python", re.sub(r"[-_.]+", "-", match[1]).lower() + " " + match[2]))
    return frozenset(found)


def packages_of(prefix: Path) -> Packages:
    names = [str(path) for path in prefix.glob("conda-meta/*.json")]
    names += [str(path) for path in prefix.glob("lib/python3*/site-packages/*.dist-info")]
    return packages_in(names)


@pytest.fixture(scope="module")
def served(channel: Path) -> Iterator[ChannelServer]:
    with serve(channel.parent) as running:
        yield running


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, served: ChannelServer, package_cache: Path
) -> Iterator[Made]:
    """A project that is built from a channel and an index which the other tools reach as well."""
    if problem := conda_missing():
        needs(problem)
    work = tmp_path_factory.mktemp("compatibility")
    tiny.wheel(work / "wheels", "alpha", "1.0", ["beta"])
    tiny.wheel(work / "wheels", "beta", "2.0")
    path = work / "project"
    path.mkdir()
    with tiny.serve_wheels(work / "wheels") as index:
        environment = {
            **os.environ,
            "HOME": str(work),
            "UV_DEFAULT_INDEX": index,
            "CONDAINER_CACHE": str(work / "cache"),
            "CONDAINER_PACKAGE_CACHE": str(package_cache),
            "CONDAINER_MOUNT_BASE": str(work / "m"),
        }
        project = Project(path, environment)
        channel = f"{served.url}/conda-forge"
        project.write(f"channels: ['{channel}']\n{ENVIRONMENT}")
        built = project.json("build")
        for form, ending in ENDINGS.items():
            output = work / f"{form}.{ending}"
            project.cnd("lock", "--export", form, "--output", str(output))
        listed = subprocess.run(
            ["unsquashfs", "-l", built["image"]], capture_output=True, text=True, check=True
        ).stdout.split("\n")
        conda = conda_in(work / "conda")
        yield Made(project, built["sha256"], packages_in(listed), conda, work, channel)
    shutil.rmtree(work, ignore_errors=True)


def conda_in(directory: Path) -> Path:
    """Lay out a conda that can also run programs of an environment."""
    executable = lay_out(directory)
    (library,) = directory.glob("lib/python3*/site-packages/conda")
    script = library / "shell" / "etc" / "profile.d" / "conda.sh"
    if not script.exists():
        script.parent.mkdir(parents=True)
        script.write_text(CONDA_SH)
    guard = directory.parent / "guard" / "pip"
    guard.parent.mkdir()
    guard.write_text("#!/bin/sh\necho this pip is not that of the environment >&2\nexit 1\n")
    guard.chmod(0o755)
    return executable


def conda_lock(made: Made, name: str, prefix: Path) -> None:
    program = Path(sys.executable).with_name("conda-lock")
    made.run(program, "install", "--conda", made.conda, "--prefix", prefix, made.file(name))


def rattler_environment(made: Made, name: str) -> Environment | None:
    """Return the environment of a file in one of the formats that rattler knows as lockfiles."""
    path = made.file(name)
    if name == "conda":
        # conda-workspaces has rattler read it so.
        path = made.work / "conda-as-rattler-has-it.lock"
        path.write_text(made.file(name).read_text().replace("version: 1\n", "version: 6\n", 1))
    if name not in ("conda-lock.yml", "pixi", "conda"):
        return None
    return rattler.LockFile.from_path(path).default_environment()


def rattler_records(made: Made, name: str) -> list[rattler.RepoDataRecord]:
    """Return what rattler itself reads in a file."""
    if environment := rattler_environment(made, name):
        (platform,) = environment.platforms()
        found = environment.conda_repodata_records_for_platform(platform)
        assert found is not None
        return found
    lines = made.file(name).read_text().splitlines()
    urls = [line for line in lines if line.startswith("http")]
    return asyncio.run(
        rattler.solve(
            sources=[],
            specs=[rattler.MatchSpec(url) for url in urls],
            platforms=["linux-64", "noarch"],
            virtual_packages=rattler.VirtualPackage.detect(),
        )
    )


def by_rattler(made: Made, name: str, prefix: Path) -> None:
    records = rattler_records(made, name)
    asyncio.run(rattler.install(records, prefix, made.work / "rattler", show_progress=False))
    if environment := rattler_environment(made, name):
        # What rattler does not install is there for pixi, which has uv install it.
        (pip,) = environment.pypi_packages().values()
        assert sorted(package.name for package in pip) == ["alpha", "beta"]
        assert all(package.hashes and package.hashes.sha256 for package in pip)


def by_conda(made: Made, name: str, prefix: Path) -> None:
    if name == "environment":
        made.run(made.conda, "env", "create", "--prefix", prefix, "--file", made.file(name))
    else:
        made.run(made.conda, "create", "-y", "--prefix", prefix, "--file", made.file(name))


def by_external_engine(made: Made, name: str, prefix: Path) -> None:
    """Build with that conda in place of the embedded engine, from one of the lockfiles."""
    path = made.work / "external"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for file in ("environment.yml", name):
        shutil.copy(made.project.path / file, path)
    other = {"CONDAINER_CONDA_EXE": str(made.conda), "CONDAINER_CACHE": str(path / "cache")}
    done = Project(path, {**made.project.environment, **other}).cnd("build", "--json")
    assert "embedded engine" not in done.stderr
    built = json.loads(done.stdout)
    assert (built["hit"], built["sha256"]) == (False, made.sha256)
    made.run("unsquashfs", "-no-progress", "-dest", prefix, built["image"])


def by_ourselves(made: Made, name: str, prefix: Path) -> None:
    """Build a project that has nothing but the exported file, as pixi or conda would name it."""
    path = made.work / f"only-{name}"
    path.mkdir()
    shutil.copy(made.file(name), path / made.file(name).name)
    # Such a file cannot lead to this machine by itself.
    other = {"CONDAINER_CACHE": str(path / "cache"), "CONDAINER_MIRRORS": f"ours={made.channel}"}
    built = Project(path, {**made.project.environment, **other}).json("build")
    assert (built["hit"], built["sha256"]) == (False, made.sha256)
    made.run("unsquashfs", "-no-progress", "-dest", prefix, built["image"])


def by_uv(made: Made, name: str, prefix: Path) -> None:
    by_rattler(made, "conda-linux-64.lock", prefix)
    options = ["--require-hashes", "--break-system-packages", "--requirements"]
    made.run(find_uv(), "pip", "install", "--python", prefix, *options, made.file(name))


def by_pip(made: Made, name: str, prefix: Path) -> None:
    by_rattler(made, "conda-linux-64.lock", prefix)
    python = prefix / "bin" / "python"
    made.run(python, "-m", "pip", "install", "--require-hashes", "--requirement", made.file(name))


# Which files a tool is for; the others are not tried.
TOOLS: dict[str, tuple[Callable[[Made, str, Path], None], tuple[str, ...]]] = {
    "conda-lock install": (conda_lock, ("conda-lock.yml", "explicit", "pixi", "conda")),
    "rattler, pixi's library": (
        by_rattler,
        ("conda-lock.yml", "conda-linux-64.lock", "explicit", "pixi", "conda"),
    ),
    "conda": (by_conda, ("conda-linux-64.lock", "explicit", "environment")),
    "`cnd build` with `conda_exe: conda`": (by_external_engine, ("conda-lock.yml",)),
    "`cnd build`": (by_ourselves, ("pixi", "conda")),
    "uv pip": (by_uv, ("requirements", "pylock")),
    "pip": (by_pip, ("requirements", "pylock")),
}


def measured(made: Made, tool: str, name: str) -> str:
    """Return the cell of the table: what a tool makes of a file."""
    function, files = TOOLS[tool]
    if name not in files:
        return ""
    prefix = made.work / "envs" / f"{tool}-{name}".replace(" ", "-")
    try:
        function(made, name, prefix)
    except Refused as refused:
        reasons = [reason for text, reason in REFUSALS.items() if text in str(refused)]
        if not reasons:
            raise
        return f"refused: {reasons[0]}"
    found = packages_of(prefix)
    if found == made.packages:
        if function in (by_external_engine, by_ourselves):
            return "same image"
        return "pip part" if tool in ("uv pip", "pip") else "same packages"
    assert found == made.packages - PIP_PART
    return "conda part"


def table(made: Made) -> str:
    rows = [["", *TITLES], ["---"] * (len(TITLES) + 1)]
    rows += [[tool, *(measured(made, tool, name) for name in FILES)] for tool in TOOLS]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


@pytest.mark.long
def test_other_tools_make_the_same_of_our_locks(made: Made) -> None:
    assert ("python", "beta 2.0") in made.packages
    assert any(name.startswith("click-8") for kind, name in made.packages if kind == "conda")
    found = table(made)
    text = DOCUMENT.read_text(encoding="utf-8")
    if os.environ.get("WRITE_TABLES"):
        DOCUMENT.write_text(BLOCK.sub(rf"\g<1>{found}\g<2>", text), encoding="utf-8")
        text = DOCUMENT.read_text(encoding="utf-8")
    block = BLOCK.search(text)
    assert block is not None
    assert block[0] == f"{block[1]}{found}{block[2]}", "run with WRITE_TABLES=1"


def test_condas_own_pattern_accepts_what_is_exported(made: Made) -> None:
    from conda_lock._vendor.conda.misc import url_pat

    lines = made.file("explicit").read_text().splitlines()
    packages = [line for line in lines if not line.startswith(("#", "@"))]
    assert len(packages) >= 4
    for line in packages:
        match = url_pat.match(line)
        assert match is not None
        assert len(match["md5"]) == 32


def test_a_wrong_hash_in_the_exported_requirements_is_found(made: Made, tmp_path: Path) -> None:
    text = made.file("requirements").read_text()
    wrong = tmp_path / "wrong.txt"
    wrong.write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", text))
    options = ["--no-deps", "--require-hashes", "--target", str(tmp_path), "-r", str(wrong)]
    with pytest.raises(Refused, match="DO NOT MATCH THE HASHES"):
        made.run(sys.executable, "-m", "pip", "install", *options)
