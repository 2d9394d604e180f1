"""pixi.lock and conda.lock: used as they are, with an environment that is chosen."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rattler import LockFile

from tests.channel import ChannelServer
from tests.helpers.pixi import HASH, WITH_PIP, packages_of, pixi_lock
from tests.helpers.projects import Project

PLAIN = "dependencies: [probe-prefix, probe-files]\n"


def without_inputs(make_project: Any, name: str = "p", **environment: str) -> Project:
    """A project that has nothing yet, and then a lockfile only."""
    project: Project = make_project(name, **environment)
    (project.path / "environment.yml").unlink()
    return project


@pytest.fixture
def solved(make_project: Any) -> Project:
    """A project that was locked by us; the others are made from its lock."""
    project: Project = make_project("solved", text=PLAIN)
    project.cnd("lock")
    return project


@pytest.fixture
def smaller(make_project: Any) -> Project:
    project: Project = make_project("smaller", text="dependencies: [probe-prefix]\n")
    project.cnd("lock")
    return project


@pytest.mark.parametrize(
    ("name", "version", "head"),
    [
        ("pixi.lock", 6, ""),
        ("pixi.lock", 7, "platforms:\n- name: osx-arm64\n- name: linux-64\n"),
        ("conda.lock", 1, ""),
    ],
)
def test_a_project_with_their_lockfile_only(
    make_project: Any, solved: Project, name: str, version: int, head: str
) -> None:
    address = solved.json("status")["address"]
    text = pixi_lock({"default": packages_of(solved)}, version, head=head)
    project = without_inputs(make_project)
    theirs = project.write(text, name)
    assert project.json("status")["address"] == address
    assert project.json("lock", "--check")["current"]
    assert f"taken from {name}" in project.cnd("lock", "--check").stderr
    # From a directory below, too.
    (project.path / "below").mkdir()
    here = Project(project.path / "below", project.environment)
    assert here.json("build", "--locked")["address"] == address
    assert project.json("build")["hit"]
    assert f"/condainer-{address}\n" in project.cnd("exec", "probe-prefix").stdout
    assert theirs.read_text() == text
    assert f"# from: {name}\n# environment: default\n" in project.lockfile.read_text()
    said = project.cnd("lock", status=8).stderr
    assert f"{name} was written by another tool" in said
    assert {"pixi.lock": "`pixi lock`", "conda.lock": "`conda workspace lock`"}[name] in said


def test_what_rattler_writes_itself(make_project: Any, solved: Project, tmp_path: Path) -> None:
    draft = tmp_path / "draft.lock"
    draft.write_text(pixi_lock({"default": packages_of(solved)}))
    project = without_inputs(make_project)
    LockFile.from_path(draft).to_path(project.path / "pixi.lock")
    assert "version: 7\n" in (project.path / "pixi.lock").read_text()
    assert project.json("status")["address"] == solved.json("status")["address"]


def test_pip_packages_by_their_hash(make_project: Any) -> None:
    solved = make_project("solved", text=WITH_PIP)
    solved.cnd("lock")
    project = without_inputs(make_project)
    project.write(pixi_lock({"default": packages_of(solved)}), "pixi.lock")
    built = project.json("build")
    assert built["address"] == solved.json("status")["address"]
    script = "import six; print(six.__file__)"
    assert built["prefix"] in project.cnd("exec", "python", "-c", script).stdout


def test_an_environment_is_chosen(make_project: Any, solved: Project, smaller: Project) -> None:
    both = {"default": packages_of(solved), "py312": packages_of(smaller)}
    project = without_inputs(make_project)
    project.write(pixi_lock(both), "pixi.lock")
    addresses = [other.json("status")["address"] for other in (solved, smaller)]
    assert project.json("build")["address"] == addresses[0]
    project.write("environment: py312\n", "condainer.yml")
    assert project.json("status")["address"] == addresses[1]
    assert project.json("build", "--locked")["address"] == addresses[1]
    assert "# environment: py312\n" in project.lockfile.read_text()
    assert project.json("build", "--set", "environment=default")["address"] == addresses[0]
    said = project.cnd("build", "--set", "environment=docs", status=8).stderr
    assert "has no environment `docs`" in said
    assert "default, py312" in said


def test_environments_of_a_project_are_those_of_their_file(
    make_project: Any, solved: Project, smaller: Project
) -> None:
    project = without_inputs(make_project)
    both = {"default": packages_of(solved), "little": packages_of(smaller)}
    project.write(pixi_lock(both), "pixi.lock")
    project.write("environments: {default: {}, few: {environment: little}}\n", "condainer.yml")
    built = project.json("build", "--all")
    wanted = {"default": solved.json("build"), "few": smaller.json("build")}
    assert {name: item["address"] for name, item in built.items()} == {
        name: item["address"] for name, item in wanted.items()
    }
    few = (project.path / "conda-few-linux-64.lock").read_text()
    assert "# from: pixi.lock\n# environment: little\n" in few
    assert "probe-files" not in few
    assert project.json("build", "-e", "few")["locked"] is False


def test_a_change_of_the_file_is_seen_at_once(
    make_project: Any, solved: Project, smaller: Project
) -> None:
    project = without_inputs(make_project)
    project.write(pixi_lock({"default": packages_of(solved)}), "pixi.lock")
    first = project.json("build")
    # Twice: the second time, the stamp of the first answers.
    assert project.json("build")["hit"]
    assert project.json("build")["hit"]
    project.write(pixi_lock({"default": packages_of(smaller)}), "pixi.lock")
    assert project.json("build")["address"] == smaller.json("status")["address"]
    assert first["address"] != smaller.json("status")["address"]


def test_md5_sums_are_completed_once(
    make_project: Any, solved: Project, server: ChannelServer, channel: Path, tmp_path: Path
) -> None:
    items = []
    for kind, url, _ in packages_of(solved):
        data = channel.joinpath(*url.split("/")[-2:]).read_bytes()
        items.append((kind, url, {"md5": hashlib.md5(data).hexdigest()}))
    project = without_inputs(
        make_project,
        CONDAINER_MIRRORS=f"conda-forge={server.url}/conda-forge",
        CONDAINER_PACKAGE_CACHE=str(tmp_path / "packages"),
    )
    project.write(pixi_lock({"default": items}), "pixi.lock")
    assert project.json("status")["lock"] == "stale"
    address = solved.json("status")["address"]
    assert project.json("build", "--locked")["address"] == address
    server.requests.clear()
    assert project.json("status")["address"] == address
    assert project.json("build", "--locked")["hit"]
    assert not server.requests


def test_other_commands_know_it(make_project: Any, solved: Project, smaller: Project) -> None:
    project = without_inputs(make_project)
    packages = {"default": packages_of(solved), "small": packages_of(smaller)}
    theirs = project.write(pixi_lock(packages), "pixi.lock")
    for arguments in (["lock", "--upgrade"], ["-y", "lock"]):
        said = project.cnd(*arguments, status=8).stderr
        assert "pixi.lock was written by another tool" in said
    said = project.cnd("lock", "--export", "explicit", "-o", "pixi.lock", status=4).stderr
    assert "lockfile of the project itself" in said
    assert "pixi lock" in project.cnd("add", "six", status=4).stderr
    assert "probe-files" in project.cnd("show", "pixi.lock").stdout
    said = project.cnd("diff", "pixi.lock", str(smaller.lockfile)).stdout
    assert re.fullmatch(r"-\s+conda\s+probe-files\s.*\s*", said)
    assert "current" in project.cnd("lock", "--check", "--platform", "osx-arm64").stderr
    # A bundle carries it, and a lockfile of one's own decides in a project.
    project.cnd("bundle", "../bundle")
    other = without_inputs(make_project, "other")
    address = project.json("build", "--locked")["address"]
    assert other.json("build", "--from", "../bundle")["address"] == address
    assert (other.path / "pixi.lock").read_text() == theirs.read_text()
    third = without_inputs(make_project, "third")
    third.write(pixi_lock({"default": packages_of(smaller)}), "pixi.lock")
    assert third.json("build", "--from", "../bundle")["address"] != address


def test_our_own_lock_without_its_environment_file(
    make_project: Any, solved: Project, smaller: Project
) -> None:
    solved.write(pixi_lock({"default": packages_of(smaller)}), "pixi.lock")
    assert "pixi.lock is not used" in solved.cnd("lock", "--check").stderr
    (solved.path / "environment.yml").unlink()
    for command in ("build", "lock"):
        said = solved.cnd(command, status=4).stderr
        assert "pixi.lock is used as it is where no other lockfile comes first" in said
    solved.lockfile.unlink()
    (solved.path / "conda-lock.yml").unlink()
    assert solved.json("build")["address"] == smaller.json("status")["address"]


def test_which_file_comes_first(make_project: Any, solved: Project, smaller: Project) -> None:
    pixi, conda = pixi_lock({"default": packages_of(solved)}), "conda.lock"
    project = without_inputs(make_project)
    project.write(pixi, "pixi.lock")
    project.write(pixi.replace("version: 6", "version: 1"), conda)
    done = project.cnd("build")
    assert "not used" not in done.stderr
    project.lockfile.unlink()
    other = pixi_lock({"default": packages_of(smaller)}, version=1)
    project.write(other, conda)
    done = project.cnd("build")
    assert "conda.lock is not used, because pixi.lock comes first" in done.stderr
    assert "locks other packages" in done.stderr
    assert "conda.lock is not used" in project.cnd("lock", "--check").stderr
    assert project.json("status")["address"] == solved.json("status")["address"]
    # A conda-lock.yml of another tool comes before both.
    project.lockfile.unlink()
    text = (smaller.path / "conda-lock.yml").read_text().partition("\n")[2]
    project.write(text, "conda-lock.yml")
    done = project.cnd("build")
    assert "pixi.lock is not used, because conda-lock.yml comes first" in done.stderr
    assert project.json("status")["address"] == smaller.json("status")["address"]


def test_an_environment_file_comes_before_them_unless_one_is_chosen(
    make_project: Any, solved: Project, smaller: Project
) -> None:
    project = make_project("p", text="dependencies: [probe-prefix]\nvariables: {A: b}\n")
    project.write(pixi_lock({"default": packages_of(solved)}), "pixi.lock")
    unused = "pixi.lock is not used, because environment.yml is there"
    assert unused in project.cnd("build", "--locked", status=7).stderr
    assert unused in project.cnd("lock").stderr
    said = project.cnd("build", "--set", "environment=default", status=3).stderr
    assert "another lockfile comes first" in said
    project.lockfile.unlink()
    (project.path / "conda-lock.yml").unlink()
    project.write("environment: default\n", "condainer.yml")
    project.cnd("build")
    # Variables come from the environment file, as with a conda-lock.yml.
    text = project.lockfile.read_text()
    assert "# variable: A=b\n" in text
    assert "/probe-files-" in text
    (project.path / "pixi.lock").unlink()
    assert "none is there" in project.cnd("build", status=3).stderr


def test_init_writes_no_example_beside_a_lockfile(make_project: Any, solved: Project) -> None:
    project = without_inputs(make_project)
    project.write(pixi_lock({"default": packages_of(solved)}), "pixi.lock")
    project.cnd("init")
    assert (project.path / "condainer.yml").exists()
    assert not (project.path / "environment.yml").exists()
    assert project.json("status")["address"] == solved.json("status")["address"]


CONDA = "https://conda.anaconda.org/conda-forge/noarch"
GIT = "git+https://git.example/group/tool"
REFUSED = [
    (
        ("conda", "./tool", {"name": "tool", "version": "'1'", "subdir": "noarch"}),
        "tool is built from source",
    ),
    (("conda", "./t-1-0.conda", {"subdir": "noarch", "sha256": HASH}), "t stands in a local file"),
    (("pypi", "./", {"name": "mine", "version": "'1'"}), "mine stands in a local directory"),
    (("pypi", f"{GIT}?branch=main", {"name": "tool", "version": "'1'"}), "is no commit"),
    (("pypi", "https://a.example/x-1.tar.gz", {"name": "x", "version": "'1'"}), "x has no sha256"),
]


@pytest.mark.parametrize(("item", "what"), REFUSED, ids=[what for _, what in REFUSED])
def test_what_no_image_can_be_made_of(
    make_project: Any, item: tuple[str, str, dict[str, str]], what: str
) -> None:
    project = without_inputs(make_project)
    path = project.write(pixi_lock({"default": [item]}), "pixi.lock")
    said = project.cnd("build", status=8).stderr
    line = next(n for n, row in enumerate(path.read_text().split("\n"), 1) if row.endswith(item[1]))
    assert f"pixi.lock:{line}: " in said
    assert what in said


def test_commits_of_git_repositories(make_project: Any, solved: Project) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    more = {"name": "tool", "version": "'1'"}
    url = f"{GIT}?subdirectory=python%2Fa&tag=v1#{commit}"
    project = without_inputs(make_project)
    items = [*packages_of(solved), ("pypi", url, more)]
    project.write(pixi_lock({"default": items}), "pixi.lock")
    printed = project.json("lock", "--export", "requirements")["text"]
    assert f"tool @ {GIT}@{commit}#subdirectory=python/a\n" in printed


def several(names: str) -> str:
    rows = "".join(f"- {{name: {name}, subdir: linux-64}}\n" for name in names.split())
    head = f"platforms:\n- name: osx-arm64\n{rows}"
    item = ("conda", f"{CONDA}/x-1-0.conda", {"sha256": HASH})
    text = pixi_lock({"default": [item]}, 7, names.split()[0], head)
    more = "".join(f"      {name}:\n      - conda: {item[1]}\n" for name in names.split()[1:])
    return text.replace("packages:\n- conda", f"{more}packages:\n- conda", 1)


HOSTILE = [
    ("version: 6\nenvironments: &a [*a]\npackages: []\n", "anchors"),
    ("version: 6\nenvironments: !!python/object:os.system x\npackages: []\n", "anchors"),
    ("version: 6\npackages: " + "[" * 500_000, "nested"),
    ("version: 6\npackages:\n" + "- " * 5000 + "x\n", "nested"),
    ("version: 1000\nenvironments: {}\npackages: []\n", "version 1000"),
    ("version: 6\nenvironments: {}\npackages: {}\n", "sequence"),
    ("version: 6\nenvironments: {}\npackages: [3]\n", "not a lockfile"),
    ("version: 6\nenvironments: {}\npackages: []\n", "no environment `default`"),
    ("packages: [\n", "not a lockfile"),
    ("- x\n", "version"),
    ("", "version"),
    ("@EXPLICIT\nhttps://a.example/linux-64/x-1-0.conda\n", "Rename it to conda-linux-64.lock"),
    (pixi_lock({"default": []}, platform="win-64"), "not linux-64"),
    (several("cpu gpu"), "several platforms for linux-64: cpu, gpu"),
]


@pytest.mark.parametrize(("text", "what"), HOSTILE, ids=[what for _, what in HOSTILE])
def test_a_hostile_or_damaged_lockfile(make_project: Any, text: str, what: str) -> None:
    project = without_inputs(make_project)
    project.write(text, "pixi.lock")
    done = project.cnd("build", status=8)
    assert what in done.stderr
    assert "pixi.lock" in done.stderr


# Reads a tenth and the whole of a lock, and prints how many packages each has and how long it took.
READ = """\
import resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from condainer.lock.explicit import checked
from condainer.lock.rattler_lock import read
for path in map(Path, sys.argv[1:]):
    start = time.process_time()
    lock = read(path, "linux-64")
    print(len(checked(lock, "x").conda), time.process_time() - start)
"""


def test_100_000_lines_take_little_time_and_memory(tmp_path: Path) -> None:
    more = {"md5": "a" * 32, "depends": "\n  - __glibc >=2.17,<3.0.a0\n  - python", "size": "1"}
    items = [
        ("conda", f"{CONDA}/pkg{n}-1.0-0.conda", {"sha256": f"{n + 1:a>64x}", **more})
        for n in range(13_000)
    ]
    paths = []
    for packages in (1300, 13_000):
        paths.append(tmp_path / str(packages) / "pixi.lock")
        paths[-1].parent.mkdir()
        paths[-1].write_text(pixi_lock({"default": items[:packages]}))
    assert paths[-1].read_text().count("\n") > 100_000
    done = subprocess.run(
        [sys.executable, "-c", READ, *paths], capture_output=True, text=True, check=True
    )
    (few, short), (many, long) = (line.split() for line in done.stdout.splitlines())
    assert (int(few), int(many)) == (1300, 13_000)
    assert float(long) < 30 * float(short)
