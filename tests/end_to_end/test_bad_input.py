"""Bad input gets a clear message, its own exit code, no traceback, and leaves nothing half-made."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.channel import ChannelServer
from tests.helpers.needed import needs_root
from tests.helpers.projects import PYTHON, SMALL, Project, unmeasured


def leftovers(project: Project) -> list[Path]:
    """Return what a failed build must not leave: staging directories, partial files, lockfiles."""
    staging = Path(project.environment["CONDAINER_STAGING"])
    found = list(staging.glob("condainer-*")) if staging.exists() else []
    tmp = project.cache / "tmp"
    found += list(tmp.iterdir()) if tmp.exists() else []
    found += list((project.cache / "images").glob("*/*")) if project.cache.is_dir() else []
    mounts = Path(project.environment["CONDAINER_MOUNT_BASE"])
    found += list(mounts.glob("condainer-*")) if mounts.exists() else []
    return found + [path for path in project.path.iterdir() if path.name.startswith(".")]


@pytest.fixture
def bad(make_project: Any, tmp_path: Path) -> Project:
    """A project whose environment.yml the test writes."""
    made: Project = make_project(text="", CONDAINER_STAGING=str(tmp_path / "staging"))
    return made


@pytest.mark.parametrize(
    ("text", "status", "parts"),
    [
        ("dependencies: [python\n", 4, ["environment.yml:2", "not valid YAML"]),
        ("dependencies:\n\t- python\n", 4, ["environment.yml:2", "tab"]),
        ("dependencies: !!python/object:os.system [x]\n", 4, ["environment.yml:1", "tag"]),
        ("- python\n", 4, ["environment.yml:1", "mapping"]),
        ("dependencies: python\n", 4, ["environment.yml:1", "list"]),
        ("dependencies:\n- python\n- 3.11\n", 4, ["environment.yml:3", "3.11"]),
        ("dependencies: []\n", 4, ["no dependencies"]),
        ("name: x\n", 4, ["no dependencies"]),
        ("channels: 3\ndependencies: [six]\n", 4, ["environment.yml:1", "channels"]),
        ("dependencies: ['python >>1']\n", 4, ["environment.yml:1", "python >>1"]),
        ("dependencies: [no-such-package-x]\n", 5, ["no-such-package-x", "No candidates"]),
        ("dependencies: [six>=99]\n", 5, ["six"]),
        (
            "dependencies: [probe-conflict-a, probe-conflict-b]\n",
            5,
            ["probe-conflict-a", "probe-conflict-b", "numpy"],
        ),
        ("variables: {'A B': x}\ndependencies: [six]\n", 4, ["environment.yml:1", "A B"]),
        ("dependencies: [python, {pip: [-e .]}]\n", 4, ["editable", "environment.yml:1"]),
        ("dependencies: [python, {pip: [./wheel.whl]}]\n", 4, ["local path", "environment.yml"]),
        (
            "dependencies:\n- python\n- pip:\n  - no-such-distribution-xyz-123\n",
            5,
            ["environment.yml:4", "no-such-distribution-xyz-123"],
        ),
        (
            "dependencies:\n- python\n- pip:\n  - tabulate==0.0.0.1\n",
            5,
            ["environment.yml:4", "tabulate"],
        ),
        (
            "channels: ['http://127.0.0.1:9/nowhere']\ndependencies: [six]\n",
            6,
            ["http://127.0.0.1:9/nowhere", "cannot be read"],
        ),
    ],
)
def test_inputs(bad: Project, text: str, status: int, parts: list[str]) -> None:
    bad.write(text)
    done = bad.cnd("build", status=status)
    for part in parts:
        assert part in done.stderr, done.stderr
    assert done.stdout == ""
    assert leftovers(bad) == []
    assert not list(bad.path.glob("*lock*"))


def test_no_environment_file(bad: Project) -> None:
    done = bad.cnd("build", status=4)
    assert "environment.yml" in done.stderr
    assert "cnd init" in done.stderr


def test_alias_bombs_end_quickly(bad: Project) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    bad.write("\n".join([*rows, "dependencies: *a11"]))
    # Otherwise, it does not end.
    assert "too many" in bad.cnd("build", status=4).stderr


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("cache_dir: /x\n", ["condainer.yml:1", "cache_dir", "cache_directory"]),
        ("linger: often\n", ["condainer.yml:1", "linger", "number"]),
        ("uuid: 1234\n", ["condainer.yml:1", "uuid", "address"]),
        ("compression_level: 99\n", ["99", "22"]),
        ("mirrors: [x]\n", ["condainer.yml:1", "mirrors"]),
        ("a: [\n", ["condainer.yml", "not valid YAML"]),
    ],
)
def test_configuration(bad: Project, text: str, parts: list[str]) -> None:
    bad.write(SMALL)
    bad.write(text, "condainer.yml")
    done = bad.cnd("build", status=3)
    for part in parts:
        assert part in done.stderr
    assert leftovers(bad) == []


def test_usage(bad: Project) -> None:
    assert "There is no command `biuld`" in bad.cnd("biuld", status=2).stderr
    assert "No such option" in bad.cnd("build", "--fast", status=2).stderr
    assert "no such directory" in bad.cnd("-d", "absent", "build", status=3).stderr
    bad.write("x", "file")
    assert "no such directory" in bad.cnd("-d", "file", "build", status=3).stderr
    assert "KEY=VALUE" in bad.cnd("--set", "x", "build", status=3).stderr


@pytest.mark.parametrize(
    "words",
    [
        ("rm", ""),
        ("verify", ""),
        ("show", ""),
        ("tag", ""),
        ("tag", "name", ""),
        ("add", "six", ""),
        ("lock", "--update", ""),
        ("exec", "--env", "", "true"),
        ("wrap", "programs", "--only", ""),
    ],
)
def test_an_empty_text(bad: Project, words: tuple[str, ...]) -> None:
    """A variable that is unset does not mean all, or the working directory."""
    assert "an empty text" in bad.cnd(*words, status=2).stderr


def test_a_damaged_lock(bad: Project) -> None:
    bad.write(SMALL)
    bad.cnd("lock")
    good = bad.lockfile.read_text()
    damages = [
        (good.replace("#sha256:", "#sha256:xyz"), "sha256"),
        (good.replace("@EXPLICIT\n", ""), "@EXPLICIT"),
        (good[: good.index("@EXPLICIT") + 10], "no conda package"),
        (good.replace("linux-64\n", "osx-arm64\n", 1), "osx-arm64"),
        (good.replace("condainer-lock: 1", "condainer-lock: 9"), "version 9"),
        (good + good.splitlines()[-1] + "\n", "a second"),
        (good + "<<<<<<< HEAD\n", "<<<<<<<"),
        (good.replace("https://", "https:/ /", 1), "URL"),
    ]
    for text, part in damages:
        bad.lockfile.write_text(text)
        done = bad.cnd("build", status=8)
        assert part in done.stderr, (part, done.stderr)
        assert re.search(r"conda-linux-64\.lock", done.stderr)
    assert leftovers(bad) == []


def test_a_changed_hash_in_the_lock_is_not_served(bad: Project) -> None:
    bad.write(SMALL)
    bad.cnd("lock")
    text = bad.lockfile.read_text()
    digest = text.rpartition("sha256:")[2].strip()
    other = hashlib.sha256(b"other").hexdigest()
    bad.lockfile.write_text(text.replace(digest, other))
    # Half a merge looks the same: the two lockfiles do not agree.
    bad.cnd("build", "--locked", status=7)
    unified = bad.path / "conda-lock.yml"
    unified.write_text(unified.read_text().replace(digest, other))
    done = bad.cnd("build", status=9)
    assert other in done.stderr
    assert digest in done.stderr
    assert leftovers(bad) == []


def test_a_corrupt_conda_package(bad: Project, tmp_path: Path) -> None:
    bad.write("dependencies: [probe-broken]\n")
    done = bad.cnd("build", status=9)
    assert "probe-broken" in done.stderr
    assert "sha256" in done.stderr
    assert leftovers(bad) == []


def test_a_wheel_whose_hash_differs(bad: Project) -> None:
    bad.write("dependencies: [python, {pip: [tabulate==0.9.0]}]\n")
    bad.cnd("lock")
    text = bad.lockfile.read_text()
    digest = text.rpartition("sha256=")[2].strip()
    other = hashlib.sha256(b"x").hexdigest()
    for path in (bad.lockfile, bad.path / "conda-lock.yml"):
        path.write_text(path.read_text().replace(digest, other))
    done = bad.cnd("build", status=9)
    assert "tabulate" in done.stderr
    assert leftovers(bad) == []


def test_an_unreachable_package_index(bad: Project) -> None:
    bad.write("dependencies: [python, {pip: [tabulate]}]\n")
    environment = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_NO_CACHE": "1"}
    done = bad.cnd("build", status=6, UV_HTTP_RETRIES="0", **environment)
    assert "127.0.0.1:9" in done.stderr
    assert leftovers(bad) == []


def test_a_flaky_channel_is_asked_again(
    make_project: Any, server: ChannelServer, tmp_path: Path
) -> None:
    project = make_project(
        CONDAINER_MIRRORS=f"conda-forge={server.url}/conda-forge",
        CONDAINER_PACKAGE_CACHE=str(tmp_path / "packages"),
    )
    server.fail("probe-files", status=503, times=2)
    assert not project.json("build")["hit"]


def test_a_mirror_that_is_gone_gives_way_to_the_next(
    make_project: Any, server: ChannelServer, tmp_path: Path
) -> None:
    project = make_project(
        CONDAINER_MIRRORS=f"conda-forge=http://127.0.0.1:9/x conda-forge={server.url}/conda-forge",
        CONDAINER_PACKAGE_CACHE=str(tmp_path / "packages"),
    )
    assert not project.json("build")["hit"]
    assert "127.0.0.1" not in project.lockfile.read_text()


def test_missing_tools(bad: Project, tmp_path: Path) -> None:
    bad.write(SMALL)
    bad.cnd("lock")
    empty = tmp_path / "empty"
    empty.mkdir()
    done = bad.cnd("build", status=10, PATH=str(empty))
    assert "mksquashfs" in done.stderr
    assert "apt install" in done.stderr
    assert leftovers(bad) == []
    done = bad.cnd("prereq", status=10, PATH=str(empty))
    assert re.search(r"squashfuse\S* +no +not found", done.stdout)
    old = empty / "mksquashfs"
    old.write_text("#!/bin/sh\necho mksquashfs version 4.3 '(2014/05/12)'\n")
    old.chmod(0o755)
    assert "4.3" in bad.cnd("build", status=10, CONDAINER_TOOLS=str(empty)).stderr


def test_an_unwritable_cache(bad: Project, tmp_path: Path) -> None:
    bad.write(SMALL)
    bad.write("a file\n", "occupied")
    done = bad.cnd("build", status=12, CONDAINER_CACHE=str(bad.path / "occupied"))
    assert "occupied" in done.stderr
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.tex").write_text("important")
    done = bad.cnd("build", status=12, CONDAINER_CACHE=str(strange))
    assert "thesis.tex" in done.stderr
    assert [path.name for path in strange.iterdir()] == ["thesis.tex"]
    assert "/proc/none" in bad.cnd("build", status=12, CONDAINER_CACHE="/proc/none/x").stderr


def test_a_directory_where_a_file_should_be(bad: Project) -> None:
    (bad.path / "environment.yml").mkdir()
    assert "environment.yml" in bad.cnd("build", status=4).stderr
    (bad.path / "environment.yml").rmdir()
    bad.write(SMALL)
    (bad.path / "conda-linux-64.lock").mkdir()
    assert "conda-linux-64.lock" in bad.cnd("build", status=8).stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A small file system, mounted for the test."""
    needs_root("to mount a small file system")
    mounted = []

    def make(name: str, size: str) -> Path:
        path = tmp_path / name
        path.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "none", path], check=True
        )
        mounted.append(path)
        return path

    yield make
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.parametrize("place", ["CONDAINER_CACHE", "CONDAINER_STAGING"])
def test_a_full_disk(bad: Project, small_disk: Any, place: str) -> None:
    bad.write(PYTHON)
    bad.cnd("lock")
    disk = small_disk("small", "6m")
    done = bad.cnd("build", status=None, **{place: str(disk)})
    assert done.returncode in (11, 12), done.stderr
    assert "space" in done.stderr
    bad.environment[place] = str(disk)
    assert leftovers(bad) == []


def test_a_full_disk_below_the_project(bad: Project, small_disk: Any) -> None:
    disk = small_disk("small", "64k")
    text = "dependencies: [probe-files]\n"
    (disk / "environment.yml").write_text(text)
    bad.cnd("-d", str(disk), "lock")
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    for command in (
        ("add", "probe-prefix"),
        ("lock", "--export", "environment", "--output", str(disk / "out.yml")),
        ("init",),
    ):
        told = bad.cnd("-d", str(disk), *command, status=12).stderr
        assert f"Cannot write {disk}/" in told
        assert f"Make it possible to write in {disk}, or" in told
    assert (disk / "environment.yml").read_text() == text


@pytest.mark.parametrize(
    "name", ["two words", "größe – データ", "-leading", "quo'te\"s", "line\nbreak", "$HOME;*"]
)
def test_strange_project_paths(make_project: Any, name: str) -> None:
    project = make_project(f"in/{name}")
    built = project.json("build")
    assert project.cnd("exec", "--", "pwd").stdout == f"{project.path}\n"
    script = "set -eu; source activate; probe-prefix; source deactivate"
    done = project.bash(script)
    assert (done.returncode, done.stdout.strip()) == (0, built["prefix"]), done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("step", "number", "status"),
    [
        ("Solving", signal.SIGINT, 130),
        ("Linking", signal.SIGINT, 130),
        ("Installing pip", signal.SIGINT, 130),
        ("Compiling", signal.SIGINT, 130),
        ("Compressing", signal.SIGINT, 130),
        ("Compiling", signal.SIGTERM, 143),
        ("Resolving pip", signal.SIGINT, 130),
    ],
)
def test_interruption(bad: Project, step: str, number: int, status: int) -> None:
    bad.write("dependencies: [python, numpy, {pip: [tabulate]}]\n")
    if step not in ("Solving", "Resolving pip"):
        bad.cnd("lock")
    child = subprocess.Popen(
        [sys.executable, "-m", "condainer", "build"],
        cwd=bad.path,
        env=unmeasured(bad.environment),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stderr is not None
    output = []
    for line in child.stderr:
        output.append(line)
        if line.startswith(step) and "..." in line:
            # As the terminal does on ^C: the whole foreground group gets it.
            os.killpg(child.pid, number)
            break
    output += child.stderr.readlines()
    assert child.wait() == status, output
    assert "Traceback" not in "".join(output)
    assert leftovers(bad) == []
    assert not bad.json("build")["hit"]


# Interrupts the build when it writes the manifest: this step takes but a moment.
PUBLISHING = """
import os, signal, sys
from condainer.__main__ import entry
def strike(name, given, blows=[]):
    written = name == "open" and "w" in str(given[1]) and str(given[0]).endswith("/manifest.json")
    if written and not blows:
        blows.append(given)
        os.killpg(0, signal.SIGINT)
sys.addaudithook(strike)
sys.argv[1:] = ["build"]
entry()
"""


def test_an_interruption_while_the_image_is_published(bad: Project) -> None:
    bad.write(SMALL)
    done = subprocess.run(
        [sys.executable, "-c", PUBLISHING],
        cwd=bad.path,
        env=unmeasured(bad.environment),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert done.returncode == 130, done.stderr
    assert "Publishing ..." in done.stderr
    assert "Traceback" not in done.stderr
    assert leftovers(bad) == []
    assert not bad.json("build")["hit"]


def test_a_deleted_working_directory(bad: Project) -> None:
    bad.write(SMALL)
    shutil.copytree(bad.path, bad.path.with_name("doomed"))
    script = f"cd doomed && rm -rf ../doomed && {sys.executable} -m condainer status"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=bad.path.parent,
        env=bad.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "working directory" in done.stderr
