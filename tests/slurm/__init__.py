"""Real Slurm on this one machine, started for a test and ended after it."""

from __future__ import annotations

from tests.helpers.accounts import Account, accounts
from tests.slurm.cluster import Cluster, SlurmFailed, cluster
from tests.slurm.settings import Tracking, cgroup_problem, harshest, missing_tools
from tests.slurm.site import Site, public_python, site

__all__ = [
    "Account",
    "Cluster",
    "Site",
    "SlurmFailed",
    "Tracking",
    "accounts",
    "cgroup_problem",
    "cluster",
    "harshest",
    "missing_tools",
    "public_python",
    "site",
]
