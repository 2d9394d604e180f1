"""Where no image can be mounted: it is unpacked once, and used as a mounted one is."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.accounts import Account, accounts
from tests.helpers.mounting import daemon_of, keeper_of
from tests.helpers.needed import needs
from tests.helpers.projects import PYTHON, Project, prefix_of
from tests.helpers.waiting import until

# `cnd umount --all` unmounts what other tests of the same user have mounted.
pytestmark = pytest.mark.xdist_group("accounts")

# The interpreter of the tests may stand in a directory that is closed to ordinary users.
SEARCH = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
CND = (sys.executable, "-m", "condainer")


@dataclass(frozen=True)
class Machine:
    """An ordinary user of a machine whose /dev/fuse is closed to everybody."""

    account: Account
    environment: dict[str, str]
    before: tuple[str, ...]

    def run(self, *argv: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        return self.account.run(
            *SEARCH, *argv, environment=self.environment, before=self.before, status=status
        )

    def cnd(self, *argv: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        return self.run(*CND, *argv, status=status)

    def json(self, *argv: str) -> Any:
        return json.loads(self.cnd(*argv, "--json").stdout)


@pytest.fixture
def machine(channel: Path) -> Iterator[Machine]:
    if os.geteuid() != 0:
        needs("root")
    place = Path(tempfile.mkdtemp(prefix="cnd-", dir="/tmp"))
    place.chmod(0o755)
    closed = place / "fuse"
    closed.touch(0)
    script = 'mount --bind "$0" /dev/fuse && exec "$@"'
    with accounts(place, 1) as (account,):
        (account.home / "environment.yml").write_text(PYTHON)
        (account.home / "m").mkdir()
        shutil.chown(account.home / "m", account.uid)
        environment = {
            "CONDAINER_CACHE": str(account.home / "cache"),
            "CONDAINER_PACKAGE_CACHE": str(account.home / "packages"),
            "CONDAINER_MIRRORS": f"conda-forge={channel.as_uri()}",
            "CONDAINER_MOUNT_BASE": str(account.home / "m"),
        }
        yield Machine(account, environment, ("unshare", "-m", "sh", "-c", script, str(closed)))
    shutil.rmtree(place)


@pytest.mark.long
def test_without_fuse_all_goes_on(machine: Machine) -> None:
    told = machine.cnd("prereq").stderr
    assert "Without /dev/fuse, an image is not mounted, but unpacked once per machine" in told
    assert "--device /dev/fuse" in told
    prefix = Path(machine.json("build")["prefix"])

    first = machine.cnd("exec", "--", "python", "-c", "import sys, click; print(sys.prefix)")
    assert first.stdout == f"{prefix}\n"
    assert "not mounted, but unpacked: /dev/fuse cannot be opened" in first.stderr
    since = prefix.stat().st_ino
    again = machine.cnd("exec", "--", "python", "-c", "import sys, click; print(sys.prefix)")
    assert (again.stdout, again.stderr) == (first.stdout, "")
    assert prefix.stat().st_ino == since
    assert machine.json("status")["mount"]["with"] == "unsquashfs"
    assert machine.json("status")["mounted"]

    for change in ('touch "$CONDA_PREFIX/new"', 'echo >> "$CONDA_PREFIX/bin/python"'):
        done = machine.cnd("exec", "--", "sh", "-c", change, status=None)
        assert "Permission denied" in done.stderr
    # What was compiled with the image is used: nothing is older or newer than it was.
    done = machine.cnd("exec", "--", "python", "-v", "-c", "import click")
    assert "click" in done.stderr
    assert "matches" in done.stderr
    assert "bytecode is stale" not in done.stderr

    # The interpreter is an ordinary user's, and what runs it cannot be in PATH.
    shims = machine.account.home / "shims"
    shims.mkdir()
    (shims / "cnd").write_text(f'#!/bin/sh\nexec {CND[0]} -m condainer "$@"\n')
    (shims / "cnd").chmod(0o755)
    script = f'PATH={shims}:$PATH; source ./activate && python -c "import sys; print(sys.prefix)"'
    done = machine.run("bash", "-c", f"{script}; cnd umount; deactivate; type python", status=None)
    assert done.stdout.splitlines()[0] == str(prefix)
    assert f"{prefix} is in use by" in done.stderr
    assert str(prefix) not in "".join(done.stdout.splitlines()[1:])

    assert "Unmounted" in machine.cnd("umount").stderr
    assert os.listdir(machine.account.home / "m") == [f".condainer-{machine.account.uid}"]
    assert not list((machine.account.home / "m").glob(".condainer-*/*unpack*"))
    machine.cnd("exec", "true")
    assert machine.cnd("umount", "--all").stderr == f"Unmounted {prefix}\n"
    machine.cnd("exec", "true")
    assert f"Would remove {prefix}: " in machine.cnd("clean", "--dry-run").stderr
    assert prefix.exists()
    assert f"Removed {prefix}: " in machine.cnd("clean").stderr
    assert not prefix.exists()
    # What else is at the prefix stays.
    (prefix / "theirs").mkdir(parents=True)
    done = machine.cnd("exec", "--", "python", "-c", "import sys, click; print(sys.prefix)")
    assert done.stdout == f"{prefix}\n"
    assert machine.cnd("umount").stderr == f"Unmounted {prefix}\n"
    assert (prefix / "theirs").is_dir()


# Root of a container: it may mount nothing, neither itself nor in a namespace of its own.
CONTAINED = (
    *("unshare", "-Ur", "sh", "-c"),
    'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv "$@"',
    *("sh", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"),
)


def test_where_mounting_is_forbidden_all_goes_on(make_project: Any) -> None:
    project: Project = make_project(text=PYTHON)
    prefix = project.json("build")["prefix"]
    script = 'echo "$CONDA_PREFIX" && python -c "import sys; print(sys.prefix)"'

    def contained(*command: str) -> subprocess.CompletedProcess[str]:
        return project.bash(shlex.join([*CONTAINED, *command]))

    done = contained("cnd", "exec", "--", "sh", "-c", script)
    assert done.stdout == f"{prefix}\n{prefix}\n", done.stderr
    assert "not mounted, but unpacked: " in done.stderr
    assert "mount failed: Operation not permitted" in done.stderr
    done = contained("bash", "-c", f"source ./activate && {script}")
    assert (done.stdout, done.stderr) == (f"{prefix}\n{prefix}\n", "")
    assert contained("cnd", "umount").stderr == f"Unmounted {prefix}\n"
    # Built again, the environment is staged at its prefix.
    shutil.rmtree(project.cache)
    assert contained("cnd", "build").returncode == 0
    done = contained("bash", "-c", f"source ./activate && {script}")
    assert done.stdout == f"{prefix}\n{prefix}\n", done.stderr
    contained("cnd", "umount", "--all")
    assert not Path(prefix).exists()
    # Without namespaces either, a copy cannot be shown where something else is.
    (Path(prefix) / "theirs").mkdir(parents=True)
    done = contained("cnd", "exec", "true")
    assert done.returncode == 125
    assert "this machine does not allow a private one" in done.stderr
    assert (Path(prefix) / "theirs").is_dir()
    shutil.rmtree(prefix)


@pytest.fixture
def unpacking(make_project: Any, empty_packages: Path) -> Project:
    made: Project = make_project(text=PYTHON, CONDAINER_MOUNT="unpack")
    made.cnd("build")
    # For `cnd clean`: others build from the one that tests share.
    made.environment["CONDAINER_PACKAGE_CACHE"] = str(empty_packages)
    made.cnd("build")
    return made


def copies_of(project: Project) -> list[Path]:
    return [*(project.path.parent / "m").rglob(".condainer/unpacked")]


def wait_for_unpacking(child: subprocess.Popen[bytes], base: Path) -> None:
    """Wait until a command unpacks; it may have ended before that is seen."""
    until(lambda: [*base.glob(".condainer-*/unpacking.*")] or child.poll() is not None)


def test_a_copy_that_is_used_stays(unpacking: Project) -> None:
    prefix = prefix_of(unpacking)
    child = subprocess.Popen(
        [*CND, "exec", "--", "sh", "-c", "cd /; echo begun; read line"],
        cwd=unpacking.path,
        env=unpacking.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begun\n"
    for command in (("umount",), ("umount", "--all")):
        told = unpacking.cnd(*command, status=14).stderr
        assert f"{prefix} is in use by\n  {child.pid} " in told
    unpacking.cnd("clean")
    assert (prefix / "bin/python").exists()
    unpacking.cnd("umount", "--force")
    assert not prefix.exists()
    child.communicate("\n")


def test_a_copy_is_what_the_manifest_says(unpacking: Project) -> None:
    manifest = next(unpacking.cache.glob("images/*/*/manifest.json"))
    report = json.loads(manifest.read_text())
    manifest.chmod(0o644)
    manifest.write_text(json.dumps({**report, "tree_sha256": "0" * 64}))
    told = unpacking.cnd("exec", "true", status=125).stderr
    assert "does not hold the files that its manifest describes" in told
    assert not prefix_of(unpacking).exists()
    assert not list(prefix_of(unpacking).parent.glob(".condainer-*/unpacking.*"))


def test_commands_at_once_unpack_once(unpacking: Project) -> None:
    children = [
        subprocess.Popen(
            [*CND, "exec", "--", "python", "-c", "import click"],
            cwd=unpacking.path,
            env=unpacking.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    told = [child.communicate()[1] for child in children]
    assert [child.returncode for child in children] == [0] * 6, told
    assert sum("Unpacking the image" in text for text in told) == 1


def test_a_killed_command_leaves_no_half_copy(unpacking: Project) -> None:
    prefix = prefix_of(unpacking)
    for pause in (0.0, 0.05, 0.1, 0.2):
        child = subprocess.Popen(
            [*CND, "exec", "true"], cwd=unpacking.path, env=unpacking.environment
        )
        wait_for_unpacking(child, prefix.parent)
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not prefix.exists() or (prefix / ".condainer/unpacked").exists()
        unpacking.cnd("exec", "--", "python", "-c", "import click")
        until(lambda: not [*prefix.parent.glob(".condainer-*/unpacking.*")])
        unpacking.cnd("umount")
        assert not prefix.exists()


def test_a_mount_is_demanded_where_a_copy_is(unpacking: Project) -> None:
    unpacking.cnd("exec", "true")
    told = unpacking.cnd("exec", "true", status=125, CONDAINER_MOUNT="direct").stderr
    assert "An unpacked copy is at" in told
    assert "`cnd umount`" in told
    # Without a wish, what is there is used, also in a job.
    for job in ("", "1"):
        done = unpacking.cnd("exec", "pwd", CONDAINER_MOUNT="auto", PBS_JOBID=job)
        assert done.stderr == ""
    assert unpacking.json("status")["mounted"]


def test_what_was_unpacked_by_itself_is_not_verified(unpacking: Project) -> None:
    unpacking.cnd("exec", "true")
    for told in ("Unpacking the image", ""):
        assert told in unpacking.cnd("exec", "--verify", "true").stderr
    assert len(copies_of(unpacking)) == 2
    unpacking.cnd("umount")
    assert not copies_of(unpacking)
    unpacking.cnd("exec", "--verify", "true")
    assert len(copies_of(unpacking)) == 1


def test_where_no_program_may_run_nothing_is_unpacked(make_project: Any, tmp_path: Path) -> None:
    project: Project = make_project(text=PYTHON, CONDAINER_MOUNT="unpack")
    project.cnd("build")
    base = tmp_path / "m"
    base.mkdir(exist_ok=True)
    mount = f"mount -t tmpfs -o noexec,mode=1777 none '{base}' && cnd exec true"
    done = project.bash(f'unshare -Urm bash -c "{mount}"')
    assert done.returncode == 125, done.stderr
    assert "mounted noexec" in done.stderr
    assert "mount_base_directory" in done.stderr


def test_what_is_not_ours_is_not_replaced(unpacking: Project) -> None:
    prefix = prefix_of(unpacking)
    (prefix / "mine").mkdir(parents=True)
    # It is shown there to our commands alone, and to those that they start.
    again = 'cnd -q exec pwd; cnd umount; cnd umount --all; ls "$CONDA_PREFIX/bin/python"'
    done = unpacking.bash(f"cnd -q exec sh -c '{again}'")
    assert done.stdout == f"{unpacking.path}\n{prefix}/bin/python\n", done.stderr
    assert "is in use" in done.stderr
    assert "Unmounted" not in done.stderr
    assert (prefix / "mine").is_dir()
    assert len(copies_of(unpacking)) == 1
    assert "Would remove " in unpacking.cnd("clean", "--dry-run").stderr
    unpacking.cnd("clean")
    assert not copies_of(unpacking)
    told = unpacking.cnd("mount", status=14).stderr
    assert f"{prefix} is taken by something of " in told
    shutil.rmtree(prefix)


def test_a_second_user_has_a_copy_of_their_own(machine: Machine, make_project: Any) -> None:
    account = machine.account
    base = account.home.parent / "base"
    base.mkdir()
    base.chmod(0o1777)
    cache = account.home.parent / "cache"
    theirs: Project = make_project(
        text=PYTHON,
        CONDAINER_MOUNT="unpack",
        CONDAINER_MOUNT_BASE=str(base),
        CONDAINER_CACHE=str(cache),
    )
    report = theirs.json("build")
    address, prefix = report["address"], Path(report["prefix"])
    theirs.cnd("exec", "true")
    machine.environment.update(CONDAINER_MOUNT_BASE=str(base), CONDAINER_READONLY_CACHES=str(cache))
    own = base / f".condainer-{account.uid}" / "copies" / prefix.name
    script = "import os, sys, click; print(sys.prefix, os.stat(sys.prefix).st_uid, flush=True)"
    command = (*CND, "exec", "--address", address, "--", "python", "-c", f"{script}; input()")
    child = account.start(*SEARCH, *command, environment=machine.environment, before=machine.before)
    assert child.stdout is not None
    assert child.stdout.readline() == f"{prefix} {account.uid}\n"
    assert "is in use" in theirs.cnd("umount", status=14).stderr
    assert "is in use" in machine.cnd("umount", "--all", status=14).stderr
    child.communicate("\n")
    assert child.returncode == 0
    assert theirs.cnd("umount").stderr == f"Unmounted {prefix}\n"
    assert own.exists()
    machine.cnd("umount", "--all")
    assert not own.exists()
    assert not [*base.glob("*.visitor-*")]


def test_a_copy_is_not_shown_at_a_place_that_others_can_replace(machine: Machine) -> None:
    prefix = Path(machine.json("build")["prefix"])
    prefix.mkdir()
    shutil.chown(prefix, 12345)
    told = machine.cnd("exec", "true", status=125).stderr
    assert "who could replace it while it is used" in told
    assert "mount_base_directory" in told


def test_without_unsquashfs_it_is_told(unpacking: Project, tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    told = unpacking.cnd("exec", "true", status=125, PATH=str(empty)).stderr
    assert "unsquashfs is needed to unpack images" in told


# Where the mounts are others, and so are their lock files; a copy is the same.
ELSEWHERE = ("unshare", "-Urm")


def test_a_copy_is_one_for_all_mount_namespaces(unpacking: Project) -> None:
    prefix = prefix_of(unpacking)

    def started(*before: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, *CND, "-q", "exec", "--", "sh", "-c", "echo begun; read line"],
            cwd=unpacking.path,
            env=unpacking.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    # All unpack at once; the first one's copy is everybody's.
    children = [started(*ELSEWHERE), started(*ELSEWHERE), started()]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
    children[2].communicate("\n")
    assert f"{prefix} is in use" in unpacking.cnd("umount", status=14).stderr
    unpacking.cnd("clean")
    assert (prefix / "bin/python").exists()
    for child in children[:2]:
        child.communicate("\n")
        assert child.returncode == 0
    unpacking.cnd("umount")
    assert not prefix.exists()


def test_a_dead_mount_makes_way(unpacking: Project) -> None:
    prefix = prefix_of(unpacking)
    unpacking.cnd("mount", CONDAINER_MOUNT="direct")
    for number in (keeper_of(prefix), daemon_of(prefix)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    done = unpacking.cnd("exec", "--", "python", "-c", "import sys; print(sys.prefix)")
    assert done.stdout == f"{prefix}\n"
    assert unpacking.json("status")["mount"]["with"] == "unsquashfs"


def test_what_a_killed_command_began_is_cleaned(unpacking: Project) -> None:
    place = prefix_of(unpacking).parent
    for command in (("clean",), ("umount", "--all")):
        child = subprocess.Popen(
            [*CND, "-q", "exec", "true"], cwd=unpacking.path, env=unpacking.environment
        )
        wait_for_unpacking(child, place)
        child.kill()
        child.wait()
        unpacking.cnd(*command)
        assert not [*place.glob(".condainer-*/unpacking.*")]


def test_a_copy_that_was_verified_does_not_vouch_for_the_next(unpacking: Project) -> None:
    unpacking.cnd("exec", "--verify", "true")
    unpacking.cnd("umount")
    unpacking.cnd("exec", "true")
    assert "Unpacking the image" in unpacking.cnd("exec", "--verify", "true").stderr
