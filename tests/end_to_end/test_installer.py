"""An installer like Miniforge's is run once, whoever is interrupted and whoever else comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from condainer.settings.config import user_cache
from condainer.solve.external import installer
from condainer.system.errors import BuildError, CondainerError, StorageError, ToolError
from condainer.system.reporter import Silent
from tests.conda_executable import conda_missing, write_installer
from tests.helpers.needed import needs
from tests.helpers.projects import Project
from tests.helpers.waiting import until

# An installer that says when it begins, and waits to be told to go on.
SLOW = """\
echo begun >> "{place}/runs"
mkdir -p "$4/bin"
while [ -e "{place}/wait" ]; do sleep 0.05; done
echo whole > "$4/bin/conda"
"""


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/bash\n{text}\n")
    return path


def slow(place: Path) -> Path:
    (place / "runs").touch()
    return script(place / "slow.sh", SLOW.format(place=place))


def runs(place: Path) -> int:
    return len((place / "runs").read_text().splitlines())


def start(path: Path, patience: float = installer.PATIENCE) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; "
        "from condainer.solve.external import installer; "
        "from condainer.system import reporter as report; "
        "installer.PATIENCE = float(sys.argv[2]); "
        "print(installer.installed(Path(sys.argv[1]), report.Silent()))"
    )
    command = [sys.executable, "-c", code, str(path), str(patience)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def remains(path: Path) -> list[str]:
    """Return what stands beside a whole installation."""
    found = installer.found(path)
    assert found is not None
    names = (item.name for item in found.parent.iterdir())
    return sorted(name for name in names if name not in (found.name, "complete", "lock"))


def test_a_build_with_an_installer_is_the_embedded_ones(
    base: Path, make_project: Any, tmp_path: Path, isolated_user: Path
) -> None:
    if problem := conda_missing():
        needs(problem)
    miniforge = write_installer(tmp_path / "Miniforge3.sh")
    project: Project = make_project(
        text="dependencies: [probe-files]\n", CONDAINER_MOUNT_BASE=str(base)
    )
    first = project.json("build")
    shown = project.cnd("prereq", CONDAINER_INSTALLER=str(miniforge)).stdout
    assert f"conda of {miniforge}, which the first use installs" in shown
    project.lockfile.unlink()
    (project.path / "conda-lock.yml").unlink()
    project.environment["CONDAINER_INSTALLER"] = str(miniforge)
    second = project.json("build", CONDAINER_CACHE=str(tmp_path / "another"))
    assert not second["hit"]
    assert (second["address"], second["sha256"]) == (first["address"], first["sha256"])
    place = installer.found(miniforge)
    assert place is not None
    assert place.is_relative_to(isolated_user / ".cache" / "condainer" / "engines")
    assert f"{place}/bin/conda (conda 24.7.1)" in project.cnd("prereq").stdout
    assert not remains(miniforge)
    assert sorted(path.name for path in isolated_user.iterdir()) == [".cache"]


def test_several_processes_run_it_once(tmp_path: Path) -> None:
    path = slow(tmp_path)
    processes = [start(path) for _ in range(3)]
    said = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert said == {f"{installer.found(path)}\n"}
    assert runs(tmp_path) == 1
    assert not remains(path)


def test_without_locks_the_first_to_finish_is_used_by_all(tmp_path: Path) -> None:
    path = slow(tmp_path)
    (tmp_path / "wait").touch()
    # As where a file system has no locks: nobody waits for another.
    both = [start(path, patience=0.0) for _ in range(2)]
    until(lambda: runs(tmp_path) == 2)
    (tmp_path / "wait").unlink()
    said = {process.communicate()[0] for process in both}
    assert said == {f"{installer.found(path)}\n"}
    assert not remains(path)


def test_what_a_killed_process_left_is_cleaned_and_not_used(tmp_path: Path) -> None:
    path = slow(tmp_path)
    (tmp_path / "wait").touch()
    victim = start(path)
    until(lambda: runs(tmp_path) == 1)
    home = next((user_cache() / "engines").iterdir())
    until(lambda: list(home.glob("*/bin")))
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert installer.found(path) is None
    (tmp_path / "wait").unlink()
    place = installer.installed(path, Silent())
    assert (place / "bin" / "conda").read_text() == "whole\n"
    assert runs(tmp_path) == 2
    assert not remains(path)


def test_a_purged_installation_is_made_anew(tmp_path: Path) -> None:
    path = slow(tmp_path)
    first = installer.installed(path, Silent())
    subprocess.run(["rm", "-r", first], check=True)
    assert installer.found(path) is None
    second = installer.installed(path, Silent())
    assert second != first
    assert runs(tmp_path) == 2


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ('echo "no space for me" >&2; exit 1', BuildError, "no space for me"),
        ("exit 0", BuildError, "installed nothing"),
        (None, ToolError, "cannot be read"),
    ],
)
def test_an_installer_that_fails(
    tmp_path: Path, text: str | None, kind: type[CondainerError], said: str
) -> None:
    path = tmp_path / "installer.sh"
    if text is not None:
        script(path, text)
    with pytest.raises(kind, match=said):
        installer.installed(path, Silent())
    homes = (user_cache() / "engines").glob("*")
    assert [item.name for home in homes for item in home.iterdir()] in ([], ["lock"])


def test_a_place_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    path = slow(tmp_path)
    installer.installed(path, Silent())
    os.chmod(user_cache() / "engines", 0o777)
    with pytest.raises(StorageError, match="only you can write"):
        installer.installed(path, Silent())


def test_the_installers_environment_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated_user: Path
) -> None:
    monkeypatch.setenv("CONDA_PREFIX", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    path = script(tmp_path / "i.sh", 'mkdir -p "$4/bin"; env > "$4/bin/conda"; touch ~/.bashrc')
    said = (installer.installed(path, Silent()) / "bin" / "conda").read_text()
    assert "/nowhere" not in said
    assert f"HOME={isolated_user}\n" not in said
    assert not (isolated_user / ".bashrc").exists()
