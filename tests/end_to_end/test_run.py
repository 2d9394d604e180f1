"""Use an image: exec, shell, mount, activate, status, cache."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.needed import needs_program
from tests.helpers.projects import SMALL, Project, mounted, prefix_of
from tests.helpers.waiting import wait_until


@pytest.fixture
def built(project: Project) -> Project:
    """A small project whose image is built."""
    project.cnd("-q", "build")
    return project


def test_exec_gives_the_environment_of_an_activation(built: Project) -> None:
    done = built.cnd("exec", "--", "env")
    environment = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    prefix = prefix_of(built)
    assert environment["PATH"].split(":")[0] == f"{prefix}/bin"
    assert environment["CONDA_PREFIX"] == str(prefix)
    assert environment["GREETING"] == "hello"
    assert environment["PROBE_ACTIVE"]
    assert environment["PYTHONNOUSERSITE"] == "1"


def test_exec_keeps_the_working_directory(built: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "condainer", "-d", str(built.path), "exec", "pwd"],
        cwd=elsewhere,
        env=built.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{elsewhere}\n"


@pytest.mark.parametrize("status", [0, 1, 3, 42, 255])
def test_exec_has_the_status_of_the_command(built: Project, status: int) -> None:
    built.cnd("exec", "--", "sh", "-c", f"exit {status}", status=status)


def test_exec_status_of_what_cannot_be_started(built: Project) -> None:
    assert "not found" in built.cnd("exec", "--", "no-such-command", status=127).stderr
    built.write("#!/bin/sh\n", "script")
    assert "denied" in built.cnd("exec", "--", "./script", status=126).stderr
    built.cnd("exec", "--", "/etc", status=126)
    assert "not found" in built.cnd("exec", "--", "", status=127).stderr
    built.cnd("exec", status=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["two words", "", "quo'te\"s"],
        ["new\nline", "$HOME", "`x`", "\\"],
        ["-q", "--", "--help", "-y"],
    ],
)
def test_exec_passes_arguments_unchanged(built: Project, arguments: list[str]) -> None:
    script = 'for argument; do printf "%s\\0" "$argument"; done'
    done = built.cnd("exec", "--", "sh", "-c", script, "sh", *arguments)
    assert done.stdout.split("\0")[:-1] == arguments
    done = built.cnd("exec", "printf", "[%s]", *arguments)
    assert done.stdout == "".join(f"[{argument}]" for argument in arguments)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_reach_the_command(built: Project, number: int) -> None:
    name = signal.Signals(number).name[3:]
    loop = "echo ready; while :; do sleep 0.05; done"
    script = f"trap 'echo caught; exit 7' {name}; {loop}"
    child = subprocess.Popen(
        [sys.executable, "-m", "condainer", "exec", "--", "sh", "-c", script],
        cwd=built.path,
        env=built.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    # The process that was started is the command itself: no wrapper stands in between.
    assert Path(f"/proc/{child.pid}/comm").read_text() == "sh\n"
    child.send_signal(number)
    assert child.stdout.read() == "caught\n"
    assert child.wait() == 7


def test_parallel_commands_share_one_mount_that_goes_with_the_last(built: Project) -> None:
    prefix = prefix_of(built)
    results: list[str] = []

    def run(seconds: float) -> None:
        results.append(
            built.cnd("exec", "--", "sh", "-c", f"sleep {seconds}; probe-prefix").stdout.strip()
        )

    threads = [threading.Thread(target=run, args=(n / 20,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [str(prefix)] * 12
    assert wait_until(lambda: not mounted(prefix))
    assert wait_until(lambda: not prefix.exists())


def test_nothing_runs_where_the_image_cannot_be_mounted(built: Project) -> None:
    image = Path(built.json("status")["image"])
    size = image.stat().st_size
    image.chmod(0o644)
    image.write_bytes(b"\0" * size)
    done = built.cnd("exec", "--", "echo", "must not run", status=125)
    assert done.stdout == ""
    assert str(image) in done.stderr


def test_mount_and_umount(built: Project) -> None:
    prefix = prefix_of(built)
    assert built.cnd("mount", "--print").stdout == f"{prefix}\n"
    assert (prefix / "bin" / "probe-prefix").exists()
    assert built.json("status")["mounted"]
    assert built.cnd("mount", "-p").stdout == f"{prefix}\n"
    holder = subprocess.Popen(["sleep", "3600"], cwd=prefix)
    try:
        done = built.cnd("umount", status=14)
        assert str(holder.pid) in done.stderr
        assert "sleep 3600" in done.stderr
    finally:
        holder.kill()
        holder.wait()
    assert "Unmounted" in built.cnd("umount").stderr
    assert not prefix.exists()
    assert "not mounted" in built.cnd("umount").stderr


def test_umount_after_the_environment_was_edited(built: Project) -> None:
    built.cnd("mount")
    prefix = prefix_of(built)
    built.write("dependencies: [probe-prefix]\n")
    assert built.json("status")["mounted"]
    built.cnd("exec", "--", "true", status=125)
    built.cnd("umount")
    assert not mounted(prefix)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_source_activate_and_deactivate(built: Project, shell: str) -> None:
    needs_program(shell)
    prefix = prefix_of(built)
    script = """
        set -eu
        before=$PATH
        source activate
        command -v probe-prefix
        printf '%s|%s|%s\\n' "$CONDA_PREFIX" "$GREETING" "$PROBE_ACTIVE"
        source deactivate
        [ "$PATH" = "$before" ]
        printf '%s|%s|%s\\n' "${CONDA_PREFIX-none}" "${GREETING-none}" "${PROBE_ACTIVE-none}"
    """
    done = built.bash(script, shell)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{prefix}/bin/probe-prefix"
    assert lines[1].startswith(f"{prefix}|hello|")
    assert lines[2] == "none|none|none"
    built.cnd("umount")


def test_activation_survives_an_edited_environment_and_a_missing_image_says_so(
    built: Project,
) -> None:
    built.write("dependencies: [probe-prefix]\n")
    done = built.bash("source ./activate && probe-prefix")
    assert done.returncode == 0, done.stderr
    built.cnd("umount")
    shutil.rmtree(built.cache)
    done = built.bash("source ./activate; echo $?; echo ${CONDA_PREFIX-none}")
    assert done.stdout == "1\nnone\n"
    assert "not activated" in done.stderr


def test_shell_is_interactive_and_active(built: Project, tmp_path: Path) -> None:
    prefix = prefix_of(built)
    master, slave = pty.openpty()
    environment = {
        **built.environment,
        "SHELL": "/bin/bash",
        "TERM": "dumb",
        "HOME": str(tmp_path / "absent"),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "condainer", "shell"],
        cwd=built.path,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    os.write(master, b"probe-prefix; echo $GREETING-$((40+2)); exit 5\n")
    output = b""
    try:
        while chunk := os.read(master, 4096):
            output += chunk
    except OSError:
        pass
    finally:
        os.close(master)
    assert child.wait() == 5
    assert str(prefix).encode() + b"\r\n" in output
    assert b"hello-42" in output


def test_status_of_every_state(make_project: Any) -> None:
    project = make_project()
    fields = {"project", "lock", "address", "image", "prefix", "mounted", "cache", "pinned"}
    status = project.json("status")
    assert fields <= set(status)
    assert (status["lock"], status["address"], status["mounted"]) == ("missing", None, False)
    project.cnd("lock")
    status = project.json("status")
    assert (status["lock"], status["image"]) == ("current", None)
    assert status["prefix"].endswith(f"condainer-{status['address']}")
    built = project.json("build")
    status = project.json("status")
    assert (status["image"], status["address"]) == (built["image"], built["address"])
    assert status["project"] == str(project.path)
    text = project.cnd("status").stdout
    assert f"address   {built['address']}" in text


def test_not_built_yet(make_project: Any) -> None:
    project = make_project()
    for command in (["mount"], ["umount"], ["cache"], ["shell"]):
        assert "cnd build" in project.cnd(*command, status=15).stderr, command
    project.cnd("lock")
    assert "cnd build" in project.cnd("mount", status=15).stderr
    assert "cnd build" in project.cnd("exec", "--", "true", status=125).stderr


def test_cache_reads_the_image(built: Project) -> None:
    done = built.cnd("cache")
    assert "Read" in done.stderr
    assert "/s)" in done.stderr
    assert built.cnd("-q", "cache").stderr == ""


def test_version_and_prereq(built: Project) -> None:
    versions = built.json("version")
    assert versions["condainer"] in built.cnd("version").stdout
    assert {"py-rattler", "uv", "conda-lock", "python"} <= set(versions)
    checks = built.json("prereq")
    assert checks["mksquashfs"]["ok"]
    assert checks["/dev/fuse"]["ok"]
    assert "squashfuse_ll" in checks


def test_init_works_offline_and_never_overwrites(make_project: Any) -> None:
    project = make_project(text="")
    project.cnd("init")
    config = (project.path / "condainer.yml").read_text()
    assert "mount_base_directory" in config
    environment = project.path / "environment.yml"
    assert "dependencies" in environment.read_text()
    assert project.json("status")["lock"] == "missing"
    environment.write_text(SMALL)
    (project.path / "condainer.yml").write_text("linger: 1\n")
    assert "already exists; unchanged" in project.cnd("init").stderr
    assert environment.read_text() == SMALL
    assert (project.path / "condainer.yml").read_text() == "linger: 1\n"


def test_configuration_order(make_project: Any, tmp_path: Path) -> None:
    project = make_project()
    del project.environment["CONDAINER_CACHE"]
    user = tmp_path / "config" / "condainer" / "condainer.yml"
    user.parent.mkdir(parents=True)
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    default = project.json("status", **environment)["cache"]
    user.write_text("cache_directory: of-the-user\n")
    assert project.json("status", **environment)["cache"] == str(user.parent / "of-the-user")
    project.write("cache_directory: of-the-project\n", "condainer.yml")
    in_project = str(project.path / "of-the-project")
    assert project.json("status", **environment)["cache"] == in_project
    environment["CONDAINER_CACHE"] = str(tmp_path / "variable")
    assert project.json("status", **environment)["cache"] == str(tmp_path / "variable")
    override = ["--set", f"cache_directory={tmp_path / 'line'}"]
    assert project.json(*override, "status", **environment)["cache"] == str(tmp_path / "line")
    assert default.endswith("/condainer")


def test_tools_of_the_channel_need_no_root(make_project: Any, tmp_path: Path) -> None:
    """The channel's own squashfs-tools and squashfuse build and mount images."""
    tools = make_project("tools", "dependencies: [squashfs-tools, squashfuse]\n")
    tools.cnd("-q", "build")
    prefix = tools.cnd("-q", "mount", "--print").stdout.strip()
    project = make_project("project", CONDAINER_TOOLS=f"{prefix}/bin")
    checks = project.json("prereq")
    assert checks["mksquashfs"]["found"].startswith(prefix)
    assert checks["squashfuse_ll"]["found"].startswith(prefix)
    built = project.json("build")
    assert project.cnd("exec", "probe-prefix").stdout.strip() == built["prefix"]
    assert wait_until(lambda: not mounted(Path(built["prefix"])))


def test_the_mirror_setting_of_make_channel_works(channel: Path, tmp_path: Path) -> None:
    """What `make channel` prints is all that cnd, typed by hand, needs."""
    top = channel.parents[1]
    printed = subprocess.run(
        [sys.executable, "-m", "tests.channel", "env"],
        cwd=top,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert printed.startswith("export CONDAINER_MIRRORS=")
    project = Project(tmp_path, {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache home")})
    project.write("dependencies: [probe-prefix]\n")
    script = f"{printed}\ncnd -q --set mount_base_directory={tmp_path}/m build --json"
    done = project.bash(script)
    assert done.returncode == 0, done.stderr
    assert not json.loads(done.stdout)["hit"]


def test_a_frozen_command_runs_the_image_of_the_lock(built: Project) -> None:
    prefix = prefix_of(built)
    inputs = built.path / "environment.yml"
    for text in (SMALL.replace("hello", "changed"), "dependencies: ["):
        inputs.write_text(text)
        refused = built.cnd("exec", "true", status=125)
        done = built.cnd("exec", "--frozen", "--", "sh", "-c", "probe-prefix; echo $GREETING")
        assert (done.stdout, done.stderr) == (f"{prefix}\nhello\n", "")
        done = built.cnd("exec", "probe-prefix", CONDAINER_FROZEN="1")
        assert (done.stdout, done.stderr) == (f"{prefix}\n", "")
        assert "--frozen" in refused.stderr or text == "dependencies: ["
    inputs.unlink()
    assert built.cnd("exec", "--frozen", "probe-prefix").stdout == f"{prefix}\n"
    # The other lockfile says less than an address needs.
    inputs.write_text(SMALL.replace("hello", "changed"))
    built.lockfile.unlink()
    said = built.cnd("exec", "--frozen", "probe-prefix", status=125).stderr
    assert "Run `cnd build` first" in said
    assert "--frozen" not in said
    (built.path / "conda-lock.yml").unlink()
    assert "cnd build" in built.cnd("exec", "--frozen", "true", status=125).stderr


def test_an_address_needs_no_project(built: Project, tmp_path: Path) -> None:
    prefix = prefix_of(built)
    address = built.json("status")["address"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stranger = Project(elsewhere, built.environment)
    for digits in (address, address[:10]):
        done = stranger.cnd("exec", "--address", digits, "--", "probe-prefix")
        assert (done.stdout, done.stderr) == (f"{prefix}\n", "")
    assert not list(elsewhere.iterdir())
    gone = stranger.cnd("exec", "--address", "0" * 32, "true", status=125).stderr
    assert "No image with the address" in gone
    assert "condainer.yml" not in gone
    assert "address" in stranger.cnd("exec", "--address", "no", "true", status=125).stderr
    assert "cnd:" not in stranger.cnd("shell", "--address", address, SHELL="/bin/sh").stderr
    (elsewhere / "condainer.yml").write_text(f"address: '{'0' * 32}'\n")
    assert "condainer.yml pins it" in stranger.cnd("exec", "true", status=125).stderr
    # Another one is named on the command line.
    gone = stranger.cnd("exec", "--address", "1" * 32, "true", status=125).stderr
    assert "No image with the address" in gone
    assert "condainer.yml" not in gone


def test_a_python_outside_of_the_image_is_told(built: Project) -> None:
    here = built.path / "bin"
    here.mkdir()
    for name, first in (("pip", "#!/usr/bin/env python3\n"), ("tool", "#!/bin/sh\n")):
        (here / name).write_text(first)
        (here / name).chmod(0o755)
    path = f"{here}:{built.environment['PATH']}"
    told = f"Warning: pip is not in the environment: this is {here}/pip\n"
    # The short way and the long way.
    for options in ((), ("--set", "linger=0")):
        assert built.cnd(*options, "exec", "pip", PATH=path).stderr == told
        assert built.cnd(*options, "-q", "exec", "pip", PATH=path).stderr == ""
        assert built.cnd(*options, "exec", "tool", PATH=path).stderr == ""
        assert built.cnd(*options, "exec", f"{here}/pip", PATH=path).stderr == ""


def test_a_build_and_a_hit_say_how_the_image_is_used(project: Project, tmp_path: Path) -> None:
    built = project
    use = "Use it: source ./activate, cnd shell, or cnd exec -- COMMAND\n"
    assert built.cnd("build", SHELL="/bin/sh").stderr.endswith(use)
    for shell, script in (("/bin/bash", "activate"), ("/usr/bin/fish", "activate.fish")):
        # Once by the short way.
        for options in ((), ("--set", "linger=0")):
            said = built.cnd(*options, "build", SHELL=shell).stderr.splitlines()
            assert said[1:] == [f"Use it: source ./{script}, cnd shell, or cnd exec -- COMMAND"]
    stranger = Project(tmp_path, built.environment)
    odd = tmp_path / "odd\x1b[31m"
    odd.symlink_to(built.path)
    for _ in range(2):
        text = stranger.cnd("-d", str(odd), "build").stderr
        assert text.endswith("\nUse it: cnd shell, or cnd exec -- COMMAND\n")
        assert "\x1b" not in text
    said = stranger.cnd("-d", str(built.path), "build", SHELL="/bin/sh").stderr.splitlines()
    assert said[1].startswith(f"Use it: source {built.path}/activate, ")
