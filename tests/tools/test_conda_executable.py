"""The conda that the tests use is a real one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conda_executable import conda_missing, write_installer
from tests.helpers.needed import needs


@pytest.fixture(scope="module")
def installer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installer, where conda can run."""
    if problem := conda_missing():
        needs(problem)
    return write_installer(tmp_path_factory.mktemp("installer") / "Miniforge3.sh")


def test_the_installer_installs_a_conda_as_miniforges_does(installer: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "engine"
    command = ["bash", str(installer), "-b", "-p", str(prefix)]
    subprocess.run(command, check=True, capture_output=True)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "already exists" in again.stderr
    subprocess.run([*command, "-f"], check=True, capture_output=True)
    done = subprocess.run(
        [prefix / "bin" / "conda", "info", "--json"], capture_output=True, text=True, check=True
    )
    info = json.loads(done.stdout)
    assert info["conda_version"] == "24.7.1"
    assert info["root_prefix"] == str(prefix)


def test_the_installer_refuses_what_miniforges_refuses(installer: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(installer), "-b", "-p", str(tmp_path / "a b")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "spaces" in done.stderr
