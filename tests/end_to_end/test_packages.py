"""The wheel, the sdist, the archive and the recipes, each used by the tools that they are for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from condainer import __version__
from condainer.cli import manual
from tests.channel import ChannelServer
from tests.channel.wheels import write_wheel
from tests.helpers import pins, tiny
from tests.helpers.accounts import Account, accounts
from tests.helpers.container import HOME, container, ensure_root, missing
from tests.helpers.needed import LMOD, needs, needs_lmod
from tests.helpers.projects import TOP
from tests.slurm.site import public_python

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("packages")]

PINNED = TOP / "tools/packaging-pins.txt"
MINE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
# What the recipe for conda needs beside what wheels bring, by the beginnings of names.
FROM_CHANNEL = ("python-3", "pip-", "squashf")
# rattler-build without its program, which no package index has.
BUILD_RECIPE = """\
import sys
from rattler_build import Stage0Recipe, ToolConfiguration
recipe, into, channel = sys.argv[1:]
for built in Stage0Recipe.from_file(recipe).run_build(
    None, ToolConfiguration(test_strategy="native"), into, [channel]
):
    print(*built.packages)
"""
SHARED = {
    "share/bash-completion/completions/cnd",
    "share/fish/vendor_completions.d/cnd.fish",
    "share/zsh/site-functions/_cnd",
}


@dataclass(frozen=True)
class Bench:
    """A directory that everybody can read, with the tools, the packages, and what they need."""

    place: Path
    wheel: Path
    sdist: Path

    @property
    def tools(self) -> Path:
        """Where the programs of the tools are."""
        return self.place / "tools/bin"

    @property
    def offline(self) -> dict[str, str]:
        """The variables by which pip takes what was downloaded, and nothing else."""
        # Compiling takes most of the time, and is not what is tried.
        wheels = {"PIP_FIND_LINKS": str(self.place / "wheels"), "PIP_NO_COMPILE": "1"}
        return {"PIP_NO_INDEX": "1", **wheels, **MINE}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """The tools installed, the packages built by them in isolation from a copy of the sources."""
    if os.geteuid() != 0:
        needs("root, to make accounts")
    try:
        python = public_python()
    except LookupError as error:
        needs(str(error))
    place = Path(tempfile.mkdtemp(prefix="condainer-packages-", dir="/tmp"))
    place.chmod(0o755)
    try:
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "-q", "--python", python, place / "tools"], check=True)
        # EasyBuild has sdists only; what builds them is pinned as well.
        into = ("--python", place / "tools/bin/python", "--require-hashes")
        pinned = ("--build-constraints", pins.PINS, "-r", PINNED)
        subprocess.run([uv, "pip", "install", "-q", *into, *pinned], check=True)
        shutil.copy(uv.resolve(), place / "tools/bin/uv")
        (place / "wheels").mkdir()
        pins.download(place / "wheels", "{}.{}".format(*sys.version_info[:2]))
        # pipx brings its own.
        (pip,) = re.findall(r"^pip==\S+", PINNED.read_text(encoding="utf-8"), re.MULTILINE)
        command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest")
        subprocess.run([*command, place / "wheels", pip], check=True)
        # As a clone has them, without what was built before.
        names = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=TOP,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        for name in names:
            if (TOP / name).is_file():
                (place / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(TOP / name, place / "clone" / name)
        done = Bench(place, Path(), Path())
        built = subprocess.run(
            [done.tools / "python", "-m", "build", "--outdir", place / "dist", place / "clone"],
            env={**os.environ, **done.offline},
            capture_output=True,
            text=True,
        )
        assert built.returncode == 0, built.stdout + built.stderr
        assert "deprecat" not in (built.stdout + built.stderr).lower()
        (wheel,), (sdist,) = (place / "dist").glob("*.whl"), (place / "dist").glob("*.tar.gz")
        yield Bench(place, wheel, sdist)
    finally:
        shutil.rmtree(place)


@pytest.fixture
def user(bench: Bench) -> Iterator[Account]:
    """An ordinary user, who has nothing yet."""
    with accounts(bench.place, 1) as (account,):
        yield account


def test_what_the_packages_hold(bench: Bench) -> None:
    assert bench.wheel.name == f"condainer-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(bench.wheel) as archive:
        names = set(archive.namelist())
        data = f"condainer-{__version__}.data"
        script = archive.read(f"{data}/scripts/cnd").decode()
    # Not what an installer writes for an entry point, which imports more.
    assert script == (TOP / "bin/cnd").read_text()
    installed = {name.removeprefix(f"{data}/data/") for name in names if f"{data}/data/" in name}
    assert installed == SHARED | {f"share/man/man1/{name}" for name in manual.pages()}
    assert f"condainer-{__version__}.dist-info/licenses/LICENSE" in names
    code = {str(path.relative_to(TOP)) for path in (TOP / "condainer").rglob("*.py")}
    code |= {"condainer/py.typed", "condainer/upkeep/report.html"}
    rest = {name for name in names if not name.startswith((f"{data}/", data[:-5] + ".dist-info/"))}
    assert rest == code
    with tarfile.open(bench.sdist) as archive_of_sources:
        sources = {name.partition("/")[2] for name in archive_of_sources.getnames()}
    assert code | {"setup.py", "pyproject.toml", "bin/cnd", "README.md", "LICENSE"} <= sources


def test_twine_finds_nothing_wrong(bench: Bench) -> None:
    command = [str(bench.tools / "twine"), "check", "--strict", str(bench.wheel), str(bench.sdist)]
    done = subprocess.run(command, env={**os.environ, **MINE}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_man_pages_are_well_formed(tmp_path: Path) -> None:
    for name, text in manual.pages().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    pages = sorted(tmp_path.iterdir())
    assert len(pages) > 30
    tried = 0
    for command in (("mandoc", "-Tlint", "-Wwarning"), ("groff", "-ww", "-man", "-Kutf8", "-z")):
        if shutil.which(command[0]):
            done = subprocess.run([*command, *pages], capture_output=True, text=True)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            tried += 1
    if not tried:
        needs("mandoc or groff")
    shown = subprocess.run(
        ["man", str(tmp_path / "cnd.1")],
        env={**MINE, "MANWIDTH": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "condainer.yml" in shown.stdout
    assert "cnd-build(1)" in shown.stdout


@pytest.mark.parametrize(
    ("tool", "source"), [("uv", "wheel"), ("uv", "sdist"), ("pipx", "wheel"), ("pip", "wheel")]
)
def test_an_installation(bench: Bench, user: Account, tool: str, source: str) -> None:
    package = str(bench.wheel if source == "wheel" else bench.sdist)
    python, venv = public_python(), user.home / "venv"
    variables = bench.offline
    if tool == "uv":
        options = ("--no-index", "--find-links", str(bench.place / "wheels"), "--python", python)
        command = (str(bench.tools / "uv"), "tool", "install", *options, package)
        user.run(*command, environment=variables)
        prefix, programs = user.home / ".local/share/uv/tools/condainer", user.home / ".local/bin"
    elif tool == "pipx":
        arguments = ("install", "--python", python, package)
        user.run(str(bench.tools / "pipx"), *arguments, environment=variables)
        prefix, programs = user.home / ".local/share/pipx/venvs/condainer", user.home / ".local/bin"
    else:
        user.run(python, "-m", "venv", str(venv), environment=variables)
        install = (str(venv / "bin/pip"), "install", "--quiet", package)
        user.run(*install, environment=variables)
        link = "mkdir -p ~/.local/bin && ln -s ~/venv/bin/cnd ~/.local/bin/"
        user.run("bash", "-c", link, environment=MINE)
        prefix, programs = venv, user.home / ".local/bin"

    mine = {**MINE, "PATH": f"{programs}:{MINE['PATH']}"}
    assert user.run("cnd", "--version", environment=mine).stdout == f"condainer {__version__}\n"
    # What is imported at the longest way is there, too.
    assert "address" in user.run("cnd", "status", environment=mine).stdout
    for name in SHARED:
        assert (prefix / name).is_file()
    completion = (prefix / "share/bash-completion/completions/cnd").read_text()
    assert user.run("cnd", "completion", "bash", environment=mine).stdout == completion
    # pipx links man pages, too.
    where = () if tool == "pipx" else ("-M", str(prefix / "share/man"))
    found = user.run("man", *where, "-w", "cnd-build", environment=mine).stdout
    assert found.endswith("/man1/cnd-build.1\n")


def test_the_recipes_are_of_this_version() -> None:
    recipes = TOP / "contrib/packages"
    (easyconfig,) = (recipes / "easybuild").glob("*.eb")
    assert easyconfig.name == f"condainer-{__version__}.eb"
    assert f"version = '{__version__}'\n" in easyconfig.read_text()
    assert f'  version: "{__version__}"\n' in (recipes / "conda-forge/recipe.yaml").read_text()
    assert f'    version("{__version__}", ' in (recipes / "spack/package.py").read_text()


@pytest.fixture(scope="module")
def archive(bench: Bench) -> Path:
    """The self-contained archive, made by its script."""
    made = bench.place / f"condainer-{__version__}.tar.gz"
    settings = bench.place / "uv.toml"
    settings.write_text(f'no-index = true\nfind-links = ["{bench.place}/wheels"]\n')
    done = subprocess.run(
        [bench.tools / "python", bench.place / "clone/contrib/packages/archive.py", made],
        env={
            "PATH": f"{bench.tools}:{MINE['PATH']}",
            "UV_CONFIG_FILE": str(settings),
            "UV_CACHE_DIR": str(bench.place / "uv"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return made


def test_the_archive_in_a_system_without_python(
    archive: Path, server: ChannelServer, tmp_path: Path
) -> None:
    if lacking := missing():
        needs(", ".join(lacking))
    tiny.wheel(tmp_path / "index", "greeting", "1.0")
    base = ensure_root(TOP / ".container")
    with (
        tiny.serve_wheels(tmp_path / "index") as index,
        container(base, tmp_path, fuse=True) as machine,
    ):
        for pattern in ("usr/bin/*python*", "usr/lib/*python*"):
            for path in machine.root.glob(pattern):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        project = HOME / "project"
        machine.path(project).mkdir()
        environment_yml = "dependencies: [python, click, pip: [greeting]]\n"
        (machine.path(project) / "environment.yml").write_text(environment_yml)
        shutil.copy(archive, machine.path(HOME) / "condainer.tar.gz")
        machine.give(HOME)
        # The documented commands, and the whole directory moved after that.
        unpack = "tar -xzf condainer.tar.gz -C ~ && mkdir tools && mv condainer tools/cnd-moved"
        variables = {
            "PATH": f"{HOME}/tools/cnd-moved/bin:/usr/bin:/bin",
            "CONDAINER_MIRRORS": f"conda-forge={server.url}/conda-forge pypi={index}",
        }

        def run(script: str) -> str:
            done = machine.run(
                "bash", "-c", f"cd {project} && {script}", environment=variables, directory="/"
            )
            assert done.returncode == 0, f"{script}: {done.stdout}\n{done.stderr}"
            return done.stdout

        assert run("cd ~ && ! command -v python3 && " + unpack) == ""
        assert run("cnd --version") == f"condainer {__version__}\n"
        run("cnd prereq --install")
        run("cnd build")
        code = "import click, greeting, sys; print(sys.prefix, greeting.version)"
        prefix, version = run(f"cnd exec -- python -c '{code}'").split()
        assert prefix.startswith("/tmp/condainer-")
        assert version == "1.0"
        run("cnd umount")


def test_the_easyconfig(archive: Path, bench: Bench, user: Account) -> None:
    needs_lmod()
    easyconfig = f"condainer-{__version__}.eb"
    shutil.copy(TOP / "contrib/packages/easybuild" / easyconfig, user.home)
    shutil.chown(user.home / easyconfig, user.uid)
    mine = {
        **MINE,
        "PATH": f"{bench.tools}:{MINE['PATH']}",
        "LMOD_CMD": str(LMOD.parent.parent / "libexec/lmod"),
        "EASYBUILD_PREFIX": str(user.home / "eb"),
        "EASYBUILD_SOURCEPATH": str(archive.parent),
    }
    path = str(user.home / easyconfig)
    user.run("eb", "--inject-checksums", "--force", path, environment=mine)
    assert "checksums = [None]" not in Path(path).read_text()
    user.run("eb", path, environment=mine)
    load = f". {LMOD} && module use ~/eb/modules/all && module load condainer/{__version__}"
    script = f"{load} && command -v cnd && cnd --version && man -w cnd-build"
    where = user.home / f"eb/software/condainer/{__version__}"
    assert user.run("bash", "-c", script, environment=MINE).stdout.splitlines() == [
        str(where / "bin/cnd"),
        f"condainer {__version__}",
        str(where / "share/man/man1/cnd-build.1"),
    ]


def test_the_recipe_for_conda(bench: Bench, channel: Path, tmp_path: Path) -> None:
    """It builds, and passes its own tests, in a channel that has what it needs and nothing else."""
    mine = tmp_path / "conda-forge"
    for subdir in ("linux-64", "noarch"):
        (mine / subdir).mkdir(parents=True)
        for package in (channel / subdir).glob("*.conda"):
            if package.name.startswith(FROM_CHANNEL):
                shutil.copy(package, mine / subdir)
    for number, wheel in enumerate((bench.place / "wheels").glob("*.whl")):
        if not wheel.name.startswith(FROM_CHANNEL):
            write_wheel(wheel, tmp_path / f"wheel-{number}", mine)
    tiny.index(mine)
    recipe = bench.place / "clone/contrib/packages/conda-forge/recipe.yaml"
    done = subprocess.run(
        [bench.tools / "python", "-c", BUILD_RECIPE, recipe, tmp_path / "built", mine.as_uri()],
        env={**MINE, "HOME": str(tmp_path), "RATTLER_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (built,) = done.stdout.split()
    assert Path(built).name.startswith(f"condainer-{__version__}-py")
