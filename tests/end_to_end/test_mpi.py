"""The ranks of an MPI job run from one image, and read from each other's memory."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.helpers.jobs import OPEN_MPI
from tests.helpers.needed import needs
from tests.helpers.waiting import until
from tests.slurm import Account, Cluster, Site

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("accounts")]

RANKS = 4
# Longer than the linger: the rank that leaves first must not take the mount with it.
SECONDS = 1.2


@pytest.fixture(autouse=True)
def cleared(site: Site) -> Iterator[None]:
    """A test that fails must not make others fail."""
    yield
    site.clear()


@pytest.fixture(scope="module")
def ranks(site: Site) -> Path:
    """The program of ranks.c."""
    compiler = shutil.which("mpicc.openmpi")
    if compiler is None or shutil.which("mpirun.openmpi") is None:
        needs("OpenMPI's mpicc and mpirun")
    program = site.place / "ranks"
    source = Path(__file__).with_name("ranks.c")
    command = [str(compiler), "-O1", "-Wall", "-Werror", "-o", str(program), str(source)]
    subprocess.run(command, check=True)
    return program


def in_image(site: Site, ranks: Path) -> list[str]:
    """Return the command of a rank; rank 0, which leaves first, comes first and mounts."""
    rank = "${SLURM_PROCID:-$OMPI_COMM_WORLD_RANK}"
    run = f'exec {ranks} "$CONDA_PREFIX/conda-meta" {SECONDS}'
    return ["sh", "-c", f"[ {rank} = 0 ] || sleep 0.5; exec {site.cnd} exec -- sh -c '{run}'"]


def mpirun(site: Site, user: Account, ranks: Path) -> subprocess.CompletedProcess[str]:
    return user.run(
        *("mpirun.openmpi", "--oversubscribe", "-np", str(RANKS), *in_image(site, ranks)),
        environment={**site.environment, **OPEN_MPI, "OMPI_MCA_plm": "isolated"},
        status=None,
    )


def namespaces(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the mount namespaces of the ranks, all of which must have done their work."""
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    lines = [re.fullmatch(r"(\d+) (mnt:\S+) copied", line) for line in done.stdout.splitlines()]
    assert all(lines), done.stdout
    found = [match.groups() for match in lines if match]
    assert [int(rank) for rank, _ in found] == list(range(RANKS))
    return {namespace for _, namespace in found}


@contextmanager
def taken(site: Site, user: Account, how: str) -> Iterator[None]:
    """Let another user have the prefix, so that the image must be mounted privately."""
    if how == "directory":
        user.run("mkdir", str(site.prefix), environment={})
        try:
            yield
        finally:
            user.run("rmdir", str(site.prefix), environment={})
        return
    with user.start(site.cnd, "exec", "cat", environment=site.environment) as holder:
        until(site.mounts, "not mounted")
        yield
        assert holder.stdin is not None
        holder.stdin.close()
        assert holder.wait() == 0


def test_ranks_of_mpirun(site: Site, users: list[Account], ranks: Path) -> None:
    assert len(namespaces(mpirun(site, users[0], ranks))) == 1
    site.tidy(points=True)


@pytest.mark.parametrize("how", ["mount", "directory"])
def test_ranks_share_a_private_mount(
    site: Site, users: list[Account], ranks: Path, how: str
) -> None:
    first, second = users
    with taken(site, second, how):
        assert len(namespaces(mpirun(site, first, ranks))) == 1
    site.tidy(points=True)


@pytest.mark.parametrize("how", ["free", "mount"])
def test_ranks_of_srun(
    site: Site, users: list[Account], ranks: Path, harsh: Cluster, how: str
) -> None:
    """Slurm starts the ranks itself, and kills at the end what they left."""
    first, second = users
    argv = ["srun", "--mpi=pmix", "-n", str(RANKS), *in_image(site, ranks)]
    with taken(site, second, how) if how == "mount" else nullcontext():
        done = harsh.run(*argv, account=first, status=None, more=OPEN_MPI)
        assert len(namespaces(done)) == 1
    site.tidy()
