"""The activation scripts of all shells, sourced by the real ones."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from condainer.activate import bash, csh, fish, shell
from condainer.activate.bash import Activation
from tests.helpers.needed import needs_program
from tests.helpers.terminals import session

ADDRESS = "ac71fa7e112233445566778899aabbcc"
VARIABLES = {
    "ODD": 'it\'s $HOME "quoted" \\ \\\\ \\! !x {a,b} *.c ~ `echo` größe %d \\\nendif\nend \\',
    "EMPTY": "",
    "KEPT": "new",
    "THEN": "then",
}
CACHE = Path("/group's ca!che/größe")
# Makes a claim as `cnd mount --shell PID` does, and notes how it is called; for the variables of
# packages, it is the real one.
CND = f"""\
#!/bin/sh
[ "$1" != activation-variables ] || exec env -u PYTHONHOME {sys.executable} -m condainer "$@"
here=$(dirname "$0")
[ ! -e "$here/fail" ] || exit 14
[ ! -e "$here/provided" ] || exit 0
for argument; do pid=$argument; printf '%s\\0' "$argument"; done >"$here/called"
echo >"$here/claim of $pid"
printf '%s\\n' "$here/claim of $pid"
"""


@dataclass(frozen=True)
class Shell:
    """A shell, and how it is used."""

    argv: tuple[str, ...]
    activate: str
    deactivate: str
    kind: str
    status: str = "$?"

    def run(self, text: str, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a script that is read from a file; csh reads `-c` in another way."""
        needs_program(self.argv[0])
        script = cwd.parent / "script"
        script.write_text(text)
        return subprocess.run(
            [*self.argv, str(script)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=env,
            check=False,
        )


POSIX = ("source ./activate", "source ./deactivate", "sh")
BASH = Shell(("bash", "--norc", "--noprofile"), *POSIX)
ZSH = Shell(("zsh", "-f"), *POSIX)
FISH = Shell(("fish", "--no-config"), "source activate.fish", "deactivate", "fish", "$status")
TCSH = Shell(("tcsh", "-f"), "source activate.csh", "deactivate", "csh", "$status")
STRICT = {
    "bash": (BASH, ""),
    "bash -eu": (BASH, "set -eu; set -o pipefail"),
    "bash posix": (BASH, "set -eu; set -o posix -o noclobber -o allexport"),
    "zsh": (ZSH, ""),
    "zsh -eu": (ZSH, "set -eu; set -o pipefail; setopt noclobber ksharrays shwordsplit"),
    "fish": (FISH, ""),
    "tcsh": (TCSH, ""),
    "tcsh -e": (Shell(("tcsh", "-ef"), *list(vars(TCSH).values())[1:]), "set noclobber"),
}
SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH, "tcsh": TCSH}
every_shell = pytest.mark.parametrize("sh", SHELLS.values(), ids=SHELLS)


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A directory that looks like a mounted image; each shell has scripts there."""
    prefix = tmp_path / "base" / f"condainer-{ADDRESS}"
    (prefix / "bin").mkdir(parents=True)
    (prefix / ".condainer").mkdir()
    (prefix / ".condainer/address").write_text(f"{ADDRESS}\n")
    texts = {
        "activate.d/a b.sh": 'export FIRST="${ODD:+set}"',
        "activate.d/c.sh": 'export SECOND="after $FIRST"',
        "activate.d/a b.fish": "test -n $ODD; and set -gx FIRST set",
        "activate.d/c.fish": 'set -gx SECOND "after $FIRST"',
        "activate.d/a b.csh": "if ( $?ODD ) setenv FIRST set",
        "activate.d/c.csh": 'setenv SECOND "after $FIRST"',
        "deactivate.d/a b.sh": 'echo "first ${SECOND-gone}"; unset FIRST',
        "deactivate.d/c.sh": "unset SECOND",
        "deactivate.d/a b.fish": "set -q SECOND; or echo first gone; set -e FIRST",
        "deactivate.d/c.fish": "set -e SECOND",
        "deactivate.d/a b.csh": "if ( ! $?SECOND ) echo first gone\nunsetenv FIRST",
        "deactivate.d/c.csh": "unsetenv SECOND",
    }
    for name, text in texts.items():
        path = prefix / "etc/conda" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return prefix


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Where `cnd` is."""
    tools = tmp_path / "tools dir"
    tools.mkdir()
    (tools / "cnd").write_text(CND)
    (tools / "cnd").chmod(0o755)
    return tools


@pytest.fixture
def project(tmp_path: Path, prefix: Path, tools: Path) -> Path:
    """A project with its scripts, in a directory with an unpleasant name."""
    project = tmp_path / "pro ject's $x ü! \\"
    project.mkdir()
    write_scripts(project, prefix, tools)
    return project


def write_scripts(project: Path, prefix: Path, tools: Path, user_site: bool = False) -> None:
    of = Activation(
        project, prefix, ADDRESS, VARIABLES, "demo", CACHE, user_site, str(tools / "cnd")
    )
    texts = {
        "activate": bash.activation_script(of),
        "deactivate": bash.deactivation_script(project),
        "activate.fish": fish.activation_script(of),
        "activate.csh": csh.activation_script(of),
        "deactivate.csh": csh.deactivation_script(),
    }
    for name, text in texts.items():
        assert text.startswith(bash.OURS)
        (project / name).write_text(text)


def environ_of(tmp_path: Path, **more: str) -> dict[str, str]:
    common = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "dumb", "LANG": "C.UTF-8"}
    return {**common, "KEPT": "o  l'd\n\\!", "PYTHONHOME": "/home of python", **more}


def dump(name: str) -> str:
    return f"/bin/sh -c 'env -0 >../{name}'"


def read_dump(path: Path) -> dict[str, str]:
    entries = [entry.split("=", 1) for entry in path.read_text().split("\0") if entry]
    own = ("_", "SHLVL", "PWD", "OLDPWD")
    return {key: value for key, value in entries if key not in own}


def expected(prefix: Path, before: Mapping[str, str], user_site: bool = False) -> dict[str, str]:
    """Return what `cnd exec` would give a command that is started from such a shell."""
    activated = shell.environment(
        prefix, VARIABLES, before, name="demo", address=ADDRESS, user_site=user_site
    )
    # The stand-ins are where the claims are.
    behind = prefix.parent.parent / "tools dir" / f"{prefix.name}.stand-ins"
    return {**activated, "PATH": activated["PATH"].replace("/bin:", f"/bin:{behind}:", 1)}


def without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in environ.items() if not k.startswith("__CONDAINER")}


@pytest.mark.parametrize(("sh", "options"), STRICT.values(), ids=STRICT)
def test_activation_is_that_of_exec_and_deactivation_takes_it_all_back(
    sh: Shell, options: str, project: Path, prefix: Path, tools: Path, tmp_path: Path
) -> None:
    text = f"""{options}
{dump("before")}
{sh.activate}
{dump("active")}
/bin/ls "{tools}"
{sh.deactivate}
{dump("after")}
/bin/ls "{tools}"
"""
    done = sh.run(text, project, environ_of(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    before, active, after = (read_dump(tmp_path / n) for n in ("before", "active", "after"))
    assert without_ours(active) == expected(prefix, before)
    assert active["ODD"] == VARIABLES["ODD"]
    assert active["SECOND"] == "after set"
    assert after == before
    claim, *rest = done.stdout.splitlines()[1:]
    assert claim.startswith("claim of ")
    assert rest == ["cnd", "first gone", "called", "cnd"]
    called = (tools / "called").read_text().split("\0")
    pinned = ["--set", f"address={ADDRESS}", "--set", f"cache_directory={CACHE}"]
    number = claim.removeprefix("claim of ")
    assert called == ["--quiet", "-d", str(project), *pinned, "mount", "--shell", number, ""]


CASES: dict[str, dict[str, str]] = {
    "xdg": {"XDG_CACHE_HOME": "/a b/it's", "XDG_CONFIG_HOME": "{}/elsewhere"},
    "relative": {"XDG_CACHE_HOME": "relative", "XDG_CONFIG_HOME": ""},
    "set": {"NUMBA_CACHE_DIR": "/mine", "MPLCONFIGDIR": "", "PYTHONNOUSERSITE": ""},
    "configured": {"XDG_CONFIG_HOME": "{}/config"},
    "user site": {},
}


@every_shell
@pytest.mark.parametrize("case", CASES)
def test_variables_for_tools_are_those_of_exec(
    sh: Shell, case: str, project: Path, prefix: Path, tools: Path, tmp_path: Path
) -> None:
    given = {key: value.format(tmp_path) for key, value in CASES[case].items()}
    (tmp_path / "config/matplotlib/stylelib").mkdir(parents=True)
    user_site = case == "user site"
    write_scripts(project, prefix, tools, user_site)
    text = "\n".join([dump("before"), sh.activate, dump("active"), sh.deactivate, dump("after")])
    done = sh.run(f"{text}\n", project, environ_of(tmp_path, **given))
    assert (done.returncode, done.stderr) == (0, "")
    before, active, after = (read_dump(tmp_path / n) for n in ("before", "active", "after"))
    assert without_ours(active) == expected(prefix, before, user_site)
    assert ("PYTHONNOUSERSITE" in active) == (not user_site)
    assert ("MPLCONFIGDIR" in active) == (case != "configured")
    assert after == before
    assert not (tmp_path / ".cache").exists()


# Variables that packages set by files

PACKAGED: dict[str, dict[str, object]] = {
    "a.json": {"ONE": "a", "TWO": "a", "ODD": "a", "NUMBER": 1, "GONE": None, "KEPT": None},
    "b.json": {
        "TWO": VARIABLES["ODD"],
        "GIVEN": "$HOME '!x",
        "lower": "b",
        "path": "/no",
        "a b": "1",
        "MPLCONFIGDIR": "/package's",
        "NUMBA_CACHE_DIR": None,
    },
}


@pytest.fixture
def packaged(prefix: Path) -> Path:
    """The directory of such files in an image."""
    directory = prefix / "etc/conda/env_vars.d"
    directory.mkdir()
    for name, told in PACKAGED.items():
        (directory / name).write_text(json.dumps(told))
    for kind in ("sh", "csh", "fish"):
        setting = {"sh": "export SEEN=", "csh": "setenv SEEN ", "fish": "set -gx SEEN "}[kind]
        (prefix / f"etc/conda/activate.d/0.{kind}").write_text(f'{setting}"$ONE $LOWER $NUMBER"\n')
        gone = "set -e SEEN" if kind == "fish" else "unset SEEN; unsetenv SEEN"
        text = gone if kind != "sh" else "unset SEEN"
        (prefix / f"etc/conda/deactivate.d/0.{kind}").write_text(f"{text}\n")
    return directory


@pytest.mark.parametrize(("sh", "options"), STRICT.values(), ids=STRICT)
def test_variables_of_packages_are_those_of_exec_and_are_taken_back(
    sh: Shell, options: str, project: Path, prefix: Path, packaged: Path, tmp_path: Path
) -> None:
    steps = [options, dump("before"), sh.activate, dump("active"), sh.deactivate, dump("after")]
    given = {"GIVEN": "it's $mine\n\\!", "GONE": "mine", "ONE": ""}
    done = sh.run("\n".join([*steps, ""]), project, environ_of(tmp_path, **given))
    assert (done.returncode, done.stderr) == (0, "")
    before, active, after = (read_dump(tmp_path / n) for n in ("before", "active", "after"))
    assert without_ours(active) == expected(prefix, before)
    assert (active["TWO"], active["GIVEN"]) == (VARIABLES["ODD"], "$HOME '!x")
    assert (active["KEPT"], active["SEEN"]) == ("new", "a b 1")
    assert "GONE" not in active
    assert after == before


@every_shell
@pytest.mark.parametrize("other", SHELLS.values(), ids=SHELLS)
def test_variables_of_packages_of_another_shell_are_taken_back(
    sh: Shell, other: Shell, project: Path, packaged: Path, tmp_path: Path
) -> None:
    text = f"{dump('before')}\n{other.activate}\n{dump('exported')}\n"
    given = environ_of(tmp_path, GIVEN="mine", GONE="mine")
    assert other.run(text, project, given).stderr == ""
    exported = read_dump(tmp_path / "exported")
    assert (exported["ONE"], "GONE" in exported) == ("a", False)
    # The package is not in the image any more.
    shutil.rmtree(packaged)
    for path in packaged.parent.glob("*activate.d/0.*"):
        path.unlink()
    text = f"{sh.activate}\n{dump('active')}\n{sh.deactivate}\n{dump('after')}\n"
    done = sh.run(text, project, exported)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("active", "after"):
        dumped = read_dump(tmp_path / name)
        assert (dumped["GIVEN"], dumped["GONE"], "ONE" in dumped) == ("mine", "mine", False)


@every_shell
def test_nothing_is_changed_where_variables_of_packages_cannot_be_read(
    sh: Shell, project: Path, packaged: Path, tools: Path, tmp_path: Path
) -> None:
    (packaged / "c.json").write_text("{")
    text = f'{dump("before")}\n{sh.activate}\necho "status {sh.status}"\n{dump("after")}\n'
    done = sh.run(text, project, environ_of(tmp_path))
    assert done.stdout == "status 1\n"
    assert str(packaged / "c.json") in done.stderr
    assert "cnd: not activated: the packages' variables could not be read" in done.stderr
    assert read_dump(tmp_path / "after") == read_dump(tmp_path / "before")
    assert not list(tools.glob("claim*"))


@every_shell
def test_activation_after_the_image_was_taken_away_and_needless_deactivation(
    sh: Shell, project: Path, tools: Path, tmp_path: Path
) -> None:
    again = "source deactivate.csh" if sh is TCSH else sh.deactivate
    leave = "" if sh is FISH else f'{again}\necho "needless {sh.status}"\n'
    # What is not in the mount table is not there any more.
    text = f"""{leave}{sh.activate}
echo "first {sh.status}"
{dump("active")}
{sh.activate}
echo "second {sh.status}"
{dump("again")}
/bin/ls "{tools}"
{sh.deactivate}
echo "left {sh.status}"
{"" if sh is FISH else again}
"""
    done = sh.run(text, project, environ_of(tmp_path))
    lines = [line for line in done.stdout.splitlines() if line not in ("called", "cnd")]
    needless = ["needless 1"] * (sh is not FISH)
    claim = lines.pop(len(needless) + 3)
    assert claim.startswith("claim of ")
    assert lines == [*needless, "first 0", "first gone", "second 0", "first gone", "left 0"]
    assert done.stderr.count("cnd:") == done.stderr.count("no environment is active")
    assert done.stderr.count("no environment is active") == 2 * len(needless)
    assert read_dump(tmp_path / "again") == read_dump(tmp_path / "active")
    assert not list(tools.glob("claim*"))


# What batch systems and terminals hand on


@every_shell
@pytest.mark.parametrize("other", SHELLS.values(), ids=SHELLS)
def test_an_activation_of_another_shell_is_renewed(
    sh: Shell, other: Shell, project: Path, tools: Path, tmp_path: Path
) -> None:
    text = f"{dump('before')}\n{other.activate}\n{dump('exported')}\n"
    assert other.run(text, project, environ_of(tmp_path)).stderr == ""
    exported = read_dump(tmp_path / "exported")
    assert exported["CONDAINER_ADDRESS"] == ADDRESS
    # Where its image is no more, and something else was put before it.
    exported["PATH"] = "/modules/bin:" + exported["PATH"].replace(ADDRESS, "gone")
    exported["CONDAINER_PREFIX"] = exported["CONDAINER_PREFIX"].replace(ADDRESS, "gone")
    text = f"""{sh.activate}
echo "status {sh.status}"
{dump("active")}
{sh.activate}
echo "again {sh.status}"
{sh.deactivate}
{dump("after")}
"""
    done = sh.run(text, project, exported)
    assert done.stdout == "status 0\nfirst gone\nagain 0\nfirst gone\n"
    assert done.stderr.count("cnd:") == 0
    active, after, before = (read_dump(tmp_path / n) for n in ("active", "after", "before"))
    path = active["PATH"].split(":")
    assert path[0].endswith(f"condainer-{ADDRESS}/bin")
    assert path[1].endswith(f"condainer-{ADDRESS}.stand-ins")
    assert path[2] == "/modules/bin"
    assert "condainer-gone" not in active["PATH"]
    assert (active["FIRST"], active["KEPT"]) == ("set", "new")
    path = after["PATH"].split(":")
    assert path[0] == "/modules/bin"
    assert not any("/condainer-" in directory for directory in path)
    # What the packages' scripts have set for the other shell is not known here, and shells tell
    # who and where they are.
    own = {"PATH", "FIRST", "SECOND", "USER", "LOGNAME", "GROUP", "VENDOR", "NLSPATH"}
    own |= {"HOST", "HOSTTYPE", "MACHTYPE", "OSTYPE"}
    assert {k: after[k] for k in after.keys() - own} == {k: before[k] for k in before.keys() - own}


@every_shell
def test_variables_of_cnd_shell_without_its_mount_are_renewed(
    sh: Shell, project: Path, tools: Path, tmp_path: Path
) -> None:
    given = environ_of(tmp_path)
    old = "/somewhere/condainer-another"
    env = {**given, "CONDAINER_ADDRESS": "another", "CONDAINER_PREFIX": old, "CONDA_PREFIX": old}
    env["PATH"] = f"{old}/bin:{given['PATH']}"
    text = f"{sh.activate}\necho {sh.status}\n{sh.deactivate}\n{dump('after')}\n"
    done = sh.run(text, project, env)
    assert (done.stdout, done.stderr) == ("0\nfirst gone\n", "")
    after = read_dump(tmp_path / "after")
    assert after["PATH"] == given["PATH"]
    assert not [name for name in after if "CONDA" in name]


@every_shell
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("no mount", "the image could not be mounted"),
        ("no sentinel", "the image is not at its place"),
        ("another image", "the image is not at its place"),
        ("no cnd", "the image could not be mounted"),
    ],
)
def test_nothing_is_changed_where_the_image_is_not_at_its_place(
    sh: Shell, fault: str, told: str, project: Path, prefix: Path, tools: Path, tmp_path: Path
) -> None:
    if fault == "no mount":
        (tools / "fail").touch()
    elif fault == "no sentinel":
        (prefix / ".condainer/address").unlink()
    elif fault == "another image":
        (prefix / ".condainer/address").write_text("another\n")
    else:
        (tools / "cnd").unlink()
    text = f'{dump("before")}\n{sh.activate}\necho "status {sh.status}"\n{dump("after")}\n'
    done = sh.run(text, project, environ_of(tmp_path))
    assert done.stdout == "status 1\n"
    assert f"cnd: not activated: {told}" in done.stderr
    assert read_dump(tmp_path / "after") == read_dump(tmp_path / "before")
    assert not list(tools.glob("claim*"))


@every_shell
def test_what_root_has_mounted_for_all_needs_no_claim(
    sh: Shell, project: Path, prefix: Path, tools: Path, tmp_path: Path
) -> None:
    (tools / "provided").touch()
    text = f"""{dump("before")}
{sh.activate}
echo "first {sh.status}"
{dump("active")}
{sh.activate}
echo "second {sh.status}"
{sh.deactivate}
{dump("after")}
"""
    done = sh.run(text, project, environ_of(tmp_path))
    assert (done.stdout, done.stderr) == ("first 0\nfirst gone\nsecond 0\nfirst gone\n", "")
    before, active, after = (read_dump(tmp_path / n) for n in ("before", "active", "after"))
    assert active["PATH"] == f"{prefix}/bin:{before['PATH']}"
    assert active["ODD"] == VARIABLES["ODD"]
    assert after == before


sourced_by = pytest.mark.parametrize("sh", [BASH, ZSH], ids=["bash", "zsh"])


@sourced_by
@pytest.mark.parametrize("options", ["", "set -eu", "set -eu; set -o pipefail"])
def test_what_the_user_has_set_stays_and_nothing_of_ours(
    sh: Shell, options: str, project: Path, prefix: Path, tmp_path: Path
) -> None:
    (prefix / "etc/conda/activate.d/d.sh").write_text('false; x="$NOT_SET"\n')
    text = f"""{options}
{dump("before")}
{sh.activate}
PATH="/first:$PATH"
{sh.deactivate}
echo "$PATH"
PATH="${{PATH#/first:}}"
{dump("after")}
typeset -p >../variables 2>/dev/null || :
case $- in *e*) echo e ;; esac
case $- in *u*) echo u ;; esac
"""
    conda = {"CONDA_PREFIX": "/old conda", "CONDA_SHLVL": "1"}
    done = sh.run(text, project, environ_of(tmp_path, **conda))
    assert (done.returncode, done.stderr) == (0, "")
    said = ["first gone", "/first:/usr/bin:/bin", *(["e", "u"] if options else [])]
    assert done.stdout.splitlines() == said
    assert read_dump(tmp_path / "after") == read_dump(tmp_path / "before")
    variables = (tmp_path / "variables").read_text(errors="replace").lower()
    assert "condainer" not in variables.replace(str(tmp_path).lower(), "")


@sourced_by
def test_only_exit_leaves_the_environment_of_cnd_shell(
    sh: Shell, project: Path, tmp_path: Path
) -> None:
    done = sh.run(
        f"{sh.deactivate}; echo $?\n", project, environ_of(tmp_path, CONDAINER_ADDRESS=ADDRESS)
    )
    assert (done.stdout, done.stderr) == ("1\n", "cnd: leave this shell with `exit`\n")


@pytest.mark.parametrize("name", ["activate", "deactivate"])
@pytest.mark.parametrize("program", [["bash"], ["zsh", "-f"], ["sh"]])
def test_executed_instead_of_sourced(program: list[str], name: str, project: Path) -> None:
    needs_program(program[0])
    done = subprocess.run([*program, name], capture_output=True, text=True, cwd=project)
    assert done.returncode == 1
    assert done.stderr.startswith("cnd: use it as: source ")


# Claims of shells, subshells and child shells


@sourced_by
def test_a_claim_belongs_to_the_shell_that_activated(
    sh: Shell, project: Path, tools: Path, tmp_path: Path
) -> None:
    count = f'ls "{tools}" | grep -c claim || :'
    child = " ".join(sh.argv)
    text = f"""
        ( source ./activate; read -r own rest </proc/self/stat; {count} )
        echo "after a subshell that ended without deactivation"; {count}
        command rm -f -- "{tools}"/claim*
        source ./activate
        ( source ./deactivate ); {count}
        {child} -c 'source ./deactivate'; {count}
        source ./deactivate; {count}
    """
    done = sh.run(text, project, environ_of(tmp_path))
    assert done.stderr == ""
    counts = [line for line in done.stdout.splitlines() if line != "first gone"]
    note = "after a subshell that ended without deactivation"
    assert counts == ["1", note, "1", "1", "1", "0"]


@sourced_by
def test_a_subshell_claims_for_itself(
    sh: Shell, project: Path, tools: Path, tmp_path: Path
) -> None:
    text = "echo $$; ( source ./activate; exec sh -c 'echo $$' )\n"
    done = sh.run(text, project, environ_of(tmp_path))
    outer, inner = done.stdout.split()
    assert outer != inner
    assert [path.name for path in tools.glob("claim*")] == [f"claim of {inner}"]


@sourced_by
def test_a_child_shell_can_deactivate(sh: Shell, project: Path, tmp_path: Path) -> None:
    inner = 'source ./deactivate; echo "$PATH ${CONDA_PREFIX-none} $EMPTY"'
    text = f"source ./activate; {shlex.join(sh.argv)} -c {shlex.quote(inner)}\n"
    done = sh.run(text, project, environ_of(tmp_path, EMPTY="mine"))
    assert (done.stdout, done.stderr) == ("first gone\n/usr/bin:/bin none mine\n", "")


# Shells that cannot tell whether they read the file or run it


@pytest.mark.parametrize("name", ["activate", "deactivate"])
@pytest.mark.parametrize("program", ["dash", "sh"])
def test_sh_scripts_are_told_what_to_use(
    program: str, name: str, project: Path, tools: Path, tmp_path: Path
) -> None:
    needs_program(program)

    def run(text: str) -> subprocess.CompletedProcess[str]:
        env = environ_of(tmp_path)
        argv = [program, "-c", text]
        return subprocess.run(
            argv, capture_output=True, text=True, cwd=project, env=env, check=False
        )

    done = run(f'set -eu; . ./{name} || echo "refused $?"; echo "on $PATH"')
    if Path(f"/bin/{program}").resolve().name != "bash":
        assert done.stdout == "refused 1\non /usr/bin:/bin\n"
        assert "cnd exec" in done.stderr
        done = run(f"set -eu; . ./{name}; echo not reached")
        assert (done.returncode, done.stdout) == (1, "")
        assert "cnd exec" in done.stderr
        assert not (tools / "called").exists()


# Prompts


PROMPTS = {
    "bash": (BASH, "PS1='$(echo ex)pand> '; PROMPT_COMMAND='seen=$PS1'", "echo [$PS1]"),
    "zsh": (ZSH, "setopt promptsubst; PS1='$(echo ex)pand> '", 'echo "[$PS1]"'),
    "fish": (FISH, 'function fish_prompt; echo -n "expand $status> "; end', "false"),
    "tcsh": (TCSH, "set prompt='expand%% \\!> '", 'echo "[$prompt:q]"'),
}


@pytest.mark.parametrize(("sh", "own", "show"), PROMPTS.values(), ids=PROMPTS)
def test_the_prompt_names_the_environment_and_comes_back(
    sh: Shell, own: str, show: str, project: Path, tmp_path: Path
) -> None:
    active, after = dump("active"), dump("after")
    typed = [own, sh.activate, show, active, "false", sh.deactivate, show, after, "exit"]
    argv = [*sh.argv, "-i"] if sh in (BASH, ZSH) else sh.argv
    needs_program(argv[0])
    shown = session(argv, environ_of(tmp_path), project, "\n".join([*typed, ""]))
    # A terminal is where csh and bash look for their history's `!`.
    assert read_dump(tmp_path / "active")["ODD"] == VARIABLES["ODD"]
    assert read_dump(tmp_path / "after")["KEPT"] == environ_of(tmp_path)["KEPT"]
    if sh is FISH:
        # The user's own prompt still sees the status of the last command.
        assert "(demo) expand 1> " in shown
        rest = shown[shown.rindex("first gone") :]
        assert "expand 1> " in rest
    else:
        assert "(demo) expand" in shown
        assert "[(demo) " in shown
        rest = shown[shown.rindex("first gone") :]
        assert ("[$(echo ex)pand> ]" if sh in (BASH, ZSH) else "[") in rest
    assert "(demo)" not in rest
