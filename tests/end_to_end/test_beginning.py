"""What a newcomer's project has, and has not, is said before anything else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.channel import ChannelServer
from tests.helpers.accounts import Account, accounts
from tests.helpers.needed import needs_program, needs_root
from tests.helpers.projects import PYTHON, SMALL, Project

# The interpreter of the tests may stand in a directory that is closed to other accounts.
SEARCH = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


@pytest.fixture
def empty(make_project: Any) -> Project:
    """A directory without an environment file."""
    made: Project = make_project(text="")
    return made


def test_environment_yaml_is_read_in_place_of_environment_yml(empty: Project) -> None:
    empty.write(SMALL, "environment.yaml")
    first = empty.json("build")
    assert first["locked"]
    assert "environment.yaml" in empty.lockfile.read_text()
    again = empty.json("build")
    assert (again["hit"], again["locked"]) == (True, False)
    assert empty.json("status")["lock"] == "current"
    assert empty.cnd("exec", "sh", "-c", "echo $GREETING").stdout == "hello\n"


def test_environment_yml_takes_the_place_of_environment_yaml(empty: Project) -> None:
    empty.write(SMALL, "environment.yaml")
    empty.cnd("build")
    empty.cnd("build")
    # The stamp of the last build must not hide it.
    empty.write("dependencies: [six]\n")
    built = empty.cnd("build")
    assert "environment.yaml is not read, because environment.yml is there" in built.stderr
    assert "/six-" in empty.lockfile.read_text()


def test_a_bundle_of_a_project_with_environment_yaml(empty: Project, make_project: Any) -> None:
    empty.write(SMALL, "environment.yaml")
    empty.cnd("build")
    empty.cnd("bundle", "../carried")
    other = make_project("other", text="")
    other.cnd("build", "--from", "../carried")
    assert (other.path / "environment.yaml").read_text() == SMALL
    assert other.json("status")["lock"] == "current"


@pytest.mark.parametrize(
    ("files", "there", "remedy"),
    [
        (["requirements.txt"], "requirements.txt is there", "\ndependencies:\n- python\n"),
        (["pyproject.toml"], "pyproject.toml is there", "uv pip compile pyproject.toml"),
        (["uv.lock"], "uv.lock is there", "put that back"),
        (["pylock.gpu.toml"], "pylock.gpu.toml is there", "`requirements_txt: pylock.gpu.toml`"),
        (["poetry.lock"], "poetry.lock is there", "poetry export"),
        (["Pipfile"], "Pipfile is there", "pipenv requirements"),
    ],
)
def test_what_is_there_instead_is_named(
    empty: Project, files: list[str], there: str, remedy: str
) -> None:
    for name in files:
        empty.write("six\n", name)
    for command in (["build"], ["lock"]):
        said = empty.cnd(*command, status=4).stderr
        assert f"{empty.path}/environment.yml: there is no environment file, but {there}\n" in said
        assert remedy in said


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["pixi.toml", "pixi.lock"], "pixi.toml is there, and is what `cnd build` makes"),
        (["pixi.lock"], "pixi.lock is there, and is what"),
        (["pylock.toml"], "pylock.toml is there, and is what"),
        (["uv.lock", "pyproject.toml"], "pyproject.toml is there, and is what"),
        (["pylock.gpu.toml"], "pylock.gpu.toml is there: name it as `requirements_txt`"),
    ],
)
def test_no_example_beside_what_another_tool_wrote(
    empty: Project, files: list[str], said: str
) -> None:
    for name in files:
        empty.write("[project]\n", name)
    assert said in empty.cnd("init").stderr
    assert not (empty.path / "environment.yml").exists()
    assert (empty.path / "condainer.yml").exists()


@pytest.mark.parametrize("lost", ["conda-linux-64.lock", "conda-lock.yml", ""])
def test_a_lock_of_ours_alone_is_not_said_to_be_enough(project: Project, lost: str) -> None:
    project.cnd("lock")
    (project.path / "environment.yml").rename(project.path / "env.yml")
    if lost:
        (project.path / lost).unlink()
    for _ in range(2):
        said = project.cnd("init").stderr
        assert ".lock was made" in said or "conda-lock.yml was made" in said
        assert "put that back" in said
        assert "is what" not in said
    assert not (project.path / "environment.yml").exists()
    project.cnd("build", status=4)
    project.write("environment_yml: env.yml\n", "condainer.yml")
    assert "is what `cnd build` makes" in project.cnd("init").stderr


def test_the_two_lines_make_the_requirements_an_environment(empty: Project) -> None:
    empty.write("six\n", "requirements.txt")
    said = empty.cnd("build", status=4).stderr
    lines = said.partition("two lines\n")[2].splitlines()
    empty.write("\n".join(lines[:2]) + "\n")
    empty.cnd("build")
    assert empty.cnd("exec", "python", "-c", "import six; print('there')").stdout == "there\n"


def test_our_own_conda_lock_without_its_environment_file(empty: Project) -> None:
    path = empty.write(PYTHON)
    empty.cnd("lock")
    path.unlink()
    empty.lockfile.unlink()
    said = empty.cnd("build", status=4).stderr
    assert "but conda-lock.yml is there" in said
    assert "put that back" in said


def test_a_lock_that_cannot_be_read_does_not_keep_a_project_from_its_beginning(
    empty: Project,
) -> None:
    (empty.path / "conda-lock.yml").symlink_to("gone")
    said = empty.cnd("init").stderr
    assert "conda-lock.yml is there" in said
    assert (empty.path / ".gitignore").exists()


def git(project: Project, *words: str) -> list[str]:
    """Run git in a project, and return the lines of what it prints."""
    command = ["git", "-C", str(project.path), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_git_ignores_what_builds_make_and_sees_the_lockfiles(empty: Project) -> None:
    git(empty, "init")
    empty.cnd("init")
    empty.write(SMALL)
    empty.cnd("build")
    untracked = [line.removeprefix("?? ") for line in git(empty, "status", "--porcelain")]
    ours = (".gitignore", "conda-lock.yml", "condainer.yml", "environment.yml")
    assert untracked == sorted([*ours, empty.lockfile.name])


@pytest.mark.parametrize(
    "before", ["", "# mine\n*.o\n", "*.o", "*.o\r\n/activate\r\ndeactivate\r\n", "# f\udcfcr\n"]
)
def test_what_gitignore_had_stays(empty: Project, before: str) -> None:
    path = empty.path / ".gitignore"
    path.write_bytes(before.encode(errors="surrogateescape"))
    path.chmod(0o600)
    assert f"Would extend {path}" in empty.cnd("-y", "init").stderr or not before
    empty.cnd("init")
    text = path.read_bytes().decode(errors="surrogateescape")
    assert text.startswith(before)
    assert path.stat().st_mode & 0o777 == 0o600
    names = [line.strip().removeprefix("/") for line in text.splitlines()]
    assert sorted(names) == sorted({*names})
    assert {"activate", "deactivate", "activate.fish", "activate.csh"} <= set(names)
    assert f"{path} already exists; unchanged" in empty.cnd("init").stderr
    assert path.read_bytes().decode(errors="surrogateescape") == text


def test_init_in_a_directory_with_requirements(empty: Project) -> None:
    empty.write("six\n", "requirements.txt")
    empty.cnd("init")
    empty.cnd("build")
    assert empty.cnd("exec", "python", "-c", "import six; print('there')").stdout == "there\n"


def test_init_where_environment_yaml_is(empty: Project) -> None:
    path = empty.write(SMALL, "environment.yaml")
    assert f"{path} already exists; unchanged" in empty.cnd("init").stderr
    assert not (empty.path / "environment.yml").exists()


def lockfiles(project: Project) -> list[Path]:
    return list(project.path.glob("*lock*"))


@pytest.fixture
def user() -> Iterator[Account]:
    """An account with a home directory that all can pass through."""
    needs_root("to make accounts")
    needs_program("useradd")
    place = Path(tempfile.mkdtemp(prefix="cnd-", dir="/tmp"))
    place.chmod(0o755)
    with accounts(place, 1) as (made,):
        yield made
    shutil.rmtree(place)


@pytest.mark.xdist_group("accounts")
def test_root_leaves_nothing_in_the_project_of_a_user(make_project: Any, user: Account) -> None:
    cache = user.home / "cache"
    cache.mkdir()
    project = make_project(CONDAINER_CACHE=str(cache))
    for path in (cache, project.path, project.path / "environment.yml"):
        shutil.chown(path, user.uid, user.gid)
    said = project.cnd("build", status=16).stderr
    assert f"The cache {cache} is not used: it belongs to {user.name}" in said
    assert lockfiles(project) == []
    assert list(cache.iterdir()) == []
    # Nor from a lock that is there already.
    project.cnd("lock")
    project.lockfile.unlink()
    project.cnd("build", status=16)
    assert [path.name for path in lockfiles(project)] == ["conda-lock.yml"]


@pytest.mark.xdist_group("accounts")
@pytest.mark.parametrize("has", ["nothing", "other images"])
def test_a_cache_that_cannot_be_written_gets_no_lockfiles_into_a_project(
    make_project: Any, user: Account, has: str
) -> None:
    cache = user.home.parent / "cache"
    cache.mkdir(0o755)
    project = make_project(text="dependencies: [probe-files]\n", CONDAINER_CACHE=str(cache))
    if has == "other images":
        project.cnd("build")
    (user.home / "environment.yml").write_text(SMALL)
    places = {
        "CONDAINER_CACHE": str(cache),
        "CONDAINER_PACKAGE_CACHE": str(user.home / "packages"),
        "CONDAINER_MIRRORS": project.environment["CONDAINER_MIRRORS"],
    }
    cnd = (*SEARCH, sys.executable, "-m", "condainer")
    said = user.run(*cnd, "build", environment=places, status=12).stderr
    assert f"Cannot write into the cache {cache}" in said
    assert "`cnd lock` solves without building" in said
    assert ("Solving" in said) == (has == "other images")
    assert not list(user.home.glob("*lock*"))
    # What it has serves all the same.
    if has == "other images":
        shutil.copy(project.path / "environment.yml", user.home)
        places["CONDAINER_MOUNT_BASE"] = project.environment["CONDAINER_MOUNT_BASE"]
        user.run(*cnd, "build", environment=places)


@pytest.mark.parametrize("what", ["a file", "a directory of something else"])
def test_what_is_no_cache_is_told_before_solving(project: Project, what: str) -> None:
    if what == "a file":
        project.cache.write_text("")
    else:
        (project.cache / "thesis").mkdir(parents=True)
    project.cnd("build", status=12)
    assert lockfiles(project) == []


# As the original writes it, and after a build.
ORIGINAL = """\
# Condainer project configuration file
#
# - initially created by `condainer init`
#
mount_base_directory: BASE
uuid: 6f3ff4a1-2b1c-4d65-9b0e-8d5c1a1f1a11
environment_yml: environment.yml
requirements_txt: requirements.txt
installer_url: https://example.org/Miniforge3-Linux-x86_64.sh
conda_exe: mamba
user_env_name: basic@condainer
"""


@pytest.fixture
def theirs(project: Project) -> Project:
    """A project that the original Condainer has built."""
    base = project.environment.pop("CONDAINER_MOUNT_BASE")
    project.write(ORIGINAL.replace("BASE", base), "condainer.yml")
    project.write("# usage: source activate\ncnd --quiet mount\n", "activate")
    project.write("# usage: source deactivate\nconda deactivate\n", "deactivate")
    return project


def test_all_keys_of_the_original_are_told_at_once(theirs: Project) -> None:
    said = theirs.cnd("build", status=3).stderr
    assert f"{theirs.path}/condainer.yml:6: `uuid` is a key of the original Condainer" in said
    for key in ("mount_base_directory", "environment_yml", "requirements_txt"):
        assert f"`{key}` stays\n" in said
    for key in ("uuid", "installer_url", "conda_exe", "user_env_name"):
        assert f"`{key}` goes: " in said
    assert "cnd init --convert" in said


def test_a_project_of_the_original_is_converted_on_request(theirs: Project, tmp_path: Path) -> None:
    path, copy = theirs.path / "condainer.yml", theirs.path / "condainer.yml.original"
    before = path.read_text()
    assert "cnd init --convert" in theirs.cnd("init").stderr
    assert path.read_text() == before
    assert f"Would remove {theirs.path}/activate" in theirs.cnd("-y", "init", "--convert").stderr
    assert (path.read_text(), copy.exists()) == (before, False)
    theirs.cnd("init", "--convert")
    assert copy.read_text() == before
    built = theirs.json("build")
    assert Path(built["prefix"]).parent == tmp_path / "m"
    assert theirs.bash("source ./activate && echo $GREETING").stdout == "hello\n"
    said = theirs.cnd("init", "--convert", status=3).stderr
    assert "not a configuration of the original Condainer" in said


def test_what_is_not_the_originals_is_not_converted(project: Project) -> None:
    project.cnd("init", "--convert", status=3)
    path = project.write("linger: 1\n", "condainer.yml")
    project.cnd("init", "--convert", status=3)
    project.write(ORIGINAL, "condainer.yml.original")
    path.write_text(ORIGINAL)
    assert "is there already" in project.cnd("init", "--convert", status=3).stderr
    assert path.read_text() == ORIGINAL


MISSPELT = """\
channels: [conda-forge]
dependencies:
- nunpy
- six=99
- conda-forge::click
- conda-forge::rihc>=1
- numpy>=2,<99
"""


@pytest.mark.parametrize("engine", ["embedded", "conda"])
def test_misspelt_packages_and_versions_that_do_not_exist(
    empty: Project, server: ChannelServer, request: pytest.FixtureRequest, engine: str
) -> None:
    path = empty.write(MISSPELT)
    empty.environment["CONDAINER_MIRRORS"] = f"conda-forge={server.url}/conda-forge"
    if engine == "conda":
        conda = request.getfixturevalue("conda")
        empty.environment["CONDAINER_CONDA_EXE"] = str(conda)
    said = empty.cnd("lock", status=5).stderr
    told = [line.strip() for line in said.splitlines() if "channels asked" in line]
    assert told == [
        f"{path}:3: no package `nunpy` in the channels asked (conda-forge). Did you mean `numpy`?",
        f"{path}:4: nothing in the channels asked (conda-forge) fits `six=99`. The newest there: "
        "1.17.0",
        f"{path}:6: no package `rihc` in the channels asked (conda-forge). Did you mean `rich`?",
    ]


def test_the_newest_versions_come_first(empty: Project) -> None:
    empty.write("dependencies: [numpy>=99]\n")
    assert "The newest there: 2.4.6, 1.26.4\n" in empty.cnd("build", status=5).stderr


def test_a_name_like_no_other(empty: Project) -> None:
    empty.write("dependencies: [qqqqq]\n")
    assert "A package that only PyPI has goes below `pip:`" in empty.cnd("build", status=5).stderr


def test_no_advice_where_packages_exclude_each_other(empty: Project) -> None:
    empty.write("dependencies: [probe-conflict-a, probe-conflict-b]\n")
    said = empty.cnd("build", status=5).stderr
    assert "Change the specs or add a channel" in said
    assert "channels asked" not in said
