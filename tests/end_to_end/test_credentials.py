"""A private index: whoever logs in there, no lock, image, message or command line shows how."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.index import serve_private, write_index
from tests.helpers.needed import needs_program
from tests.helpers.projects import PYTHON, Project

USER = "bob"
SECRET = "s3cr3t-4711"


@pytest.fixture
def host(channel: Path, tmp_path: Path) -> Iterator[str]:
    """A private index with one wheel."""
    root = tmp_path / "index"
    write_index(root, sorted((channel.parent / "wheels").glob("six-*.whl")))
    with serve_private(root, USER, SECRET) as place:
        yield place


def traced(project: Project, trace: Path, *arguments: str) -> tuple[str, list[str]]:
    """Run cnd, and return what it prints and the command lines of all that it started."""
    needs_program("strace")
    # Whole words, with their blanks: strace would cut them at 32 letters.
    strace = ["strace", "-f", "-qq", "-s", "100000", "-e", "trace=execve", "-o", str(trace)]
    done = subprocess.run(
        [*strace, sys.executable, "-m", "condainer", *arguments],
        cwd=project.path,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    commands = [line for line in trace.read_text().splitlines() if " execve(" in line]
    trace.unlink()
    return done.stdout + done.stderr, commands


def holding(place: Path) -> list[str]:
    """Return the files below a directory that hold the secret."""
    # Not by grep, on whose command line another test would find it.
    files = (path for path in place.rglob("*") if path.is_file() and not path.is_symlink())
    return [str(path) for path in files if SECRET.encode() in path.read_bytes()]


def private_project(make_project: Any, tmp_path: Path, line: str, **environment: str) -> Project:
    """A project with one requirement of a private index, and nothing cached elsewhere."""
    project: Project = make_project(
        "place/project",
        text=PYTHON,
        CONDAINER_STAGING=str(tmp_path / "place" / "staging"),
        CONDAINER_CACHE=str(tmp_path / "place" / "cache"),
        UV_CACHE_DIR=str(tmp_path / "place" / "uv"),
        CONDAINER_PACKAGE_CACHE=str(tmp_path / "place" / "packages"),
        **environment,
    )
    project.write(f"{line}\n", "requirements.txt")
    return project


def ways(host: str, home: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Return the ways to log in: what stands in the requirements, and the environment."""
    login = f"{USER}:{SECRET}@{host}"
    plain = f"--index-url http://{host}/simple"
    return {
        "links": (f"--no-index\n--find-links http://{login}/simple/six/\nsix", {}),
        "variables": (
            f"--index-url http://${{NAME}}:${{WORD}}@{host}/simple\nsix",
            {"NAME": USER, "WORD": SECRET},
        ),
        "netrc": (f"{plain}\nsix", {"NETRC": str(home / "netrc")}),
        "environment": ("six", {"UV_DEFAULT_INDEX": f"http://{login}/simple"}),
        "keyring": (
            f"--index-url http://{USER}@{host}/simple\nsix",
            {"UV_KEYRING_PROVIDER": "subprocess", "PATH": f"{home}:/usr/local/bin:/usr/bin:/bin"},
        ),
    }


def prepare(home: Path, host: str) -> None:
    netrc = home / "netrc"
    netrc.write_text(f"machine {host.partition(':')[0]} login {USER} password {SECRET}\n")
    netrc.chmod(0o600)
    # What the program of that name does.
    keyring = home / "keyring"
    keyring.write_text(f"#!/bin/sh\n[ $# -eq 3 ] && echo {SECRET}\n")
    keyring.chmod(0o755)


@pytest.mark.parametrize("way", ["links", "variables", "netrc", "environment", "keyring"])
def test_a_lock_has_the_package_and_not_the_password(
    make_project: Any, host: str, tmp_path: Path, isolated_user: Path, way: str
) -> None:
    prepare(isolated_user, host)
    line, environment = ways(host, isolated_user)[way]
    project = private_project(make_project, tmp_path, line, **environment)
    said, commands = traced(project, tmp_path / "trace", "lock")
    fetched, more = traced(project, tmp_path / "trace", "fetch")
    assert any('uv", "pip", "compile"' in command for command in commands)
    assert list((tmp_path / "place" / "packages").rglob("six-*.whl"))
    assert not [command for command in (*commands, *more) if SECRET in command]
    assert SECRET not in said + fetched
    assert f"# pip six @ http://{host}/simple/six/six-" in project.lockfile.read_text()
    written = [str(project.path / "requirements.txt")] if SECRET in line else []
    assert holding(tmp_path / "place") == written
    assert f"{USER}@" not in project.lockfile.read_text()


@pytest.mark.parametrize("way", ["variables", "keyring"])
def test_an_image_has_the_package_and_not_the_password(
    make_project: Any, host: str, tmp_path: Path, isolated_user: Path, way: str
) -> None:
    prepare(isolated_user, host)
    line, environment = ways(host, isolated_user)[way]
    project = private_project(make_project, tmp_path, line, **environment)
    project.cnd("lock")
    assert holding(project.path) == []
    said, commands = traced(project, tmp_path / "trace", "build", "--json", "--locked")
    assert any('uv", "pip", "install"' in command for command in commands)
    assert not [command for command in commands if SECRET in command]
    assert SECRET not in said
    (image,) = project.cache.glob("images/*/*/image.squashfs")
    subprocess.run(
        ["unsquashfs", "-quiet", "-no-progress", "-d", tmp_path / "place" / "tree", image],
        check=True,
        capture_output=True,
    )
    assert list((tmp_path / "place" / "tree").rglob("six.py"))
    assert holding(tmp_path / "place") == []


def test_a_variable_that_is_not_set_is_named(
    make_project: Any, host: str, tmp_path: Path, isolated_user: Path
) -> None:
    line, environment = ways(host, isolated_user)["variables"]
    project = private_project(make_project, tmp_path, line, **environment)
    project.cnd("lock")
    del project.environment["WORD"]
    assert "variable WORD" in project.cnd("fetch", status=6).stderr
    done = project.cnd("lock", "--upgrade", status=4)
    assert "requirements.txt:1: the environment variable WORD is not set" in done.stderr


def test_a_direct_url_is_locked_without_who_logs_in(
    make_project: Any, host: str, tmp_path: Path
) -> None:
    (wheel,) = (tmp_path / "index").rglob("*.whl")
    url = f"{host}/simple/six/{wheel.name}"
    project = private_project(make_project, tmp_path, f"six @ http://{USER}:{SECRET}@{url}")
    project.cnd("lock")
    assert f"# pip six @ http://{url}#sha256=" in project.lockfile.read_text()
    assert holding(project.path) == [str(project.path / "requirements.txt")]
    fingerprint = project.lockfile.read_text().splitlines()[4]
    assert fingerprint.startswith("# inputs: ")
    # Another password gives the same lock.
    project.write(f"six @ http://{USER}:other@{url}\n", "requirements.txt")
    assert project.json("status")["lock"] == "current"


@pytest.mark.parametrize("option", ["--index-url", "--find-links"])
def test_a_wrong_password_is_not_shown(
    make_project: Any, host: str, tmp_path: Path, option: str
) -> None:
    line = f"--no-index\n{option} http://{USER}:wr0ng-{SECRET}@{host}/simple\nsix"
    line = line if option == "--find-links" else line.removeprefix("--no-index\n")
    project = private_project(make_project, tmp_path, line)
    done = project.cnd("lock", status=None)
    assert done.returncode in (4, 6), done.stderr
    assert option == "--find-links" or "netrc" in done.stderr
    assert SECRET not in done.stdout + done.stderr
