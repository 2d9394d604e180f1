"""What callers have set for their own tools changes neither locks nor the bytes of images."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from condainer.pypi import wheels
from condainer.system import environments
from tests.helpers.needed import needs
from tests.helpers.projects import Project
from tests.helpers.repository import Repository

ENVIRONMENT = """\
name: both
dependencies: [python, probe-files, probe-prefix, {pip: [tabulate, sourced]}]
"""
# It builds a package that holds the names and values of what it was given.
BACKEND = """\
import os, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    name, info = "sourced-1.0-py3-none-any.whl", "sourced-1.0.dist-info"
    given = sorted(f"{k}={v}" for k, v in os.environ.items() if k not in DIFFERS)
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("sourced.py", f"GIVEN = {given!r}\\n")
        wheel.writestr(f"{info}/METADATA", HEAD)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n"
                       "Tag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name

HEAD = "Metadata-Version: 2.1\\nName: sourced\\nVersion: 1.0\\n"
# Directories of one build only.
DIFFERS = ["HOME", "TMPDIR", "PATH", "VIRTUAL_ENV", "UV_CACHE_DIR", "UV_INTERNAL__BUILD_DIR"]
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
# Some that no help text has, beside those of `uv help`.
HIDDEN = """
UV_BUILD_CONSTRAINT UV_COMPILE_BYTECODE UV_CONFIG_FILE UV_CONSTRAINT UV_ENV_FILE UV_EXCLUDE
UV_EXCLUDE_NEWER UV_LOCK_TIMEOUT UV_MANAGED_PYTHON UV_NO_INSTALLER_METADATA UV_OVERRIDE UV_PREVIEW
UV_PROJECT UV_PYTHON UV_REQUIRE_HASHES UV_STACK_SIZE UV_SYSTEM_PYTHON UV_TORCH_BACKEND
UV_WORKING_DIR UV_WORKING_DIRECTORY
"""
OTHERS = """
PIP_CONFIG_FILE PIP_CONSTRAINT PIP_INDEX_URL PIP_ISOLATED PIP_NO_BINARY PIP_PREFIX
PIP_REQUIRE_HASHES PIP_TARGET SETUPTOOLS_SCM_PRETEND_VERSION SETUPTOOLS_USE_DISTUTILS
DISTUTILS_DEBUG DIST_EXTRA_CONFIG VIRTUAL_ENV
CONDA_ALWAYS_COPY CONDA_CHANNEL_PRIORITY CONDA_DEFAULT_ENV CONDA_PKGS_DIRS CONDA_PREFIX
CONDA_SAFETY_CHECKS CONDA_SUBDIR MAMBA_PLATFORM MAMBA_ROOT_PREFIX
GIT_ALLOW_PROTOCOL GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_CEILING_DIRECTORIES GIT_CONFIG
GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM GIT_DEFAULT_HASH GIT_DIR GIT_EXEC_PATH GIT_INDEX_FILE
GIT_NAMESPACE GIT_OBJECT_DIRECTORY GIT_PREFIX GIT_PROTOCOL_FROM_USER GIT_SHALLOW_FILE
GIT_TEMPLATE_DIR GIT_TRACE GIT_WORK_TREE
SOURCE_DATE_EPOCH CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS LDSHARED ARCHFLAGS MAKEFLAGS
PKG_CONFIG_PATH CMAKE_PREFIX_PATH CPATH LIBRARY_PATH CARGO_HOME RUSTFLAGS RUST_LOG RUST_BACKTRACE
LD_AUDIT LD_BIND_NOW LD_LIBRARY_PATH LD_PRELOAD BASH_ENV ENV CDPATH GLOBIGNORE POSIXLY_CORRECT
FORCE_COLOR CLICOLOR CLICOLOR_FORCE COLORTERM PY_COLORS COLUMNS LINES TERM
LANG LANGUAGE LC_COLLATE LC_CTYPE LC_TIME TZ
"""
# Those that also the interpreter of Condainer itself follows, by values that it can start with.
PYTHONS = {
    "PYTHONHASHSEED": "7",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONUTF8": "1",
    "PYTHONUSERBASE": "/nonexistent",
    "PYTHONPYCACHEPREFIX": "/nonexistent/pycache",
    "PYTHONWARNINGS": "error::SyntaxWarning",
    "PYTHONNODEBUGRANGES": "1",
    "PYTHONINTMAXSTRDIGITS": "640",
    "PYTHONIOENCODING": "latin-1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONSAFEPATH": "1",
}
# One with which the loader itself, or the locale of the test, cannot do more than complain.
VALUES = {
    "LD_PRELOAD": "",
    "LD_AUDIT": "",
    "LD_LIBRARY_PATH": "{spoiled}",
    "SOURCE_DATE_EPOCH": "86400",
    "COLUMNS": "1",
    "LINES": "1",
    "TZ": "Asia/Tokyo",
    "LANG": "de_DE.UTF-8",
    "LC_CTYPE": "C.UTF-8",
    "LC_TIME": "de_DE",
    "LC_COLLATE": "de_DE",
    "MAKEFLAGS": "-k",
    "CFLAGS": "-O0 -g",
    "UV_RESOLUTION": "lowest",
    "UV_EXCLUDE_NEWER": "2010-01-01T00:00:00Z",
    "FORCE_COLOR": "1",
    "CLICOLOR_FORCE": "1",
    "UV_COMPILE_BYTECODE": "1",
    "UV_NO_INSTALLER_METADATA": "1",
}


def names_of_uv() -> set[str]:
    """Return the variables that uv's own help names for the commands that builds use."""
    found: set[str] = set()
    for command in ("install", "compile"):
        argv = [wheels.find_uv(), "help", "--no-pager", "pip", command]
        text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        found |= set(re.findall(r"\benv: (UV_[A-Z0-9_]+)", text))
    return found


def others(spoiled: Path) -> dict[str, str]:
    """Return every variable that a program of a build knows, with a value that it would mind."""
    named = names_of_uv()
    # The list is of this uv, or nothing is tested.
    assert len(named) > 20
    wanted = (named | {*HIDDEN.split(), *OTHERS.split()}) - set(environments.UV)
    values = {name: VALUES.get(name, "/nonexistent") for name in sorted(wanted)} | PYTHONS
    return {name: value.format(spoiled=spoiled) for name, value in values.items()}


def spoil(directory: Path) -> Path:
    """Make a directory of libraries by which the system's tools do not start."""
    directory.mkdir()
    (directory / "other.c").write_text("int other;\n")
    for name in ("liblz4.so.1", "liblzo2.so.2", "libpcre2-8.so.0"):
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", name, "other.c"]
        subprocess.run(command, cwd=directory, check=True)
    return directory


def write_sdist(directory: Path) -> None:
    directory.mkdir()
    texts = {"backend.py": BACKEND, "pyproject.toml": PYPROJECT, "PKG-INFO": "Name: sourced\n"}
    with tarfile.open(directory / "sourced-1.0.tar.gz", "w:gz") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"sourced-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


@pytest.mark.long
def test_no_variable_of_the_caller_changes_a_lock_or_an_image(
    make_project: Any, tmp_path: Path, isolated_user: Path
) -> None:
    write_sdist(tmp_path / "sources")
    repository = Repository(tmp_path / "repository", "committed")
    commit = repository.commit("1.0")
    spoiled = spoil(tmp_path / "spoiled")
    base = str(tmp_path / "mounts")
    made = []
    for name, variables in (("first", {}), ("second", others(spoiled))):
        project: Project = make_project(
            name,
            ENVIRONMENT,
            CONDAINER_MOUNT_BASE=base,
            CONDAINER_CACHE=str(tmp_path / f"cache of {name}"),
            UV_FIND_LINKS=str(tmp_path / "sources"),
            UV_NO_CACHE="1",
        )
        project.write(f"committed @ git+{repository.path.as_uri()}@{commit}\n", "requirements.txt")
        if name == "second":
            (isolated_user / ".pydistutils.cfg").write_text("[install]\nprefix=/nonexistent\n")
            (isolated_user / ".config" / "uv").mkdir(parents=True)
            (isolated_user / ".config" / "uv" / "uv.toml").write_text('resolution = "lowest"\n')
            (isolated_user / ".config" / "pip").mkdir()
            (isolated_user / ".config" / "pip" / "pip.conf").write_text("[global]\nno-index = 1\n")
        project.json("lock", **variables)
        lock = project.lockfile.read_text()
        made.append((lock, *(project.json("build", **variables)[k] for k in ("address", "sha256"))))
    assert "# pip tabulate" in made[0][0]
    assert "# pip sourced" in made[0][0]
    assert made[0] == made[1]


def test_the_tools_of_the_system_do_not_get_the_libraries_of_modules(
    project: Project, tmp_path: Path
) -> None:
    variables = {"LD_LIBRARY_PATH": str(spoil(tmp_path / "spoiled"))}
    broken = subprocess.run(
        ["mksquashfs", "-version"], env={**project.environment, **variables}, capture_output=True
    )
    # Or nothing is tested.
    assert broken.returncode == 127
    assert project.json("prereq", **variables) == project.json("prereq")
    project.cnd("build", status=0, **variables)
    project.cnd("verify", status=0, **variables)


def test_a_home_directory_that_cannot_be_written(make_project: Any, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        needs("root")
    home = tmp_path / "home"
    home.mkdir()
    project: Project = make_project(
        text="dependencies: [python, {pip: [tabulate]}]\n",
        HOME=str(home),
        CONDAINER_STAGING=str(tmp_path / "staging"),
    )
    for name in ("UV_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        project.environment.pop(name, None)
    mount = shlex.join(["mount", "-t", "tmpfs", "-o", "ro", "none", str(home)])
    script = f"{mount} && cnd lock && cnd build && touch {home}/file"
    done = project.bash(shlex.join(["unshare", "-m", "bash", "-c", script]))
    assert "Read-only file system" in done.stderr.splitlines()[-1], done.stderr
    assert list(project.cache.glob("**/*.squashfs"))


def test_nothing_but_our_caches_is_written_into_the_home(make_project: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    project: Project = make_project(
        text="dependencies: [python, {pip: [tabulate]}]\n", HOME=str(home)
    )
    for name in ("UV_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        project.environment.pop(name, None)
    project.cnd("build")
    project.cnd("mount")
    found = {str(path.relative_to(home)) for path in home.glob("*/*")}
    assert found <= {".cache/condainer", ".cache/condainer-stamps"}
    assert {path.name for path in home.iterdir()} <= {".cache"}


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/home"])
def test_a_home_that_is_no_directory(project: Project, home: str) -> None:
    project.environment["HOME"] = home
    for command in (["build"], ["status"], ["exec", "--", "true"], ["verify"], ["gc"], ["list"]):
        project.cnd(*command)


def test_a_home_that_is_another_one_in_each_directory(project: Project) -> None:
    project.environment["HOME"] = "relative"
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        project.environment.pop(name, None)
    for command in ("build", "status", "list"):
        done = project.cnd(command, status=3)
        assert "HOME=relative: not an absolute path" in done.stderr
    assert [path.name for path in project.path.iterdir()] == ["environment.yml"]


def test_an_environment_of_variables_only(make_project: Any) -> None:
    project: Project = make_project(text="dependencies: []\nvariables: {ONLY: this}\n")
    told = project.cnd("build").stderr
    assert "variables only" in told
    assert project.cnd("exec", "--", "sh", "-c", "echo $ONLY").stdout == "this\n"
    assert project.cnd("list").stdout.count(project.json("status")["address"][:8]) == 1
    assert project.json("verify")["ok"]
    assert project.cnd("tree").stdout == ""
