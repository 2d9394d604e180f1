"""What it costs when nothing has to be built: no-op, fresh clone, exec, activation."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from benchmarks import ordinary
from benchmarks.contenders import conda_lock, make, nix_build, uv_sync
from benchmarks.measure import Contender, command, interleaved
from benchmarks.original import tool
from benchmarks.place import Place
from benchmarks.results import Claim, Row, Sample
from condainer.system import mount_table
from condainer.system.files import remove_tree

BARE = "python3 -c pass"
BUILD = "cnd build"
EXEC = "cnd exec -- true"


def bare(place: Place) -> Contender:
    """The interpreter that runs cnd, doing nothing."""
    return Contender(BARE, command([place.python, "-c", "pass"], env=place.environment))


def unchanged(place: Place) -> Row:
    """`cnd build` when nothing changed, beside what says the same in other tools."""
    project = place.scientific()
    place.built(project)
    place.built(project)
    # A file that was changed just now has to be looked at more closely; that is not this case.
    time.sleep(3)
    missing = []
    contenders = [
        Contender(BUILD, command([place.cnd, "build"], project, place.environment)),
        bare(place),
    ]
    for make_one in (uv_sync, nix_build, make, conda_lock):
        try:
            contenders.append(make_one(place))
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            missing.append(f"{make_one.__name__}: {str(error).strip()[-300:]}")
    samples = interleaved(contenders, place.effort)
    by_name = {sample.name: sample.median for sample in samples}
    claims = [Claim(f"bare `{BARE}`", by_name[BUILD] / by_name[BARE], 1.15)]
    if "uv sync" in by_name:
        claims.append(Claim("`uv sync`", by_name[BUILD] / by_name["uv sync"], 0.85))
    return Row(
        "unchanged",
        "`cnd build`, nothing changed",
        samples,
        tuple(claims),
        problem="; ".join(missing),
    )


def fresh_clone(place: Place) -> Row:
    """`cnd build` where only what is committed is there, and the image in the cache."""
    project = place.scientific()
    place.built(project)
    committed = [path for path in project.iterdir() if path.suffix in (".yml", ".txt", ".lock")]
    clone = place.root / "projects" / "clone"

    def clone_it() -> None:
        remove_tree(clone)
        clone.mkdir()
        for path in committed:
            shutil.copy(path, clone)

    cnd = Contender(BUILD, command([place.cnd, "build"], clone, place.environment), clone_it)
    samples = interleaved([cnd, bare(place)], place.effort)
    claim = Claim(f"bare `{BARE}`", samples[0].median / samples[1].median, 6)
    what = "`cnd build` in a fresh clone with a committed lock, image in the cache"
    return Row("fresh_clone", what, samples, (claim,))


def exec_mounted(place: Place) -> Row:
    """`cnd exec` of next to nothing, where the image is mounted."""
    project = place.scientific()
    place.built(project)
    place.run(project, "mount")
    try:
        cnd = Contender(
            EXEC, command([place.cnd, "exec", "--", "true"], project, place.environment)
        )
        samples = interleaved([cnd, bare(place)], place.effort)
    finally:
        place.run(project, "umount", "--force")
    claim = Claim(f"bare `{BARE}`", samples[0].median / samples[1].median, 1.6)
    return Row("exec_mounted", "`cnd exec -- true`, image mounted", samples, (claim,))


def exec_unmounted(place: Place) -> Row:
    """`cnd exec` of next to nothing, where the image has to be mounted.

    An ordinary user gets squashfuse_ll, root the kernel.
    """
    project = place.scientific()
    built = place.built(project)
    theirs, their_prefix = ordinary.project(place, project)
    point = ordinary.own(place.root / "by-hand")
    by_hand = [
        command([*ordinary.words(), tool("squashfuse_ll"), built["image"], point]),
        command([*ordinary.words(), tool("fusermount3"), "-u", point]),
    ]
    python = command([*ordinary.words(), place.python, "-c", "pass"], env=place.environment)
    contenders = [
        Contender(
            f"{EXEC}, squashfuse_ll, ordinary user",
            ordinary.cnd(place, theirs, "exec", "--", "true"),
            lambda: wait_until_gone(their_prefix),
        ),
        Contender("squashfuse_ll + fusermount3 -u", lambda: [run() for run in by_hand]),
        Contender(BARE, python),
    ]
    if os.geteuid() == 0:
        as_root = command([place.cnd, "exec", "--", "true"], project, place.environment)
        prefix = Path(built["prefix"])
        contenders.append(
            Contender(f"{EXEC}, kernel, root", as_root, lambda: wait_until_gone(prefix))
        )
    samples = interleaved(contenders, place.effort)
    for contender in contenders:
        contender.before()
    least = samples[1].median + 1.5 * samples[2].median
    claims = tuple(
        Claim(
            f"(mount + unmount + 1.5 bare python), {sample.name.removeprefix(f'{EXEC}, ')}",
            sample.median / least,
            1.0,
        )
        for sample in samples
        if sample.name.startswith(EXEC)
    )
    return Row("exec_unmounted", "`cnd exec -- true`, not mounted", samples, claims)


def wait_until_gone(prefix: Path) -> None:
    """Wait until nothing is mounted at a prefix; raises RuntimeError after 30 seconds."""
    deadline = time.monotonic() + 30
    # Root may not look into a mount of an ordinary user.
    while mount_table.mounted_at(prefix) is not None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{prefix} stays mounted")
        time.sleep(0.02)
    # The keeper removes the mount point, and ends.
    time.sleep(0.05)


def activate(place: Place) -> Row:
    """`source activate` where the image is mounted, without what bash itself takes."""
    project = place.scientific()
    place.built(project)
    place.run(project, "mount")
    path = f"{place.venv / 'bin'}:{os.environ['PATH']}"
    environment = {**place.environment, "PATH": path}
    try:
        samples = interleaved(
            [
                Contender(
                    "bash: source activate",
                    command(["bash", "-c", "source ./activate"], project, environment),
                ),
                Contender("bash", command(["bash", "-c", ":"], project, environment)),
            ],
            place.effort,
        )
    finally:
        place.run(project, "umount", "--force")
    value = 1000 * (samples[0].median - samples[1].median)
    own = Sample("source activate alone", (value / 1000,))
    claim = Claim("", value, 20, "ms", digits=1)
    return Row("activate", "`source activate`, mounted", (*samples, own), (claim,))
