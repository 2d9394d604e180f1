"""Tools that want to write into an image: they are told what to do instead, or write elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from condainer import pipeline
from condainer.build import mark
from condainer.cache import one_file, verify
from condainer.lock.address import address_of
from condainer.lock.explicit import read_explicit
from condainer.pypi.wheels import find_uv
from condainer.settings.load import load_settings
from condainer.system import process
from condainer.system.machine import this_platform
from condainer.system.reporter import Silent
from tests.helpers.projects import Project

WITH_PIP = "dependencies: [python, pip, click]\n"


@pytest.fixture
def project(make_project: Any) -> Iterator[Project]:
    """A project with pip in its image, whose mount stays between commands."""
    made: Project = make_project(text=WITH_PIP)
    made.cnd("-q", "build")
    made.cnd("-q", "mount")
    yield made
    made.cnd("umount", "--force")


@pytest.fixture
def wheels(channel: Path) -> list[str]:
    """What lets pip find packages without a network."""
    return ["--no-index", "--find-links", str(channel.parent / "wheels")]


def words(text: str) -> str:
    """Return a text as one line: pip breaks its messages at the width of the terminal."""
    return " ".join(text.split())


def test_installing_into_an_image_is_explained(project: Project, wheels: list[str]) -> None:
    pip = ["exec", "--", "python", "-m", "pip", "--disable-pip-version-check"]
    install = ["install", *wheels, "six"]
    for arguments in (install, [*install, "--user"], ["uninstall", "-y", "click"]):
        done = project.cnd(*pip, *arguments, status=1)
        assert mark.REASON in words(done.stderr)
    uv = [find_uv(), "pip", "install", "--system", "--no-config", *wheels, "six"]
    done = project.cnd("exec", "--", *uv, status=2)
    assert mark.REASON in words(done.stderr)
    prefix = Path(project.json("status")["prefix"])
    # CEP 22: what conda prints, and refuses for.
    assert json.loads((prefix / "conda-meta" / "frozen").read_text()) == {"message": mark.REASON}
    assert "\n" not in mark.REASON


def test_packages_can_be_installed_on_top_of_an_image(
    project: Project, wheels: list[str], tmp_path: Path
) -> None:
    pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", *wheels]
    target = tmp_path / "tar get"
    project.cnd("exec", "--", "python", *pip, "--target", str(target), "six")
    shown = ["-c", "import six, click, sys; print(six.__file__); print(click.__file__)"]
    done = project.cnd("exec", "--", "python", *shown, PYTHONPATH=str(target))
    prefix = project.json("status")["prefix"]
    assert done.stdout.splitlines()[0] == str(target / "six.py")
    assert done.stdout.splitlines()[1].startswith(f"{prefix}/")

    top = tmp_path / "on top"
    make = ["-m", "venv", "--system-site-packages"]
    try:
        project.cnd("exec", "--", "python", *make, str(top))
    except AssertionError:
        # An interpreter that comes without pip's wheel, as the channel's does: the image's pip
        # is seen from the virtual environment.
        project.cnd("exec", "--", "python", *make, "--clear", "--without-pip", str(top))
    python = str(top / "bin" / "python")
    # Also for a program of the virtual environment itself, outside of `cnd exec`, while mounted.
    subprocess.run([python, *pip, "six"], env=project.environment, check=True)
    done = project.cnd("exec", "--", python, *shown)
    assert done.stdout.splitlines()[0].startswith(f"{top}/lib/")
    assert done.stdout.splitlines()[1].startswith(f"{prefix}/")


def test_images_of_the_first_recipe_stay_valid(make_project: Any, tmp_path: Path) -> None:
    project: Project = make_project(text="dependencies: [python, probe-prefix]\n")
    project.cnd("-q", "build")
    base = project.environment["CONDAINER_MOUNT_BASE"]
    values = [f"cache_directory={project.cache}", f"mount_base_directory={base}"]
    values.append(f"package_cache={project.environment['CONDAINER_PACKAGE_CACHE']}")
    settings = load_settings(project.path, [*values, f"staging_directory={tmp_path}"])
    lock = read_explicit(project.lockfile, this_platform())
    old, _ = pipeline.build(lock, address_of(lock, Path(base), 1), settings, Silent())
    assert old.manifest.tools["recipe"] == "1"
    verdict = verify.verify_entry(old.directory, settings, Silent())
    assert verdict.problems == ()
    assert verdict.address == address_of(lock, Path(base), 1).digest
    rebuilt = project.json("verify", old.address, "--rebuild")
    assert (rebuilt["ok"], rebuilt["rebuild"]) == (True, "identical")
    new = project.json("status")["image"]
    listed = [process.run(["unsquashfs", "-l", str(p)]).stdout for p in (old.image, new)]
    for name in ("EXTERNALLY-MANAGED", "conda-meta/frozen"):
        assert [name in text for text in listed] == [False, True]
    exported = tmp_path / "exported"
    with exported.open("wb") as target:
        one_file.write(old, target, Silent())
    os.rename(old.directory, tmp_path / "away")
    assert project.json("import", str(exported))["address"] == old.address
