"""docs/where-you-work.md: its blocks are run in their order, as they are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import TOP, Project, needs
from tests.integration.test_modules import LMOD
from tests.slurm import Account, Cluster, Site

PAGE = TOP / "docs/where-you-work.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What an interactive shell of a site with modules has.
BEFORE = {"sh": "", "modules": f". {LMOD}\n"}


def blocks(*kinds: str) -> list[tuple[str, str]]:
    """Return the blocks of these kinds: the kind and the text of each."""
    found = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    return [(kind, text) for kind, text in found if kind in kinds]


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {kind for kind, _ in BLOCK.findall(PAGE.read_text(encoding="utf-8"))} == {
        *BEFORE,
        "snakemake",
        "slurm",
    }


@pytest.mark.timeout(600)
def test_a_person_types_it(make_project: Any, tmp_path: Path, isolated_user: Path) -> None:
    if not LMOD.exists():
        needs("lmod")
    project: Project = make_project("anywhere", text="")
    # One shell, as a person has it; after each block, it says which one that was.
    script = "set -e\n"
    for number, (kind, text) in enumerate(blocks(*BEFORE)):
        script += f"{BEFORE[kind]}{text}echo end of {number}\n"
    done = project.bash(script)
    *said, _ = re.split(r"^end of \d+\n", done.stdout, flags=re.MULTILINE)
    assert done.returncode == 0, f"block {len(said)}: {done.stdout}\n{done.stderr}"
    assert len(said) == len(blocks(*BEFORE))

    def said_by(words: str) -> str:
        """Return the last line that the first block with these words says."""
        texts = [text for _, text in blocks(*BEFORE)]
        number = next(i for i, text in enumerate(texts) if words in text)
        return str(said[number].splitlines()[-1])

    assert ".condainer-wrappers" in said_by("numpy.__file__")
    assert said_by("-m venv") == f"{isolated_user}/own"
    assert said_by("direnv").startswith(f"{tmp_path}/m/condainer-")
    assert "Climate" in said_by("kernel list")


@pytest.mark.timeout(600)
def test_snakemake_runs_rules(make_project: Any, tmp_path: Path, channel: Path) -> None:
    if not LMOD.exists():
        needs("lmod")
    if sys.version_info < (3, 11):
        needs("Python 3.11, for Snakemake")
    uv = Path(sys.executable).with_name("uv")
    made = tmp_path / "snakemake"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, made], check=True)
    pins = ("--require-hashes", "-r", TOP / "tools/snakemake-pins.txt")
    subprocess.run([uv, "pip", "install", "-q", "--python", made / "bin/python", *pins], check=True)
    project: Project = make_project(text="dependencies: [python, numpy]\n")
    project.cnd("build")
    project.cnd("tag", "climate/2026.1")
    project.cnd("module", "climate/2026.1", "--dir", "../modules", "--env", "climate/2026.1")
    expected = project.cnd("exec", "--", "python", "-c", "import numpy; print(numpy.__version__)")
    methods = ("", "--software-deployment-method env-modules")
    for (_, text), method in zip(blocks("snakemake"), methods, strict=True):
        project.write(text, "Snakefile")
        done = project.bash(
            f"{BEFORE['modules']}module use ../modules\n"
            f"{made}/bin/snakemake version.txt --cores 1 {method}",
        )
        assert done.returncode == 0, done.stderr
        result = project.path / "version.txt"
        assert result.read_text() == expected.stdout
        result.unlink()


@pytest.mark.xdist_group("accounts")
def test_jobs_run(site: Site, users: list[Account], harsh: Cluster) -> None:
    user = users[0]
    environment = {**os.environ, **site.environment}
    subprocess.run([site.cnd, "tag", "climate/2026.1"], env=environment, check=True)
    for number, (_, text) in enumerate(blocks("slurm")):
        script = user.home / f"job-{number}.sh"
        script.write_text(text)
        more = {"PATH": f"{Path(site.cnd).parent}:/usr/bin:/bin"}
        done = harsh.run(
            "sbatch", "--parsable", "--output=%A.%a.out", str(script), account=user, more=more
        )
        job = done.stdout.strip()
        harsh.wait(job)
        said = "".join(path.read_text() for path in sorted(user.home.glob(f"{job}.*.out")))
        assert said.count(f"{site.prefix}\n") == (4 if number == 0 else 3), said
    subprocess.run([site.cnd, "tag", "--delete", "climate/2026.1"], env=environment, check=True)
    site.tidy()
