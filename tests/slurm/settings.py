"""What Slurm is told, and which of its ways to follow processes work on this machine."""

from __future__ import annotations

import enum
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.accounts import SBIN

CLIENTS = ("srun", "sbatch", "scancel", "squeue", "sinfo", "scontrol")
DAEMONS = ("munged", "slurmctld", "slurmd")
CGROUPS = Path("/sys/fs/cgroup")

# Loaded into slurmstepd: daemons become its children when their parents end, and so
# proctrack/linuxproc, which follows parents, finds and kills them as proctrack/cgroup does.
ADOPT = """
#include <sys/prctl.h>
__attribute__((constructor)) static void adopt(void) { prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
"""

# Slurm listens at the address that the machine's name has, wherever that is: what is written
# before its commands gives the machine another name, for them alone.
AS_LOCALHOST = (
    *("unshare", "--uts", "sh", "-c"),
    'hostname localhost && exec "$@"',
    "sh",
)


class Tracking(enum.Enum):
    """How Slurm knows the processes of a step, all of which it kills when the step ends.

    DESCENDANTS stands in for CGROUP where the cgroups of the machine cannot be written: real Slurm
    with another method, which finds daemons all the same.
    """

    CGROUP = "proctrack/cgroup"
    DESCENDANTS = "descendants"
    LINUXPROC = "proctrack/linuxproc"
    PGID = "proctrack/pgid"

    @property
    def plugin(self) -> str:
        """The name that slurm.conf has for it."""
        return Tracking.LINUXPROC.value if self is Tracking.DESCENDANTS else self.value


@dataclass(frozen=True)
class Ports:
    """The ports of the two daemons, on loopback."""

    controller: int
    node: int


def missing_tools() -> list[str]:
    """Return the programs that a cluster needs and this machine does not have."""
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    return [name for name in (*CLIENTS, *DAEMONS) if shutil.which(name, path=path) is None]


def cgroup_problem() -> str | None:
    """Say why proctrack/cgroup cannot work on this machine, or None if it should."""
    freezer = CGROUPS / "freezer"
    if not (freezer / "cgroup.procs").exists():
        # For cgroup v2, Slurm wants a systemd to make its cgroups, or changes those of the machine.
        return f"{freezer} of cgroup v1 is not there"
    trial = freezer / f"condainer-trial-{os.getpid()}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        return f"{freezer} cannot be written ({error.strerror})"
    return None


def harshest() -> Tracking:
    """Return the method that kills daemons: Slurm's own with cgroups, or what stands in for it."""
    return Tracking.CGROUP if cgroup_problem() is None else Tracking.DESCENDANTS


def slurm_conf(
    directory: Path, node: str, cpus: int, tracking: Tracking, ports: Ports, more: str = ""
) -> str:
    """Return slurm.conf for one controller and one node, both on this machine's loopback.

    Parameters: `cpus` may be more than the machine has, `more` are further lines.
    """
    return f"""\
ClusterName={node}
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports.controller}
SlurmdPort={ports.node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/log/slurmctld
SlurmdLogFile={directory}/log/slurmd
SlurmctldDebug=info
SlurmdDebug=debug
SlurmdParameters=config_overrides
ProctrackType={tracking.plugin}
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
MailProg=/bin/true
KillWait=2
# A busy machine is no reason to give up a message, a job or a node.
MessageTimeout=100
BatchStartTimeout=300
UnkillableStepTimeout=600
NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=500 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
{more}"""
