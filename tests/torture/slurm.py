"""Steps of a real Slurm at once and one after the other, some cancelled at random times."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.helpers.waiting import PATIENCE
from tests.slurm import Account, Cluster, Site

# How many steps run at the same time, and the most ranks that one has.
AT_ONCE = 6
RANKS = 4
# How likely a step is cancelled, and how long after its start at the latest, in seconds.
CANCELLED = 0.3
LATEST = 1.5

# Reads from the image for some turns; a listing is never answered from the page cache.
SCRIPT = """
turn=0
while [ $turn -lt $1 ]; do ls "$CONDA_PREFIX/conda-meta" >/dev/null || exit 70
    turn=$((turn + 1)); sleep 0.1; done
probe-prefix || exit 71
exit $2
"""


@dataclass
class Steps:
    """What came of a campaign; `ends` counts the steps by how they ended.

    `longest` is the time of the step that took longest, in seconds.
    """

    ends: Counter[str] = field(default_factory=Counter)
    longest: float = 0
    problems: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The number of steps that were started."""
        return self.ends.total()


@dataclass(frozen=True)
class Step:
    """A running step, what it must end with, and when it is to be cancelled (monotonic time).

    `job` is the job of its user that it runs in, or None if it has one of its own.
    """

    child: subprocess.Popen[str]
    user: Account
    name: str
    job: str | None
    ranks: int
    status: int
    started_at: float
    cancel_at: float | None


def campaign(site: Site, users: list[Account], cluster: Cluster, steps: int, seed: int) -> Steps:
    """Run steps of several users from one image, several at once, and cancel some.

    A step that is not cancelled must give the right answer in every rank and the right status,
    whatever ends beside it; at the end nothing may be left.
    """
    chance = random.Random(seed)
    result = Steps()
    jobs = {user: cluster.submit("sleep 3600", f"-n{RANKS}", account=user) for user in users}
    cluster.wait_for_start(*jobs.values())
    running: list[Step] = []
    started = 0
    while started < steps or running:
        while started < steps and len(running) < AT_ONCE:
            user = chance.choice(users)
            job = chance.choice((None, jobs[user]))
            running.append(_start(site, cluster, user, job, f"t{started}", chance))
            started += 1
        running = [step for step in running if not _ended(site, cluster, step, result)]
        time.sleep(0.02)
    cluster.run("scancel", *jobs.values())
    cluster.wait(*jobs.values())
    try:
        site.tidy()
    except AssertionError as error:
        result.problems.append(str(error))
    return result


def _start(
    site: Site,
    cluster: Cluster,
    user: Account,
    job: str | None,
    name: str,
    chance: random.Random,
) -> Step:
    ranks, turns = chance.randint(1, RANKS), chance.choice((0, 0, 1, 5, 10))
    status = chance.choice((0, 0, 0, 1, 42))
    now = time.monotonic()
    cancelled = chance.random() < CANCELLED
    delay = chance.uniform(0, LATEST)
    where = ["--jobid", job, "--overlap"] if job else ["--job-name", name]
    argv = ["srun", *where, "-n", str(ranks), site.cnd, "exec", "--", "sh", "-c", SCRIPT, "sh"]
    child = cluster.start(*argv, str(turns), str(status), account=user)
    until = now + delay if cancelled else None
    return Step(child, user, name, job, ranks, status, now, until)


def _ended(site: Site, cluster: Cluster, step: Step, result: Steps) -> bool:
    """Cancel a step when it is time, and judge it when it has ended."""
    now = time.monotonic()
    if step.child.poll() is None:
        if step.cancel_at is not None and now > step.cancel_at:
            _cancel(cluster, step)
        elif now > step.started_at + PATIENCE:
            step.child.kill()
            result.problems.append(f"{step.name} has not ended after {PATIENCE} s")
        return False
    result.longest = max(result.longest, now - step.started_at)
    stdout, stderr = step.child.communicate()
    right = stdout == step.ranks * f"{site.prefix}\n" and step.child.returncode == step.status
    if right:
        result.ends["right"] += 1
    elif step.cancel_at is not None:
        result.ends["cancelled"] += 1
    else:
        result.ends["wrong"] += 1
        result.problems.append(
            f"{step.name} of {step.user.name}: status {step.child.returncode} instead of "
            f"{step.status}\n{stdout}\n{stderr}"
        )
    return True


def _cancel(cluster: Cluster, step: Step) -> None:
    if step.job is None:
        cluster.run("scancel", "--name", step.name, account=step.user, status=None)
    else:
        # The tasks get it from srun.
        step.child.terminate()
