"""Requirements from git repositories: pinned to a commit, built from it, and nothing secret."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conda_lock.conda_lock import render_lockfile_for_platform
from conda_lock.lockfile import parse_conda_lock_file

from tests.channel import serve
from tests.helpers.needed import needs_program
from tests.helpers.projects import PYTHON
from tests.helpers.repository import Repository

CODE = "import thing; print(thing.version)"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    needs_program("git")
    return Repository(tmp_path / "served" / "thing.git", "thing", "python/thing")


@pytest.fixture
def served(repository: Repository) -> Iterator[str]:
    """Serve the repositories beside it over http on loopback."""
    with serve(repository.path.parent) as server:
        yield f"git+{server.url}/thing.git/.git"


def test_a_tag_is_pinned_to_its_commit(
    make_project: Any, repository: Repository, served: str
) -> None:
    first = repository.commit("1.0", tag="stable")
    project = make_project(text=PYTHON)
    line = f"-e {served}@stable#egg=thing&subdirectory=python/thing"
    project.write(f"{line}\n", "requirements.txt")
    done = project.cnd("lock")
    assert "an image cannot be edited" in done.stderr
    assert "Built from source" in done.stderr
    locked = f"# pip thing @ {served}@{first}#subdirectory=python/thing"
    assert locked in project.lockfile.read_text().splitlines()
    assert "# built from source: thing" in project.lockfile.read_text()
    # The tag moves; the lock, and what is built from it, does not.
    repository.commit("2.0", tag="stable")
    built = project.json("build")
    assert project.cnd("exec", "python", "-c", CODE).stdout == "1.0\n"
    assert (built["hit"], built["locked"]) == (False, False)
    recipe = subprocess.run(
        ["unsquashfs", "-cat", built["image"], ".condainer/recipe"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"\nvcs thing commit {first} subdirectory=python/thing\n" in recipe
    assert "127.0.0.1" not in recipe
    manifest = json.loads(Path(built["image"]).with_name("manifest.json").read_text())
    assert manifest["built_from_source"] == ["thing"]
    shown = project.json("show", built["address"])
    assert {"kind": "pip", "name": "thing", "version": first[:12]}.items() <= next(
        package.items() for package in shown["packages"] if package["name"] == "thing"
    )
    project.cnd("lock", "--update", "thing")
    assert first not in project.lockfile.read_text()


def test_other_tools_find_it_in_conda_lock_yml(make_project: Any, repository: Repository) -> None:
    commit = repository.commit("1.0")
    url = f"git+file://{repository.path}"
    project = make_project(text=PYTHON)
    project.write(f"thing @ {url}#subdirectory=python/thing\n", "requirements.txt")
    locked = project.json("lock")
    content = yaml.safe_load((project.path / "conda-lock.yml").read_text())
    (entry,) = [item for item in content["package"] if item["name"] == "thing"]
    assert entry["url"] == f"{url}@{commit}#subdirectory=python/thing"
    assert entry["source"] == {"type": "url", "url": entry["url"]}
    assert entry["hash"] == {"sha256": commit}
    rendered = render_lockfile_for_platform(
        lockfile=parse_conda_lock_file(project.path / "conda-lock.yml"),
        include_dev_dependencies=False,
        extras=set(),
        kind="explicit",
        platform="linux-64",
    )
    assert f"# pip thing @ {entry['url']}" in rendered
    # Also without the explicit file, the lock is the same.
    project.lockfile.unlink()
    assert project.json("status")["address"] == locked["address"]


def test_where_it_is_served_does_not_matter(
    make_project: Any, repository: Repository, served: str
) -> None:
    repository.commit("1.0")
    addresses = set()
    for number, url in enumerate((f"git+file://{repository.path}", f"{served}")):
        project = make_project(f"p{number}", text=PYTHON)
        project.write(f"thing @ {url}#subdirectory=python/thing\n", "requirements.txt")
        addresses.add(project.json("lock")["address"])
    assert len(addresses) == 1


def test_a_reference_that_is_not_there(make_project: Any, repository: Repository) -> None:
    repository.commit("1.0")
    project = make_project(text=PYTHON)
    project.write(f"thing @ git+file://{repository.path}@no-such-tag\n", "requirements.txt")
    done = project.cnd("lock", status=4)
    assert "requirements.txt:1" in done.stderr
    assert "no-such-tag" in done.stderr


def test_submodules_are_refused_when_locking(
    make_project: Any, repository: Repository, served: str
) -> None:
    other = Repository(repository.path.parent / "other.git", "other")
    commit = other.commit("1.0")
    url = served.removeprefix("git+").replace("thing.git", "other.git")
    modules = f'[submodule "other"]\n\tpath = data\n\turl = {url}\n'
    (repository.path / ".gitmodules").write_text(modules)
    repository.git("add", ".gitmodules")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},data")
    (repository.path / "data").mkdir()
    repository.commit("1.0")
    project = make_project(text=PYTHON)
    project.write(f"thing @ {served}#subdirectory=python/thing\n", "requirements.txt")
    done = project.cnd("lock", status=4)
    assert "has Git submodules" in done.stderr
    assert not list(project.path.glob("conda-*"))


def test_without_git(make_project: Any, repository: Repository, tmp_path: Path) -> None:
    repository.commit("1.0")
    project = make_project(text=PYTHON)
    project.write(f"thing @ git+file://{repository.path}\n", "requirements.txt")
    (tmp_path / "empty").mkdir()
    done = project.cnd("lock", status=10, PATH=str(tmp_path / "empty"))
    assert "apt install git" in done.stderr
