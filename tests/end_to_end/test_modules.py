"""Module files in Lmod and environment-modules: after an unload, the shell is as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny
from tests.helpers.needed import LMOD, needs, needs_lmod
from tests.helpers.projects import TOP, Project, mounted
from tests.helpers.waiting import wait_until

TCL = next((TOP / ".modules/usr/lib").glob("*/modulecmd.tcl"), None)
# How a shell comes to have `module`, by the system.
SYSTEMS = {
    "lmod": f". {LMOD}",
    "tcl": f'module() {{ eval "$(tclsh {TCL} bash "$@")"; }}',
}
EMPTY = "-- Another one.\n"


@pytest.fixture(params=[("lmod", False), ("lmod", True), ("tcl", True)], ids=str)
def system(request: Any) -> tuple[str, list[str]]:
    """How to have `module`, and in which language modules are written for it."""
    name, tcl = request.param
    if not (LMOD.exists() if name == "lmod" else TCL):
        needs(name)
    return SYSTEMS[name], ["--tcl"] * tcl


@pytest.fixture
def built(project: Project) -> Project:
    project.cnd("build")
    return project


def shell(project: Project, begin: str, script: str) -> list[str]:
    """Run a script in a bash with modules; return the lines that it prints."""
    modules = project.path.parent / "modules"
    text = f'{begin}\nmodule use "{modules}"\nset -e\n{script}'
    done = subprocess.run(
        ["bash", "-c", text],
        cwd="/",
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": project.environment["HOME"],
            "LANG": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def write(project: Project, name: str, *options: str) -> Any:
    return project.json("module", name, "--dir", "../modules", *options)


# All that programs get but what the module systems note for themselves.
SAVED = "env -0 | grep -zv '^_\\|LOADEDMODULES=\\|^LMOD\\|^MODULE\\|^SHLVL' | sort -z | md5sum"


def test_nothing_is_mounted_before_a_program_runs(
    built: Project, system: tuple[str, list[str]]
) -> None:
    begin, language = system
    prefix = Path(built.json("status")["prefix"])
    report = write(built, "tools/1.0", *language)
    assert Path(report["module"]).exists()
    before, loaded, found, said, after = shell(
        built,
        begin,
        f"{SAVED}\nmodule load tools/1.0\ncat /proc/mounts | grep -c {prefix} || :\n"
        f"command -v probe-prefix\nprobe-prefix\nmodule unload tools/1.0\n{SAVED}",
    )
    assert (loaded, said) == ("0", str(prefix))
    assert found.endswith("/modules/.condainer/tools@1.0/bin/probe-prefix")
    assert before == after
    assert wait_until(lambda: not mounted(prefix))


def test_versions_are_swapped(built: Project, system: tuple[str, list[str]]) -> None:
    begin, language = system
    write(built, "tools/1.0", *language)
    first = built.json("status")["prefix"]
    built.write("dependencies: [probe-prefix, probe-old]\n")
    built.cnd("build")
    write(built, "tools/2.0", *language)
    second = built.json("status")["prefix"]
    script = "module load tools/1.0\nprobe-prefix\nmodule swap tools/1.0 tools/2.0\nprobe-prefix\n"
    *said, paths = shell(built, begin, f"{script}echo $PATH")
    assert said == [first, second]
    assert "tools/1.0" not in paths
    shown = "\n".join(shell(built, begin, "module avail 2>&1\nmodule help tools/2.0 2>&1"))
    assert "tools/1.0" in shown
    assert ".condainer" not in shown
    assert built.json("status")["address"] in shown


def test_full_activation(built: Project, system: tuple[str, list[str]]) -> None:
    begin, language = system
    write(built, "tools/1.0", *language, "--activate")
    prefix = Path(built.json("status")["prefix"])
    assert wait_until(lambda: not mounted(prefix))
    report = (
        'module load tools/1.0; sleep 0.5; probe-prefix; echo "$CONDA_PREFIX $GREETING";'
        f'module unload tools/1.0; echo "$CONDA_PREFIX $GREETING"; {SAVED}'
    )
    # In Tcl, Lmod cannot restore what a variable was.
    own = "" if (begin, language) == (SYSTEMS["lmod"], ["--tcl"]) else "mine"
    begin_with = f"export GREETING={own}" if own else "unset GREETING"
    before, said, inside, outside, after = shell(built, begin, f"{begin_with}\n{SAVED}\n{report}")
    assert said == str(prefix)
    assert inside == f"{prefix} hello"
    assert outside == f" {own}"
    assert before == after
    assert wait_until(lambda: not mounted(prefix))


@pytest.mark.parametrize("kind", ["zsh", "fish", "tcsh"])
def test_full_activation_in_other_shells(built: Project, tmp_path: Path, kind: str) -> None:
    if shutil.which(kind) is None or not LMOD.exists():
        needs(f"{kind} and lmod")
    write(built, "tools/1.0", "--activate")
    prefix = Path(built.json("status")["prefix"])
    script = tmp_path / "script"
    script.write_text(
        f"source {LMOD.with_name(kind)}\nmodule use {tmp_path}/modules\nmodule load tools/1.0\n"
        "sleep 0.5\nprobe-prefix\nmodule unload tools/1.0\nenv\n"
    )
    done = subprocess.run(
        [kind, *["-f"] * (kind != "fish"), script],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": built.environment["HOME"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    said, *after = done.stdout.splitlines()
    assert (said, done.stderr) == (str(prefix), "")
    assert not any(line.startswith(("CONDA_", "CONDAINER_")) for line in after)
    assert wait_until(lambda: not mounted(prefix))


def test_a_module_for_others_has_nothing_of_whom_wrote_it(built: Project, tmp_path: Path) -> None:
    built.cnd("tag", "tools/1.0")
    (tmp_path / "elsewhere").mkdir()
    other = Project(tmp_path / "elsewhere", built.environment)
    for options in ((), ("--activate",)):
        report = write(other, "tools/1.0", "--env", "tools/1.0", *options)
        text = Path(report["module"]).read_text()
        home = built.environment["HOME"]
        assert home not in text
        assert f".condainer-{os.geteuid()}/" not in text
        assert "elsewhere" not in text


def test_words_are_quoted(built: Project, system: tuple[str, list[str]]) -> None:
    begin, language = system
    odd = "two words; $HOME [exit] {x} \"quoted\" 'q' \\ `id` ü"
    built.write(
        "dependencies: [probe-prefix]\nname: odd [exit] $HOME\n"
        f"variables: {{ODD: {json.dumps(odd)}}}\n"
    )
    built.cnd("build")
    write(built, "tools/1.0", *language, "--activate")
    said = shell(
        built, begin, 'module load tools/1.0; printf "%s\\n" "$ODD"; module help tools 2>&1'
    )
    assert said[0] == odd
    assert any("odd [exit] $HOME" in line for line in said)


def test_a_path_with_blanks(built: Project) -> None:
    for option, warned in (("--tcl", True), ("--activate", False)):
        done = built.cnd("module", "tools/1.0", "--dir", "../two words", option)
        assert ("Lmod reads no module" in done.stderr) is warned
        place = built.path.parent / "two words"
        assert f"`module use '{place}'`" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["tools", "../up/1", "tools/", "/1", "a/.b", "a b/1"])
def test_what_no_module_is_called(built: Project, name: str) -> None:
    told = built.cnd("module", name, "--dir", "../modules", status=3).stderr
    assert "is not the name of a module" in told


@pytest.mark.parametrize("name", ["a/default", "a/modulerc", "a/1.lua", "a.lua/1"])
def test_names_that_mean_something_else(built: Project, tmp_path: Path, name: str) -> None:
    told = built.cnd("module", name, "--dir", "../modules", status=3).stderr
    assert "means something else" in told
    assert not (tmp_path / "modules").exists()


def test_modules_below_modules(built: Project, tmp_path: Path) -> None:
    write(built, "tools/1")
    for name in ("tools/1/bin", "tools/1/etc"):
        write(built, name)
    told = built.cnd("module", "tools/1", "--dir", "../modules", "--tcl", status=3).stderr
    assert f"{tmp_path}/modules/tools/1 is there" in told
    write(built, "tools/1")
    prefix = built.json("status")["prefix"]
    needs_lmod()
    for name in ("tools/1", "tools/1/bin"):
        assert shell(built, SYSTEMS["lmod"], f"module load {name}; probe-prefix") == [prefix]


def test_modules_of_one_image_leave_each_other_alone(built: Project, tmp_path: Path) -> None:
    needs_lmod()
    built.cnd("tag", "tools")
    write(built, "shared/1", "--env", "tools")
    write(built, "own/1")
    prefix = built.json("status")["prefix"]
    built.path.rename(tmp_path / "gone")
    begin = SYSTEMS["lmod"]
    assert shell(built, begin, "module load shared/1; probe-prefix") == [prefix]


def test_an_activated_module_is_that_of_a_fresh_shell(built: Project, tmp_path: Path) -> None:
    """Whatever is active where it is written, and whoever writes it."""
    fresh = Path(write(built, "tools/1.0", "--activate")["module"]).read_text()
    built.cnd(
        *("exec", "--", sys.executable, "-m", "condainer", "-d", str(built.path)),
        *("module", "tools/1.0", "--dir", str(tmp_path / "modules"), "--activate"),
        GREETING="set already",
        LD_LIBRARY_PATH="/of/the/author",
    )
    assert (tmp_path / "modules/tools/1.0.lua").read_text() == fresh
    assert "GREETING" in fresh


def test_directories_that_scripts_add_go_before_those_of_the_user(
    make_project: Any, tmp_path: Path, system: tuple[str, list[str]]
) -> None:
    begin, language = system
    channel = tmp_path / "channel"
    script = 'LD_LIBRARY_PATH="$CONDA_PREFIX/lib/probe:$LD_LIBRARY_PATH" PROBE_HOME="$HOME/.probe"'
    tiny.package(
        channel, "paths", "1.0", files=[("etc/conda/activate.d/paths.sh", f"export {script}\n")]
    )
    tiny.index(channel)
    built: Project = make_project("own", f"channels: [{channel.as_uri()}]\ndependencies: [paths]\n")
    built.cnd("build")
    write(built, "tools/1.0", *language, "--activate")
    prefix = built.json("status")["prefix"]
    script = 'module load tools/1.0; printf "%s\\n" "$LD_LIBRARY_PATH" "$PROBE_HOME"'
    assert shell(built, begin, f"export LD_LIBRARY_PATH=/of/user; {script}") == [
        f"{prefix}/lib/probe:/of/user",
        "",
    ]


def test_what_somebody_else_wrote_stays(built: Project, tmp_path: Path) -> None:
    for path in (tmp_path / "modules/tools/1.0", tmp_path / "modules/tools/2.0.lua"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(EMPTY)
        name = f"tools/{path.name.removesuffix('.lua')}"
        for language in ((), ("--tcl",)):
            told = built.cnd("module", name, "--dir", "../modules", *language, status=3).stderr
            assert "not from `cnd module`" in told
        assert path.read_text() == EMPTY
    # Of our own, one language takes the place of the other.
    write(built, "tools/3.0")
    write(built, "tools/3.0", "--tcl")
    assert sorted(os.listdir(tmp_path / "modules/tools")) == ["1.0", "2.0.lua", "3.0"]
