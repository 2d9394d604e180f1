"""`cnd add` and `cnd remove`: the environment is edited, locked and built, or nothing happens."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from condainer.system.files import turn
from tests.helpers.projects import Project
from tests.helpers.waiting import until

TEXT = """\
# Ours.
dependencies:
  - probe-prefix   # shows where it is
"""


@pytest.fixture
def edited(make_project: Any) -> Project:
    project: Project = make_project(text=TEXT)
    project.cnd("build")
    return project


def environment(project: Project) -> str:
    return (project.path / "environment.yml").read_text()


def test_a_package_comes_and_goes(edited: Project) -> None:
    first = edited.json("status")["address"]
    told = edited.cnd("add", "probe-files").stderr
    assert "environment.yml: +   - probe-files\n" in told
    assert "Built " in told
    assert environment(edited) == f"{TEXT}  - probe-files\n"
    assert edited.json("status")["lock"] == "current"
    assert {
        package["name"]
        for package in edited.json("show", edited.json("status")["address"])["packages"]
    } == {"probe-prefix", "probe-files"}
    report = edited.json("remove", "probe-files")
    assert (report["hit"], report["address"]) == (True, first)
    assert environment(edited) == TEXT
    told = edited.cnd("add", "probe-prefix").stderr
    assert told.startswith("The environment asks for that already\nFound ")
    told = edited.cnd("-y", "add", "probe-prefix").stderr
    assert told.endswith("asks for that already\nWould build the image if no cache has it\n")
    assert environment(edited) == TEXT
    # As other tools call them.
    edited.cnd("install", "probe-old")
    edited.cnd("uninstall", "probe-old")
    assert environment(edited) == TEXT


def test_what_cannot_be_solved_changes_nothing(edited: Project) -> None:
    before = {path: path.read_bytes() for path in edited.path.iterdir() if path.is_file()}
    for words in (
        ("add", "nummpy"),
        ("add", "probe-files", "probe-prefix>99"),
        ("add", "probe-files=>1"),
        ("remove", "probe-prefix"),
    ):
        refused = edited.cnd(*words, status=None)
        assert refused.returncode in (4, 5), refused.stderr
    assert "Did you mean `probe-prefix`?" in edited.cnd("remove", "probe-prefx", status=4).stderr
    for words in (("-y", "add", "probe-files"), ("-y", "remove", "probe-prefix")):
        told = edited.cnd(*words).stderr
        assert f"Would write {edited.path}/environment.yml\n" in told
    assert {path: path.read_bytes() for path in before} == before
    assert edited.json("build")["hit"]


def test_packages_of_pypi(make_project: Any) -> None:
    project: Project = make_project(text="dependencies:\n  - python\n")
    project.cnd("add", "--pip", "six==1.16.0")
    assert environment(project) == "dependencies:\n  - python\n  - pip:\n      - six==1.16.0\n"
    assert project.cnd("exec", "--", "python", "-c", "import six").returncode == 0
    # Where there is a requirements file, that is the place.
    project.write("# web\n", "requirements.txt")
    project.cnd("add", "--pip", "tabulate")
    assert (project.path / "requirements.txt").read_text() == "# web\ntabulate\n"
    project.cnd("remove", "tabulate", "six")
    assert (project.path / "requirements.txt").read_text() == "# web\n"
    assert environment(project) == "dependencies:\n  - python\n"


def test_without_an_environment_file(make_project: Any) -> None:
    project: Project = make_project(text="")
    assert "`cnd init`" in project.cnd("add", "python", status=None).stderr


def test_a_lock_that_cannot_be_written_leaves_the_inputs(edited: Project) -> None:
    (edited.path / "conda-lock.yml").unlink()
    (edited.path / "conda-lock.yml").mkdir()
    edited.cnd("add", "probe-files", status=None)
    assert environment(edited) == TEXT


def test_the_mode_of_a_file_stays(edited: Project) -> None:
    (edited.path / "environment.yml").chmod(0o600)
    edited.cnd("add", "probe-files")
    assert (edited.path / "environment.yml").stat().st_mode & 0o777 == 0o600


def test_what_somebody_else_writes_meanwhile_is_not_lost(edited: Project) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "condainer", "-q", "add", name],
            cwd=edited.path,
            env=edited.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("probe-files", "probe-old")
    ]
    told = [child.communicate()[1] for child in children]
    text = environment(edited)
    for child, name, said in zip(children, ("probe-files", "probe-old"), told, strict=True):
        # Who comes second either sees the first one's, or says so.
        assert (name in text) == (child.returncode == 0), (text, told)
        assert child.returncode == 0 or "was changed while this was solved" in said


def test_who_waited_for_others_sees_what_they_wrote(edited: Project) -> None:
    with turn(edited.path):
        child = subprocess.Popen(
            [sys.executable, "-m", "condainer", "-q", "add", "probe-files"],
            cwd=edited.path,
            env=edited.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: child.poll() is not None or has_open(child.pid, edited.path))
        edited.write(f"{TEXT}  - probe-old\n")
    told = child.communicate()[1]
    assert child.returncode
    assert "was changed while this was solved" in told
    assert environment(edited) == f"{TEXT}  - probe-old\n"


def has_open(pid: int, path: Path) -> bool:
    """Tell whether a process has opened a file or directory."""
    with suppress(OSError):
        return any(file.resolve() == path for file in Path(f"/proc/{pid}/fd").iterdir())
    return False


def test_a_frozen_lock_and_a_pin(edited: Project) -> None:
    before = environment(edited)
    edited.cnd("add", "no-such-package", status=5, CONDAINER_FROZEN="1")
    assert environment(edited) == before
    edited.cnd("add", "probe-files", CONDAINER_FROZEN="1")
    assert edited.json("status")["lock"] == "current"
    edited.write(f"address: {edited.json('status')['address']}\n", "condainer.yml")
    told = edited.cnd("add", "probe-old", status=3).stderr
    assert "pinned" in told
    assert "Remove `address:`" in told


def test_a_requirement_below_pip_is_changed_there(make_project: Any) -> None:
    project: Project = make_project(text="dependencies: [python, {pip: [six==1.16.0]}]\n")
    project.write("# none\n", "requirements.txt")
    project.cnd("-y", "add", "--pip", "six==1.17.0")
    told = project.cnd("-y", "add", "--pip", "six==1.17.0").stderr
    assert "environment.yml: + dependencies: [python, {pip: [six==1.17.0]}]" in told
    assert "requirements.txt" not in told
