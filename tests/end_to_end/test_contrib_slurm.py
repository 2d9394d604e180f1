"""contrib/slurm: a real Slurm's prolog mounts for all users of the node, and its epilog clears."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from condainer.cache import entries
from tests import slurm
from tests.helpers import documents
from tests.helpers.accounts import ROOT
from tests.helpers.jobs import READER, ended
from tests.helpers.needed import needs
from tests.helpers.projects import TOP
from tests.helpers.waiting import until
from tests.slurm import Account, Cluster, Site

# useradd locks /etc/passwd: whoever makes accounts does so in one worker.
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("accounts")]

# Says what is mounted for it, and by what.
SEEN = 'probe-prefix; grep " $CONDA_PREFIX " /proc/self/mounts | cut -d " " -f 3 | tail -n 1'
KERNEL, OWN = "squashfs", "fuse.squashfuse_ll"


@dataclass(frozen=True)
class Node:
    """The node of a cluster whose slurm.conf names the scripts in a directory.

    It has mounts of its own: others on this machine test `cnd umount --all` as root.
    """

    site: Site
    cluster: Cluster
    scripts: Path

    @property
    def stage(self) -> Path:
        return self.scripts / "stage"

    @property
    def inside(self) -> tuple[str, ...]:
        """What root writes before a command that is to see the mounts of the node."""
        return ("nsenter", f"--target={self.cluster.daemons[-1].pid}", "--mount")

    def set(self, images: str, *lines: str) -> None:
        """Write the settings of the scripts: those that are delivered, and what a site adds."""
        text = (TOP / "contrib/slurm/settings").read_text(encoding="utf-8")
        own = [f'images="{images}"', f"state={self.scripts}/state", f"log={self.scripts}/log"]
        own.append(f"PATH={Path(self.site.cnd).parent}:$PATH")
        exported = {**self.site.environment, "HOME": str(self.scripts)}
        own += [f"export {name}={shlex.quote(value)}" for name, value in exported.items()]
        text += "".join(f"{line}\n" for line in (*own, *lines))
        (self.scripts / "settings").write_text(text, encoding="utf-8")
        (self.scripts / "log").write_text("")

    def run(self, user: Account) -> str:
        """Run a job to its end, and return by what its image was mounted; the node stays in use."""
        script = f"{self.site.cnd} exec -- sh -c '{SEEN}'"
        job = self.cluster.submit(script, "--output=seen.out", account=user)
        self.cluster.wait(job)
        assert self.cluster.state(job) == "COMPLETED"
        assert self.cluster.run("sinfo", "-h", "-o", "%T").stdout == "idle\n"
        prefix, kind = (user.home / "seen.out").read_text().splitlines()
        assert prefix == str(self.site.prefix)
        return kind

    def cnd(self, *arguments: str) -> None:
        """Run `cnd` on the node as its administrator."""
        environment = self.site.environment
        ROOT.run(self.site.cnd, "-q", *arguments, environment=environment, before=self.inside)

    def said(self) -> str:
        """Return what the scripts have said since the settings were written."""
        return (self.scripts / "log").read_text()

    def mounts(self) -> list[tuple[str, str]]:
        """Return the mounts at the prefix: their numbers, which no other mount gets, and kinds."""
        path = Path(f"/proc/{self.cluster.daemons[-1].pid}/mountinfo")
        fields = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        at_prefix = [words for words in fields if words[4] == str(self.site.prefix)]
        return [(words[0], words[words.index("-") + 1]) for words in at_prefix]

    def copies(self) -> list[str]:
        """Return the files below the stage that devices are made of."""
        found = []
        for path in Path("/sys/block").glob("loop*/loop/backing_file"):
            # It may go away meanwhile.
            text = path.read_text() if path.exists() else ""
            found += [text.strip()] * text.startswith(f"{self.stage}/")
        return found

    def tidy(self) -> None:
        """Wait for the last epilog, and see that nothing is left."""
        until(lambda: not self.cluster.jobs(), self.cluster.log_ends())
        assert self.mounts() == []
        self.site.tidy()

    def clear(self) -> None:
        """Unmount what a failed test left."""
        for _ in self.mounts():
            subprocess.run([*self.inside, "umount", "--lazy", self.site.prefix], check=True)
        self.site.clear()


@pytest.fixture(scope="module")
def running(site: Site) -> Iterator[Node]:
    """A cluster whose slurm.conf names the scripts."""
    if missing := slurm.missing_tools():
        needs(", ".join(missing))
    scripts = site.place / "slurm-scripts"
    shutil.copytree(TOP / "contrib/slurm", scripts)
    (scripts / "stage").mkdir()
    (lines,) = documents.texts("how-to/slurm.md", "conf")
    lines = lines.replace("/etc/slurm/condainer", str(scripts))
    with site.cluster(slurm.harshest(), lines, before=("unshare", "--mount")) as cluster:
        yield Node(site, cluster, scripts)


@pytest.fixture
def node(running: Node) -> Iterator[Node]:
    """The same, with the settings of a site that names one image."""
    running.set(running.site.address)
    yield running
    # A test that fails must not make others fail.
    running.clear()


def test_two_users_share_a_mount_that_goes_with_the_last_job(
    node: Node, users: list[Account]
) -> None:
    site, cluster = node.site, node.cluster
    children, mounts = [], []
    for user in users:
        argv = [site.cnd, "exec", "--", "sh", "-c", f"{SEEN}\n{READER}", "sh"]
        children.append(cluster.start("srun", *argv, str(user.home / "job"), account=user))
        until((user.home / "job.runs").exists, cluster.log_ends())
        mounts += node.mounts()
    # Nothing was mounted for the second.
    assert mounts == [mounts[0]] * 2
    for user, child in zip(users, children, strict=True):
        (user.home / "job.end").touch()
        assert ended(child) == (0, f"{site.prefix}\n{KERNEL}\n{site.prefix}\n", "")
        if user is users[0]:
            until(lambda: len(cluster.jobs()) == 1, cluster.log_ends())
            assert node.mounts() == mounts[:1]
    node.tidy()
    assert site.points() == []


def test_what_cannot_be_mounted_is_said_and_no_job_or_node_suffers(
    node: Node, users: list[Account]
) -> None:
    node.set(f"no/such {node.site.address}")
    assert node.run(users[0]) == KERNEL
    assert "no/such is not mounted: cnd: No image has the name no/such" in node.said()
    node.tidy()


def test_a_copy_on_the_node_goes_with_the_mount(
    node: Node, users: list[Account], named: str
) -> None:
    (settings,) = documents.texts("how-to/slurm.md", "settings")
    node.set(f"not {named}", settings.replace("/var/tmp/condainer-slurm", str(node.stage)))
    # What a prolog left that was killed.
    killed = node.stage / ".condainer-0/staged/begun.copying"
    killed.parent.mkdir(parents=True)
    for directory in (killed.parent, killed.parent.parent):
        directory.chmod(0o700)
    killed.touch()
    argv = [node.site.cnd, "exec", "--", "sh", "-c", READER, "sh", str(users[0].home / "staged")]
    child = node.cluster.start("srun", *argv, account=users[0])
    until((users[0].home / "staged.runs").exists, node.cluster.log_ends())
    (copy,) = node.copies()
    assert Path(copy).name.startswith(f"{node.site.address}.")
    assert set(killed.parent.iterdir()) == {killed, Path(copy)}
    (users[0].home / "staged.end").touch()
    assert ended(child)[0] == 0
    node.tidy()
    assert node.said() == ""
    until(lambda: not (node.copies() or any(killed.parent.glob("*"))), "the copy has not gone")


def test_a_broadcast_image_is_mounted_from_the_node(
    node: Node, users: list[Account], named: str
) -> None:
    """`sbcast` brings it; the cache is not read for the mount, and nothing is left."""
    (script,) = documents.texts("how-to/slurm.md", "broadcast")
    node.set("")
    local = node.site.place / "local"
    local.mkdir(exist_ok=True)
    local.chmod(0o1777)
    shown = f"sh -c 'probe-prefix; ls {local}/.condainer-*/staged; ls {local}'"
    for old, new in (
        ("#!/bin/bash\n#SBATCH --ntasks=4\n", f"export PATH={Path(node.site.cnd).parent}:$PATH"),
        ("STAGE=/tmp", f"STAGE={local}"),
        ("contrib/slurm/broadcast climate/2026.1", f"{node.scripts}/broadcast {named}\nls {local}"),
        ("climate/2026.1", named),
        ("srun cnd", "srun --ntasks=4 cnd"),
        ("probe-prefix", shown),
    ):
        assert old in script
        script = script.replace(old, new)
    job = node.cluster.submit(
        script, "--ntasks=4", "--output=brought.out", "--error=brought.err", account=users[0]
    )
    node.cluster.wait(job)
    said = (users[0].home / "brought.err").read_text()
    assert node.cluster.state(job) == "COMPLETED", said
    assert said.count("Checking the image that was brought to this node ...") == 1
    assert "Copying" not in said
    brought, *lines = (users[0].home / "brought.out").read_text().splitlines()
    assert brought == f"condainer-{node.site.address}.squashfs"
    assert lines.count(str(node.site.prefix)) == 4
    copies = [line for line in lines if line.startswith(f"{node.site.address}.")]
    assert len(copies) == 4
    assert len({*copies}) == 1
    # What was brought is the copy now.
    assert brought not in lines
    node.tidy()
    # Where Slurm kills keepers with their step, the copy stays for the next job.
    more = {"CONDAINER_STAGE": str(local)}
    node.cluster.run("srun", node.site.cnd, "umount", "--all", account=users[0], more=more)
    until(lambda: not any(local.glob(".condainer-*/staged/*")), "the copy has not gone")


def test_a_damaged_image_is_not_mounted_for_anybody(node: Node, users: list[Account]) -> None:
    site = node.site
    damaged = node.scripts / "damaged"
    shutil.copytree(site.environment["CONDAINER_CACHE"], damaged)
    image = entries.entry_directory(damaged, site.address) / entries.IMAGE
    image.chmod(0o644)
    with image.open("r+b") as stream:
        stream.seek(-9, os.SEEK_END)
        stream.write(b"\xff")
    image.chmod(0o444)
    node.set(site.address, f"stage={node.stage}", f"export CONDAINER_CACHE={damaged}")
    assert node.run(users[0]) == OWN
    assert f"{site.address} is not mounted: cnd: {image} has the sha256" in node.said()
    assert [path for path in node.stage.rglob("*") if not path.is_dir()] == []
    node.tidy()


def test_no_job_waits_for_long(node: Node, users: list[Account]) -> None:
    node.set(node.site.address, "limit=1")
    turn = node.scripts / "state/turn"
    turn.parent.mkdir(exist_ok=True)
    with subprocess.Popen(["flock", turn, "cat"], stdin=subprocess.PIPE) as holder:
        assert node.run(users[0]) == OWN
        assert "`mount` ended with status 124" in node.said()
        assert holder.poll() is None
        holder.communicate()
    node.tidy()


def test_settings_that_are_no_shell_code_harm_nobody(node: Node, users: list[Account]) -> None:
    node.set(node.site.address, "limit=(")
    assert node.run(users[0]) == OWN
    node.tidy()


def test_what_is_used_stays_until_a_later_epilog(node: Node, users: list[Account]) -> None:
    """The image may be gone from the cache by then."""
    site = node.site
    cache = node.scripts / "another"
    shutil.copytree(site.environment["CONDAINER_CACHE"], cache)
    node.set(site.address, f"export CONDAINER_CACHE={cache}")
    job = node.cluster.submit(
        "touch began; until [ -e end ]; do sleep 0.05; done", account=users[0]
    )
    until((users[0].home / "began").exists, node.cluster.log_ends())
    # On the node, and in no job.
    argv, environment = (site.cnd, "exec", "cat"), site.environment
    with users[1].start(*argv, environment=environment, before=node.inside) as other:
        until(lambda: site.processes().get(other.pid) == "cat", "not started")
        (users[0].home / "end").touch()
        node.cluster.wait(job)
        assert f"{site.address} stays mounted: cnd: {site.prefix} is in use by\n" in node.said()
        assert [kind for _, kind in node.mounts()] == [KERNEL]
        other.communicate()
    shutil.rmtree(cache)
    node.set("")
    assert node.run(users[0]) == KERNEL
    node.tidy()


def test_what_the_administrator_has_mounted_stays(node: Node, users: list[Account]) -> None:
    node.cnd("mount", "--all-users")
    before = node.mounts()
    assert node.run(users[0]) == KERNEL
    assert node.mounts() == before
    node.cnd("umount")
    node.tidy()


def test_what_a_killed_job_left_is_in_nobodys_way(node: Node, users: list[Account]) -> None:
    node.set("")
    assert node.run(users[0]) == OWN
    assert node.site.prefix.owner() == users[0].name
    node.set(node.site.address)
    assert node.run(users[1]) == KERNEL
    node.tidy()
