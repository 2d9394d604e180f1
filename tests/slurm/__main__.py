"""Start a cluster with an account and a built image, print how to use it, and wait for ^C."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
import threading
from pathlib import Path

from tests.channel import ensure_channel
from tests.helpers.accounts import PATH, accounts
from tests.slurm.settings import (
    AS_LOCALHOST,
    Tracking,
    cgroup_problem,
    harshest,
    missing_tools,
)
from tests.slurm.site import site

TOP = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run the cluster until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.slurm", description=__doc__)
    names = [tracking.name.lower() for tracking in Tracking]
    parser.add_argument("--tracking", choices=names, default=harshest().name.lower())
    parser.add_argument("--linger", type=float, default=0.3, help="seconds")
    options = parser.parse_args()
    if missing := missing_tools():
        print(f"missing: {', '.join(missing)}; tools/setup installs them", file=sys.stderr)
        return 1
    if problem := cgroup_problem():
        print(f"proctrack/cgroup cannot work here: {problem}", file=sys.stderr)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: ended.set())
    tracking = Tracking[options.tracking.upper()]
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(site(ensure_channel(TOP / ".channel"), linger=options.linger))
        first, second = stack.enter_context(accounts(found.place, 2))
        running = stack.enter_context(found.cluster(tracking))
        print(f"Slurm runs with {tracking.value}; its logs are in {running.directory}/log.")
        print("In another terminal, as root:\n")
        for name, value in running.environment.items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"export PATH={found.place}/bin:{PATH}\ncd {found.place}")
        for account in (first, second):
            home = f"HOME={account.home} USER={account.name}"
            words = shlex.join([*AS_LOCALHOST, *account.become])
            print(f'{account.name[-1]}() {{ env {home} {words} "$@"; }}')
        print("a srun -n 32 cnd exec -- probe-prefix\n\n^C ends it all.", flush=True)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
