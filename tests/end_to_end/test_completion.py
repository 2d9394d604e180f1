"""Completion in the shells themselves: what bash, zsh and fish offer at the press of Tab."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from condainer.cache import entries
from condainer.cli import complete, words
from condainer.commands.system import completion
from tests.helpers.needed import needs_program
from tests.helpers.projects import Project
from tests.helpers.waiting import PATIENCE

SEVERAL = """\
environments:
  lab: {environment_yml: environment.yml}
  gpu-test: {environment_yml: gpu.yml}
"""
# What a completion may not import: a solver, downloads, or what draws progress.
HEAVY = {"rattler", "conda_lock", "requests", "rich", "ruamel"}
# As bash calls a completion function; outside of one, it has no compopt.
BASH = """\
source <(cnd completion bash)
compopt() { :; }
line=@line
COMP_WORDS=($line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
[ "${line% }" = "$line" ] || { COMP_WORDS+=(''); COMP_CWORD=$((COMP_CWORD + 1)); }
_cnd_completion cnd
printf '%s\\n' "${COMPREPLY[@]}"
"""
# A terminal of its own, in which a person could type.
INTERACTIVE = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
}
START = {
    "bash": "source <(cnd completion bash); PS1='READY''> '\n",
    "zsh": "autoload -U compinit; compinit -u -D; source <(cnd completion zsh); PS1='READY''> '\n",
}


@pytest.fixture
def built(project: Project) -> Project:
    """A project with an image that has a name, and others with and without one."""
    project.cnd("build")
    project.cnd("tag", "stable/2026.1")
    return project


def offered(project: Project, line: str, shell: str) -> list[str]:
    """Return what a shell offers for the last word of a line."""
    needs_program(shell)
    quoted = shlex.quote(line)
    if shell == "bash":
        script = BASH.replace("@line", quoted)
    else:
        script = f"cnd completion fish | source; complete -C {quoted}"
    done = project.bash(script, shell)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [text.partition("\t")[0] for text in done.stdout.splitlines() if text]


@contextlib.contextmanager
def terminal(project: Project, shell: str) -> Iterator[int]:
    """Start a shell in a terminal, let it complete, and yield the terminal's other end."""
    project.bash("true")
    path = f"{project.path.parent}/shims:/usr/local/bin:/usr/bin:/bin"
    environment = {**project.environment, "PATH": path, "TERM": "dumb", "PS1": "> "}
    number, own = pty.openpty()
    with subprocess.Popen(
        INTERACTIVE[shell],
        cwd=project.path,
        env={**environment, "INPUTRC": "/dev/null"},
        stdin=own,
        stdout=own,
        stderr=own,
        start_new_session=True,
    ) as child:
        os.close(own)
        try:
            os.write(number, START[shell].encode())
            says(number, "READY> ")
            yield number
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            os.close(number)


def says(number: int, expected: str) -> str:
    """Read from a terminal until it has said something."""
    said, end = "", time.monotonic() + PATIENCE
    while expected not in said:
        ready, _, _ = select.select([number], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"{expected!r} is not in {said!r}"
        said += os.read(number, 65536).decode(errors="replace")
    return said


def types(number: int, typed: str, completed: str) -> None:
    """Type a line and Tab in a terminal, wait for the whole line, and clear it."""
    os.write(number, f"{typed}\t".encode())
    says(number, completed)
    # Ctrl-U.
    os.write(number, b"\x15")


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_what_is_offered(built: Project, shell: str) -> None:
    address = built.json("status")["address"]
    assert offered(built, "cnd sta", shell) == ["status"]
    assert {*offered(built, "cnd ", shell)} == {*words.SUMMARIES}
    assert "--locked" in offered(built, "cnd build --", shell)
    assert offered(built, "cnd completion z", shell) == ["zsh"]
    assert offered(built, "cnd show st", shell) == ["stable/2026.1"]
    assert offered(built, "cnd sbom st", shell) == ["stable/2026.1"]
    assert offered(built, f"cnd rm {address[:5]}", shell) == [address]
    assert {*offered(built, "cnd exec --env ", shell)} == {"stable/2026.1"}
    assert offered(built, "cnd why probe-f", shell) == ["probe-files"]
    assert offered(built, "cnd remove probe-p", shell) == ["probe-prefix"]
    assert offered(built, "cnd exec probe-p", shell) == ["probe-prefix"]
    assert offered(built, "cnd exec --env stable/2026.1 -- probe-p", shell) == ["probe-prefix"]
    assert offered(built, "cnd run probe-p", shell) == ["probe-prefix"]
    # Those of the image that would be used.
    built.environment["CONDAINER_ENV"] = "nothing"
    assert offered(built, "cnd exec probe-p", shell) == []
    assert offered(built, "cnd exec --frozen probe-p", shell) == ["probe-prefix"]
    assert offered(built, "cnd why probe-f", shell) == ["probe-files"]
    del built.environment["CONDAINER_ENV"]
    assert offered(built, "cnd --set mount_b", shell) == ["mount_base_directory="]
    assert offered(built, "cnd help sta", shell) == ["status"]
    # Of another project, wherever the option stands.
    elsewhere = Project(built.path.parent, built.environment)
    assert offered(elsewhere, f"cnd -d {built.path} why probe-f", shell) == ["probe-files"]
    assert offered(elsewhere, "cnd why probe-f", shell) == []


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_key_completes_what_is_typed(built: Project, shell: str) -> None:
    needs_program(shell)
    address = built.json("status")["address"]
    (built.path / "an-image.squashfs").touch()
    with terminal(built, shell) as number:
        for typed, completed in (
            ("cnd sta", "cnd status "),
            ("cnd tag sta", "cnd tag stable/2026.1 "),
            ("cnd exec probe-p", "cnd exec probe-prefix "),
            (f"cnd show {address[:6]}", f"cnd show {address} "),
            ("cnd show ./an-i", "cnd show ./an-image.squashfs "),
            ("cnd build --pul", "cnd build --pull-only "),
        ):
            types(number, typed, completed)


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_environments_of_the_project_are_offered(project: Project, shell: str) -> None:
    project.write(SEVERAL, "condainer.yml")
    assert {*offered(project, "cnd -e ", shell)} == {"lab", "gpu-test"}
    assert offered(project, "cnd -e g", shell) == ["gpu-test"]
    assert offered(project, "cnd build --environment l", shell) == ["lab"]
    assert "gpu-test" in offered(project, "cnd show g", shell)
    elsewhere = Project(project.path.parent, project.environment)
    assert {*offered(elsewhere, f"cnd -d {project.path} lock -e ", shell)} == {"lab", "gpu-test"}
    assert offered(elsewhere, "cnd lock -e ", shell) == []
    # Programs and packages are those of the one that the line names.
    project.cnd("build", "-e", "lab")
    assert offered(project, "cnd exec -e lab probe-p", shell) == ["probe-prefix"]
    assert offered(project, "cnd -e lab why probe-f", shell) == ["probe-files"]
    assert offered(project, "cnd -e gpu-test why probe-f", shell) == []


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_key_completes_environments(project: Project, shell: str) -> None:
    needs_program(shell)
    project.write(SEVERAL, "condainer.yml")
    with terminal(project, shell) as number:
        types(number, "cnd -e g", "cnd -e gpu-test ")
        types(number, "cnd exec -e l", "cnd exec -e lab ")
        types(number, "cnd build --environment g", "cnd build --environment gpu-test ")


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_shell_accepts_the_script(project: Project, tmp_path: Path, shell: str) -> None:
    needs_program(shell)
    script = project.write(project.cnd("completion", shell).stdout, "script")
    assert project.bash(f"{shell} -n {script}").stderr == ""


@pytest.mark.parametrize("line", ["cnd ", "cnd show ", "cnd exec ", "cnd why ", "cnd remove "])
def test_it_imports_nothing_heavy(built: Project, line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "from condainer.__main__ import entry; entry()"],
        cwd=built.path,
        env={
            **built.environment,
            complete.VARIABLE: "fish_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": "",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout
    imported = {text.rpartition("|")[2].strip() for text in done.stderr.splitlines()}
    assert "condainer.cli.main" in imported
    assert not {name.partition(".")[0] for name in imported} & HEAVY
    if line == "cnd ":
        assert "condainer.pipeline" not in imported
        assert not [name for name in imported if name.startswith("condainer.commands")]


def test_bad_names_are_not_offered(built: Project) -> None:
    """What others write into a cache is nothing that a shell would run, or draw."""
    address = built.json("status")["address"]
    directory = entries.entry_directory(built.cache, address)
    (built.cache / "names" / "$(touch owned)").write_text("{}")
    manifest = directory / entries.MANIFEST
    text = manifest.read_text().replace('"name": "project"', '"name": "\\u001b[2J\\nplain,x"')
    manifest.chmod(0o644)
    manifest.write_text(text)
    for shell in ("bash", "fish"):
        assert offered(built, f"cnd rm {address[:5]}", shell) == [address]
        assert {*offered(built, "cnd rm ", shell)} == {"stable/2026.1", address}
    assert not (built.path / "owned").exists()


def test_without_anything_nothing_is_offered(project: Project) -> None:
    project.write("not: [a, configuration\n", "condainer.yml")
    for line in ("show", "exec", "why", "exec --env", "remove", "kernel remove"):
        assert offered(project, f"cnd {line} x", "bash") == []


def test_many_addresses_are_offered_by_their_digits_only(built: Project) -> None:
    address = built.json("status")["address"]
    whole = entries.entry_directory(built.cache, address)
    for number in range(complete.MOST + 1):
        digits = f"{number:032x}"
        place = entries.entry_directory(built.cache, digits)
        shutil.copytree(whole, place, symlinks=True)
        manifest = place / entries.MANIFEST
        manifest.chmod(0o644)
        manifest.write_text(manifest.read_text().replace(address, digits))
    assert offered(built, "cnd rm ", "bash") == ["stable/2026.1"]
    assert offered(built, "cnd rm 0000", "bash") == []
    last = f"{complete.MOST:032x}"
    assert offered(built, f"cnd rm {last[:-1]}", "bash") == [f"{last[:-1]}{i:x}" for i in range(9)]
