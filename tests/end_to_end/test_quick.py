"""The short ways: taken where nothing is unusual, and with the same result as the long one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from condainer.mount import backends, keeper
from tests.helpers import tiny
from tests.helpers.mounting import daemon_of, daemons_at, keeper_of, keepers_at, processes
from tests.helpers.needed import needs_program
from tests.helpers.projects import (
    LONG,
    SHORT_WAY,
    SMALL,
    Project,
    mounted,
    prefix_of,
    quick,
    unmeasured,
)
from tests.helpers.waiting import wait_until


@pytest.fixture
def kept(make_project: Any) -> Iterator[Project]:
    """A small project whose image is mounted until it is unmounted."""
    made: Project = make_project(text=SMALL)
    made.cnd("-q", "build")
    made.cnd("-q", "mount")
    assert keeper_is_ready(made)
    yield made
    made.cnd("umount", "--force", status=None)


def keeper_is_ready(project: Project) -> bool:
    base = Path(project.environment["CONDAINER_MOUNT_BASE"])
    return wait_until(lambda: any(path.read_text() for path in base.glob(".condainer-*/*.ready")))


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


@pytest.mark.parametrize(
    "more",
    [
        {"SHELLOPTS": "noexec"},
        {"BASH_FUNC_exec%%": "() {  :\n}"},
        {"BASH_FUNC_trap%%": "() {  :\n}"},
        {"POSIXLY_CORRECT": "1", "IFS": "/", "PS4": "$(exit 1)"},
    ],
)
def test_settings_of_the_callers_shell_reach_the_command_only(
    kept: Project, more: dict[str, Any]
) -> None:
    long = environment(kept.cnd("--set", "linger=0", "exec", "--", "env", **more).stdout)
    short = environment(quick(kept, "exec", "--", "env", **more).stdout)
    assert short == long
    assert short["PATH"].startswith(f"{prefix_of(kept)}/bin:")
    assert short["PROBE_ACTIVE"] == short["CONDA_PREFIX"]
    for name, value in more.items():
        assert short[name] == value.partition("\n")[0]


def test_variables_of_packages(make_project: Any, tmp_path: Path) -> None:
    channel = tmp_path / "channel"
    good, bad = ("etc/conda/env_vars.d/x.json", '{"FROM_PACKAGE": "it"}'), "{"
    tiny.package(channel, "sets", "1", files=[good])
    tiny.package(channel, "spoils", "1", files=[(good[0], bad)])
    tiny.index(channel)
    head = f"channels: ['file://{channel}']\ndependencies: "
    made: Project = make_project(text=f"{head}[sets]\n")
    made.cnd("-q", "build")
    made.cnd("-q", "mount")
    try:
        done = quick(made, "exec", "--", "env")
        assert environment(done.stdout)["FROM_PACKAGE"] == "it"
        assert made.cnd("--set", "linger=0", "exec", "--", "env").stdout == done.stdout
    finally:
        made.cnd("umount", "--force", status=None)
    made.write(f"{head}[spoils]\n")
    made.cnd("-q", "build")
    assert good[0] in made.cnd("exec", "--", "true", status=125).stderr


def test_a_package_whose_script_ends_the_shell_is_125(make_project: Any, tmp_path: Path) -> None:
    channel = tmp_path / "channel"
    tiny.package(channel, "ends", "1", files=[("etc/conda/activate.d/e.sh", "exec true\n")])
    tiny.index(channel)
    made: Project = make_project(text=f"channels: ['file://{channel}']\ndependencies: [ends]\n")
    made.cnd("-q", "build")
    try:
        for options in ((), ("--set", "linger=1")):
            done = made.cnd(*options, "exec", "--", "python3", "-c", "print(1)", status=125)
            assert done.stdout == ""
            assert "etc/conda/activate.d" in done.stderr
            assert "ended or replaced it" in done.stderr
    finally:
        made.cnd("umount", "--force", status=None)


def test_status_arguments_and_errors_are_those_of_the_long_way(kept: Project) -> None:
    quick(kept, "exec", "--", "sh", "-c", "exit 42", status=42)
    done = quick(kept, "-d", str(kept.path), "exec", "printf", "[%s]", "--", "a b", "")
    assert done.stdout == "[--][a b][]"
    for command, status in (("no-such-command", 127), ("/etc", 126)):
        done = quick(kept, "exec", command, status=status)
        assert done.stderr == kept.cnd("--set", "linger=0", "exec", command, status=status).stderr
    for arguments in (["exec"], ["exec", "--verify", "true"], ["exec", "-h"]):
        quick(kept, *arguments, status=LONG)


# At the moment in which the process is to become a command of the image, something happens to it.
STRUCK = """
import os, sys
def strike(name, given, blows=[]):
    if name == "os.exec" and os.fsdecode(given[0]).startswith({prefix!r}) and not blows:
        blows.append(given)
        os.system({blow!r})
sys.addaudithook(strike)
"""
LONG_WAY = "from condainer.__main__ import entry; entry()"


def struck(
    project: Project, way: str, blow: str, command: str, status: int
) -> subprocess.CompletedProcess[str]:
    """Run a command in an image with a blow to it; one of the same name is in the user's PATH."""
    here = project.path / "bin"
    here.mkdir(exist_ok=True)
    for name in ("probe-prefix", "elsewhere"):
        (here / name).write_text("#!/bin/sh\necho another\n")
        (here / name).chmod(0o755)
    options = ["--set", "linger=0"] if way == LONG_WAY else []
    start = STRUCK.format(prefix=f"{prefix_of(project)}/", blow=blow)
    done = subprocess.run(
        [sys.executable, "-c", start + way, *options, "exec", command],
        cwd=project.path,
        env={**project.environment, "PATH": f"{here}:{project.environment['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    return done


@pytest.mark.long
@pytest.mark.parametrize("way", [SHORT_WAY, LONG_WAY], ids=["short", "long"])
def test_nothing_else_runs_when_the_image_goes_at_the_last_moment(kept: Project, way: str) -> None:
    prefix = prefix_of(kept)
    unmount = f"umount -l {prefix} 2>/dev/null || fusermount3 -u -z {prefix}"
    # Without what stands in for its commands.
    bare = f"{unmount}; rm -r {prefix.parent}/.condainer-{os.geteuid()}/*.stand-ins"
    for command, blow in (
        ("elsewhere", unmount),
        ("probe-prefix", unmount),
        ("probe-prefix", bare),
    ):
        assert struck(kept, way, "true", "probe-prefix", 0).stdout == f"{prefix}\n"
        assert struck(kept, way, "true", "elsewhere", 0).stdout == "another\n"
        done = struck(kept, way, blow, command, 125)
        assert done.stdout == ""
        assert str(prefix) in done.stderr
        kept.cnd("umount", "--force")
        kept.cnd("-q", "mount")
        assert keeper_is_ready(kept)


@pytest.mark.parametrize("way", [SHORT_WAY, LONG_WAY], ids=["short", "long"])
def test_a_command_waits_for_the_repair_at_the_last_moment(kept: Project, way: str) -> None:
    prefix = prefix_of(kept)
    kept.cnd("umount", "--force")
    kept.cnd("-q", "mount", CONDAINER_MOUNT="direct")
    assert keeper_is_ready(kept)
    done = struck(kept, way, f"kill -KILL {daemon_of(prefix)}", "probe-prefix", 0)
    assert done.stdout == f"{prefix}\n"


def test_reading_json_is_for_images_that_set_variables(make_project: Any) -> None:
    project: Project = make_project(text="dependencies: [probe-prefix]\n")
    project.cnd("-q", "build")
    project.cnd("-q", "mount")
    blocked = f"import sys; sys.modules['json'] = sys.modules['re'] = None{SHORT_WAY}"
    argv = [sys.executable, "-c", blocked, "exec", "probe-prefix"]
    done = subprocess.run(argv, cwd=project.path, env=project.environment, capture_output=True)
    assert done.stdout.decode() == f"{prefix_of(project)}\n", done.stderr


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


def namespace_is_noted(base: Path) -> bool:
    """Wait until a keeper has written down the namespace of its private mount."""
    names = ".condainer-*/*-private*.namespace"
    return wait_until(lambda: any(n.read_text()[:2] != "0 " for n in base.glob(names)))


WHERE = "readlink /proc/self/ns/mnt; pwd; exec env"


@pytest.mark.parametrize("how", [{"SLURM_JOB_ID": "7"}, {"CONDAINER_MOUNT": "private"}])
def test_a_private_mount_is_entered_quickly(make_project: Any, how: dict[str, str]) -> None:
    project: Project = make_project(text=SMALL, CONDAINER_LINGER="60", **how)
    project.cnd("-q", "build")
    quick(project, "exec", "true", status=LONG)
    first = project.cnd("exec", "sh", "-c", WHERE).stdout
    prefix = Path(environment(first)["CONDA_PREFIX"])
    assert namespace_is_noted(prefix.parent)
    short = quick(project, "exec", "sh", "-c", WHERE).stdout
    assert environment(short) == environment(first)
    assert short.splitlines()[:2] == first.splitlines()[:2]
    assert not mounted(prefix)
    # Another step has a mount of its own.
    if "SLURM_JOB_ID" in how:
        quick(project, "exec", "true", status=LONG, SLURM_STEP_ID="1")
    # What is mounted there has gone, and the long way mounts it again.
    os.kill(daemon_of(prefix), signal.SIGKILL)
    assert wait_until(lambda: project.cnd("exec", "probe-prefix").stdout == f"{prefix}\n")
    assert quick(project, "exec", "probe-prefix").stdout == f"{prefix}\n"


@pytest.mark.parametrize("how", [{"SLURM_JOB_ID": "7"}, {"CONDAINER_MOUNT": "private"}])
def test_a_command_inside_a_private_mount_takes_that_quickly(
    make_project: Any, how: dict[str, str]
) -> None:
    project: Project = make_project(text=SMALL, CONDAINER_LINGER="60", **how)
    project.cnd("-q", "build")
    project.cnd("exec", "true")
    assert namespace_is_noted(prefix_of(project).parent)
    inner = [sys.executable, "-c", SHORT_WAY, "exec", "sh", "-c", WHERE]
    # In a user namespace, the first one leaves a stamp.
    text = f'readlink /proc/self/ns/mnt; pwd; "{sys.executable}" -m condainer exec true; "$@"'
    done = project.cnd("exec", "sh", "-c", text, "sh", *inner)
    lines = done.stdout.splitlines()
    assert lines[:2] == lines[2:4]
    assert environment(done.stdout)["CONDA_PREFIX"] == str(prefix_of(project))
    # That of outside is as good as before.
    quick(project, "exec", "true")


def test_what_is_unusual_is_for_the_long_way(kept: Project) -> None:
    prefix = prefix_of(kept)
    quick(kept, "exec", "true")
    quick(kept, "exec", "true", status=LONG, SLURM_JOB_ID="7")
    quick(kept, "exec", "true", status=LONG, CONDAINER_MOUNT="private")
    quick(kept, "exec", "true", status=LONG, CONDAINER_MOUNT_BASE="/var")
    # Nobody looks after it: the long way starts another keeper.
    os.kill(keeper_of(prefix), signal.SIGKILL)
    assert wait_until(lambda: not processes(str(prefix), "condainer.mount.keep"))
    quick(kept, "exec", "true", status=LONG)
    kept.cnd("exec", "true")
    quick(kept, "exec", "true")
    # Its daemon has gone: the long way repairs the mount.
    daemon = daemon_of(prefix)
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
    told = kept.cnd("exec", "true", status=125).stderr
    assert f"of {kept.path} is not in {kept.cache}\n" in told
    image.with_name("away").rename(image)
    quick(kept, "build", status=LONG)
    kept.cnd("build")
    quick(kept, "exec", "true")


def test_a_daemon_that_does_not_answer_is_for_the_long_way(kept: Project) -> None:
    prefix = prefix_of(kept)
    daemon = daemon_of(prefix)
    start = time.monotonic()
    quick(kept, "exec", "true")
    usual = time.monotonic() - start
    os.kill(daemon, signal.SIGSTOP)
    try:
        start = time.monotonic()
        quick(kept, "exec", "true", status=LONG)
        # The long way asks it with more patience.
        assert time.monotonic() - start - usual < backends.PATIENCE
    finally:
        os.kill(daemon, signal.SIGCONT)
    quick(kept, "exec", "true")


# What is not mounted yet


@pytest.fixture
def unmounted(make_project: Any) -> Iterator[Project]:
    """A small project with a stamp, whose image is not mounted; the mount base has been used."""
    made: Project = make_project(text=SMALL)
    made.cnd("-q", "build")
    made.cnd("--set", "linger=0", "exec", "true")
    assert wait_until(lambda: not prefix_of(made).exists())
    yield made
    made.cnd("umount", "--force", status=None)


def test_what_is_not_mounted_is_mounted_as_by_the_long_way(unmounted: Project) -> None:
    prefix = prefix_of(unmounted)
    cache = Path(unmounted.environment["CONDAINER_CACHE"])
    seen = {}
    for run in (unmounted.cnd, lambda *words, **more: quick(unmounted, *words, **more)):
        text = "env; grep $CONDA_PREFIX /proc/self/mountinfo | cut -d' ' -f5- >&2"
        done = run("exec", "--", "sh", "-c", text, CONDAINER_LINGER="4")
        assert mounted(prefix)
        assert [path.name.partition(".")[0] for path in (cache / "leases").iterdir()] == [
            prefix.name.partition("-")[2]
        ]
        assert keeper_is_ready(unmounted)
        seen[run] = (environment(done.stdout), done.stderr)
        unmounted.cnd("umount", "--force")
        # What stands in for the commands.
        assert wait_until(lambda: not prefix.exists() or (prefix / "bin" / "python").is_symlink())
        assert wait_until(lambda: not prefix.exists())
        assert wait_until(lambda: not any((cache / "leases").iterdir()))
    short, long = seen.values()
    assert short == long


def test_it_is_unmounted_when_the_last_user_has_gone(unmounted: Project) -> None:
    prefix = prefix_of(unmounted)
    for _ in range(3):
        quick(unmounted, "exec", "true")
        assert wait_until(lambda: not prefix.exists())
        assert wait_until(lambda: not processes(str(prefix)))


def test_a_crowd_makes_one_mount(unmounted: Project) -> None:
    argv = [sys.executable, "-c", SHORT_WAY, "exec", "--", "sh", "-c"]
    argv.append('grep -c "$CONDA_PREFIX " /proc/self/mountinfo; read word')
    pipe = subprocess.PIPE
    pipes: dict[str, Any] = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "text": True}
    crowd = [
        subprocess.Popen(argv, cwd=unmounted.path, env=unmounted.environment, **pipes)
        for _ in range(12)
    ]
    assert [child.stdout.readline() for child in crowd if child.stdout] == ["1\n"] * 12
    assert wait_until(lambda: len(keepers_at(prefix_of(unmounted))) == 1)
    assert {child.communicate("word\n")[1] for child in crowd} == {""}


def test_nothing_of_ours_stays_with_the_daemon(unmounted: Project, tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(lock, True)
    argv = [sys.executable, "-c", SHORT_WAY, "exec", "cat"]
    environment = {**unmounted.environment, "CONDAINER_MOUNT": "direct"}
    # For a stamp with this variable.
    unmounted.cnd("exec", "true", CONDAINER_MOUNT="direct")
    prefix = prefix_of(unmounted)
    assert wait_until(lambda: not prefix.exists())
    child = subprocess.Popen(
        argv, cwd=unmounted.path, env=environment, stdin=subprocess.PIPE, pass_fds=[lock]
    )
    os.close(lock)
    assert wait_until(lambda: mounted(prefix))
    daemon = daemon_of(prefix)
    for number in (daemon, *keepers_at(prefix)):
        for path in Path(f"/proc/{number}/fd").iterdir():
            # One that is closed meanwhile is not kept.
            with contextlib.suppress(FileNotFoundError):
                assert os.readlink(path) != str(tmp_path / "lock")
    child.communicate()
    assert child.returncode == 0


def test_its_keeper_knows_the_daemon_where_the_base_directory_is_a_link(
    make_project: Any, tmp_path: Path
) -> None:
    base, link = tmp_path / "base", tmp_path / "link"
    base.mkdir()
    link.symlink_to(base)
    more = {"CONDAINER_MOUNT_BASE": str(link), "CONDAINER_MOUNT": "direct"}
    project: Project = make_project(text=SMALL, CONDAINER_LINGER="60", **more)
    project.cnd("-q", "build")
    project.cnd("exec", "true")
    project.cnd("umount")
    prefix = prefix_of(project)
    assert wait_until(lambda: not prefix.exists() and not keepers_at(prefix))
    try:
        assert quick(project, "exec", "probe-prefix").stdout == f"{prefix}\n"
        # It waits for the end of that one, in place of looking again and again.
        assert keeper._daemons(prefix) == [daemon_of(prefix)]
    finally:
        project.cnd("umount")


def test_the_lease_is_there_before_the_command(unmounted: Project) -> None:
    leases = Path(unmounted.environment["CONDAINER_CACHE"]) / "leases"
    assert quick(unmounted, "exec", "--", "ls", str(leases)).stdout.count("\n") == 1
    assert wait_until(lambda: not any(leases.iterdir()))


def test_an_interruption_leaves_nothing(unmounted: Project, tmp_path: Path) -> None:
    prefix = prefix_of(unmounted)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("squashfuse_ll", "mount"):
        # It does not end.
        (tools / name).write_text("#!/bin/sh\ntouch $0.started\nwhile :; do sleep 0.1; done\n")
        (tools / name).chmod(0o755)
    path = f"{tools}:{unmounted.environment['PATH']}"
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            argv = [sys.executable, "-c", SHORT_WAY, "exec", "true"]
            environment = unmeasured({**unmounted.environment, "PATH": path})
            child = subprocess.Popen(argv, cwd=unmounted.path, env=environment)
            assert wait_until(lambda: any(tools.glob("*.started")))
            child.send_signal(number)
            assert child.wait() != 0
            assert wait_until(lambda: not prefix.exists())
            assert wait_until(lambda: not processes(str(prefix), "condainer.mount.keep"))
            for started in tools.glob("*.started"):
                started.unlink()
    finally:
        for left in processes(str(prefix), str(tools)):
            os.kill(left, signal.SIGKILL)


def test_what_cannot_be_mounted_quickly_is_for_the_long_way(
    unmounted: Project, tmp_path: Path
) -> None:
    prefix = prefix_of(unmounted)
    quick(unmounted, "exec", "true", status=LONG, SLURM_JOB_ID="7")
    quick(unmounted, "exec", "true", status=LONG, PATH=str(tmp_path / "absent"))
    assert not prefix.exists()
    # Something of ours that is no empty directory.
    prefix.mkdir(0o700)
    (prefix / "file").touch()
    quick(unmounted, "exec", "true", status=LONG)
    assert os.listdir(prefix) == ["file"]
    (prefix / "file").unlink()
    # A program that fails, and one that mounts nothing.
    tools = tmp_path / "tools"
    tools.mkdir()
    for status in (1, 0):
        for name in ("squashfuse_ll", "mount"):
            (tools / name).write_text(f"#!/bin/sh\nexit {status}\n")
            (tools / name).chmod(0o755)
        path = f"{tools}:{unmounted.environment['PATH']}"
        quick(unmounted, "exec", "true", status=LONG, PATH=path)
        assert wait_until(lambda: not prefix.exists())
        assert wait_until(lambda: not processes(str(prefix)))
    quick(unmounted, "exec", "true")


def test_another_environment_in_the_image_is_not_entered(unmounted: Project) -> None:
    image = Path(unmounted.json("status")["image"])
    before = image.stat()
    other = image.with_name("other")
    tree = image.with_name("tree")
    (tree / ".condainer").mkdir(parents=True)
    (tree / ".condainer" / "address").write_text("0" * 32 + "\n")
    subprocess.run(["mksquashfs", tree, other, "-quiet"], check=True, capture_output=True)
    image.chmod(0o644)
    image.write_bytes(other.read_bytes().ljust(before.st_size, b"\0"))
    image.chmod(0o444)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    # Even a stamp that says otherwise does not help.
    unmounted.cnd("-q", "build")
    quick(unmounted, "exec", "true", status=LONG)
    done = unmounted.cnd("exec", "true", status=125)
    assert "does not hold the environment" in done.stderr
    assert not mounted(prefix_of(unmounted))


# Activated shells

ACTIVATE = {
    "bash": ("source ./activate", "source ./deactivate", "$?"),
    "zsh": ("source ./activate", "source ./deactivate", "$?"),
    "fish": ("source activate.fish", "deactivate", "$status"),
    "tcsh": ("source activate.csh", "deactivate", "$status"),
}


def in_shell(
    project: Project, shell: str, text: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script of a shell where there is no working `cnd`, and no Python."""
    needs_program(shell)
    place = project.path.parent / "without cnd"
    place.mkdir(exist_ok=True)
    for name in ("cnd", "python", "python3"):
        (place / name).write_text("#!/bin/sh\necho needless >&2\nexit 1\n")
        (place / name).chmod(0o755)
    script = project.path / "script"
    script.write_text(f"{text}\n")
    return subprocess.run(
        [shell, str(script)],
        cwd=project.path,
        env={**project.environment, "PATH": f"{place}:/usr/bin:/bin", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("shell", ACTIVATE)
def test_a_shell_claims_what_is_mounted_without_a_program(kept: Project, shell: str) -> None:
    activate, deactivate, status = ACTIVATE[shell]
    claims = f"ls {kept.environment['CONDAINER_MOUNT_BASE']}/.condainer-{os.geteuid()}"
    number = "$fish_pid" if shell == "fish" else "$$"
    text = (
        f"{activate}\necho {status}\nprobe-prefix\necho {number}\n{claims}\n{deactivate}\n{claims}"
    )
    # Not in the moment in which the keeper looks whether it is to go.
    assert wait_until(lambda: not in_shell(kept, shell, activate).stderr)
    done = in_shell(kept, shell, text)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:2] == ["0", str(prefix_of(kept))]
    # Ours came and went; the one of the shell before may go in between as well.
    assert sum(line.endswith(f".shells.{lines[2]}") for line in lines) == 1
    assert quick(kept, "exec", "true").returncode == 0


@pytest.mark.parametrize("shell", [*ACTIVATE, "posix bash"])
def test_a_shell_does_not_wait_for_a_daemon_that_does_not_answer(kept: Project, shell: str) -> None:
    shell, more = ("bash", {"SHELLOPTS": "posix"}) if " " in shell else (shell, {})
    (daemon,) = daemons_at(prefix_of(kept))
    activate = ACTIVATE[shell][0]
    assert wait_until(lambda: not in_shell(kept, shell, activate, **more).stderr)
    start = time.monotonic()
    in_shell(kept, shell, activate, **more)
    usual = time.monotonic() - start
    os.kill(daemon, signal.SIGSTOP)
    try:
        start = time.monotonic()
        done = in_shell(kept, shell, activate, **more)
        # `cnd` asks it with more patience.
        assert time.monotonic() - start - usual < backends.PATIENCE
        assert "needless" in done.stderr
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert wait_until(lambda: not in_shell(kept, shell, activate, **more).stderr)


def test_the_keeper_heeds_a_claim_without_a_lock(project: Project) -> None:
    project.cnd("-q", "build")
    prefix = prefix_of(project)
    hold = [sys.executable, "-m", "condainer", "exec", "--", "sh", "-c", "echo ready; read word"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = subprocess.Popen(hold, cwd=project.path, env=project.environment, **pipes)
    assert command.stdout is not None
    assert command.stdout.readline() == "ready\n"
    assert keeper_is_ready(project)
    shell = subprocess.Popen(
        ["bash", "-c", "source ./activate && echo ready; read word; probe-prefix"],
        cwd=project.path,
        # No cnd: the claim was made without it.
        env={**project.environment, "PATH": "/usr/bin:/bin"},
        **pipes,
    )
    assert shell.stdout is not None
    assert shell.stdout.readline() == "ready\n"
    command.communicate("")
    time.sleep(0.5)
    assert mounted(prefix)
    assert str(shell.pid) in project.cnd("umount", status=14).stderr
    # A refusal changes nothing for others.
    assert in_shell(project, "bash", "source ./activate").returncode == 0
    assert shell.communicate("go\n")[0] == f"{prefix}\n"
    assert wait_until(lambda: not mounted(prefix))
    assert wait_until(lambda: not prefix.exists())
    assert "needless" in in_shell(project, "bash", "source ./activate").stderr


def test_what_a_shell_leaves_to_the_program(kept: Project, isolated_user: Path) -> None:
    def asks(**environment: str) -> bool:
        done = in_shell(kept, "bash", "source ./activate; echo $?", **environment)
        assert done.stdout == ("1\n" if "needless" in done.stderr else "0\n")
        return "needless" in done.stderr

    assert wait_until(lambda: not asks())
    assert asks(CONDAINER_MOUNT="private")
    # A configuration that is younger may say what must not be run any more.
    time.sleep(0.02)
    configuration = isolated_user / ".config/condainer/condainer.yml"
    configuration.parent.mkdir(parents=True)
    configuration.write_text("linger: 1\n")
    assert asks()
    kept.cnd("build")
    assert not asks()
    configuration.write_text("trust: signed\n")
    assert asks()
    configuration.unlink()
    kept.cnd("build")
    assert not asks()
    prefix = prefix_of(kept)
    keeper = keeper_of(prefix)
    text = 'umask 0777; source ./activate; umask 022; stat -c %a "$__CONDAINER_CLAIM"'
    done = in_shell(kept, "bash", text)
    assert done.stderr == ""
    assert done.stdout == "600\n"
    image = Path(kept.json("status")["image"])
    image.rename(image.with_name("away"))
    assert asks()
    image.with_name("away").rename(image)
    # It came with a time of long ago, or with the same.
    activate = kept.path / "activate"
    for new in (configuration, kept.path / "condainer.yml"):
        for second in (None, activate.stat().st_mtime_ns):
            before = new.read_bytes() if new.exists() else None
            time.sleep(0.02)
            new.with_name("new").write_text("linger: 1\n")
            new.with_name("new").rename(new)
            os.utime(new, ns=(second or 10**9, second or 10**9))
            assert asks(), (new, second)
            kept.cnd("build")
            assert not asks()
            if before is None:
                new.unlink()
            kept.cnd("build")
            assert not asks()
    ready = next(prefix.parent.glob(".condainer-*/*.ready"))
    text = ready.read_text()

    def asks_because_of(content: str) -> bool:
        # The keeper writes its own again when it finds the mount unused.
        ready.write_text(content)
        return asks()

    # Of another process, or of one that had this number before.
    assert wait_until(lambda: asks_because_of(text.replace(str(keeper), "1", 1)))
    assert wait_until(lambda: asks_because_of(text.replace(f"{keeper} ", f"{keeper} 1", 1)))
    ready.write_text(text)
    assert not asks()
    done = subprocess.run(
        ["unshare", "-Urm", "bash", "-c", "source ./activate"],
        cwd=kept.path,
        env={**kept.environment, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert "cnd: " in done.stderr
    os.kill(keeper, signal.SIGKILL)
    assert wait_until(lambda: not Path(f"/proc/{keeper}").exists())
    assert asks()


def test_shells_against_a_keeper_that_goes(project: Project) -> None:
    """Who was told that it is active has its commands, however short a mount lives."""
    project.cnd("-q", "build")
    project.cnd("-q", "exec", "true")
    active, asked = 0, 0
    for number in range(8):
        project.cnd("exec", "true")
        # The keeper is about to go: sooner or later than the shell comes.
        time.sleep(number % 4 / 50)
        done = in_shell(project, "bash", "source ./activate && sleep 0.1 && probe-prefix")
        active += done.returncode == 0
        asked += "needless" in done.stderr
        assert "not mounted any more" not in done.stderr
    assert active + asked == 8
