"""The short ways: taken where nothing is unusual, and with the same result as the long one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import SMALL, Project
from tests.integration.test_run import mounted, wait_until
from tests.mounting import processes

# What ends where the long way would begin.
LONG = 70
SHORT_WAY = f"from condainer import __main__ as m; m._run = lambda given: {LONG}; m.entry()"


def quick(
    project: Project, *arguments: str, status: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run cnd without its long way."""
    done = subprocess.run(
        [sys.executable, "-c", SHORT_WAY, *arguments],
        cwd=project.path,
        env={**project.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture
def kept(make_project: Any) -> Iterator[Project]:
    """A small project whose image is mounted until it is unmounted."""
    made: Project = make_project(text=SMALL)
    made.cnd("-q", "build")
    made.cnd("-q", "mount")
    yield made
    made.cnd("umount", "--force", status=None)


def prefix_of(project: Project) -> Path:
    return Path(project.json("status")["prefix"])


def keeper_of(prefix: Path) -> int:
    (number,) = processes(str(prefix), "condainer.keeper")
    return number


def environment(text: str) -> dict[str, Any]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_a_command_has_the_environment_of_the_long_way(kept: Project) -> None:
    more: dict[str, Any] = {
        "CONDA_PREFIX_1": "/y",
        "BASH_ENV": "/z",
        "ODD.NAME": "odd",
    }
    long = environment(kept.cnd("--set", "linger=0", "exec", "--", "env", **more).stdout)
    short = environment(quick(kept, "exec", "--", "env", **more).stdout)
    assert short == long
    assert short["PROBE_ACTIVE"] == short["CONDA_PREFIX"] == str(prefix_of(kept))
    assert short["GREETING"] == "hello"
    # From inside of it, too.
    assert environment(quick(kept, "exec", "env", **short).stdout) == short


def test_status_arguments_and_errors_are_those_of_the_long_way(kept: Project) -> None:
    quick(kept, "exec", "--", "sh", "-c", "exit 42", status=42)
    done = quick(kept, "-d", str(kept.path), "exec", "printf", "[%s]", "--", "a b", "")
    assert done.stdout == "[--][a b][]"
    for command, status in (("no-such-command", 127), ("/etc", 126)):
        done = quick(kept, "exec", command, status=status)
        assert done.stderr == kept.cnd("--set", "linger=0", "exec", command, status=status).stderr
    for arguments in (["exec"], ["exec", "--verify", "true"], ["exec", "-h"]):
        quick(kept, *arguments, status=LONG)


def test_no_wrapper_stays_and_the_command_holds_the_mount(project: Project) -> None:
    project.cnd("-q", "build")
    prefix = prefix_of(project)
    argv = [sys.executable, "-m", "condainer", "exec", "--", "sh", "-c", "echo ready; read word"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    first = subprocess.Popen(argv, cwd=project.path, env=project.environment, **pipes)
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    argv[1:3] = ["-c", SHORT_WAY]
    second = subprocess.Popen(argv, cwd=project.path, env=project.environment, **pipes)
    assert second.stdout is not None
    assert second.stdout.readline() == "ready\n"
    assert Path(f"/proc/{second.pid}/comm").read_text() == "sh\n"
    first.communicate("")
    time.sleep(0.5)
    assert mounted(prefix)
    assert str(second.pid) in project.cnd("umount", status=14).stderr
    second.communicate("")
    assert wait_until(lambda: not mounted(prefix))
    assert wait_until(lambda: not prefix.exists())
    quick(project, "exec", "true", status=LONG)


def test_what_is_unusual_is_for_the_long_way(kept: Project) -> None:
    prefix = prefix_of(kept)
    quick(kept, "exec", "true")
    quick(kept, "exec", "true", status=LONG, SLURM_JOB_ID="7")
    quick(kept, "exec", "true", status=LONG, CONDAINER_MOUNT="private")
    quick(kept, "exec", "true", status=LONG, CONDAINER_MOUNT_BASE="/var")
    # Nobody looks after it: the long way starts another keeper.
    os.kill(keeper_of(prefix), signal.SIGKILL)
    assert wait_until(lambda: not processes(str(prefix), "condainer.keeper"))
    quick(kept, "exec", "true", status=LONG)
    kept.cnd("exec", "true")
    quick(kept, "exec", "true")
    # Its daemon has gone: the long way repairs the mount.
    (daemon,) = (p for p in processes(str(prefix), "squashfuse") if p != keeper_of(prefix))
    os.kill(keeper_of(prefix), signal.SIGKILL)
    os.kill(daemon, signal.SIGKILL)
    assert wait_until(lambda: not Path(f"/proc/{daemon}").exists())
    quick(kept, "exec", "true", status=LONG)
    kept.cnd("exec", "true")
    quick(kept, "exec", "true")
    # The entry is not in the cache any more.
    image = Path(kept.json("status")["image"])
    image.rename(image.with_name("away"))
    quick(kept, "exec", "true", status=LONG)
    kept.cnd("exec", "true", status=125)
    image.with_name("away").rename(image)
    quick(kept, "build", status=LONG)
    kept.cnd("build")
    quick(kept, "exec", "true")
    kept.cnd("umount")
    quick(kept, "exec", "true", status=LONG)


def test_a_daemon_that_does_not_answer_is_for_the_long_way(kept: Project) -> None:
    prefix = prefix_of(kept)
    keeper = keeper_of(prefix)
    (daemon,) = (p for p in processes(str(prefix), "squashfuse") if p != keeper)
    os.kill(daemon, signal.SIGSTOP)
    try:
        start = time.monotonic()
        quick(kept, "exec", "true", status=LONG)
        assert time.monotonic() - start < 10
    finally:
        os.kill(daemon, signal.SIGCONT)
    quick(kept, "exec", "true")
