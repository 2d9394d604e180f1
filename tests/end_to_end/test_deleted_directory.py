"""Commands whose working directory was deleted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.projects import Project

# `cnd umount --all` unmounts what other tests of the same user have mounted.
pytestmark = pytest.mark.xdist_group("accounts")

COMMANDS = (
    *(("status",), ("list",), ("build",), ("exec", "--", "true"), ("mount", "-p"), ("umount",)),
    *(("-y", "build"), ("-y", "exec", "true"), ("lock",), ("lock", "--check"), ("verify",)),
    *(("cache",), ("prereq",), ("gc", "--dry-run"), ("umount", "--all"), ("build", "--json")),
    *(("exec", "probe-prefix"), ("fetch",), ("version",)),
)


def gone(project: Project, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run cnd in a directory that is deleted first."""
    (tmp_path / "gone").mkdir()
    script = 'rmdir "$PWD"; exec "$0" -c "import condainer.__main__ as m; m.entry()" "$@"'
    # Not `-m`, for which Python itself looks at the working directory.
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, *arguments],
        cwd=tmp_path / "gone",
        env=project.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert "Errno" not in done.stderr
    assert "No such file" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode != 70, done.stderr
    return done


def test_an_absolute_project_is_all_that_is_needed(project: Project, tmp_path: Path) -> None:
    project.cnd("build")
    for command in COMMANDS:
        done = gone(project, tmp_path, "-d", str(project.path), *command)
        assert done.returncode == 0, f"{command}: {done.stderr}"


def test_a_build_from_nowhere(project: Project, tmp_path: Path) -> None:
    told = gone(project, tmp_path, "-d", str(project.path), "--set", "linger=0", "build")
    assert told.returncode == 0, told.stderr
    assert "Built" in told.stderr
    told = gone(project, tmp_path, "-d", str(project.path), "verify", "--rebuild")
    assert "identical" in told.stderr
    told = gone(project, tmp_path, "-d", str(project.path), "bundle", str(tmp_path / "bundled"))
    assert (tmp_path / "bundled").is_file(), told.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("exec", "true"),
        ("-d", "relative", "build"),
        ("-d", "PROJECT", "export", "ADDRESS", "file"),
        ("-d", "PROJECT", "import", "file"),
        ("-d", "PROJECT", "verify", "file"),
        ("-d", "PROJECT", "bundle", "file"),
        ("-d", "PROJECT", "--set", "staging_directory=here", "status"),
    ],
)
def test_what_is_relative_is_refused(
    project: Project, tmp_path: Path, words: tuple[str, ...]
) -> None:
    address = project.json("build")["address"]
    known = {"PROJECT": str(project.path), "ADDRESS": address}
    done = gone(project, tmp_path, *(known.get(word, word) for word in words))
    assert done.returncode == (125 if words[0] == "exec" else 3), done.stderr
    assert "The working directory does not exist any more" in done.stderr
    assert "-d" in done.stderr
