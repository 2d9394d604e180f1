"""The environment of a command, starting it, and shells that are started in an image."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from condainer.activate import default_variables, shell
from condainer.startup import command_environment
from condainer.system.errors import ToolError
from tests.helpers.needed import needs_program
from tests.helpers.terminals import session

# Not that of any image which a test running beside mounts: the scripts look at the mount table.
ADDRESS = "5e11ac70112233445566778899aabbcc"
VARIABLES = {"ODD": 'it\'s $HOME "quoted"\nsecond `line`', "KEPT": "new"}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A directory that looks like a mounted image."""
    prefix = tmp_path / "base" / f"condainer-{ADDRESS}"
    (prefix / "bin").mkdir(parents=True)
    (prefix / ".condainer").mkdir()
    (prefix / ".condainer/address").write_text(f"{ADDRESS}\n")
    return prefix


def environ_of(tmp_path: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "dumb", "KEPT": "old"}


def write_script(prefix: Path, kind: str, name: str, text: str) -> None:
    directory = prefix / f"etc/conda/{kind}.d"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(text)


# The environment of a command


def test_environment_as_activation_gives_it(prefix: Path) -> None:
    given = {"PATH": "/a:/b", "PYTHONHOME": "/x", "LEFT": "1", "PYTHONNOUSERSITE": ""}
    env = shell.environment(prefix, {"V": "w", "PATH": "/no"}, given, name="n", address=ADDRESS)
    assert env == {
        "PATH": f"{prefix}/bin:/a:/b",
        "CONDA_PREFIX": str(prefix),
        "CONDAINER_PREFIX": str(prefix),
        "CONDA_DEFAULT_ENV": "n",
        "CONDA_SHLVL": "1",
        "CONDAINER_ADDRESS": ADDRESS,
        "PYTHONNOUSERSITE": "",
        "PYTHONDONTWRITEBYTECODE": "1",
        "V": "w",
        "LEFT": "1",
    }


def test_active_environment_is_replaced(prefix: Path) -> None:
    given = {
        "PATH": f"/old/bin:/condabin:{prefix}/bin:/usr/bin",
        "CONDA_PREFIX": "/old",
        "CONDA_PREFIX_1": "/older",
        "CONDA_SHLVL": "2",
    }
    env = shell.environment(prefix, {}, given, name="n", address=ADDRESS)
    assert env["PATH"] == f"{prefix}/bin:/condabin:/usr/bin"
    assert env["CONDA_SHLVL"] == "1"
    assert "CONDA_PREFIX_1" not in env


def test_scripts_run_in_order_after_the_variables(prefix: Path) -> None:
    write_script(prefix, "activate", "b.sh", 'export ORDER="$ORDER:b"; echo noise; set -eu\n')
    write_script(prefix, "activate", "a.sh", 'export ORDER="$VAR:a"; echo "$NOT_SET_AT_ALL"\n')
    write_script(prefix, "activate", "c.sh", "false\nexport LAST=$CONDA_PREFIX\nreturn 3\n")
    write_script(prefix, "activate", "d.txt", "export WRONG=1\n")
    write_script(prefix, "activate", "z.sh", 'export MULTI="one\ntwo=three"\nunset GONE\nexit 4\n')
    given = {
        "PATH": os.environ["PATH"],
        "GONE": "x",
        "BASH_FUNC_module%%": "() {  echo hi\n}",
        "odd.name": "kept",
        "BYTES": os.fsdecode(b"\xff\xfe"),
        "BASH_ENV": str(prefix / "absent"),
        "SHLVL": "7",
    }
    said: list[str] = []
    env = shell.environment(
        prefix, {"VAR": "v"}, given, name="n", address=ADDRESS, on_output=said.append
    )
    assert env["ORDER"] == "v:a:b"
    assert env["LAST"] == str(prefix)
    assert env["MULTI"] == "one\ntwo=three"
    assert "GONE" not in env
    assert "WRONG" not in env
    for key in ("odd.name", "BYTES", "BASH_ENV", "SHLVL"):
        assert env[key] == given[key]
    assert "echo hi" in env["BASH_FUNC_module%%"]
    assert "PWD" not in env
    assert said == ["noise"]


SETTINGS = {
    "SHELLOPTS": "noexec",
    "BASHOPTS": "extdebug",
    "BASH_ENV": "@hostile",
    "ENV": "@hostile",
    "BASH_COMPAT": "4.0",
    "BASH_XTRACEFD": "1",
    "POSIXLY_CORRECT": "y",
    "PS1": "one",
    "PS2": "two",
    "PS4": "$(exit 9)",
    "IFS": "a",
    "CDPATH": "/etc",
    "GLOBIGNORE": "*",
    "FUNCNEST": "1",
    "EXECIGNORE": "*",
    "TMOUT": "1",
    "OPTIND": "7",
    "UID": "x",
    "SECONDS": "y",
    # Below sshd, Debian's bash reads ~/.bashrc.
    "SSH_CLIENT": "::1 1 22",
    "SHLVL": "0",
    **{f"BASH_FUNC_{name}%%": "() {  :\n}" for name in ("exec", "trap", "unset", "set", ".")},
}


@pytest.mark.parametrize("name", [*SETTINGS, "all"])
def test_settings_of_the_callers_shell_reach_the_command_only(
    prefix: Path, tmp_path: Path, name: str
) -> None:
    text = 'cd / && helper() { inner; }; inner() { export A=1; }; helper; export B="$(echo /e*)"\n'
    write_script(prefix, "activate", "a.sh", text)
    hostile = executable(tmp_path / "hostile", "PATH=/nowhere; exit 0\n")
    (tmp_path / ".bashrc").write_text("PATH=/nowhere; exit 0\n")
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SSH_CLIENT": "::1 1 22"}
    given |= {k: v.replace("@hostile", hostile) for k, v in SETTINGS.items() if name in (k, "all")}
    said: list[str] = []
    before = command_environment.environment(
        str(prefix), {}, given, "n", ADDRESS, default_variables.rows(False)
    )
    env = shell.environment(prefix, {}, given, name="n", address=ADDRESS, on_output=said.append)
    assert env == {**before, "A": "1", "B": "/etc"}
    assert said == []


def test_an_interpreter_of_an_older_c_library(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    write_script(prefix, "activate", "a.sh", "export A=1; echo said\n")
    given = {**environ_of(tmp_path), "SHELL": needs_program("bash")}
    said: list[str] = []
    env = shell.environment(prefix, {}, given, name="n", address=ADDRESS, on_output=said.append)
    assert (env["A"], said) == ("1", ["said"])
    argv, more = shell.interactive_shell(env, given)
    shown = session(argv, {**env, **more}, tmp_path, 'echo "[$A]"\nexit\n')
    assert "(n) " in shown
    assert "[1]" in shown


@pytest.mark.parametrize(
    "text",
    [
        "trap 'rm -f nothing' EXIT",
        "trap 'exit 3' EXIT; export A=1",
        "set -C; export A=1",
        "set -efux; export A=1; set +x; IFS=/",
    ],
)
def test_what_scripts_leave_in_their_shell_does_not_matter(prefix: Path, text: str) -> None:
    write_script(prefix, "activate", "a.sh", f"{text}\n")
    write_script(prefix, "activate", "b.sh", "export B=1\n")
    env = shell.environment(prefix, {}, {"PATH": "/usr/bin:/bin"}, name="n", address=ADDRESS)
    assert env["PATH"] == f"{prefix}/bin:/usr/bin:/bin"
    assert env["B"] == "1"


@pytest.mark.parametrize(
    "text",
    [
        "exec true",
        "exec /usr/bin/env -i true",
        "set -n",
        "trap 'true' EXIT; exit 0",
        "trap '' EXIT; exit",
        "kill -KILL $$",
        "exec() { :; }; trap() { :; }; trap - EXIT",
        "exec() { :; }",
        "export PATH=/usr/bin",
        "unset PATH",
        'PATH="${CONDA_PREFIX}x/bin:$PATH"; PATH=${PATH##*/bin:}',
        "env() { :; }; export -n PATH",
    ],
)
def test_no_environment_is_an_error(prefix: Path, text: str) -> None:
    write_script(prefix, "activate", "a.sh", f"echo noise\n{text}\n")
    said: list[str] = []
    with pytest.raises(ToolError, match="did not leave an environment"):
        shell.environment(
            prefix, {}, dict(os.environ), name="n", address=ADDRESS, on_output=said.append
        )
    assert said[0].splitlines()[0] == "noise"


def write_variables(prefix: Path, name: str, text: str) -> None:
    (prefix / name).parent.mkdir(parents=True, exist_ok=True)
    (prefix / name).write_text(text)


def test_variables_of_packages_in_the_order_of_conda(prefix: Path) -> None:
    directory = "etc/conda/env_vars.d"
    first = '{"ONE": "a", "TWO": "a\\nb", "THREE": "a", "FOUR": "a", "NUMBER": 1, "GONE": null}'
    write_variables(prefix, f"{directory}/a.json", first)
    write_variables(
        prefix, f"{directory}/b.json", '{"TWO": "b\'", "path": "/no", "a b": "1", "lower": "x"}'
    )
    state = '{"env_vars": {"THREE": "state", "FOUR": "state", "OFF": "***unset***"}}'
    write_variables(prefix, "conda-meta/state", state)
    write_script(prefix, "activate", "a.sh", 'export SEEN="$ONE $TWO $THREE $FOUR"\n')
    given = {"PATH": "/usr/bin:/bin", "GONE": "x", "ONE": "y", "OFF": "o"}
    env = shell.environment(prefix, {"FOUR": "lock"}, given, name="n", address=ADDRESS)
    assert env["SEEN"] == "a b' state lock"
    assert (env["NUMBER"], env["OFF"], env["LOWER"]) == ("1", "o", "x")
    assert "GONE" not in env
    assert env["PATH"] == f"{prefix}/bin:/usr/bin:/bin"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"A": "x\\u0000"}', "[" * 100_000, "\udcff"])
def test_variables_of_packages_that_cannot_be_read(prefix: Path, text: str) -> None:
    path = prefix / "etc/conda/env_vars.d/x.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ToolError, match=re.escape(str(path))):
        shell.environment(prefix, {}, {"PATH": "/bin"}, name="n", address=ADDRESS)


def test_scripts_with_plain_sh(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_script(prefix, "activate", "a.sh", "export A=1\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    env = shell.environment(prefix, {}, {"x.y": "z"}, name="n", address=ADDRESS)
    assert (env["A"], env["x.y"]) == ("1", "z")


def test_background_process_of_a_script_does_not_delay(prefix: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    write_script(prefix, "activate", "a.sh", f"sleep 60 & echo $! > {shlex.quote(str(pid))}\n")
    try:
        env = shell.environment(prefix, {}, dict(os.environ), name="n", address=ADDRESS)
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)
    assert env["CONDA_PREFIX"] == str(prefix)


# Starting a command

EXECUTE = """
import os, sys
from condainer.startup import launch
from tests.helpers.needed import needs_program
try:
    launch.execute(sys.argv[2:], {**os.environ, "PATH": sys.argv[1]})
except launch.CommandNotStarted as error:
    print(error.message)
    sys.exit(error.exit_code)
"""


def execute(path: str, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", EXECUTE, path, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def executable(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_command_is_found_in_the_new_path_and_gets_its_arguments(tmp_path: Path) -> None:
    executable(tmp_path / "tool", '#!/bin/sh\nprintf "%s|" "$@"\nexit 7\n')
    odd = ["", "a b", "it's", "new\nline", "--", "-x", "ü*"]
    done = execute(str(tmp_path), "tool", *odd)
    assert (done.returncode, done.stdout) == (7, "|".join(odd) + "|")


def test_script_without_interpreter_line_is_for_sh(tmp_path: Path) -> None:
    executable(tmp_path / "tool", 'echo "$1"\n')
    assert execute(str(tmp_path), "tool", "x y").stdout == "x y\n"


def test_status_and_message_when_there_is_no_such_command(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    path = f"{tmp_path}/absent:{tmp_path}:/dev/null"
    for name in ("nothing", "directory"):
        done = execute(path, name)
        assert (done.returncode, done.stdout) == (127, f"{name}: command not found\n")
    assert execute(path, str(tmp_path / "x")).returncode == 127


def test_status_when_a_command_cannot_be_executed(tmp_path: Path) -> None:
    executable(tmp_path / "data", "x", 0o644)
    executable(tmp_path / "odd", f"#!{tmp_path}/absent\n")
    assert execute(str(tmp_path), "data").returncode == 126
    assert execute(str(tmp_path), str(tmp_path)).returncode == 126
    assert execute(str(tmp_path), str(tmp_path / "odd")).returncode == 126


def test_signals_are_as_in_a_shell(tmp_path: Path) -> None:
    done = execute(os.environ["PATH"], "sh", "-c", "grep SigIgn /proc/self/status")
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))
    assert execute(os.environ["PATH"], "sh", "-c", "kill -INT $$").returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("text", "mode", "status", "said"),
    [
        ("#!/nonexistent/interpreter\n", 0o755, 126, "its interpreter does not exist"),
        ("#!/bin/sh\n", 0o644, 126, "Permission denied"),
        (None, 0, 0, "another"),
    ],
)
def test_nothing_else_runs_in_the_place_of_a_command_of_an_image(
    tmp_path: Path, text: str | None, mode: int, status: int, said: str
) -> None:
    prefix, other = tmp_path / "image", tmp_path / "other"
    for directory in (prefix / ".condainer", prefix / "bin", other):
        directory.mkdir(parents=True)
    executable(other / "tool", "#!/bin/sh\necho another\n")
    if text:
        executable(prefix / "bin/tool", text, mode)
    path = f"{prefix}/bin:{other}"
    start = EXECUTE.replace("sys.argv[1]})", f"sys.argv[1]}}, {(str(prefix), ADDRESS)!r})")
    sentinel = prefix / ".condainer/address"
    # That of the image, none, and that of another image.
    for content in (f"{ADDRESS}\n", None, "f" * 32 + "\n"):
        sentinel.unlink(missing_ok=True)
        if content:
            sentinel.write_text(content)
        command = [sys.executable, "-c", start, path, "tool"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if content == f"{ADDRESS}\n":
            assert done.returncode == status, done.stdout
            assert said in done.stdout
        elif mode != 0o644:
            assert done.returncode == 125, done.stdout
            assert "unmounted just now" in done.stdout


def test_stand_ins_come_next_in_path_and_only_from_a_directory_of_ours(prefix: Path) -> None:
    directory = prefix.parent / f".condainer-{os.geteuid()}"
    directory.mkdir(0o700)
    given = {"PATH": f"/old/.condainer-1/condainer-{ADDRESS}.stand-ins:/usr/bin"}
    env = shell.environment(prefix, {}, given, name="n", address=ADDRESS)
    behind = directory / f"{prefix.name}.stand-ins"
    assert env["PATH"] == f"{prefix}/bin:{behind}:/usr/bin"
    directory.chmod(0o777)
    env = shell.environment(prefix, {}, given, name="n", address=ADDRESS)
    assert env["PATH"] == f"{prefix}/bin:/usr/bin"


# Shells on a terminal


@pytest.mark.parametrize("kind", ["bash", "zsh", "sh", "fish"])
def test_interactive_shell_survives_start_up_files(kind: str, prefix: Path, tmp_path: Path) -> None:
    program = needs_program(kind)
    for name in (".bashrc", ".zshrc"):
        (tmp_path / name).write_text("export PATH=/usr/bin:/bin CONDA_PREFIX=/base; MINE=read\n")
    (tmp_path / ".config/fish").mkdir(parents=True)
    (tmp_path / ".config/fish/config.fish").write_text(
        "set -gx PATH /usr/bin /bin; set -gx CONDA_PREFIX /base; set MINE read\n"
        "function fish_prompt; echo -n 'own> '; end\n"
    )
    given = {**environ_of(tmp_path), "SHELL": program, "TMPDIR": str(tmp_path)}
    env = shell.environment(prefix, VARIABLES, given, name="demo", address=ADDRESS)
    argv, more = shell.interactive_shell(env, given)
    typed = 'echo "[$PATH|$CONDA_PREFIX|$KEPT|$MINE|${ZDOTDIR-}]"\nexit\n'
    typed = typed.replace("${ZDOTDIR-}", "") if kind == "fish" else typed
    shown = session(argv, {**env, **more}, tmp_path, typed)
    mine = "" if kind == "sh" else "read"
    assert f"[{prefix}/bin:/usr/bin:/bin|{prefix}|new|{mine}|]" in shown.replace("\r\n", "")
    assert "(demo) " in shown
    assert not list(tmp_path.glob("condainer-zsh-*"))
