"""Byte code from the package cache: the same images, whatever is or is not in it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from condainer.cache.squashfs import tree_digest, unpack, unsquashfs
from condainer.settings.load import load_settings
from tests.helpers.needed import needs_program
from tests.helpers.projects import SMALL, Project
from tests.helpers.repository import BACKEND, Repository

pytestmark = pytest.mark.long

ENVIRONMENT = "dependencies: [python, six, click]\n"


def built(project: Project, base: str = "") -> str:
    """Build anew, and return the image's sha256."""
    shutil.rmtree(project.cache, ignore_errors=True)
    more = {"CONDAINER_MOUNT_BASE": base} if base else {}
    return str(project.json("build", **more)["sha256"])


def test_images_do_not_show_what_was_kept(make_project: Any, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    project = make_project("project", ENVIRONMENT, CONDAINER_PACKAGE_CACHE=str(packages))
    project.write("tabulate\n", "requirements.txt")
    first = built(project)
    kept = sorted(packages.glob("compiled/*/*"), key=lambda path: path.stat().st_size)
    # Of every package, that of the wheel included.
    assert len(kept) == 4
    for number, path in enumerate(kept[:3]):
        content = path.read_bytes()
        middle = len(content) // 2
        broken = [b"", content[:middle], content[:middle] + b"?" + content[middle + 1 :]][number]
        path.write_bytes(broken)
    times = [path.stat().st_mtime_ns for path in kept]
    assert built(project) == first
    # What was damaged is kept anew, and nothing else.
    now = [path.stat().st_mtime_ns for path in kept]
    assert [a == b for a, b in zip(times, now, strict=True)] == [False, False, False, True]
    # Kept for one prefix, used for another, which has another length.
    longer = str(tmp_path / "a base with a longer name")
    elsewhere = built(project, longer)
    assert elsewhere != first
    shutil.rmtree(packages / "compiled")
    assert built(project, longer) == elsewhere


def test_digests_that_were_not_taken_anew_are_true(make_project: Any, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    project = make_project("project", ENVIRONMENT, CONDAINER_PACKAGE_CACHE=str(packages))
    # It replaces files of a conda package, which the engine has compared with that package.
    project.write("click==8.1.8\n", "requirements.txt")
    first = built(project)
    assert built(project) == first
    image = Path(project.json("build")["image"])
    manifest = json.loads((image.parent / "manifest.json").read_text())
    unpack(unsquashfs(load_settings(tmp_path, environ={})), image, tmp_path / "tree")
    assert tree_digest(tmp_path / "tree") == manifest["tree_sha256"]


def test_a_source_that_pip_replaced_is_compiled(
    make_project: Any, tmp_path: Path, package_cache: Path
) -> None:
    built(make_project("plain", ENVIRONMENT))
    project = make_project("project", ENVIRONMENT)
    # Another version than that of the conda package, at the same paths.
    project.write("click==8.1.8\n", "requirements.txt")
    first = built(project)
    code = (
        "import click, importlib.util; from pathlib import Path; "
        "path = Path(importlib.util.cache_from_source(click.__file__)); "
        "want = importlib.util.source_hash(Path(click.__file__).read_bytes()); "
        "print(click.__version__, path.read_bytes()[8:16] == want)"
    )
    assert project.cnd("exec", "--", "python", "-c", code).stdout == "8.1.8 True\n"
    project.cnd("umount", "--force")
    project.environment["CONDAINER_PACKAGE_CACHE"] = str(tmp_path / "other packages")
    assert built(project) == first


def test_linked_files_leave_the_package_cache_as_it_is(make_project: Any, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    project = make_project("project", SMALL, CONDAINER_PACKAGE_CACHE=str(packages))
    first = built(project)

    def state() -> dict[Path, tuple[int, int, bytes]]:
        files = (p for p in packages.rglob("*") if p.is_file() and not p.is_symlink())
        return {p: (p.stat().st_ino, p.stat().st_mode, p.read_bytes()) for p in files}

    odd = next(path for path in state() if "share" in path.parts)
    odd.chmod(0o600)
    before = state()
    assert built(project) == first
    assert state() == before
    # Nothing of the prefix is left that they are linked to.
    assert {os.stat(path).st_nlink for path in before} == {1}


# What careless build backends do: to change a file of the interpreter that runs them.
WRITING = """
import sys
from pathlib import Path

(target,) = Path(sys.base_prefix).glob("lib/python3*/site-packages/six.py")
with target.open("a") as stream:
    stream.write("BROKEN = True\\n")
"""


def test_what_builds_from_source_cannot_write_into_the_package_cache(
    make_project: Any, tmp_path: Path
) -> None:
    needs_program("git")
    packages = tmp_path / "packages"
    repository = Repository(tmp_path / "thing", "thing")
    (repository.package / "backend.py").write_text(BACKEND.format(name="thing") + WRITING)
    repository.commit("1.0")
    project = make_project(text=ENVIRONMENT, CONDAINER_PACKAGE_CACHE=str(packages))
    project.write(f"thing @ git+file://{repository.path}\n", "requirements.txt")
    project.cnd("build")
    code = "import six, thing; print(hasattr(six, 'BROKEN'), thing.version)"
    assert project.cnd("exec", "--", "python", "-c", code).stdout == "True 1.0\n"
    (kept,) = packages.rglob("six.py")
    assert "BROKEN" not in kept.read_text()


def test_what_pip_replaced_in_the_first_build_is_kept_by_another(
    make_project: Any, tmp_path: Path
) -> None:
    packages = tmp_path / "packages"
    project = make_project("project", ENVIRONMENT, CONDAINER_PACKAGE_CACHE=str(packages))
    project.write("click==8.1.8\n", "requirements.txt")
    built(project)
    (project.path / "requirements.txt").unlink()

    def sizes() -> list[int]:
        return sorted(path.stat().st_size for path in packages.glob("compiled/*/*"))

    before = sizes()
    built(project)
    grown = sizes()
    assert sum(grown) > sum(before) + 50_000
    times = {path: path.stat().st_mtime_ns for path in packages.glob("compiled/*/*")}
    built(project)
    assert {p: p.stat().st_mtime_ns for p in packages.glob("compiled/*/*")} == times
