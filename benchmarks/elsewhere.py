"""What it costs to use an image from elsewhere: wrappers, Jupyter kernels, modules."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Contender, Effort, command, interleaved
from benchmarks.original import tool
from benchmarks.pins import KERNEL, KERNEL_REQUIREMENTS
from benchmarks.place import TOP, Place
from benchmarks.results import Claim, Row, Sample
from benchmarks.startup import wait_until_gone
from condainer.system.files import remove_tree

LMOD = Path("/usr/share/lmod/lmod/init/bash")
NOTHING = ["-c", "pass"]
PLAIN = "plain directory"
# For each line, ends the kernel that runs, and starts the one that the line names, if any.
CLIENT = """\
import sys
from jupyter_client.manager import KernelManager

manager = client = None
for line in sys.stdin:
    if manager:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager = None
    if name := line.strip():
        manager = KernelManager(kernel_name=name)
        manager.start_kernel()
        client = manager.client()
        client.start_channels()
        client.kernel_info(reply=True, timeout=60)
    print(flush=True)
"""


def wrapper(place: Place) -> Row:
    """A wrapper of Python beside the program itself, where the image is mounted."""
    project, directory = place.scientific(), place.root / "wrappers"
    prefix = Path(place.built(project)["prefix"])
    place.run(project, "wrap", str(directory))
    place.run(project, "mount")
    # A file that was changed just now has to be looked at more closely; that is not this case.
    time.sleep(3)
    environment = place.environment
    wrapped, program = directory / "bin/python", prefix / "bin/python"
    active = {
        **environment,
        "CONDAINER_ADDRESS": prefix.name.partition("-")[2],
        "CONDA_PREFIX": str(prefix),
    }
    try:
        samples = interleaved(
            [
                Contender("wrapper", command([str(wrapped), *NOTHING], env=environment)),
                Contender("wrapper, image active", command([str(wrapped), *NOTHING], env=active)),
                Contender("the program", command([str(program), *NOTHING], env=environment)),
            ],
            place.effort,
        )
    finally:
        place.run(project, "umount", "--force")
    whole, direct, bare = (1000 * sample.median for sample in samples)
    claims = (
        Claim("more than the program", whole - bare, 80, "ms", digits=1),
        Claim("more than the program, image active", direct - bare, 10, "ms", digits=1),
    )
    return Row("wrapper", "a wrapper of `python -c pass`, mounted", samples, claims)


def kernel(place: Place) -> Row:
    """A Jupyter kernel, from its start to its first answer to a running jupyter_client."""
    project = place.project("kernel", KERNEL, KERNEL_REQUIREMENTS)
    shutil.copy(TOP / "tools/jupyterlab-pins.txt", project)
    built = place.built(project, UV_NO_INDEX="false")
    prefix, tree, data = Path(built["prefix"]), place.root / "tree", place.root / "jupyter"
    remove_tree(tree)
    unpack: list[str | Path] = [tool("unsquashfs"), "-quiet", "-no-progress", "-d", tree]
    subprocess.run([*unpack, built["image"]], check=True, capture_output=True)
    more = {"JUPYTER_DATA_DIR": str(data), "PYTHONDONTWRITEBYTECODE": "1"}
    place.run(project, "tag", "kernel/1.0")
    for name, options in (("by-name", ["--env", "kernel/1.0"]), ("of-project", [])):
        place.run(project, "kernel", "install", "--name", name, *options, **more)
    for name, root in (("in-mount", prefix), ("in-tree", tree)):
        _plain_kernel(data / "kernels" / name, root)
    client = _Client(tree, {**place.environment, **more})

    def contender(what: str, name: str, before: Callable[[], object] = client.end) -> Contender:
        return Contender(what, lambda: client.start(name), before)

    def nothing_mounted() -> None:
        client.end()
        wait_until_gone(prefix)

    effort = Effort(5, 0.0) if place.quick else Effort(15, 20.0)
    plain = contender(PLAIN, "in-tree")
    try:
        place.run(project, "mount")
        mounted = interleaved(
            [
                contender("kernel of an image's name", "by-name"),
                contender("kernel of a project", "of-project"),
                contender("ipykernel from the mount", "in-mount"),
                plain,
            ],
            effort,
        )
        client.end()
        place.run(project, "umount", "--force")
        mounting = interleaved(
            [
                contender("kernel of an image's name, which mounts", "by-name", nothing_mounted),
                replace(plain, name=f"{PLAIN}, in turn with that"),
            ],
            effort,
        )
    finally:
        client.close()
        place.run(project, "umount", "--force")
    remove_tree(tree)
    added, whole = 1000 * (mounted[0].median - mounted[-1].median), 1000 * mounting[0].median
    # Up to 0.1 s seems immediate, up to 1 s does not interrupt a thought (Nielsen 1993).
    claims = (
        Claim("more than from a plain directory, mounted", added, 100, "ms", digits=1),
        Claim("in all, not mounted", whole, 1000, "ms", digits=1),
    )
    samples = (*mounted, *mounting)
    return Row("kernel", "start of a Jupyter kernel, to its first answer", samples, claims)


def _plain_kernel(directory: Path, root: Path) -> None:
    """Write the specification of a kernel that does without cnd."""
    argv = [str(root / "bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": directory.name, "language": "python"}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")


class _Client:
    """A program with jupyter_client that has one kernel at a time."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self._child = subprocess.Popen(
            [root / "bin/python", "-c", CLIENT], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self, name: str) -> None:
        """Start a kernel, and return when it has answered; raises RuntimeError if it has not."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{name}\n")
        self._child.stdin.flush()
        if not self._child.stdout.readline():
            raise RuntimeError(f"the kernel {name or 'that ran'} has not answered, or not ended")

    def end(self) -> None:
        """End the kernel that runs, if there is one."""
        self.start("")

    def close(self) -> None:
        """End the program, which ends its kernel with it."""
        self._child.communicate("\n")


def module(place: Place) -> Row:
    """`module load`, without what bash and Lmod take to start."""
    if not LMOD.exists():
        raise RuntimeError("Lmod is not installed")
    project, directory = place.scientific(), place.root / "modules"
    place.built(project)
    place.run(project, "module", "scientific/1.0", "--dir", str(directory))
    environment = {**place.environment, "PATH": os.environ["PATH"]}
    begin = f". {LMOD}; module use {directory}"
    samples = interleaved(
        [
            Contender(
                "module load",
                command(["bash", "-c", f"{begin}; module load scientific"], env=environment),
            ),
            Contender("bash with Lmod", command(["bash", "-c", begin], env=environment)),
        ],
        place.effort,
    )
    value = 1000 * (samples[0].median - samples[1].median)
    own = Sample("module load alone", (value / 1000,))
    return Row("module", "`module load`", (*samples, own), (Claim("", value, 150, "ms", digits=1),))
