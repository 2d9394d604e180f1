"""Locks with a Python that is kept in the package cache: the same answers, however it was left."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from condainer.inputs.read import read_inputs
from condainer.packages import conda_packages
from condainer.pypi.wheels import find_uv
from condainer.settings.load import load_settings
from condainer.solve.conda_solver import solve
from condainer.solve.pip import conda_metadata, interpreters
from condainer.system.machine import this_platform
from condainer.system.reporter import Silent
from tests.helpers import tiny
from tests.helpers.projects import Project

# Builds a package whose requirement depends on the interpreter, and can leave something in that.
BACKEND = """\
import os, pathlib, sys, sysconfig

def prepare_metadata_for_build_wheel(directory, settings=None):
    path = pathlib.Path(directory, "sourced-1.0.dist-info")
    path.mkdir()
    home = pathlib.Path(sysconfig.get_config_var("prefix"))
    fits = (home / "bin" / "python3.11").is_file() and sys.version_info[:2] == (3, 11)
    needs = "Requires-Dist: alpha\\n" if fits else ""
    path.joinpath("METADATA").write_text(f"{HEAD}{needs}")
    path.joinpath("WHEEL").write_text("Wheel-Version: 1.0\\nTag: py3-none-any\\n")
    if pathlib.Path(MESS).exists():
        pathlib.Path(sys.base_prefix, "mess").touch()
    return path.name

def build_wheel(directory, settings=None, metadata=None):
    raise NotImplementedError

HEAD = "Metadata-Version: 2.1\\nName: sourced\\nVersion: 1.0\\n"
"""
PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
LINKING = "Linking conda packages"
# Hands uv's question on to an interpreter, and keeps the answer.
LISTENER = '#!/bin/sh\n{program} "$@" > {answer} && cat {answer}\n'


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """The URL of an index whose wheels need conda packages, older or newer than they are."""
    directory = tmp_path / "wheels"
    tiny.wheel(directory, "alpha", "1.0", ["idna", "beta; sys_platform == 'linux'"])
    tiny.wheel(directory, "beta", "1.0", [], "cp311-cp311-manylinux_2_17_x86_64")
    tiny.wheel(directory, "beta", "2.0", [], "cp312-cp312-manylinux_2_17_x86_64")
    tiny.wheel(directory, "beta", "3.0", [], "cp311-cp311-manylinux_2_99_x86_64")
    tiny.wheel(directory, "demanding", "1.0", ["idna>=99"])
    tiny.wheel(directory, "idna", "99.0", [])
    with tiny.serve_wheels(directory) as url:
        yield url


@pytest.fixture
def project(make_project: Any, empty_packages: Path, package_cache: Path, index: str) -> Project:
    """A project with pip requirements, and a package cache that has archives only."""
    (package_cache / "archives").mkdir(exist_ok=True)
    (empty_packages / "archives").symlink_to(package_cache / "archives")
    made: Project = make_project(
        text="dependencies: [python, requests, {pip: [alpha]}]\n",
        CONDAINER_PACKAGE_CACHE=str(empty_packages),
        UV_DEFAULT_INDEX=index,
        UV_CACHE_DIR=str(empty_packages.parent / "uv"),
    )
    return made


def kept(project: Project) -> list[Path]:
    """Return what is kept, by its `prefix/`."""
    root = Path(project.environment["CONDAINER_PACKAGE_CACHE"]) / "interpreters"
    return [place / "prefix" for place in root.iterdir()] if root.is_dir() else []


def relock(project: Project, linked: bool) -> tuple[bytes, bytes, list[str]]:
    """Lock afresh; return the lockfiles and the warnings, and see whether Python was linked."""
    done = project.cnd("lock", "--upgrade")
    assert (LINKING in done.stderr) == linked, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("Warning")]
    return project.lockfile.read_bytes(), (project.path / "conda-lock.yml").read_bytes(), told


@pytest.mark.parametrize("wish", ["alpha", "demanding"])
def test_locks_are_the_same_with_a_kept_interpreter(project: Project, wish: str) -> None:
    project.write(f"dependencies: [python, requests, {{pip: [{wish}]}}]\n")
    first = relock(project, linked=True)
    assert not kept(project)
    # Now all is known that packages provide, so that only Python is linked, to stay.
    assert relock(project, linked=True) == first
    assert len(kept(project)) == 1
    assert relock(project, linked=False) == first
    expected = {"alpha": b"beta-1.0-cp311", "demanding": b"idna-99.0-py3"}
    assert expected[wish] in first[0]
    assert any("replace conda packages: idna" in line for line in first[2]) == (wish != "alpha")
    project.write("dependencies: [python, requests, {pip: [absent]}]\n")
    assert "absent" in project.cnd("lock", status=5).stderr


def test_a_damaged_interpreter_is_linked_again(project: Project) -> None:
    first = relock(project, linked=True)
    relock(project, linked=True)
    (prefix,) = kept(project)
    with (prefix / "lib" / "python3.11" / "os.py").open("a") as stream:
        stream.write("raise SystemExit(1)\n")
    assert relock(project, linked=True) == first
    assert kept(project) == [prefix]
    assert "SystemExit(1)" not in (prefix / "lib" / "python3.11" / "os.py").read_text()
    shutil.rmtree(prefix / "bin")
    assert relock(project, linked=True) == first
    assert relock(project, linked=False) == first
    assert not list(Path(project.environment["CONDAINER_PACKAGE_CACHE"]).glob("download.*"))


def test_where_none_can_be_kept_it_is_linked_each_time(project: Project) -> None:
    first = relock(project, linked=True)
    root = Path(project.environment["CONDAINER_PACKAGE_CACHE"])
    (root / "interpreters").write_text("in the way")
    assert relock(project, linked=True) == first
    assert relock(project, linked=True) == first


def test_a_kill_while_it_is_linked_leaves_no_half_of_one(project: Project) -> None:
    first = relock(project, linked=True)
    child = subprocess.Popen(
        [sys.executable, "-m", "condainer", "lock", "--upgrade"],
        cwd=project.path,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    assert any(LINKING in line for line in child.stderr)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not kept(project)
    assert relock(project, linked=True) == first
    assert relock(project, linked=False) == first


def test_what_is_built_for_a_lock_has_the_kept_interpreter(
    project: Project, tmp_path: Path
) -> None:
    mess = tmp_path / "make a mess"
    texts = {
        "backend.py": f"{BACKEND}MESS = {str(mess)!r}\n",
        "pyproject.toml": PYPROJECT,
        "PKG-INFO": "Name: sourced\n",
    }
    (tmp_path / "sources").mkdir()
    with tarfile.open(tmp_path / "sources" / "sourced-1.0.tar.gz", "w:gz") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"sourced-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    # Built anew each time.
    project.environment |= {"UV_FIND_LINKS": str(tmp_path / "sources"), "UV_NO_CACHE": "1"}
    project.write("dependencies: [python, requests, {pip: [sourced]}]\n")
    first = relock(project, linked=True)
    assert b"# pip sourced" in first[0]
    assert b"# pip alpha" in first[0]
    assert relock(project, linked=True) == first
    assert relock(project, linked=False) == first
    mess.touch()
    assert relock(project, linked=False) == first
    (prefix,) = kept(project)
    assert (prefix / "mess").exists()
    mess.unlink()
    assert relock(project, linked=True) == first
    assert not (prefix / "mess").exists()
    assert relock(project, linked=False) == first


def test_uv_hears_the_same_from_a_kept_interpreter_as_from_a_linked_one(
    project: Project, tmp_path: Path
) -> None:
    overrides = [
        f"package_cache={project.environment['CONDAINER_PACKAGE_CACHE']}",
        f"mirrors={project.environment['CONDAINER_MIRRORS']}",
    ]
    settings = load_settings(project.path, overrides)
    inputs = read_inputs(settings, this_platform())
    solved = solve(inputs, settings, Silent())
    names = conda_metadata.closure("python", solved)
    members = [item.package for item in solved if item.name in names]
    prefix, scratch = tmp_path / "prefix", tmp_path / "scratch"
    archives = conda_packages.fetch(members, settings, Silent())
    conda_packages.link(archives, prefix, prefix, scratch, settings, Silent())
    found = interpreters.kept(members, settings, Silent())
    assert found is not None
    answers = []
    for program, place in (
        (prefix / "bin" / "python", prefix),
        (found.program, found.program.parents[1]),
    ):
        answer = heard(program, tmp_path)
        text = json.dumps(answer, sort_keys=True).replace(str(place), "PREFIX")
        answers.append(text.replace(str(found.prefix), "PREFIX"))
        assert answer["markers"]["python_full_version"] == "3.11.7"
        assert answer["os"]["name"] == "manylinux"
    assert answers[0] == answers[1]


def heard(program: Path, directory: Path) -> Any:
    """Return what an interpreter answers when uv asks it."""
    listener, answer = directory / "listener", directory / "answer"
    listener.write_text(LISTENER.format(program=program, answer=answer))
    listener.chmod(0o755)
    (directory / "none.in").write_text("")
    subprocess.run(
        [find_uv(), "pip", "compile", "--no-config", "--python", listener, directory / "none.in"],
        env={**os.environ, "UV_NO_CACHE": "1"},
        check=True,
        capture_output=True,
    )
    return json.loads(answer.read_text())
