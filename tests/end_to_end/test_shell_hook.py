"""`cnd shell-hook`: by direnv in a real terminal, and evaluated in each shell."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.helpers.needed import needs_program
from tests.helpers.projects import Project, mounted, prefix_of
from tests.helpers.terminals import terminal
from tests.helpers.waiting import wait_until

EVALUATED = {
    "bash": 'eval "$(cnd shell-hook)"',
    "zsh": 'eval "$(cnd shell-hook zsh)"',
    "fish": "cnd shell-hook fish | source",
}


@pytest.fixture
def built(project: Project) -> Project:
    project.cnd("-q", "build")
    return project


@pytest.mark.parametrize("shell", EVALUATED)
def test_a_shell_evaluates_it(built: Project, shell: str) -> None:
    needs_program(shell)
    prefix = prefix_of(built)
    text = f"""{EVALUATED[shell]}
probe-prefix
printf '%s\\n' "$GREETING" "$CONDA_PREFIX" "$PROBE_ACTIVE"
cd /
sleep 0.5
probe-prefix
"""
    done = built.bash(text, shell)
    expected = [str(prefix), "hello", str(prefix), str(prefix), str(prefix)]
    assert done.stdout.splitlines() == expected, done.stderr
    assert done.stderr == ""
    assert wait_until(lambda: not mounted(prefix))


def test_direnv(built: Project) -> None:
    needs_program("direnv")
    prefix, home = prefix_of(built), built.path.parent
    (built.path / ".envrc").write_text('eval "$(cnd shell-hook)"\n')
    built.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    built.environment["XDG_DATA_HOME"] = str(home / "data")
    with terminal(built, "bash", "--norc", "--noprofile", "-i") as screen:
        screen.type("PS1='mine> '\n")
        screen.wait_for(r"\smine> ")
        screen.type('eval "$(direnv hook bash)"; direnv allow\n')
        screen.wait_for(r"direnv: export \S*.*CONDA")
        screen.type("printf '%s-%s\\n' said $GREETING; probe-prefix\n")
        screen.wait_for(rf"said-hello\s+{prefix}\s")
        # The next build is used without a word of the user.
        screen.type('sed -i s/hello/changed/ environment.yml; cnd -q build && echo bu""ilt\n')
        screen.wait_for(r"built\s")
        screen.type("true\n")
        screen.wait_for(r"direnv: export")
        screen.type("printf '%s-%s\\n' said $GREETING; probe-prefix\n")
        second = prefix_of(built)
        screen.wait_for(rf"said-changed\s+{second}\s")
        screen.type("cd /\n")
        screen.wait_for("direnv: unloading")
        screen.type('printf \'%s-%s-%s\\n\' said "$GREETING" "$CONDA_PREFIX"\n')
        screen.wait_for(r"said--\s")
        screen.type("exit\n")
        screen.end()
    for place in (prefix, second):
        assert wait_until(lambda place=place: not mounted(place))


def test_without_an_image_nothing_is_printed(project: Project) -> None:
    done = project.cnd("shell-hook", status=15)
    assert done.stdout == ""
    assert "`cnd build`" in done.stderr


def test_an_image_that_is_named_is_not_held_to_the_project(built: Project) -> None:
    built.cnd("tag", "tools/1.0")
    (built.path / "environment.yml").unlink()
    done = built.cnd("shell-hook", "--env", "tools/1.0")
    assert done.stderr == ""
    assert "export GREETING=hello\n" in done.stdout
    built.cnd("umount", "--env", "tools/1.0", "--force")


def test_a_changed_environment_is_told(built: Project) -> None:
    text = (built.path / "environment.yml").read_text()
    built.write(text.replace("hello", "changed"))
    done = built.cnd("shell-hook")
    assert "environment.yml changed since it was locked" in done.stderr
    assert "export GREETING=hello\n" in done.stdout
    built.cnd("umount", "--force")
