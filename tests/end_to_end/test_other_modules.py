"""Modules that are meant for other interpreters, where `cnd` would find them before its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.projects import PYTHON, Project

SCRIPT = str(Path(sys.executable).with_name("cnd"))
OURS = {"script": [SCRIPT], "module": [sys.executable, "-m", "condainer"]}
DEPENDENCIES = (
    *("click", "conda_lock", "filelock", "rattler", "requests", "rich", "tomli", "urllib3"),
    *("uv", "xxhash", "yaml"),
)


# Of the standard library, without what .pth files of an installation may import.
STANDARD = (
    *("argparse", "calendar", "dataclasses", "getpass", "hashlib", "json", "logging", "platform"),
    *("queue", "signal", "socket", "ssl", "string", "textwrap", "uuid"),
)


def write_others(directory: Path, *more: str) -> None:
    """Write modules that end whatever imports them."""
    directory.mkdir(parents=True)
    for name in (*DEPENDENCIES, *more):
        (directory / f"{name}.py").write_text("raise SystemExit('a module of somebody else')\n")


def run(
    argv: list[str], project: Project, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=cwd or project.path,
        env={**project.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("ours", OURS.values(), ids=OURS)
def test_modules_in_pythonpath_are_for_the_command(
    project: Project, tmp_path: Path, ours: list[str]
) -> None:
    project.write(PYTHON)
    others = tmp_path / "others"
    write_others(others, *STANDARD)
    library = sysconfig.get_path("purelib")
    # A site may well name what is there anyway.
    path = f"{others}::{library}"
    for arguments in (["build"], ["status"], ["prereq"], ["build"], ["lock", "--upgrade"]):
        done = run([*ours, *arguments], project, PYTHONPATH=path)
        assert done.returncode == 0, (arguments, done.stderr)
        assert "somebody else" not in done.stderr
    text = "import os; print(os.environ['PYTHONPATH'], os.environ['PYTHONUSERBASE'])"
    given: dict[str, Any] = {"PYTHONPATH": str(tmp_path / "extra"), "PYTHONUSERBASE": "/b"}
    done = run([*ours, "exec", "--", "python", "-c", text], project, **given)
    assert done.stdout == f"{tmp_path}/extra /b\n"


def test_modules_in_the_working_directory(project: Project, tmp_path: Path) -> None:
    write_others(tmp_path / "others", *STANDARD)
    argv = [sys.executable, "-m", "condainer", "-d", str(project.path), "lock"]
    done = run(argv, project, tmp_path / "others")
    assert done.returncode == 0, done.stderr


def test_modules_of_the_users_own_site(project: Project, tmp_path: Path) -> None:
    base = tmp_path / "base"
    version = "python{}.{}".format(*sys.version_info)
    write_others(base / "lib" / version / "site-packages")
    # Installed for all users: there, the user's own comes first.
    start = "import runpy, site, sys; site.addsitedir({!r}); {}"
    library = sysconfig.get_path("purelib")
    python = sys._base_executable  # type: ignore[attr-defined]
    given: dict[str, Any] = {"PYTHONUSERBASE": str(base), "PYTHONNOUSERSITE": ""}
    see = [python, "-c", start.format(library, "import click")]
    assert "somebody else" in run(see, project, **given).stderr
    ours = f"sys.argv = [{SCRIPT!r}, 'lock']; runpy.run_path({SCRIPT!r}, run_name='__main__')"
    done = run([python, "-c", start.format(library, ours)], project, **given)
    assert done.returncode == 0, done.stderr


def test_an_installation_that_pythonpath_names(project: Project, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "condainer-1.0.dist-info").mkdir(parents=True)
    for name in os.listdir(sysconfig.get_path("purelib")):
        if not name.endswith((".pth", ".dist-info")):
            (target / name).symlink_to(Path(sysconfig.get_path("purelib"), name))
    (target / "condainer").symlink_to(Path(__file__).parents[2] / "condainer")
    venv.create(tmp_path / "venv")
    python = str(tmp_path / "venv/bin/python")
    done = run([python, SCRIPT, "lock"], project, PYTHONPATH=str(target))
    assert done.returncode == 0, done.stderr
