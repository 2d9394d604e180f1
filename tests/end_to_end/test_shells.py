"""Images in real shells, and what a terminal and signals do to what runs in them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny
from tests.helpers.needed import needs_program
from tests.helpers.projects import Project, mounted, prefix_of
from tests.helpers.terminals import terminal
from tests.helpers.waiting import wait_until

SHELLS = {
    "bash": ("bash", "source ./activate", "deactivate", "$?"),
    "zsh": ("zsh", "source ./activate", "deactivate", "$?"),
    "fish": ("fish", "source activate.fish", "deactivate", "$status"),
    "tcsh": ("tcsh", "source activate.csh", "deactivate", "$status"),
}


@pytest.fixture
def built(project: Project) -> Project:
    """A small project whose image is built."""
    project.cnd("-q", "build")
    return project


@pytest.mark.parametrize(("shell", "enter", "leave", "status"), SHELLS.values(), ids=SHELLS)
def test_activation_in_every_shell(
    built: Project, shell: str, enter: str, leave: str, status: str
) -> None:
    needs_program(shell)
    prefix = str(prefix_of(built))
    built.environment["HOME"] = str(built.path.parent)
    text = f"""{enter}
printf '%s\\n' {status} "$GREETING" "$PROBE_ACTIVE"
probe-prefix
cnd -q umount --force
# The command is gone, and not that of another mount; `cnd exec` mounts what it needs.
probe-prefix
test {status} -eq 0; echo "found {status}"
cnd exec probe-prefix
# The environment can be left without its image, and entered again.
{leave}
echo "left {status}"
/usr/bin/env
{enter}
probe-prefix
{leave}
"""
    done = built.bash(text, shell)
    lines = done.stdout.splitlines()
    found = ["0", "hello", prefix, prefix, "found 1", prefix, "left 0"]
    # The image is not there to undo what its own activation scripts did.
    rest = lines[len(found) :]
    assert (lines[: len(found)], rest[-1]) == (found, prefix), done.stderr
    left = [line for line in rest if not line.startswith(("PROBE_ACTIVE=", "PWD="))]
    for gone in (f"{prefix}/bin", "CONDA_PREFIX", "GREETING", "__CONDAINER", "NUMBA_CACHE_DIR"):
        assert gone not in "\n".join(left[:-1])
    built.cnd("umount", "--force")


@pytest.mark.parametrize(("shell", "enter", "leave", "status"), SHELLS.values(), ids=SHELLS)
def test_the_variables_of_an_activation_without_its_mount(
    built: Project, shell: str, enter: str, leave: str, status: str
) -> None:
    needs_program(shell)
    prefix = prefix_of(built)
    built.environment["HOME"] = str(built.path.parent)
    # As sbatch hands them on, on a node where the image is not mounted.
    assert built.bash(f"{enter}\nenv -0 >exported\n", shell).returncode == 0
    built.cnd("umount", "--force", status=None)
    assert wait_until(lambda: not mounted(prefix) and not prefix.exists())
    entries = (built.path / "exported").read_text().split("\0")
    exported = dict(entry.split("=", 1) for entry in entries if entry)
    built.environment.update({k: v for k, v in exported.items() if k != "PATH"})
    text = f"{enter}\necho {status}\nprobe-prefix\n{leave}\ncnd exec probe-prefix\n"
    done = built.bash(text, shell)
    assert (done.stdout, done.stderr) == (f"0\n{prefix}\n{prefix}\n", "")
    # So is a shell of `cnd shell`, whether the image is mounted or not.
    built.environment["SHELL"] = "/bin/sh"
    for kept in (True, False):
        built.cnd("mount" if kept else "umount")
        assert "cnd:" not in built.cnd("shell").stderr


@pytest.mark.parametrize(("shell", "enter", "leave", "status"), SHELLS.values(), ids=SHELLS)
def test_the_environment_of_a_command_is_its_own(
    built: Project, shell: str, enter: str, leave: str, status: str
) -> None:
    needs_program(shell)
    (built.path / "script").write_text(f"{enter}\necho {status}\n")
    # tcsh closes the descriptor by which a command keeps its image mounted.
    built.cnd("mount")
    done = built.cnd("exec", shell, "script", PATH="/usr/local/bin:/usr/bin:/bin")
    assert done.stdout == "0\n"
    assert "already active" in done.stderr


# What is named `deactivate` already; csh has no functions.
THEIRS = {
    "bash": "deactivate() { echo theirs; }",
    "zsh": "deactivate() { echo theirs; }",
    "fish": "function deactivate; echo theirs; end",
    "tcsh": "alias elsewhere 'echo theirs'",
}


@pytest.mark.parametrize(("shell", "enter", "leave", "status"), SHELLS.values(), ids=SHELLS)
def test_leaving_works_from_anywhere(
    built: Project, shell: str, enter: str, leave: str, status: str
) -> None:
    needs_program(shell)
    prefix = prefix_of(built)
    theirs = "elsewhere" if shell == "tcsh" else "deactivate"
    text = f"{THEIRS[shell]}\n/usr/bin/env -0 >before\n{enter}\nprobe-prefix\ncd /\n{leave}\n"
    text += f"echo {status}\n/usr/bin/env -0 >'{built.path}/after'\n{theirs}\n"
    done = built.bash(text, shell)
    assert (done.stdout, done.stderr) == (f"{prefix}\n0\ntheirs\n", "")
    before, after = (
        {e for e in (built.path / name).read_text().split("\0") if not e.startswith(MOVED)}
        for name in ("before", "after")
    )
    assert after == before
    assert wait_until(lambda: not prefix.exists())


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_an_alias_does_not_hide_the_way_out(built: Project, shell: str) -> None:
    needs_program(shell)
    prefix = prefix_of(built)
    aliases = "shopt -s expand_aliases" if shell == "bash" else "setopt aliases"
    text = f"{aliases}\nalias deactivate='echo theirs'\nsource ./activate\nprobe-prefix\n"
    done = built.bash(text + "eval deactivate\necho ${CONDA_PREFIX-left}\n", shell)
    assert (done.stdout, done.stderr) == (f"{prefix}\nleft\n", "")


# What `cd` and starting a command change.
MOVED = ("PWD=", "OLDPWD=", "_=", "SHLVL=")


@pytest.mark.parametrize(("shell", "enter", "leave", "status"), SHELLS.values(), ids=SHELLS)
def test_activation_switches_to_the_image_of_the_last_build(
    built: Project, shell: str, enter: str, leave: str, status: str
) -> None:
    needs_program(shell)
    first = built.json("status")
    text = f"""{enter}
{enter}
printf '%s\\n' {status} "$GREETING"
sed -i s/hello/changed/ environment.yml
cnd -q build
{enter}
printf '%s\\n' {status} "$GREETING" "$PATH" "$PROBE_ACTIVE"
probe-prefix
{leave}
/usr/bin/env
"""
    done = built.bash(text, shell)
    second = built.json("status")
    lines = done.stdout.splitlines()
    assert lines[:4] == ["0", "hello", "0", "changed"], done.stderr
    assert lines[4].split(":")[0] == f"{second['prefix']}/bin"
    assert first["prefix"] not in done.stdout
    assert lines[5:7] == [second["prefix"]] * 2
    left = {line.partition("=")[0] for line in lines[7:]}
    assert not left & {"GREETING", "PROBE_ACTIVE", "CONDA_PREFIX", "CONDA_DEFAULT_ENV"}
    assert second["address"] not in "".join(lines[7:])
    told = done.stderr.splitlines()
    assert [line.partition("is ")[2] for line in told[:1]] == ["already active"]
    old, new = first["address"][:8], second["address"][:8]
    assert told[1:] == [f"cnd: switched from project ({old}) to project ({new})"]
    for prefix in (first["prefix"], second["prefix"]):
        assert wait_until(lambda prefix=prefix: not Path(prefix).exists())


@pytest.mark.parametrize(("shell", "enter", "leave", "status"), SHELLS.values(), ids=SHELLS)
def test_an_image_that_was_taken_away_is_activated_again(
    built: Project, shell: str, enter: str, leave: str, status: str
) -> None:
    needs_program(shell)
    prefix = prefix_of(built)
    text = f"{enter}\ncnd -q umount --force\n{enter}\necho {status}\nprobe-prefix\n{leave}\n"
    done = built.bash(text, shell)
    assert (done.stdout, done.stderr) == (f"0\n{prefix}\n", "")
    assert wait_until(lambda: not prefix.exists())


# Of packages' files and scripts, and of the environment, whose name conda takes in upper case.
PACKAGED = ("ONE", "TWO", "LOWER", "NUMBER", "GREETING", "SHARED", "FROM_LOCK", "SEEN", "LEFT")
BY_CONDA = {
    "bash": 'eval "$({} shell.posix activate {})"',
    "zsh": 'eval "$({} shell.posix activate {})"',
    "fish": "eval ({} shell.fish activate {} | string collect)",
    "tcsh": 'eval "`{} shell.csh activate {}`"',
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a channel with packages that set variables."""
    channel = tmp_path_factory.mktemp("sets") / "channel"
    scripts = {"sh": "export SEEN=", "fish": "set -gx SEEN ", "csh": "setenv SEEN "}
    files = {
        "env_vars.d/a.json": '{"ONE": "a", "TWO": "a", "SHARED": "a", "GREETING": "a"}',
        **{f"activate.d/s.{kind}": f'{text}"$TWO $GREETING"\n' for kind, text in scripts.items()},
        "deactivate.d/s.sh": "unset SEEN\n",
        "deactivate.d/s.fish": "set -e SEEN\n",
        "deactivate.d/s.csh": "unsetenv SEEN\n",
    }
    package = [(f"etc/conda/{name}", text) for name, text in files.items()]
    tiny.package(channel, "sets", "1", files=package)
    second = '{"TWO": "b c", "lower": "x", "NUMBER": 1, "FROM_LOCK": "b", "LEFT": null}'
    more = [("etc/conda/env_vars.d/b.json", second)]
    tiny.package(channel, "sets-more", "1", files=more)
    tiny.index(channel)
    return channel.as_uri()


@pytest.mark.parametrize(("shell", "enter", "leave", "status"), SHELLS.values(), ids=SHELLS)
def test_variables_of_packages_are_those_of_conda(
    make_project: Any, sets: str, conda: Path, shell: str, enter: str, leave: str, status: str
) -> None:
    needs_program(shell)
    variables = "{GREETING: hello, from_lock: lock}"
    text = f"channels: ['{sets}']\ndependencies: [sets, sets-more]\nvariables: {variables}\n"
    made: Project = make_project(text=text)
    made.cnd("-q", "build")
    made.environment.update(HOME=str(made.path.parent), ONE="mine", SHARED="", LEFT="left")
    ours = f"""env -0 >before
{enter}
echo {status}
env -0 >active
cnd exec env -0 >exec
{leave}
env -0 >after
"""
    done = made.bash(ours, shell)
    assert (done.stdout, done.stderr) == ("0\n", "")
    made.cnd("-q", "mount")
    done = made.bash(f"{BY_CONDA[shell].format(conda, prefix_of(made))}\nenv -0 >conda\n", shell)
    assert done.returncode == 0, done.stderr
    made.cnd("-q", "umount", "--force")

    def found(name: str) -> dict[str, str | None]:
        entries = (made.path / name).read_text().split("\0")
        environ = dict(entry.split("=", 1) for entry in entries if entry)
        return {variable: environ.get(variable) for variable in PACKAGED}

    assert found("active") == found("conda") == found("exec")
    assert found("active") == {
        "ONE": "a",
        "TWO": "b c",
        "LOWER": "x",
        "NUMBER": "1",
        "GREETING": "hello",
        "SHARED": "a",
        "FROM_LOCK": "lock",
        "SEEN": "b c hello",
        "LEFT": None,
    }
    assert found("after") == found("before")


@pytest.mark.parametrize(("shell", "enter", "leave", "status"), SHELLS.values(), ids=SHELLS)
def test_variables_of_packages_that_cannot_be_read(
    make_project: Any, tmp_path: Path, shell: str, enter: str, leave: str, status: str
) -> None:
    needs_program(shell)
    tiny.package(tmp_path / "channel", "spoils", "1", files=[("etc/conda/env_vars.d/x.json", "{")])
    tiny.index(tmp_path / "channel")
    channel = (tmp_path / "channel").as_uri()
    made: Project = make_project(text=f"channels: ['{channel}']\ndependencies: [spoils]\n")
    made.cnd("-q", "build")
    done = made.bash(f"{enter}\necho {status}\nenv\n", shell)
    assert done.stdout.startswith("1\n")
    assert "CONDAINER_ADDRESS" not in done.stdout
    assert f"{prefix_of(made)}/etc/conda/env_vars.d/x.json" in done.stderr
    # Nothing holds the mount any more, although the shell may still be there.
    assert wait_until(lambda: not mounted(prefix_of(made)))


@pytest.mark.parametrize(("shell", "enter", "leave", "status"), SHELLS.values(), ids=SHELLS)
def test_activation_says_that_the_image_is_not_that_of_the_inputs(
    built: Project, shell: str, enter: str, leave: str, status: str
) -> None:
    needs_program(shell)
    prefix = prefix_of(built)
    text = f"{enter}\necho {status}\nprobe-prefix\n"
    inputs = built.path / "environment.yml"
    whole = inputs.read_text()
    locked = built.lockfile.read_text()
    for changed, said in (
        (whole.replace("hello", "changed"), "environment.yml changed since it was locked"),
        ("dependencies: [", "environment.yml"),
    ):
        inputs.write_text(changed)
        done = built.bash(text, shell)
        assert done.stdout == f"0\n{prefix}\n"
        assert said in done.stderr
        assert "activating the last image built, `cnd build` makes a new one" in done.stderr
        assert done.stderr.count("\n") == 1
        # CONDAINER_FROZEN turns the warning off.
        frozen = {**built.environment, "CONDAINER_FROZEN": "1"}
        assert Project(built.path, frozen).bash(text, shell).stderr == ""
    # In a shell in which it is active, too, and not if nothing has changed.
    inputs.write_text(whole)
    for edit, count in (("true", 0), ("sed -i s/hello/changed/ environment.yml", 1)):
        done = built.bash(f"{enter}\n{edit}\n{enter}\necho {status}\n{leave}\n", shell)
        assert done.stdout == "0\n"
        assert "is already active\n" in done.stderr
        assert done.stderr.count("environment.yml changed since it was locked") == count
    # As after `git pull`.
    inputs.write_text(whole)
    built.lockfile.write_text(locked.replace("hello", "pulled"))
    assert "The lock is" in built.bash(text, shell).stderr
    built.lockfile.write_text(locked)
    assert built.bash(text, shell).stderr == ""


def test_an_image_that_was_purged_is_built_again(built: Project) -> None:
    shutil.rmtree(built.cache)
    for shell, enter, _, status in SHELLS.values():
        needs_program(shell)
        done = built.bash(f"{enter}\necho {status}\n", shell)
        assert done.stdout == "1\n"
        assert "Run `cnd build`" in done.stderr
        assert "`address:`" not in done.stderr
    assert "Run `cnd build`" in built.cnd("exec", "true", status=125).stderr
    built.cnd("-q", "build")
    assert built.bash("source ./activate\nprobe-prefix\n").stdout == f"{prefix_of(built)}\n"


def test_a_taken_place_is_named_and_cnd_shell_offered(built: Project) -> None:
    prefix = prefix_of(built)
    prefix.mkdir(parents=True)
    # Others can write here: it is as little ours as a mount of theirs. An empty one root removes.
    prefix.chmod(0o777)
    (prefix / "theirs").touch()
    for shell, enter, _, status in SHELLS.values():
        needs_program(shell)
        done = built.bash(f'{enter}\necho "{status} $PATH"\n', shell)
        said = [line for line in done.stderr.splitlines() if str(prefix) in line]
        assert len(said) == 1, done.stderr
        assert f"{prefix} is taken by" in said[0]
        assert "Use `cnd shell`" in done.stderr
        assert done.stdout.startswith("1 ")
        assert str(prefix) not in done.stdout
    (prefix / "theirs").unlink()
    prefix.rmdir()


def test_user_site_is_configurable(built: Project) -> None:
    done = built.cnd("exec", "env")
    assert "PYTHONNOUSERSITE=1\n" in done.stdout
    built.write("user_site: true\n", "condainer.yml")
    assert "PYTHONNOUSERSITE" not in built.cnd("exec", "env").stdout
    built.cnd("-q", "build")
    for name in ("activate", "activate.fish", "activate.csh"):
        assert "PYTHONNOUSERSITE" not in (built.path / name).read_text()


def test_files_of_others_are_left_alone(built: Project) -> None:
    ours = ("activate", "deactivate", "activate.fish", "activate.csh", "deactivate.csh")
    for name in ours:
        (built.path / name).write_text("mine\n")
    warned = built.cnd("build").stderr
    for name in ours:
        assert (built.path / name).read_text() == "mine\n"
        assert f"/{name} is not Condainer's" in warned


# Terminals and signals


CND = (sys.executable, "-m", "condainer")


def test_interrupting_a_prompt_of_python_leaves_the_mount(make_project: Any) -> None:
    project: Project = make_project(text="dependencies: [python]\n")
    project.cnd("-q", "build")
    prefix = prefix_of(project)
    with terminal(project, *CND, "exec", "--", "python", "-q") as screen:
        screen.wait_for(">>> ")
        screen.type("import sys; print(sys.prefix)\n")
        screen.wait_for(re.escape(str(prefix)) + r"\r\n>>> ")
        for _ in range(3):
            # Python shows its prompt a moment before an interruption wakes it.
            screen.wait_for_sleep()
            screen.type("\x03")
            screen.wait_for(r"KeyboardInterrupt\r\n>>> ")
        # What is typed is shown as well.
        screen.type("exec(\"print('wo' 'rks')\\nwhile True: pass\")\n")
        screen.wait_for("works")
        screen.type("\x03")
        screen.wait_for(r"KeyboardInterrupt\r\n>>> ")
        assert mounted(prefix)
        # A module that has not been read before comes from the image.
        screen.type("import wave; print(wave.__file__)\n")
        screen.wait_for(re.escape(f"{prefix}/lib/") + r"\S+\r\n>>> ")
        screen.type("exit(7)\n")
        assert screen.end() == 7
    assert wait_until(lambda: not mounted(prefix))


# Each with a prompt of its own.
INTERACTIVE = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "PS1='mine> '"),
    "zsh": (["zsh", "-f", "-i"], "PS1='mine> '"),
    "fish": (["fish", "-N", "-i"], "function fish_prompt; echo 'mine> '; end"),
    "tcsh": (["tcsh", "-f", "-i"], "set prompt = 'mine> '"),
}


@pytest.mark.parametrize("shell", INTERACTIVE)
def test_a_session_at_a_terminal(built: Project, shell: str) -> None:
    """Activate, edit, build, activate again, leave from elsewhere: as a person types it."""
    needs_program(shell)
    argv, prompt = INTERACTIVE[shell]
    _, enter, leave, _ = SHELLS[shell]
    # What is typed is shown as well, and must not be taken for what it prints.
    greet = "printf '%s-%s\\n' said $GREETING; true"
    first, project = prefix_of(built), str(built.path)
    built.environment["PATH"] = f"{Path(sys.executable).parent}:{built.environment['PATH']}"
    with terminal(built, *argv) as screen:
        screen.type(f"{prompt}\n")
        screen.wait_for("\\smine> ")
        screen.type(f"{enter}\n")
        screen.wait_for(r"\(project\) mine> ")
        screen.type(f"{greet}\n")
        screen.wait_for(r"said-hello\s")
        screen.type("sed -i s/hello/changed/ environment.yml\n")
        screen.type('cnd -q build && echo bu""ilt\n')
        screen.wait_for(r"built\s")
        second = prefix_of(built)
        assert mounted(first)
        screen.type(f"{enter}\n")
        screen.wait_for(r"cnd: switched from project \(\w+\) to project \(\w+\)")
        screen.wait_for(r"\(project\) mine> ")
        screen.type(f"cd /\n{greet}\n")
        screen.wait_for(r"said-changed\s")
        screen.type(f"{leave}\n")
        screen.type('echo now outs""ide\n')
        shown = screen.wait_for(r"now outside\s[^>]*mine> ")
        assert "(project)" not in shown
        screen.type('which probe-prefix || echo go""ne\n')
        screen.wait_for(r"gone\s")
        screen.type(f"cd {project}\n{enter}\n")
        screen.wait_for(r"\(project\) mine> ")
        # The shell ends without leaving.
        screen.type("exit\n")
        screen.end()
    for prefix in (first, second):
        assert wait_until(lambda prefix=prefix: not mounted(prefix))


@pytest.mark.parametrize("within", ["exec", "shell"])
def test_job_control_reaches_the_command(built: Project, within: str) -> None:
    """In an interactive shell: stopped, continued, interrupted, terminated."""
    prefix = prefix_of(built)
    beat = "while :; do echo beat; sleep 0.1; done"
    caught = f"trap 'echo terminated; exit 9' TERM; trap 'echo continued' CONT; {beat}"
    # Not sh: dash may be stopped in the middle of a vfork, and its shell never hears of it.
    command = f'bash -c "{caught}"'
    if within == "exec":
        shell = ["bash", "--norc", "--noprofile", "-i"]
        command = f"{' '.join(CND)} exec -- {command}"
    else:
        shell = [*CND, "shell"]
    with terminal(built, *shell) as screen:
        screen.wait_for("[#$] ")
        screen.type(f"{command}\n")
        screen.wait_for("\nbeat")
        screen.type("\x1a")
        screen.wait_for("Stopped")
        assert mounted(prefix)
        screen.type("fg\n")
        screen.wait_for("continued")
        screen.wait_for("\nbeat")
        screen.type("\x1a")
        screen.wait_for("Stopped")
        screen.type("kill %1\n")
        screen.wait_for("terminated\r")
        # The shell tells of it before a prompt, when it knows of it.
        screen.type_until("\n", "Exit 9")
        screen.type(f"{command}\n")
        screen.wait_for("\nbeat")
        screen.type("\x03")
        screen.type("echo after $?\n")
        screen.wait_for("\nafter 130")
        screen.type("exit 3\n")
        assert screen.end() == 3
    assert wait_until(lambda: not mounted(prefix))


def test_a_stopped_command_keeps_its_mount(built: Project) -> None:
    prefix = prefix_of(built)
    child = subprocess.Popen(
        [*CND, "exec", "--", "sh", "-c", "echo ready; read -r line; probe-prefix"],
        cwd=built.path,
        env=built.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    # Not SIGTSTP, which means nothing to a process without a shell that could continue it.
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    time.sleep(0.5)
    assert mounted(prefix)
    child.send_signal(signal.SIGCONT)
    stdout, _ = child.communicate("go\n")
    assert (stdout, child.returncode) == (f"{prefix}\n", 0)
    assert wait_until(lambda: not mounted(prefix))
