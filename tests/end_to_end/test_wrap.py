"""Wrappers: programs of an image that run by their names, from wherever they are called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.projects import PYTHON, Project, mounted
from tests.helpers.waiting import wait_until

OTHER = "dependencies: [probe-prefix, probe-old]\n"
BARE = "/usr/local/bin:/usr/bin:/bin"


def run(*argv: str | Path, cwd: Path = Path("/"), **variables: Any) -> str:
    """Run a command without anything of the project's environment, and return what it prints."""
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={"PATH": BARE, "HOME": os.environ["HOME"], **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def wrapped(project: Project, tmp_path: Path) -> Path:
    """The directory for PATH, of a small image."""
    project.cnd("build")
    told = project.cnd("wrap", "../tools").stderr
    assert told.endswith(f"wrappers into {tmp_path}/tools/bin\n")
    return tmp_path / "tools/bin"


@pytest.fixture
def python(make_project: Any, tmp_path: Path) -> Path:
    """The wrapper of an image's Python."""
    project: Project = make_project(text=PYTHON)
    project.cnd("build")
    project.cnd("wrap", str(tmp_path / "tools"))
    return tmp_path / "tools/bin/python"


def test_a_program_runs_from_anywhere(project: Project, wrapped: Path) -> None:
    prefix = Path(project.json("status")["prefix"])
    assert run("probe-prefix", PATH=f"{wrapped}:{BARE}") == f"{prefix}\n"
    assert wait_until(lambda: not mounted(prefix))
    # All variables reach it, also those of which other shells drop the names.
    report = project.json("wrap", str(wrapped.parent))
    assert report["path"] == str(wrapped)
    assert "probe-prefix" in report["programs"]
    assert set(os.listdir(wrapped)) == {*report["programs"]}


def test_a_program_gets_words_and_variables_as_they_are(python: Path, tmp_path: Path) -> None:
    script = "import os, sys; print(sys.argv[1:], os.environ['odd.name'], os.environ['BASH_ENV'])"
    sourced = tmp_path / "sourced"
    sourced.write_text("echo sourced\n")
    given: dict[str, Any] = {"odd.name": "kept", "BASH_ENV": str(sourced)}
    words = ["two words", "", "$HOME", "'"]
    assert run(python, "-c", script, *words, **given) == f"{words} kept {sourced}\n"


def test_an_active_image_is_used_without_a_second_mount(project: Project, wrapped: Path) -> None:
    prefix = project.json("status")["prefix"]
    program = (wrapped / "probe-prefix").resolve()
    # Whatever needs `cnd` would fail.
    program.write_text(program.read_text().replace("/cnd ", "/no-cnd "))
    assert project.cnd("exec", "--", str(program)).stdout == f"{prefix}\n"
    assert subprocess.run([program], capture_output=True).returncode == 127


def test_python_is_a_stable_interpreter(python: Path, tmp_path: Path) -> None:
    prefix = json.loads(
        run(python, "-c", "import json, os; print(json.dumps(os.environ['CONDA_PREFIX']))")
    )
    # What editors ask an interpreter for.
    asked = (
        "import json, sys; print(json.dumps([sys.executable, sys.prefix, sys.version_info[:2]]))"
    )
    executable, own, version = json.loads(run(python, "-I", "-c", asked))
    assert wait_until(lambda: not mounted(Path(prefix)))
    assert Path(executable).read_text().startswith("#!")
    assert json.loads(run(executable, "-c", asked)) == [executable, own, version]
    assert (python.parent / f"python{version[0]}.{version[1]}").exists()
    script = tmp_path / "spawn.py"
    script.write_text(
        "import multiprocessing, sys, click\n"
        "def which(_): return sys.executable\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(2) as pool:\n"
        "        print(*pool.map(which, range(2)))\n"
    )
    assert run(python, script) == f"{executable} {executable}\n"


@pytest.mark.parametrize("maker", ["venv", "uv"])
def test_virtual_environments_live_on_without_the_mount(
    python: Path, tmp_path: Path, maker: str
) -> None:
    environment = tmp_path / "made"
    if maker == "venv":
        run(python, "-m", "venv", "--without-pip", "--system-site-packages", environment)
    else:
        uv = Path(sys.executable).with_name("uv")
        run(uv, "--offline", "venv", "--system-site-packages", "--python", python, environment)
    (environment / "bin/tool").write_text(
        f"#!{environment}/bin/python\nimport sys, click\nprint(sys.prefix)\n"
    )
    (environment / "bin/tool").chmod(0o755)
    script = "import sys; print(sys.prefix, sys.executable)"
    assert (
        run(environment / "bin/python", "-c", script) == f"{environment} {environment}/bin/python\n"
    )
    assert (
        run("bin/python3", "-c", script, cwd=environment)
        == f"{environment} {environment}/bin/python3\n"
    )
    assert run(environment / "bin/tool") == f"{environment}\n"


def test_some_programs_only(project: Project, wrapped: Path) -> None:
    assert len(os.listdir(wrapped)) > 1
    project.cnd("wrap", "../tools", "--only", "probe-prefix")
    assert os.listdir(wrapped) == ["probe-prefix"]
    told = project.cnd("wrap", "../tools", "--only", "probe-prefix,absent", status=4).stderr
    assert "has no program absent" in told
    assert "probe-prefix" in told


def test_wrappers_move_at_once_and_leave_with_their_image(
    project: Project, wrapped: Path, tmp_path: Path
) -> None:
    first = project.json("status")["address"]
    old = (wrapped / "probe-prefix").resolve()
    project.write(OTHER)
    project.cnd("build")
    # Pinned: a build alone changes nothing.
    assert first in run(wrapped / "probe-prefix")
    project.cnd("wrap", "../tools")
    second = project.json("status")["address"]
    assert second in run(wrapped / "probe-prefix")
    assert first in run(old)
    project.cnd("rm", "--force", first)
    told = subprocess.run([old], capture_output=True, text=True)
    assert told.returncode == 125
    assert first in told.stderr
    assert f"Removed those of {first}" in project.cnd("wrap", "../tools").stderr
    assert not old.exists()


def test_wrappers_of_a_name(project: Project, wrapped: Path, tmp_path: Path) -> None:
    project.cnd("tag", "tools/1.0")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = Project(elsewhere, project.environment)
    other.cnd("wrap", "shared", "--env", "tools/1.0")
    expected = run(wrapped / "probe-prefix")
    assert run(elsewhere / "shared/bin/probe-prefix") == expected


def test_the_image_of_commands_is_not_that_of_wrappers(project: Project, wrapped: Path) -> None:
    written = (wrapped / "probe-prefix").read_text()
    assert f"-d {project.path} " in written
    project.cnd("tag", "tools/1.0")
    project.cnd("wrap", "../tools", CONDAINER_ENV="tools/1.0")
    assert (wrapped / "probe-prefix").read_text() == written


def test_what_is_not_ours_stays(project: Project, tmp_path: Path) -> None:
    project.cnd("build")
    (tmp_path / "own/bin").mkdir(parents=True)
    (tmp_path / "own/bin/tool").touch()
    assert "not from `cnd wrap`" in project.cnd("wrap", "../own", status=3).stderr
    # A link that somebody has put there leads nowhere else.
    address = project.json("status")["address"]
    (tmp_path / "linked/.condainer-wrappers" / address).mkdir(parents=True)
    (tmp_path / "linked/.condainer-wrappers" / address / "bin").symlink_to(tmp_path / "own/bin")
    assert "leads elsewhere" in project.cnd("wrap", "../linked", status=3).stderr
    assert os.listdir(tmp_path / "own/bin") == ["tool"]
    # A link in the place of a script is replaced, and not what it leads to.
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "third/.condainer-wrappers" / address / "bin").mkdir(parents=True)
    program = tmp_path / "third/.condainer-wrappers" / address / "bin/probe-prefix"
    program.symlink_to(victim)
    project.cnd("wrap", "../third")
    assert victim.read_text() == "mine"
    assert not program.is_symlink()


def test_a_planted_directory_is_not_taken_for_the_image(project: Project, wrapped: Path) -> None:
    status = project.json("status")
    prefix = Path(status["prefix"])
    assert wait_until(lambda: not prefix.exists())
    (prefix / "bin").mkdir(parents=True)
    (prefix / ".condainer").mkdir()
    (prefix / ".condainer/address").write_text(f"{status['address']}\n")
    (prefix / "bin/probe-prefix").write_text("#!/bin/sh\necho planted\n")
    (prefix / "bin/probe-prefix").chmod(0o755)
    said = run(wrapped / "probe-prefix", CONDAINER_ADDRESS=status["address"])
    assert said == f"{prefix}\n"
    shutil.rmtree(prefix)


def test_a_build_keeps_the_wrappers_of_its_project(project: Project, tmp_path: Path) -> None:
    project.write("wrappers: tools\n", "condainer.yml")
    program = project.path / "tools/bin/probe-prefix"
    assert f"wrappers into {program.parent}" in project.cnd("build").stderr
    assert "wrappers" not in project.cnd("build").stderr
    first = run(program)
    program.parent.unlink()
    project.cnd("build")
    assert run(program) == first
    # Any of them is mended, not only the first one.
    names = sorted(path.name for path in program.parent.iterdir())
    assert len(names) > 1
    for name in (names[0], names[-1]):
        text = (program.parent / name).read_text()
        (program.parent / name).unlink()
        assert "wrappers" in project.cnd("build").stderr
        (program.parent / name).write_text("exit 7\n")
        assert "wrappers" in project.cnd("build").stderr
        assert (program.parent / name).read_text() == text
    assert "wrappers" not in project.cnd("build").stderr
    project.write(OTHER)
    project.cnd("build")
    assert run(program) not in ("", first)


@pytest.mark.parametrize("place", ["../out", "/tmp/out", "link/out"])
def test_a_project_writes_no_wrappers_outside(project: Project, tmp_path: Path, place: str) -> None:
    (project.path / "link").symlink_to(tmp_path)
    project.write(f"wrappers: {place}\n", "condainer.yml")
    assert "outside of the project" in project.cnd("build", status=3).stderr
    assert not list(project.path.glob("*.lock"))


@pytest.mark.parametrize("path", ["{0}", "{0}/", "{0}:{0}", "{1}"])
def test_wrappers_of_what_mounts_are_not_taken_for_it(
    make_project: Any, tmp_path: Path, path: str
) -> None:
    text = "dependencies: [probe-prefix, squashfuse, squashfs-tools]\n"
    project: Project = make_project(text=text)
    project.cnd("build")
    project.cnd("wrap", str(tmp_path / "tools"))
    assert "squashfuse" in os.listdir(tmp_path / "tools/bin")
    (tmp_path / "link").symlink_to(tmp_path / "tools/bin")
    first = f"{path.format(tmp_path / 'tools/bin', tmp_path / 'link')}:{BARE}"
    prefix = Path(project.json("status")["prefix"])
    assert run("probe-prefix", PATH=first, CONDAINER_MOUNT="direct") == f"{prefix}\n"
    assert wait_until(lambda: not mounted(prefix))
    done = project.cnd("exec", "--", "probe-prefix", PATH=first, CONDAINER_MOUNT="direct")
    assert done.stdout == f"{prefix}\n"


def test_a_wrapper_needs_no_other_program(project: Project, wrapped: Path) -> None:
    """One of these could be a wrapper, too, and need itself."""
    for name in ("grep", "cat", "env", "rm"):
        (wrapped / name).write_text("#!/bin/sh\necho called >&2\nexit 9\n")
        (wrapped / name).chmod(0o755)
    prefix = project.json("status")["prefix"]
    for path in (f"{wrapped}:{BARE}", str(wrapped)):
        done = project.cnd("exec", "--", f"{wrapped}/probe-prefix", PATH=f"{path}:{BARE}")
        assert (done.stdout, done.stderr) == (f"{prefix}\n", "")


def test_a_virtual_environment_has_its_own_programs_first(python: Path, tmp_path: Path) -> None:
    environment = tmp_path / "made"
    run(python, "-m", "venv", "--without-pip", environment)
    (environment / "bin/python3.99").write_text("#!/bin/sh\necho own\n")
    (environment / "bin/python3.99").chmod(0o755)
    script = "import subprocess; subprocess.run(['python3.99'], check=True)"
    assert run(environment / "bin/python", "-c", script) == "own\n"
    assert (
        run("bin/python", "-c", "import os; os.chdir('/'); " + script, cwd=environment) == "own\n"
    )


def test_the_cache_of_the_image_is_known(project: Project, wrapped: Path, tmp_path: Path) -> None:
    """Whatever says where it is, and whatever those say who run it."""
    cache = project.json("status")["cache"]
    del project.environment["CONDAINER_CACHE"]
    project.write(f"cache_directory: {cache}\n", "condainer.yml")
    project.cnd("tag", "known")
    project.cnd("wrap", "../named", "--env", "known")
    project.cnd("--set", f"cache_directory={cache}", "wrap", "../set")
    prefix = project.json("status")["prefix"]
    for directory in ("named", "set"):
        program = tmp_path / directory / "bin/probe-prefix"
        for _ in range(2):
            said = run(program, CONDAINER_CACHE=f"{tmp_path}/another")
            assert said == f"{prefix}\n"


def test_only_what_concerns_running_is_exported(project: Project, wrapped: Path) -> None:
    variables: Any = {"CONDAINER_LINGER": "1.5", "CONDAINER_LOCKED": "true"}
    project.cnd("wrap", str(wrapped.parent), **variables)
    text = (wrapped / "probe-prefix").read_text()
    assert "export CONDAINER_LINGER=${CONDAINER_LINGER-1.5}\n" in text
    assert "CONDAINER_LOCKED" not in text
    assert "CONDAINER_CACHE" not in text


def test_a_project_that_moves_gets_new_wrappers(project: Project, tmp_path: Path) -> None:
    project.write("wrappers: tools\n", "condainer.yml")
    assert "write its wrappers into" in project.cnd("-y", "build").stderr
    project.cnd("build")
    first = run(project.path / "tools/bin/probe-prefix")
    project.path.rename(tmp_path / "moved")
    moved = Project(tmp_path / "moved", project.environment)
    done = subprocess.run(
        [moved.path / "tools/bin/probe-prefix"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 3
    assert f"{project.path}, whose wrapper this is, has moved" in done.stderr
    assert "`cnd wrap tools`" in done.stderr
    assert "Wrote" in moved.cnd("build").stderr
    assert "Wrote" not in moved.cnd("build").stderr
    assert run(tmp_path / "moved/tools/bin/probe-prefix") == first


def test_a_wrapper_whose_project_has_moved_names_the_environment(
    project: Project, tmp_path: Path
) -> None:
    project.write("environments: {other: {environment_yml: environment.yml}}\n", "condainer.yml")
    project.cnd("build", "-e", "other")
    project.cnd("wrap", "-e", "other", "tools")
    project.path.rename(tmp_path / "moved")
    program = tmp_path / "moved/tools/bin/probe-prefix"
    done = subprocess.run([program], check=False, capture_output=True, text=True)
    assert "`cnd wrap -e other tools`" in done.stderr


def test_wrappers_stay_while_any_cache_has_the_image(
    project: Project, wrapped: Path, tmp_path: Path
) -> None:
    first, cache = (project.json("status")[key] for key in ("address", "cache"))
    script = (wrapped / "probe-prefix").resolve()
    shutil.copytree(cache, tmp_path / "copy", symlinks=True)
    project.cnd("rm", "--force", first)
    project.write(OTHER)
    other: Any = {"CONDAINER_READONLY_CACHES": f"{tmp_path}/copy"}
    project.cnd("build", **other)
    assert "Removed" not in project.cnd("wrap", "../tools", **other).stderr
    assert script.exists()
    assert f"Removed those of {first}" in project.cnd("wrap", "../tools").stderr
    assert not script.exists()


def test_two_at_once_and_what_a_killed_one_leaves(project: Project, wrapped: Path) -> None:
    (wrapped.parent / f".bin.{'0' * 12}").symlink_to("nowhere")
    (wrapped / ".probe-prefix.0123456789ab").touch()
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "condainer", "wrap", str(wrapped.parent)],
            cwd=project.path,
            env=project.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    assert [(process.communicate()[1], process.returncode)[1] for process in started] == [0] * 4
    assert run(wrapped / "probe-prefix")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([""], "an empty path"),
        (["../a:b"], "a colon"),
        (["/proc/tools"], "Choose another directory"),
        (["../tools", "--only", "probe-prefix, absent"], "no program absent\n"),
    ],
)
def test_what_cannot_be_wrapped(project: Project, words: list[str], told: str) -> None:
    project.cnd("build")
    assert told in project.cnd("wrap", *words, status=None).stderr
    assert not list(project.path.parent.glob("tools/bin"))


def test_what_stands_in_the_way_is_told_before_a_build(project: Project) -> None:
    project.write("wrappers: tools\n", "condainer.yml")
    project.write("mine\n", "tools/bin/tool")
    for words in (["-y", "build"], ["build"]):
        assert "not from `cnd wrap`" in project.cnd(*words, status=3).stderr
    assert not list(project.path.glob("*.lock"))
