"""The project of a command that names none: the nearest one upward."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from condainer.system.machine import this_platform
from tests.helpers.accounts import Account, accounts
from tests.helpers.needed import needs
from tests.helpers.projects import LONG, SMALL, Project, quick

MISSING = "/no/such/project"


def below(project: Project, name: str = "a/b") -> Project:
    """Return the same user in a directory below a project."""
    path = project.path / name
    path.mkdir(parents=True, exist_ok=True)
    return replace(project, path=path)


def found(project: Project, *arguments: str, **environment: str) -> Path:
    """Return the directory that is the project."""
    return Path(project.json(*arguments, "status", **environment)["project"])


def test_commands_below_a_project(project: Project) -> None:
    inside = below(project)
    built = inside.cnd("build").stderr
    assert built.startswith(f"Project: {project.path}\n")
    assert f"Use it: source {project.path}/activate, " in built
    assert project.lockfile.is_file()
    assert not list(inside.path.iterdir())
    status = inside.cnd("status")
    assert status.stdout == project.cnd("status").stdout
    assert str(project.path) in status.stdout
    assert status.stderr == f"Project: {project.path}\n"
    assert project.cnd("status").stderr == ""
    assert inside.cnd("-q", "lock", "--check").stderr == ""
    assert inside.cnd("build", "--json").stderr == ""
    assert f"Project: {project.path}\n" in inside.cnd("--set", "linger=0", "build").stderr
    done = inside.bash("source ../../activate && probe-prefix && deactivate && pwd")
    assert done.stdout.splitlines()[1:] == [str(inside.path)], done.stderr


@pytest.mark.parametrize("options", [(), ("--set", "linger=0")])
def test_a_command_stays_where_it_is(project: Project, options: tuple[str, ...]) -> None:
    inside = below(project)
    (inside.path / "data").write_text("mine\n")
    project.cnd("-q", "build")
    done = inside.cnd(
        *options, "exec", "--", "sh", "-c", 'pwd; cat "$1"; probe-prefix', "sh", "data"
    )
    assert done.stdout == f"{inside.path}\nmine\n{project.json('status')['prefix']}\n"
    assert done.stderr == ""
    assert "Project: " not in inside.cnd(*options, "shell").stderr


def test_paths_in_arguments_are_the_callers(project: Project, make_project: Any) -> None:
    inside = below(project)
    address = inside.json("build")["address"]
    inside.cnd("bundle", "packed")
    inside.cnd("export", address, "image")
    inside.cnd("lock", "--export", "explicit", "-o", "exported.txt")
    names = {"packed", "image", "exported.txt"}
    assert {path.name for path in inside.path.iterdir()} == names
    for arguments in (
        ("show", "./image"),
        ("diff", "./image", "image"),
        ("verify", "./image"),
        ("import", "image"),
    ):
        inside.cnd(*arguments)
    other: Project = make_project("other", text="")
    (other.path / "condainer.yml").write_text("")
    away = below(other)
    (inside.path / "packed").rename(away.path / "packed")
    away.cnd("build", "--from", "packed")
    assert other.json("status")["address"] == address
    assert [path.name for path in away.path.iterdir()] == ["packed"]


@pytest.mark.parametrize(
    "name",
    ["environment.yml", "environment.yaml", "conda-lock.yml", f"conda-{this_platform()}.lock"],
)
def test_a_configuration_comes_before_a_nearer_input(project: Project, name: str) -> None:
    def told() -> str:
        return inside.cnd("status", status=None).stderr.splitlines()[0]

    middle, inside = below(project, "a"), below(project)
    project.cnd("lock")
    assert told() == f"Project: {project.path}"
    # By itself, not each is enough; but that is said of where it stands.
    middle.write("", name)
    assert told() == f"Project: {middle.path}"
    project.write("", "condainer.yml")
    assert told() == f"Project: {project.path}"
    assert found(middle) == project.path
    middle.write("", "condainer.yml")
    assert told() == f"Project: {middle.path}"


def test_without_a_project_it_is_the_working_directory(make_project: Any) -> None:
    alone: Project = make_project(text="")
    inside = below(alone)
    assert found(inside) == inside.path
    for command in (("build",), ("lock",), ("exec", "true"), ("mount",), ("tree",)):
        failed = inside.cnd(*command, status=None).stderr
        assert f"{inside.path}/environment.yml: there is no environment file" in failed
        assert "`cnd init` writes an example" in failed
        assert "Project: " not in failed


def test_others_put_files_into_a_sticky_directory(project: Project) -> None:
    inside = below(project)
    project.path.chmod(0o1777)
    assert found(inside) == inside.path
    assert found(project) == project.path


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Account]:
    """Another user."""
    if os.geteuid() != 0:
        needs("root")
    with accounts(tmp_path, 1) as (account,):
        yield account


@pytest.mark.xdist_group("accounts")
def test_a_directory_of_another_owner_ends_the_search(project: Project, stranger: Account) -> None:
    inside = below(project)
    project.write("", "condainer.yml")
    os.chown(project.path / "a", stranger.uid, stranger.gid)
    assert found(inside) == inside.path
    assert found(below(project, "other")) == project.path
    os.chown(project.path / "a", 0, 0)
    os.chown(project.path, stranger.uid, stranger.gid)
    assert found(inside) == inside.path
    # Where one stands, one has gone oneself.
    assert found(project) == project.path


def test_another_file_system_ends_the_search(make_project: Any, tmp_path: Path) -> None:
    base = tmp_path / "project/m"
    made: Project = make_project(CONDAINER_MOUNT_BASE=str(base))
    base.mkdir()
    made.cnd("-q", "build")
    script = 'cd "$CONDA_PREFIX" && exec "$0" -m condainer status --json'
    done = made.cnd("exec", "--", "sh", "-c", script, sys.executable)
    assert f'"project": "{made.json("status")["prefix"]}"' in done.stdout


def test_a_directory_that_is_named_is_the_project(project: Project) -> None:
    inside = below(project)
    assert found(project, "-d", "a") == project.path / "a"
    assert found(inside, "-d", "../..") == project.path / "a/b/../.."
    assert found(inside, "-d", ".", CONDAINER_PROJECT=MISSING) == inside.path
    assert inside.cnd("-d", str(project.path), "status").stderr == ""
    assert inside.cnd("-d", str(inside.path), "build", status=None).returncode != 0


def test_a_variable_names_the_project(project: Project, tmp_path: Path) -> None:
    away = replace(project, path=tmp_path)
    project.cnd("-q", "build")
    assert found(away, CONDAINER_PROJECT=str(project.path)) == project.path
    assert found(away, CONDAINER_PROJECT="project") == project.path
    assert found(below(project), CONDAINER_PROJECT="") == project.path
    # No search from there.
    assert found(project, CONDAINER_PROJECT="a/..") == project.path / "a/.."
    inside = below(project)
    assert found(project, CONDAINER_PROJECT="a") == project.path / "a"
    told = away.cnd("status", CONDAINER_PROJECT=str(project.path)).stderr
    assert told == f"Project: {project.path}\n"
    done = inside.cnd("exec", "pwd", CONDAINER_PROJECT=str(project.path))
    assert (done.stdout, done.stderr) == (f"{inside.path}\n", "")


@pytest.mark.parametrize("command", [("build",), ("exec", "true"), ("status",), ("init",)])
def test_a_variable_that_names_nothing(project: Project, command: tuple[str, ...]) -> None:
    status = 125 if command[0] == "exec" else 3
    for value in (MISSING, "no-such-directory", "environment.yml"):
        said = project.cnd(*command, status=status, CONDAINER_PROJECT=value).stderr
        assert said.startswith(f"cnd: CONDAINER_PROJECT={value}: no such directory\n")
        assert said.count("CONDAINER_PROJECT") == 2


@pytest.mark.parametrize("word", ["exec", "run"])
def test_a_directory_that_is_missing_is_no_answer_of_the_command(
    project: Project, word: str
) -> None:
    for arguments in (("-d", MISSING, word), (word, "-d", MISSING), ("-q", "-d", MISSING, word)):
        assert MISSING in project.cnd(*arguments, "true", status=125).stderr


def test_commands_that_need_no_project(project: Project) -> None:
    inside = below(project)
    for command in ("version", "prereq"):
        assert inside.cnd(command, CONDAINER_PROJECT=MISSING).stderr == ""


def test_a_project_begins_in_the_working_directory(project: Project) -> None:
    inside = below(project)
    inside.cnd("init")
    assert (inside.path / "condainer.yml").is_file()
    assert not (project.path / "condainer.yml").exists()
    other = below(project, "other")
    inside.cnd("init", CONDAINER_PROJECT=str(other.path))
    assert (other.path / "condainer.yml").is_file()


def test_the_short_way_finds_it_too(make_project: Any, tmp_path: Path) -> None:
    made: Project = make_project(text=SMALL)
    for command in ("build", "build", "mount"):
        made.cnd("-q", command)
    inside = below(made)
    away = replace(made, path=tmp_path)
    told = quick(inside, "build").stderr
    assert told.startswith("Found ")
    assert f"\nUse it: source {made.path}/activate, " in told
    assert quick(inside, "exec", "--", "pwd").stdout == f"{inside.path}\n"
    # The same stamp, whichever way the project was found.
    for value in (str(made.path), "project"):
        assert quick(away, "build", CONDAINER_PROJECT=value).stderr.startswith("Found ")
        done = quick(away, "exec", "pwd", CONDAINER_PROJECT=value)
        assert done.stdout == f"{tmp_path}\n"
    assert "source ./activate" in quick(made, "build").stderr
    quick(inside, "-d", ".", "build", status=LONG)
    quick(inside, "build", status=LONG, CONDAINER_PROJECT="missing")
    # It is nearer from there on.
    below(made, "a").write(SMALL)
    quick(inside, "build", status=LONG)
    made.write("", "condainer.yml")
    quick(inside, "build", status=LONG)
    made.cnd("-q", "build")
    assert quick(inside, "build").stderr.startswith("Found ")
    made.cnd("umount", "--force", status=None)


def test_what_a_shell_asks_for_is_about_no_project(project: Project) -> None:
    project.cnd("-q", "build")
    prefix = project.json("status")["prefix"]
    project.cnd("-q", "mount")
    question = ("activation-variables", "sh", prefix, "")
    project.cnd(*question, CONDAINER_PROJECT=MISSING)
    done: subprocess.CompletedProcess[str] = project.bash(
        f"export CONDAINER_PROJECT={MISSING}; source ./activate && probe-prefix"
    )
    assert done.stdout == f"{prefix}\n", done.stderr
