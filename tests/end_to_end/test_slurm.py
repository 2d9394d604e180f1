"""Jobs of a real Slurm run from one image, whatever Slurm kills at the end of a step."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import slurm
from tests.helpers.accounts import PATH
from tests.helpers.jobs import READER, ended
from tests.helpers.waiting import until
from tests.slurm import Account, Cluster, Site, Tracking

# useradd locks /etc/passwd: whoever makes accounts does so in one worker.
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("accounts")]


@pytest.fixture(autouse=True)
def cleared(site: Site) -> Iterator[None]:
    """A test that fails must not make others fail."""
    yield
    site.clear()


def test_ranks_share_one_image(site: Site, users: list[Account], harsh: Cluster) -> None:
    done = harsh.run("srun", "-n", "32", site.cnd, "exec", "--", "probe-prefix", account=users[0])
    assert Counter(done.stdout.splitlines()) == {str(site.prefix): 32}, done.stderr
    site.tidy()


def test_later_commands_of_a_step_enter_its_mount_quickly(
    site: Site, users: list[Account], harsh: Cluster
) -> None:
    user = users[0]
    text = Path(site.cnd).read_text().replace(f"{site.place}/project", f"{user.home}/project")
    only = "import condainer.__main__ as main; main._run_again = lambda call: None; "
    only += "main._run = lambda given: 99; sys.exit(main.entry())"
    for name, program in (("cnd", text), ("short", text.replace("sys.exit(entry())", only))):
        (user.home / name).write_text(program)
        (user.home / name).chmod(0o755)
    script = f"""
        mkdir project
        cp {site.place}/project/environment.yml {site.place}/project/*.lock project
        ./cnd --quiet build
        show='readlink /proc/self/ns/mnt; probe-prefix'
        ./short exec sh -c "$show"; echo $?
        ./cnd exec sh -c "$show; touch ready; exec sleep 3600" & first=$!
        notes={site.base}/.condainer-$(id -u)/*-job_${{SLURM_JOB_ID}}_$SLURM_STEP_ID.namespace
        until [ -e ready ] && grep -qv '^0 ' $notes; do
            sleep 0.05
        done
        ./short exec sh -c "$show"; echo $?
        kill $first
    """
    done = harsh.run("srun", "-n", "1", "sh", "-c", script, account=user)
    status, namespace, prefix, *later = done.stdout.splitlines()
    assert (status, prefix) == ("99", str(site.prefix)), done.stderr
    assert later == [namespace, prefix, "0"], done.stderr
    assert namespace != os.readlink("/proc/self/ns/mnt")
    site.tidy()


@pytest.mark.parametrize("tracking", [Tracking.LINUXPROC, Tracking.PGID])
def test_a_step_where_daemons_live_on(site: Site, users: list[Account], tracking: Tracking) -> None:
    user = users[0]
    with site.cluster(tracking) as cluster:
        done = cluster.run("srun", "-n", "4", site.cnd, "exec", "probe-prefix", account=user)
        assert done.stdout == 4 * f"{site.prefix}\n", done.stderr
        site.tidy(points=True)


@pytest.mark.parametrize("tracking", sorted({slurm.harshest(), Tracking.DESCENDANTS}, key=str))
def test_daemons_are_killed_with_the_step(
    site: Site, users: list[Account], harsh: Cluster, tracking: Tracking
) -> None:
    """The stand-in for proctrack/cgroup does what that does; neither may kill before the end."""
    script = """
        setsid sh -c 'sleep 3600 & echo $!' >"$HOME/daemon"
        until [ -s "$HOME/daemon" ]; do sleep 0.05; done
        sleep 0.5; kill -0 $(cat "$HOME/daemon") && echo alive
    """
    with contextlib.ExitStack() as stack:
        cluster = harsh
        if harsh.tracking is not tracking:
            cluster = stack.enter_context(site.cluster(tracking))
        argv = ["srun", "-n", "1", "sh", "-c", script]
        assert cluster.run(*argv, account=users[0]).stdout == "alive\n"
    daemon = Path("/proc", (users[0].home / "daemon").read_text().strip())
    until(lambda: not daemon.exists(), f"{daemon} lives")


def test_srun_returns_the_highest_status(site: Site, users: list[Account], harsh: Cluster) -> None:
    script = "exit $((SLURM_PROCID * 7))"
    argv = ["srun", "-n", "4", site.cnd, "exec", "--", "sh", "-c", script]
    done = harsh.run(*argv, account=users[0], status=21)
    assert done.stdout == ""
    argv[-1] = "kill -TERM $$"
    assert harsh.run(*argv, account=users[0], status=None).returncode == 128 + 15
    site.tidy()


def test_job_array(site: Site, users: list[Account], harsh: Cluster) -> None:
    user = users[0]
    script = f"{site.cnd} exec -- sh -c 'probe-prefix; exit $SLURM_ARRAY_TASK_ID'"
    job = harsh.submit(script, "--array=0-5", account=user)
    harsh.wait(job)
    outputs = sorted(user.home.glob(f"{job}.*.out"))
    assert [path.read_text() for path in outputs] == [f"{site.prefix}\n"] * 6
    states = [harsh.state(f"{job}_{task}") for task in range(6)]
    assert states == ["COMPLETED"] + 5 * ["FAILED"]
    site.tidy()


@pytest.mark.parametrize("last", ["", "cnd -q umount"], ids=["", "umount"])
def test_job_of_an_activated_shell(
    site: Site, users: list[Account], harsh: Cluster, last: str
) -> None:
    """It inherits what that shell exported, and renews it: the shell and its mount are gone."""
    user, project = users[0], site.place / "project"
    told = (
        'echo "${CONDAINER_ADDRESS-none} ${CONDA_PREFIX-none} ${PROBE_ACTIVE-none} $MPLCONFIGDIR"'
    )
    (user.home / "job.sh").write_text(
        f"""#!/bin/bash
{told}
source {project}/activate || exit
{told}
command -v probe-prefix
probe-prefix
source {project}/deactivate
{told}
command -v probe-prefix || echo "gone from $PATH"
{last}
"""
    )
    script = f"""
        source {project}/activate || exit
        sbatch --parsable --hold --export=ALL --output=%A.out job.sh
    """
    path = f"{site.place}/bin:{PATH}"
    more = {"PATH": path, "MPLCONFIGDIR": "mine"}
    done = harsh.run("bash", "-c", script, account=user, more=more)
    assert done.stderr == ""
    job = done.stdout.strip()
    # The mount of that shell has ended with it.
    site.tidy()
    harsh.run("scontrol", "release", job, account=user)
    harsh.wait(job)
    active = f"{site.address} {site.prefix} {site.prefix} mine"
    assert (user.home / f"{job}.out").read_text().splitlines() == [
        active,
        active,
        f"{site.prefix}/bin/probe-prefix",
        str(site.prefix),
        "none none none mine",
        f"gone from {path}",
    ]
    if last:
        site.tidy(points=True)
    # Otherwise, Slurm has killed the daemon with the job; who comes next mounts anew.
    script = f"source {project}/activate && probe-prefix && source {project}/deactivate"
    done = harsh.run("bash", "-c", script, account=user, more=more)
    assert (done.stdout, done.stderr) == (f"{site.prefix}\n", "")
    site.tidy()


def test_cancelled_job(site: Site, users: list[Account], harsh: Cluster) -> None:
    user = users[0]
    # A batch step, and a step of its own with several tasks, both in the image.
    inner = f"srun -n 4 {site.cnd} exec -- sh -c 'touch cancelled.runs; exec sleep 3600'"
    script = f"{site.cnd} exec -- sleep 3600 & {inner}"
    job = harsh.submit(script, "--ntasks=4", account=user)
    until((user.home / "cancelled.runs").exists, harsh.log_ends())
    harsh.run("scancel", job, account=user)
    harsh.wait(job)
    assert harsh.state(job) == "CANCELLED"
    site.tidy()
    done = harsh.run("srun", "-n", "2", site.cnd, "exec", "probe-prefix", account=user)
    assert done.stdout == 2 * f"{site.prefix}\n"
    site.tidy()


def test_step_that_ends_while_another_goes_on(
    site: Site, users: list[Account], harsh: Cluster
) -> None:
    user = users[0]
    first, second = (user.home / name for name in ("step one", "step two"))
    run = f"srun --overlap --exact -n 2 {site.cnd} exec -- sh -c '{READER}' sh"
    script = f"""
        {run} '{first}' & one=$!
        until [ -e '{first}.runs' ]; do sleep 0.05; done
        {run} '{second}' & two=$!
        until [ -e '{second}.runs' ]; do sleep 0.05; done
        touch '{first}.end'; wait $one; echo "first $?"
        sleep 1
        touch '{second}.end'; wait $two; echo "second $?"
        srun -n 1 {site.cnd} exec probe-prefix; echo "third $?"
    """
    job = harsh.submit(script, "--ntasks=4", account=user)
    harsh.wait(job)
    said = (user.home / f"{job}.4294967294.out").read_text()
    prefix = f"{site.prefix}\n"
    assert said == f"{2 * prefix}first 0\n{2 * prefix}second 0\n{prefix}third 0\n"
    site.tidy()


def test_job_that_ends_while_another_of_the_user_goes_on(
    site: Site, users: list[Account], harsh: Cluster
) -> None:
    user = users[0]
    children = []
    for name in ("job one", "job two"):
        argv = [site.cnd, "exec", "--", "sh", "-c", READER, "sh", str(user.home / name)]
        children.append(harsh.start("srun", "-n", "2", *argv, account=user))
        until((user.home / f"{name}.runs").exists, harsh.log_ends())
    for name, child in zip(("job one", "job two"), children, strict=True):
        (user.home / f"{name}.end").touch()
        status, stdout, stderr = ended(child)
        assert (status, stdout) == (0, 2 * f"{site.prefix}\n"), f"{name}: {stderr}"
        time.sleep(1)
    site.tidy()


def test_first_rank_that_leaves_breaks_nobody(
    site: Site, users: list[Account], harsh: Cluster
) -> None:
    script = """
        touch rank.$SLURM_PROCID
        if [ $SLURM_PROCID = 0 ]; then
            until [ -e rank.1 ] && [ -e rank.2 ] && [ -e rank.3 ]; do sleep 0.05; done
            exec probe-prefix
        fi
        for turn in 1 2 3 4 5 6; do ls "$CONDA_PREFIX/conda-meta" >/dev/null || exit 70
            sleep 0.2; done
        exec probe-prefix
    """
    # The first one mounts.
    wait = "[ $SLURM_PROCID = 0 ] || until [ -e rank.0 ]; do sleep 0.05; done"
    late = f"{wait}; exec {site.cnd} exec -- sh -c '{script}'"
    done = harsh.run("srun", "-n", "4", "sh", "-c", late, account=users[0])
    assert done.stdout == 4 * f"{site.prefix}\n", done.stderr
    site.tidy()


def test_mount_that_was_made_before_the_jobs(
    site: Site, users: list[Account], harsh: Cluster
) -> None:
    user = users[0]
    kept = harsh.start(site.cnd, "exec", "cat", account=user)
    until(site.mounts, "not mounted")
    done = harsh.run("srun", "-n", "4", site.cnd, "exec", "probe-prefix", account=user)
    assert done.stdout == 4 * f"{site.prefix}\n"
    assert len(site.mounts()) == 1
    assert ended(kept)[0] == 0
    site.tidy()


def test_two_users_at_once(site: Site, users: list[Account], harsh: Cluster) -> None:
    children = []
    for user in users:
        argv = [site.cnd, "exec", "--", "sh", "-c", READER, "sh", str(user.home / "both")]
        children.append(harsh.start("srun", "-n", "2", *argv, account=user))
    for user in users:
        until((user.home / "both.runs").exists, harsh.log_ends())
    for user, child in zip(users, children, strict=True):
        (user.home / "both.end").touch()
        status, stdout, stderr = ended(child)
        assert (status, stdout) == (0, 2 * f"{site.prefix}\n"), stderr
        time.sleep(1)
    site.tidy()
