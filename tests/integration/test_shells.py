"""Images in real shells."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.integration.conftest import Project
from tests.integration.test_run import prefix_of

SHELLS = {
    "bash": ("bash", "source activate", "source deactivate", "$?"),
    "zsh": ("zsh", "source activate", "source deactivate", "$?"),
    "fish": ("fish", "source activate.fish", "deactivate", "$status"),
    "tcsh": ("tcsh", "source activate.csh", "deactivate", "$status"),
}


def needs(program: str) -> None:
    if shutil.which(program) is None:
        assert not os.environ.get("CI"), f"{program} is needed"
        pytest.skip(f"{program} is not installed")


@pytest.fixture
def built(project: Project) -> Project:
    """A small project whose image is built."""
    project.cnd("-q", "build")
    return project


@pytest.mark.parametrize(("shell", "enter", "leave", "status"), SHELLS.values(), ids=SHELLS)
def test_activation_in_every_shell(
    built: Project, shell: str, enter: str, leave: str, status: str
) -> None:
    needs(shell)
    prefix = str(prefix_of(built))
    built.environment["HOME"] = str(built.path.parent)
    text = f"""{enter}
printf '%s\\n' {status} "$GREETING" "$PROBE_ACTIVE"
probe-prefix
cnd -q umount --force
# The command is gone, and not that of another mount; `cnd exec` mounts what it needs.
probe-prefix
test {status} -eq 0; echo "found {status}"
cnd exec probe-prefix
# The environment can be left without its image, and entered again.
{leave}
echo "left {status}"
/usr/bin/env
{enter}
probe-prefix
{leave}
"""
    done = built.bash(text, shell)
    lines = done.stdout.splitlines()
    found = ["0", "hello", prefix, prefix, "found 1", prefix, "left 0"]
    # The image is not there to undo what its own activation scripts did.
    rest = lines[len(found) :]
    assert (lines[: len(found)], rest[-1]) == (found, prefix), done.stderr
    left = [line for line in rest if not line.startswith(("PROBE_ACTIVE=", "PWD="))]
    for gone in (f"{prefix}/bin", "CONDA_PREFIX", "GREETING", "__CONDAINER", "NUMBA_CACHE_DIR"):
        assert gone not in "\n".join(left[:-1])
    built.cnd("umount", "--force")


def test_user_site_is_configurable(built: Project) -> None:
    done = built.cnd("exec", "env")
    assert "PYTHONNOUSERSITE=1\n" in done.stdout
    built.write("user_site: true\n", "condainer.yml")
    assert "PYTHONNOUSERSITE" not in built.cnd("exec", "env").stdout
    built.cnd("-q", "build")
    for name in ("activate", "activate.fish", "activate.csh"):
        assert "PYTHONNOUSERSITE" not in (built.path / name).read_text()


def test_files_of_others_are_left_alone(built: Project) -> None:
    ours = ("activate", "deactivate", "activate.fish", "activate.csh", "deactivate.csh")
    for name in ours:
        (built.path / name).write_text("mine\n")
    warned = built.cnd("build").stderr
    for name in ours:
        assert (built.path / name).read_text() == "mine\n"
        assert f"/{name} is not Condainer's" in warned
