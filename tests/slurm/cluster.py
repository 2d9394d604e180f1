"""A cluster of one node: munged, slurmctld and slurmd of our own, beside those of the system."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.accounts import PATH, ROOT, Account
from tests.helpers.waiting import PATIENCE
from tests.slurm.settings import (
    ADOPT,
    AS_LOCALHOST,
    CGROUPS,
    DAEMONS,
    Ports,
    Tracking,
    slurm_conf,
)

# How long the daemons and steps may take to end, in seconds.
ENDING = 30.0
CPUS = 64
LAST_LINES = 15

_numbers = itertools.count()


class SlurmFailed(Exception):
    """Slurm did not do in time what it should; the text has the ends of its logs."""


@dataclass
class Cluster:
    """A running cluster, and the commands by which its users run jobs."""

    directory: Path
    node: str
    tracking: Tracking
    settings: Mapping[str, str]
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to talk to this cluster and no other, and the settings."""
        conf = str(self.directory / "slurm.conf")
        return {"LC_ALL": "C.UTF-8", "SLURM_CONF": conf, **self.settings}

    def start(self, *argv: str, account: Account = ROOT) -> subprocess.Popen[str]:
        """Start a command of Slurm; see `Account.start`."""
        return account.start(*argv, environment=self.environment, before=AS_LOCALHOST)

    def run(
        self,
        *argv: str,
        account: Account = ROOT,
        status: int | None = 0,
        timeout: float | None = None,
        more: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of Slurm to its end; see `Account.run`.

        Parameters: `more` are environment variables.
        """
        return account.run(
            *argv,
            environment={**self.environment, **(more or {})},
            before=AS_LOCALHOST,
            status=status,
            timeout=timeout,
        )

    def submit(self, script: str, *options: str, account: Account) -> str:
        """Submit a shell script as a batch job and return its number.

        What task `T` of job `J` says goes to `J.T.out` in the home directory; without an array,
        T is 4294967294.
        """
        options = ("--output=%A.%a.out", "--export=ALL", *options)
        argv = ["sbatch", "--parsable", *options, f"--wrap={script}"]
        return self.run(*argv, account=account).stdout.strip()

    def jobs(self) -> list[str]:
        """Return the numbers of the jobs that have not ended."""
        return self.run("squeue", "-h", "-r", "-o", "%A").stdout.split()

    def state(self, job: str) -> str:
        """Return the state of a job as `scontrol` has it: RUNNING, COMPLETED, CANCELLED, …"""
        shown = self.run("scontrol", "-o", "show", "job", job).stdout
        return shown.split("JobState=")[1].split()[0]

    def wait_for_start(self, *jobs: str) -> None:
        """Wait until jobs run."""
        _until(
            lambda: all(self.state(job) == "RUNNING" for job in jobs),
            f"jobs {', '.join(jobs)} do not run: {self.log_ends()}",
        )

    def wait(self, *jobs: str) -> None:
        """Wait until jobs have ended, with all their tasks."""
        _until(
            lambda: not self.run("squeue", "-h", "-o", "%A", "-j", ",".join(jobs)).stdout.split(),
            f"jobs {', '.join(jobs)} have not ended: {self.log_ends()}",
        )

    def log_ends(self) -> str:
        """Return the last lines of the daemons' logs."""
        return "".join(
            f"\n== {path.name}\n"
            + "\n".join(path.read_text(errors="replace").splitlines()[-LAST_LINES:])
            for path in sorted((self.directory / "log").iterdir())
        )


@contextmanager
def cluster(
    directory: Path,
    tracking: Tracking,
    settings: Mapping[str, str] | None = None,
    cpus: int = CPUS,
    lines: str = "",
    before: Sequence[str] = (),
) -> Iterator[Cluster]:
    """Start a cluster of one node in an empty directory, and end it afterwards.

    The caller is root, and all directories above are root's. Nothing of a munge or Slurm of the
    system is touched: keys, sockets, ports and state are our own. Parameters: `settings` are
    environment variables for all commands, `cpus` is what the node claims to have, `lines` are
    added to slurm.conf, `before` are words that come before the command of the node's daemon.
    Raises SlurmFailed.
    """
    made = Cluster(directory, f"cnd{os.getpid()}x{next(_numbers)}", tracking, settings or {})
    _prepare(made, cpus, lines)
    try:
        _start(made, before)
        yield made
    finally:
        _stop(made)


def _prepare(made: Cluster, cpus: int, lines: str) -> None:
    directory = made.directory
    directory.chmod(0o755)
    for name in ("munge", "state", "spool", "log"):
        (directory / name).mkdir()
        (directory / name).chmod(0o755)
    key = directory / "munge" / "key"
    key.touch(0o600)
    key.write_bytes(os.urandom(1024))
    text = slurm_conf(directory, made.node, cpus, made.tracking, _free_ports(), lines)
    (directory / "slurm.conf").write_text(text, encoding="utf-8")
    (directory / "cgroup.conf").write_text(f"CgroupMountpoint={CGROUPS}\n", encoding="utf-8")


def _free_ports() -> Ports:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return Ports(first.getsockname()[1], second.getsockname()[1])


def _start(made: Cluster, before: Sequence[str]) -> None:
    munge = made.directory / "munge"
    own = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
    own.append(f"--socket={munge / 'socket'}")
    _daemon(made, {}, "munged", "--foreground", "--force", "--origin=127.0.0.1", *own)
    _until(lambda: _answers(munge / "socket"), "munged does not answer", made)
    conf = str(made.directory / "slurm.conf")
    _daemon(made, {}, "slurmctld", "-D", "-f", conf)
    more = {"LD_PRELOAD": _adopt(made.directory)} if made.tracking is Tracking.DESCENDANTS else {}
    _daemon(made, more, *before, "slurmd", "-D", "-f", conf)
    _until(lambda: _is_idle(made), "the node does not become idle", made)


def _daemon(made: Cluster, environment: Mapping[str, str], *argv: str) -> None:
    name = next(word for word in argv if word in DAEMONS)
    with (made.directory / "log" / f"{name}.output").open("wb") as output:
        child = subprocess.Popen(
            [*AS_LOCALHOST, *argv],
            cwd=made.directory,
            env={"PATH": PATH, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    made.daemons.append(child)


def _adopt(directory: Path) -> str:
    library = directory / "adopt.so"
    (directory / "adopt.c").write_text(ADOPT, encoding="utf-8")
    command = ["gcc", "-shared", "-fPIC", "-o", str(library), str(directory / "adopt.c")]
    subprocess.run(command, check=True)
    return str(library)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(str(path))
        return True
    return False


def _is_idle(made: Cluster) -> bool:
    return made.run("sinfo", "-h", "-o", "%T", status=None).stdout.strip() == "idle"


def _until(
    condition: Callable[[], object],
    what: str,
    made: Cluster | None = None,
    seconds: float = PATIENCE,
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        dead = made is not None and any(child.poll() is not None for child in made.daemons)
        if dead or time.monotonic() > deadline:
            raise SlurmFailed(what + (made.log_ends() if made else ""))
        time.sleep(0.05)


def _stop(made: Cluster) -> None:
    """End the jobs and then the daemons, each by its number."""
    if len(made.daemons) == 3:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired, SlurmFailed):
            if jobs := made.jobs():
                made.run("scancel", *jobs, timeout=ENDING)
                made.run("scancel", "--signal=KILL", *jobs, timeout=ENDING, status=None)
            _until(lambda: not _steps(made), "steps are still there", seconds=ENDING)
    for child in reversed(made.daemons):
        child.terminate()
        try:
            child.wait(ENDING)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for step in _steps(made):
        with contextlib.suppress(ProcessLookupError):
            os.kill(step, signal.SIGKILL)
    _remove_cgroup(CGROUPS / "freezer" / f"slurm_{made.node}")


def _steps(made: Cluster) -> list[int]:
    """Return the slurmstepd processes of this cluster: those that write to its log."""
    found, log = [], str(made.directory / "log" / "slurmd")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text() == "slurmstepd\n":
                opened = {os.readlink(item) for item in (process / "fd").iterdir()}
                if log in opened:
                    found.append(int(process.name))
    return found


def _remove_cgroup(top: Path) -> None:
    for directory, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
