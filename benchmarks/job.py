"""A command in a step of a real batch job, as an ordinary user."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.place import TOP, Place
from benchmarks.results import Claim, Row, Sample
from benchmarks.startup import BARE, EXEC
from tests import slurm
from tests.channel import ensure_channel

# Runs in one step: the first command mounts the image, and a second later its keeper is known.
STEP = """
import json, subprocess, sys, time
rounds, first, contenders = json.loads(sys.argv[1])
subprocess.run(first, check=True)
time.sleep(1)
times = {name: [] for name in contenders}
for _ in range(rounds):
    for name, argv in contenders.items():
        begun = time.perf_counter()
        subprocess.run(argv, check=True)
        times[name].append(time.perf_counter() - begun)
print(json.dumps(times))
"""


def exec_job(place: Place) -> Row:
    """`cnd exec` of next to nothing, where the step's first command has mounted the image."""
    rounds = 7 if place.quick else 101
    with (
        slurm.site(ensure_channel(TOP / ".channel"), "dependencies: [python]\n", linger=60) as site,
        slurm.accounts(site.place, 1) as (user,),
        site.cluster(slurm.harshest()) as cluster,
    ):
        cnd, project = user.home / "cnd", user.home / "project"
        program = Path(site.cnd).read_text(encoding="utf-8")
        cnd.write_text(program.replace(f"{site.place}/project", str(project)), encoding="utf-8")
        cnd.chmod(0o755)
        files = f"{site.place}/project/environment.yml {site.place}/project/*.lock"
        # Built in the step: a stamp holds for one list of groups.
        first = f"mkdir {project} && cp {files} {project} && {cnd} -q build && {cnd} exec -- true"
        python = slurm.public_python()
        contenders = {
            EXEC: [str(cnd), "exec", "--", "true"],
            BARE: ["sh", "-c", 'exec "$@"', "sh", python, "-I", "-c", "pass"],
        }
        given = json.dumps([rounds + 1, ["sh", "-c", first], contenders])
        done = cluster.run("srun", "-n", "1", python, "-I", "-c", STEP, given, account=user)
        times: dict[str, list[float]] = json.loads(done.stdout)
    ours, bare = (Sample(name, tuple(times[name][1:])) for name in (EXEC, BARE))
    return Row(
        "exec_job",
        f"`{EXEC}` in a step of a Slurm job that has mounted the image",
        (ours, bare),
        (Claim(f"bare `{BARE}`", ours.median / bare.median, 2.0),),
        note="an ordinary user; both are started by sh",
    )
