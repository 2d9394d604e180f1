"""Projects that are made from pixi.toml, pylock.toml or uv.lock in the place of environment.yml."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from condainer.pypi.wheels import find_uv
from tests.helpers.needed import needs
from tests.helpers.pixi import WITH_PIP, packages_of, pixi_lock
from tests.helpers.projects import Project

PIXI = """\
[workspace]
name = "demo"
channels = ["conda-forge"]
platforms = ["linux-64"]
[dependencies]
probe-files = "*"
[tasks]
run = "probe-files"
[feature.more.dependencies]
probe-prefix = "1.0.*"
[environments]
more = ["more"]
"""
PYLOCK = 'lock-version = "1.0"\ncreated-by = "test"\nrequires-python = ">=3.10"\n'
UV = """\
[project]
name = "demo"
version = "1"
requires-python = ">=3.10"
dependencies = ["six"]
[dependency-groups]
dev = ["iniconfig"]
"""


def is_quick(project: Project) -> bool:
    """Tell whether a build was answered by its stamp, without a look at the settings."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "condainer", "build"],
        cwd=project.path,
        env=project.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "condainer.startup.stamp" in done.stderr
    return "condainer.settings" not in done.stderr


def is_quick_at_last(project: Project) -> bool:
    """Tell the same after a build that has nothing to say: what warned is asked once more."""
    project.cnd("build")
    return is_quick(project)


@pytest.fixture
def empty(make_project: Any) -> Project:
    """A project without any file."""
    made: Project = make_project("p", text="")
    return made


@pytest.fixture(scope="module")
def pip_lines(tmp_path_factory: pytest.TempPathFactory, channel: Path) -> list[Any]:
    """The packages of an environment that has six from the package index."""
    path = tmp_path_factory.mktemp("solved") / "p"
    path.mkdir()
    project = Project(path, {"PATH": "/usr/bin:/bin", "HOME": str(path)})
    project.environment["CONDAINER_MIRRORS"] = f"conda-forge={channel.as_uri()}"
    project.write(WITH_PIP)
    project.cnd("lock")
    return packages_of(project)


def pylock(packages: list[Any]) -> str:
    """Return a pylock.toml with the pip packages of a lock, and one that only Windows gets."""
    text = PYLOCK
    for kind, url, more in packages:
        if kind == "pypi":
            hashes = f'{{sha256 = "{more["sha256"]}"}}'
            text += f'[[packages]]\nname = "{more["name"]}"\n'
            text += f'wheels = [{{url = "{url}", hashes = {hashes}}}]\n'
    url = "https://files.example/never-1-py3-none-any.whl"
    text += '[[packages]]\nname = "never"\nmarker = "sys_platform == \'win32\'"\n'
    return text + f'wheels = [{{url = "{url}", hashes = {{sha256 = "{"a" * 64}"}}}}]\n'


@pytest.mark.parametrize("name", ["pixi.toml", "conda.toml", "pyproject.toml"])
def test_a_workspace_is_solved_like_an_environment_file(
    make_project: Any, empty: Project, name: str
) -> None:
    text = PIXI if name != "pyproject.toml" else re.sub(r"^\[", "[tool.pixi.", PIXI, flags=re.M)
    path = empty.write(text, name)
    said = empty.cnd("build").stderr
    assert f"{name}: tasks mean nothing for an image" in said
    plain = make_project("plain", text="dependencies: [probe-files]\n")
    assert plain.json("build")["address"] == empty.json("status")["address"]
    assert is_quick_at_last(empty)
    # An edit is noticed, but one that means the same solves nothing.
    path.write_text("# a comment\n" + text)
    assert not is_quick(empty)
    assert empty.json("build", "--locked")["hit"]
    assert is_quick_at_last(empty)
    path.write_text(text.replace('probe-files = "*"', 'probe-old = "*"'))
    assert "stale" in empty.cnd("build", "--locked", status=7).stderr
    assert empty.json("build")["locked"]
    assert "probe-old-1.0" in empty.lockfile.read_text()
    assert is_quick_at_last(empty)


def test_an_environment_of_a_workspace_is_chosen(make_project: Any, empty: Project) -> None:
    empty.write(PIXI, "pixi.toml")
    first = empty.json("build")["address"]
    empty.write("environment: more\n", "condainer.yml")
    assert "`environment` changed" in empty.cnd("lock", "--check", status=7).stderr
    second = empty.json("build")["address"]
    assert "# environment: more\n" in empty.lockfile.read_text()
    both = make_project("both", text="dependencies: [probe-files, probe-prefix]\n")
    assert second == both.json("build")["address"] != first
    assert empty.json("build", "--locked")["hit"]
    assert is_quick_at_last(empty)
    empty.write("environment: absent\n", "condainer.yml")
    said = empty.cnd("build", status=4).stderr
    assert f"{empty.path}/pixi.toml:11: there is no environment `absent`" in said


def test_a_pixi_lock_comes_before_its_manifest(make_project: Any, empty: Project) -> None:
    empty.write(PIXI, "pixi.toml")
    solved = empty.json("build")["address"]
    other = make_project("other", text="dependencies: [probe-prefix]\n")
    other.cnd("lock")
    empty.write(pixi_lock({"default": packages_of(other)}), "pixi.lock")
    # A lock of ours that is current stays; when it is stale, nothing is solved.
    assert empty.json("build")["address"] == solved
    empty.write(PIXI.replace("probe-files =", "probe-old ="), "pixi.toml")
    assert empty.json("build", "--locked")["address"] == other.json("status")["address"]
    assert "# from: pixi.lock\n" in empty.lockfile.read_text()
    assert is_quick_at_last(empty)


def test_packages_without_a_hash_in_a_pixi_lock_are_completed(
    make_project: Any, empty: Project
) -> None:
    other = make_project("other", text="dependencies: [probe-files, probe-prefix]\n")
    other.cnd("lock")
    (first, second) = packages_of(other)
    packages = [(first[0], first[1], {}), second]
    theirs = empty.write(pixi_lock({"default": packages}), "pixi.lock")
    before = theirs.read_bytes()
    refused = empty.cnd("build", "--locked", status=8).stderr
    assert f"pixi.lock: 1 package without a hash, such as {first[1]}" in refused
    said = empty.cnd("build").stderr
    assert f"what the channel has now is taken, and noted in {empty.lockfile.name}" in said
    assert empty.json("status")["address"] == other.json("status")["address"]
    assert empty.json("build", "--locked")["hit"]
    assert theirs.read_bytes() == before


def test_a_pylock_alone(make_project: Any, empty: Project, pip_lines: list[Any]) -> None:
    path = empty.write(pylock(pip_lines), "pylock.toml")
    built = empty.json("build")
    solved = make_project("solved", text=WITH_PIP)
    assert solved.json("build")["address"] == built["address"]
    assert empty.cnd("exec", "python", "-c", "import six; print(six.__name__)").stdout == "six\n"
    assert is_quick_at_last(empty)
    path.write_text(path.read_text().replace("never", "other"))
    assert not is_quick(empty)
    path.write_text(path.read_text().replace(">=3.10", ">=3.99"))
    said = empty.cnd("build", status=5).stderr
    assert "pylock.toml (added because of the pip requirements): no solution" in said


def test_a_pylock_beside_an_environment_file_is_its_pip_part(
    empty: Project, pip_lines: list[Any]
) -> None:
    empty.write("dependencies: [python, probe-files]\n")
    empty.cnd("build")
    assert is_quick_at_last(empty)
    path = empty.write(pylock(pip_lines), "pylock.toml")
    # It has appeared.
    assert "pylock.toml" in empty.cnd("lock", "--check", status=7).stderr
    empty.cnd("build")
    lock = empty.lockfile.read_text()
    assert "/probe-files-" in lock
    assert re.findall(r"^# pip (\S+) @", lock, re.MULTILINE) == ["six"]
    assert is_quick_at_last(empty)
    # What the file asks of pip has to be there, or the lock is older than it.
    empty.write("dependencies: [python, {pip: [six>=1, click]}]\n")
    said = empty.cnd("build", status=4).stderr
    assert f"{empty.path}/environment.yml:1: click: pylock.toml, by which" in said
    empty.write("dependencies: [python, {pip: [six>99]}]\n")
    assert "has 1." in empty.cnd("build", status=4).stderr
    empty.write("dependencies: [python, {pip: [six>=1, 'click; sys_platform == \"win32\"']}]\n")
    empty.cnd("lock")
    # A package of conda that it replaces is named.
    empty.write("dependencies: [python, six]\n")
    assert "pylock.toml replaces conda packages: six" in empty.cnd("lock").stderr
    path.unlink()
    empty.cnd("lock")
    assert "# pip" not in empty.lockfile.read_text()
    assert "is of another tool" not in empty.cnd("-y", "add", "click").stderr


def test_a_uv_lock_is_read_by_uv(empty: Project, tmp_path: Path) -> None:
    path = empty.write(UV, "pyproject.toml")
    said = empty.cnd("build", status=4).stderr
    assert "pyproject.toml is there" in said
    assert "`uv lock`" in said
    done = subprocess.run(
        [find_uv(), "lock", "--project", str(empty.path)],
        env={**empty.environment, "UV_CACHE_DIR": str(tmp_path / "uv")},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        needs("a package index")
    before = (empty.path / "uv.lock").read_bytes()
    said = empty.cnd("build").stderr
    assert "without the project itself, and without the groups dev" in said
    lock = empty.lockfile.read_text()
    assert re.findall(r"^# pip (\S+) @", lock, re.MULTILINE) == ["six"]
    assert "/python-3.11" in lock
    assert (empty.path / "uv.lock").read_bytes() == before
    assert is_quick_at_last(empty)
    # What uv.lock was not made from, and what it was.
    path.write_text(UV + "[tool.other]\na = 1\n")
    assert not is_quick(empty)
    assert empty.json("build", "--locked")["hit"]
    path.write_text(UV.replace('"six"', '"six", "idna"'))
    said = empty.cnd("build", status=4).stderr
    assert f"{empty.path}/uv.lock: does not fit to pyproject.toml any more" in said
    assert "Run `uv lock` again" in said
    assert empty.lockfile.read_text() == lock


def test_only_the_files_of_ours_are_edited(empty: Project) -> None:
    empty.write(PIXI, "pixi.toml")
    said = empty.cnd("-y", "add", "click", status=4).stderr
    assert "pixi.toml is of another tool" in said
    empty.write("dependencies: [python]\n")
    empty.write(PYLOCK + "packages = []\n", "pylock.toml")
    said = empty.cnd("-y", "add", "--pip", "click", status=4).stderr
    assert "pylock.toml is of another tool" in said
    assert "pylock.toml is of another tool" in empty.cnd("-y", "remove", "click", status=4).stderr
    # It has nothing to do with packages of conda.
    with_click = "dependencies: [python, click]"
    assert f"environment.yml: + {with_click}\n" in empty.cnd("-y", "add", "click").stderr
    empty.write(f"{with_click}\n")
    told = empty.cnd("-y", "remove", "click").stderr
    assert "environment.yml: + dependencies: [python]\n" in told


def test_a_directory_below_belongs_to_the_project(empty: Project) -> None:
    below = Project(empty.path / "a" / "b", empty.environment)
    below.path.mkdir(parents=True)
    for name, text in (
        ("pixi.toml", PIXI),
        ("pyproject.toml", re.sub(r"^\[", "[tool.pixi.", PIXI, flags=re.M)),
    ):
        path = empty.write(text, name)
        assert f"Project: {empty.path}\n" in below.cnd("build").stderr
        path.unlink()
        empty.lockfile.unlink()
        (empty.path / "conda-lock.yml").unlink()
