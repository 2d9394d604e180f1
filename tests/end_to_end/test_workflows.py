"""docs/how-to/workflows.md: its rules are run by Snakemake, as they are written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import documents
from tests.helpers.accounts import PATH
from tests.helpers.needed import LMOD, needs, needs_lmod
from tests.helpers.projects import TOP, Project
from tests.slurm import Account, Cluster, Site, public_python

pytestmark = pytest.mark.long

PAGE = "how-to/workflows.md"
SNAKEFILE = """
rule prefix:
    output: "prefix.txt"
    shell: '''
        cnd exec --env climate/2026.1 -- probe-prefix > {output}
        echo "step $SLURM_STEP_ID" >> {output}
        '''
"""


def install_snakemake(directory: Path, python: str) -> None:
    """Install Snakemake from the package index into a new virtual environment of a Python."""
    if sys.version_info < (3, 11):
        needs("Python 3.11, for Snakemake")
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "-q", "--python", python, directory], check=True)
    pins = ("--require-hashes", "-r", TOP / "tools/snakemake-pins.txt")
    into = ("--python", directory / "bin/python")
    subprocess.run([uv, "pip", "install", "-q", *into, *pins], check=True)


def test_snakemake_runs_rules(make_project: Any, tmp_path: Path, channel: Path) -> None:
    needs_lmod()
    made = tmp_path / "snakemake"
    install_snakemake(made, sys.executable)
    project: Project = make_project(text="dependencies: [python, numpy]\n")
    project.cnd("build")
    project.cnd("tag", "climate/2026.1")
    project.cnd("module", "climate/2026.1", "--dir", "../modules", "--env", "climate/2026.1")
    expected = project.cnd("exec", "--", "python", "-c", "import numpy; print(numpy.__version__)")
    methods = ("", "--software-deployment-method env-modules")
    rules = documents.texts(PAGE, "snakemake")
    for text, method in zip(rules, methods, strict=True):
        project.write(text, "Snakefile")
        done = project.bash(
            f". {LMOD}\nmodule use ../modules\n{made}/bin/snakemake version.txt --cores 1 {method}",
        )
        assert done.returncode == 0, done.stderr
        result = project.path / "version.txt"
        assert result.read_text() == expected.stdout
        result.unlink()


@pytest.mark.xdist_group("accounts")
def test_snakemake_runs_rules_through_slurm(
    site: Site, named: str, users: list[Account], harsh: Cluster
) -> None:
    user, made = users[0], site.place / "snakemake"
    install_snakemake(made, public_python())
    # Its jobs call srun without SLURM_CONF, which only the slurm.conf of a system can do without.
    srun, real = made / "bin/srun", shutil.which("srun")
    conf = harsh.environment["SLURM_CONF"]
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={conf} exec {real} "$@"\n')
    srun.chmod(0o755)
    (profile,) = documents.texts(PAGE, "profile")
    (user.home / "profile").mkdir()
    (user.home / "profile/config.yaml").write_text(profile)
    (user.home / "Snakefile").write_text(SNAKEFILE)
    done = harsh.run(
        *("snakemake", "--profile", "profile", "prefix.txt"),
        # This Slurm has no accounting, and its jobs take few seconds.
        *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "10"),
        account=user,
        more={"PATH": f"{made}/bin:{Path(site.cnd).parent}:{PATH}"},
    )
    assert "has been submitted with SLURM jobid" in done.stderr
    assert (user.home / "prefix.txt").read_text() == f"{site.prefix}\nstep 0\n"
    site.tidy()
