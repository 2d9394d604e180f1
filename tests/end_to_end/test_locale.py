"""Locales whose encoding is not UTF-8, which old accounts and job scripts still set."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

LATIN = "en_US.ISO-8859-1"
# Python takes neither of the last two for UTF-8, as it mostly does with C.
LOCALES: dict[str, dict[str, str]] = {
    "latin": {"LANG": LATIN},
    "c": {"LC_ALL": "C", "PYTHONUTF8": "0"},
    "none": {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}
TEXT = "name: probes\ndependencies: [probe-files, probe-prefix]\n"
NAMES = ("LANG", "LC_ALL", "LC_CTYPE", "LOCPATH", "PYTHONUTF8", "PYTHONCOERCECLOCALE")


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of locales with one in ISO-8859-1, made as a system makes its own."""
    path = tmp_path_factory.mktemp("locales")
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(path / LATIN)]
    subprocess.run(command, check=True)
    said = subprocess.run(
        ["locale", "charmap"],
        env={"PATH": os.environ["PATH"], "LOCPATH": str(path), "LANG": LATIN},
        check=True,
        capture_output=True,
    )
    assert said.stdout == b"ISO-8859-1\n"
    return path


@pytest.mark.parametrize("kind", LOCALES)
def test_a_locale_changes_nothing(
    make_project: Any, tmp_path: Path, locales: Path, kind: str
) -> None:
    usual = make_project("usual", TEXT)
    wanted = usual.json("build")
    # Neither UTF-8 nor ASCII.
    name = os.fsdecode("größe".encode("latin-1"))
    project = make_project(name, TEXT, CONDAINER_CACHE=str(tmp_path / "other"))
    for variable in NAMES:
        project.environment.pop(variable, None)
    project.environment |= {"LOCPATH": str(locales), **LOCALES[kind]}
    built = project.json("build")
    assert (built["hit"], built["sha256"]) == (False, wanted["sha256"])
    assert project.lockfile.read_bytes() == usual.lockfile.read_bytes()
    assert project.cnd("build").stderr.startswith("Found ")
    assert project.json("status")["project"] == str(project.path)
    project.cnd("verify")
    given = {n: project.environment[n] for n in NAMES if n in project.environment}
    for command in (("exec",), ("-d", str(project.path), "exec", "--")):
        text = project.cnd(*command, "env").stdout
        seen = dict(line.split("=", 1) for line in text.splitlines())
        assert {n: seen[n] for n in NAMES if n in seen} == given
    found = project.cnd("exec", "sh", "-c", 'ls "$CONDA_PREFIX/share/probe files"', LC_ALL="C")
    assert "größe" in found.stdout
    listed = 'ls "$CONDA_PREFIX/share/probe files"; echo "${LANG-}"'
    done = project.bash(f"source ./activate && {listed}; source deactivate")
    assert not done.returncode, done.stderr
    assert "größe" in done.stdout
    assert given.get("LANG", "") == done.stdout.splitlines()[-1]
