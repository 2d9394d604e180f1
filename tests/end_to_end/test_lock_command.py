"""`cnd lock`: what moves, what stays, and what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from condainer.lock.explicit import read_explicit
from condainer.system.files import remove_tree
from tests.channel import ChannelServer
from tests.helpers import tiny
from tests.helpers.needed import needs_program
from tests.helpers.projects import Project
from tests.helpers.repository import Repository

PIP = "dependencies: [python, {pip: [alpha]}]\n"


@pytest.fixture(scope="module")
def tiny_channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages in two versions each, and some that depend on virtual packages."""
    channel = tmp_path_factory.mktemp("tiny") / "channel"
    for name in ("lib", "tool", "other"):
        for version in ("1.0", "2.0"):
            tiny.package(channel, name, version)
    tiny.package(channel, "app", "1.0", ["lib"])
    tiny.package(channel, "strict", "1.0", ["lib >=2"])
    tiny.package(channel, "gpu", "1.0", build="cpu_0")
    tiny.package(channel, "gpu", "1.1", ["__cuda >=12"], build="cuda_1")
    tiny.package(channel, "kernels", "1.0", build="any_0")
    tiny.package(channel, "kernels", "1.1", ["__cuda_arch >=9.0"], build="sm90_0")
    tiny.package(channel, "kernels", "1.2", ["__cuda_arch * big"], build="big_0")
    tiny.package(channel, "modern", "1.0", ["__glibc >=2.17"])
    tiny.package(channel, "modern", "2.0", ["__glibc >=2.99"])
    tiny.index(channel)
    return channel


@pytest.fixture(scope="module")
def older() -> dict[str, bytes]:
    """The files of the first lock that a test of this module makes."""
    return {}


@pytest.fixture
def locked(make_project: Any, tiny_channel: Path, older: dict[str, bytes]) -> Project:
    """A project whose lock has older packages than the channel."""
    project: Project = make_project(text="", CONDAINER_MIRRORS=f"tiny={tiny_channel.as_uri()}")
    environment(project, "lib =1", "tool =1", "app")
    if not older:
        project.cnd("lock")
        older.update({path.name: path.read_bytes() for path in project.path.glob("conda-*")})
    for name, content in older.items():
        (project.path / name).write_bytes(content)
    environment(project, "lib", "tool", "app")
    return project


def environment(project: Project, *specs: str) -> None:
    project.write("channels: [tiny]\ndependencies:\n" + "".join(f"- {spec}\n" for spec in specs))


def versions(project: Project) -> dict[str, str]:
    """Return the version of each package in the lock."""
    lock = read_explicit(project.lockfile, "linux-64")
    names = [package.filename for package in lock.conda] + [p.filename for p in lock.pip]
    return {name.split("-")[0]: name.split("-")[1] for name in names}


def bytes_of(project: Project) -> list[tuple[str, bytes, int]]:
    return [(p.name, p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(project.path.iterdir())]


def test_adding_one_package_moves_nothing_else(locked: Project) -> None:
    old = versions(locked)
    environment(locked, "lib", "tool", "app", "other")
    made = locked.json("lock", "--diff")
    assert versions(locked) == {**old, "other": "2.0"}
    (platform,) = made["platforms"]
    assert [package["name"] for package in platform["added"]] == ["other"]
    assert (platform["removed"], platform["changed"]) == ([], [])


def test_options_and_constraints_alone_need_no_python(locked: Project) -> None:
    old = versions(locked)
    locked.write("--pre\n-c limits.txt\n", "requirements.txt")
    locked.write("six<2\n", "limits.txt")
    locked.cnd("lock")
    assert versions(locked) == old


def test_only_what_stands_in_the_way_moves(locked: Project) -> None:
    assert versions(locked) == {"lib": "1.0", "tool": "1.0", "app": "1.0"}
    environment(locked, "lib", "tool", "app", "strict")
    locked.cnd("lock")
    assert versions(locked) == {"lib": "2.0", "tool": "1.0", "app": "1.0", "strict": "1.0"}


def test_a_build_moves_no_more_than_a_lock_does(locked: Project) -> None:
    environment(locked, "lib", "tool", "app", "other")
    assert locked.json("build")["locked"]
    assert versions(locked) == {"lib": "1.0", "tool": "1.0", "app": "1.0", "other": "2.0"}


def test_update_moves_only_what_it_names(locked: Project) -> None:
    locked.cnd("lock", "--update", "tool")
    assert versions(locked) == {"lib": "1.0", "tool": "2.0", "app": "1.0"}
    done = locked.cnd("lock", "--update", "tol", status=4)
    assert "Did you mean `tool`?" in done.stderr
    # One that is new can be named, too.
    environment(locked, "lib", "tool", "app", "other")
    locked.cnd("lock", "--update", "other")
    assert versions(locked) == {"lib": "1.0", "tool": "2.0", "app": "1.0", "other": "2.0"}
    locked.cnd("lock", "tool", status=2)
    locked.cnd("lock", "--check", "--upgrade", status=2)


def test_upgrade_moves_everything_and_plain_lock_nothing(locked: Project) -> None:
    locked.cnd("lock")
    before = bytes_of(locked)
    said = locked.cnd("lock").stderr
    assert "is current" in said
    assert "--upgrade" in said
    assert bytes_of(locked) == before
    locked.cnd("lock", "--upgrade")
    assert versions(locked) == {"lib": "2.0", "tool": "2.0", "app": "1.0"}


def test_the_same_input_gives_the_same_bytes(locked: Project, make_project: Any) -> None:
    locked.cnd("lock", "--upgrade")
    first = [(name, content) for name, content, _ in bytes_of(locked)]
    locked.cnd("lock", "--upgrade")
    assert [(name, content) for name, content, _ in bytes_of(locked)] == first
    for path in (locked.lockfile, locked.path / "conda-lock.yml"):
        path.unlink()
    locked.cnd("lock", SOURCE_DATE_EPOCH="1", TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="7")
    assert [(name, content) for name, content, _ in bytes_of(locked)] == first


def test_check_says_why_by_its_status_and_asks_nobody(locked: Project) -> None:
    away = {"CONDAINER_MIRRORS": "tiny=http://127.0.0.1:9/tiny"}
    locked.cnd("lock")
    before = bytes_of(locked)
    assert "current" in locked.cnd("lock", "--check", status=0, **away).stderr
    assert (
        json.loads(locked.cnd("lock", "--check", "--json", status=0, **away).stdout)["current"]
        is True
    )
    environment(locked, "lib", "tool")
    done = locked.cnd("lock", "--check", "--json", status=7, **away)
    assert "environment.yml changed" in done.stderr
    told = json.loads(done.stdout)
    assert told["current"] is False
    assert told["platforms"][0]["status"] == "stale"
    environment(locked, "lib", "tool", "app")
    assert bytes_of(locked)[:2] == before[:2]
    unified = locked.path / "conda-lock.yml"
    text = unified.read_text()
    unified.write_text(text.replace("lib-1.0-0.conda", "lib-2.0-0.conda"))
    assert "does not agree" in locked.cnd("lock", "--check", status=7, **away).stderr
    locked.cnd("lock")
    assert unified.read_text() == text
    locked.lockfile.unlink()
    unified.unlink()
    assert "missing" in locked.cnd("lock", "--check", status=7, **away).stderr


def test_half_a_merge_is_stale_for_all_commands(project: Project) -> None:
    unified = project.path / "conda-lock.yml"
    project.cnd("-q", "lock")
    other = unified.read_text()
    project.write("dependencies: [probe-files]\n")
    project.cnd("-q", "build")
    ours = unified.read_text()
    project.cnd("-q", "build", "--locked")
    # A stamp says that all is well.
    unified.write_text(other)
    for arguments in (["lock", "--check"], ["build", "--locked"], ["lock", "--export", "explicit"]):
        assert "conda-lock.yml does not agree" in project.cnd(*arguments, status=7).stderr
    assert "conda-lock.yml does not agree" in project.cnd("exec", "true", status=125).stderr
    assert project.json("status")["lock"] == "stale"
    assert "does not agree" in project.cnd("-y", "build").stderr
    project.cnd("-q", "build")
    assert unified.read_text() == ours
    # Another way to write the same, and other line ends, are none of that.
    for text in (ours.replace("  url: ", "  url:  "), ours.replace("\n", "\r\n")):
        unified.write_bytes(text.encode())
        project.cnd("lock", "--check")
        project.cnd("-q", "build", "--locked")


def test_a_lost_conda_lock_yml_comes_back_and_nothing_moves(locked: Project) -> None:
    locked.cnd("lock")
    before = [(name, content) for name, content, _ in bytes_of(locked)]
    (locked.path / "conda-lock.yml").unlink()
    locked.cnd("lock", "--check")
    locked.cnd("lock")
    assert [(name, content) for name, content, _ in bytes_of(locked)] == before


def test_the_table_of_changes(locked: Project) -> None:
    environment(locked, "lib >=2", "other")
    before = bytes_of(locked)
    done = locked.cnd("-y", "lock", "--diff")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["-", "conda", "app", "1.0", "0"] in rows
    assert ["+", "conda", "other", "2.0", "0"] in rows
    assert ["~", "conda", "lib", "1.0", "0", "->", "2.0", "0"] in rows
    assert "Would lock " in done.stderr
    assert bytes_of(locked) == before
    assert locked.cnd("lock", "--diff").stdout == done.stdout
    same = locked.cnd("-y", "lock", "--upgrade", "--diff")
    assert (same.stdout, same.stderr.splitlines()[-1][-13:]) == ("", "nothing moved")
    assert versions(locked) == {"lib": "2.0", "other": "2.0"}


def test_a_dry_run_says_what_would_be_solved(locked: Project) -> None:
    before = bytes_of(locked)
    assert "solve for linux-64, because" in locked.cnd("-y", "lock").stderr
    assert json.loads(locked.cnd("-y", "lock", "--json").stdout)["would"]
    assert bytes_of(locked) == before


def test_a_damaged_lock_is_made_anew(locked: Project) -> None:
    locked.lockfile.write_text("# Made by `cnd lock`\nnonsense\n")
    locked.cnd("lock", "--check", status=8)
    locked.cnd("lock")
    locked.cnd("lock", "--check")


def test_conda_locks_own_writer_gives_the_same_text(locked: Project, tmp_path: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file

    locked.cnd("lock")
    ours = locked.path / "conda-lock.yml"
    theirs = tmp_path / "theirs.yml"
    write_conda_lock_file(parse_conda_lock_file(ours), theirs, None, include_help_text=False)
    assert ours.read_text().partition("\n")[2] == theirs.read_text()


@pytest.fixture
def wheels(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Wheels in two versions each, and the index that serves them."""
    directory = tmp_path / "wheels"
    for version in ("1.0", "2.0"):
        tiny.wheel(directory, "alpha", version, ["beta"])
        tiny.wheel(directory, "beta", version)
        tiny.wheel(directory, "gamma", version, ["beta>=2"] if version == "2.0" else [])
        tiny.wheel(directory, "demanding", version, ["beta>=2"])
    with tiny.serve_wheels(directory) as url:
        yield directory, url


def test_pip_packages_stay_as_well(make_project: Any, wheels: tuple[Path, str]) -> None:
    project = make_project(text=PIP, UV_DEFAULT_INDEX=wheels[1], UV_NO_CACHE="1")
    project.write("alpha==1.0\nbeta==1.0\n", "requirements.txt")
    project.cnd("lock")
    project.write("gamma\n", "requirements.txt")
    project.cnd("lock")
    old = {"alpha": "1.0", "beta": "1.0", "gamma": "1.0"}
    found = versions(project)
    assert {name: found[name] for name in old} == old
    project.cnd("lock", "--update", "Alpha")
    assert {name: versions(project)[name] for name in old} == {**old, "alpha": "2.0"}
    project.write("gamma\ndemanding\n", "requirements.txt")
    table = project.cnd("lock", "--diff").stdout
    # What stands in the way moves, and nothing else.
    assert {name: versions(project)[name] for name in old} == {**old, "alpha": "2.0", "beta": "2.0"}
    assert "~  pip  beta       1.0 py3-none-any -> 2.0 py3-none-any" in table
    project.cnd("lock", "--upgrade")
    assert versions(project)["gamma"] == "2.0"
    assert versions(project)["python"] == found["python"]


@pytest.mark.parametrize("how", ["configuration", "variable"])
def test_virtual_packages_can_be_chosen(locked: Project, how: str) -> None:
    environment(locked, "gpu", "modern")
    locked.cnd("lock", "--upgrade")
    assert "gpu-1.0-cpu_0" in locked.lockfile.read_text()
    assert versions(locked)["modern"] == "1.0"
    if how == "configuration":
        locked.write('virtual_packages:\n  cuda: 12.40\n  glibc: "2.99"\n', "condainer.yml")
        chosen = {}
        assert "`virtual_packages` changed" in locked.cnd("lock", "--check", status=7).stderr
        assert locked.json("status")["lock"] == "stale"
        locked.cnd("lock", "--upgrade")
    else:
        chosen = {"CONDA_OVERRIDE_CUDA": "12.40", "CONDA_OVERRIDE_GLIBC": "2.99"}
        locked.cnd("lock", "--upgrade", status=0, **chosen)
    text = locked.lockfile.read_text()
    assert "gpu-1.1-cuda_1" in text
    assert "# virtual-package: cuda=12.40\n# virtual-package: glibc=2.99\n" in text
    assert versions(locked)["modern"] == "2.0"
    locked.cnd("lock", "--check", status=0, **chosen)
    if how == "variable":
        # Another machine has another environment: that makes no lock stale, but is said.
        said = locked.cnd("lock", "--check").stderr
        assert "cuda=12.40 glibc=2.99; now it would be no virtual packages" in said


@pytest.mark.parametrize(
    ("configured", "variables", "wanted"),
    [
        ('{cuda: "12.4", cuda_arch: 8.6}', {}, "1.0-any_0"),
        ('{cuda: "12.4", cuda_arch: 9.0}', {}, "1.1-sm90_0"),
        ('{cuda: "12.4", cuda_arch: 10.0}', {}, "1.1-sm90_0"),
        ('{cuda: "12.4", cuda_arch: 9.0=big}', {}, "1.2-big_0"),
        ('{cuda: "12.4", cuda_arch: 8.6}', {"CONDA_OVERRIDE_CUDA_ARCH": "9.0"}, "1.1-sm90_0"),
        # CEP 46: without CUDA there is none.
        ('{cuda: "", cuda_arch: 9.0}', {}, "1.0-any_0"),
        ('{cuda: "12.4", cuda_arch: ""}', {}, "1.0-any_0"),
    ],
)
def test_the_compute_capability_of_a_gpu_is_a_virtual_package(
    locked: Project, configured: str, variables: dict[str, str], wanted: str
) -> None:
    environment(locked, "kernels")
    locked.write(f"virtual_packages: {configured}\n", "condainer.yml")
    locked.cnd("lock", "--upgrade", status=0, **variables)
    text = locked.lockfile.read_text()
    assert f"kernels-{wanted}" in text
    assert "# virtual-package: cuda_arch=" in text
    locked.cnd("lock", "--check", status=0, **variables)


def test_a_virtual_package_that_is_absent(locked: Project) -> None:
    environment(locked, "modern")
    assert "__glibc" in locked.cnd("lock", status=5, CONDA_OVERRIDE_GLIBC="").stderr
    locked.cnd("lock")
    locked.write("virtual_packages: {glibc: }\n", "condainer.yml")
    assert "__glibc" in locked.cnd("lock", status=5).stderr
    locked.cnd("lock", CONDA_OVERRIDE_GLIBC="2.30")


@pytest.mark.parametrize(
    ("where", "value", "what"),
    [
        ("variable", "new", "CONDA_OVERRIDE_CUDA"),
        ("file", "{cuda: new}", "condainer.yml:1"),
        ("file", "{gpu: '1'}", "not a virtual package"),
        ("file", "{cuda_arch: 90}", "not a compute capability"),
        ("file", "{cuda_arch: 9.0a}", "not a compute capability"),
        ("file", "[cuda]", "must be a mapping"),
    ],
)
def test_what_is_no_version_is_named(locked: Project, where: str, value: str, what: str) -> None:
    if where == "file":
        locked.write(f"virtual_packages: {value}\n", "condainer.yml")
        done = locked.cnd("lock", status=3)
    else:
        done = locked.cnd("lock", status=3, CONDA_OVERRIDE_CUDA=value)
    assert what in done.stderr


def test_a_channel_without_md5_is_asked_once(
    locked: Project, tiny_channel: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_channel, tmp_path / "channel")
    for path in (tmp_path / "channel").glob("*/repodata.json"):
        path.write_text(re.sub(r'"md5": *"[0-9a-f]*",', "", path.read_text()))
    locked.environment["CONDAINER_MIRRORS"] = f"tiny={(tmp_path / 'channel').as_uri()}"
    assert "needs an md5" in locked.cnd("lock", "--upgrade").stderr
    assert not (locked.path / "conda-lock.yml").exists()
    before = bytes_of(locked)
    done = locked.cnd("lock")
    assert "Solving" not in done.stderr
    assert bytes_of(locked) == before
    assert locked.json("status")["lock"] == "current"
    # Where the channel gives one again, so does the next lock that solves.
    locked.environment["CONDAINER_MIRRORS"] = f"tiny={tiny_channel.as_uri()}"
    locked.cnd("lock", "--upgrade")
    assert (locked.path / "conda-lock.yml").exists()
    assert "without" not in locked.lockfile.read_text()


def test_exports_of_a_small_lock(locked: Project) -> None:
    locked.cnd("lock", "--export", "explicit", status=7)
    locked.cnd("lock")
    text = locked.cnd("lock", "--export", "explicit").stdout
    assert re.search(r"/noarch/lib-1\.0-0\.conda#[0-9a-f]{32}\n", text)
    (locked.path / "conda-lock.yml").rename(locked.path.parent / "away.yml")
    done = locked.cnd("lock", "--export", "explicit")
    assert re.search(r"/noarch/lib-1\.0-0\.conda#sha256:[0-9a-f]{64}\n", done.stdout)
    assert "md5" in done.stderr
    assert not (locked.path / "conda-lock.yml").exists()
    assert "there is none" in locked.cnd("lock", "--export", "conda-lock", status=8).stderr
    (locked.path.parent / "away.yml").rename(locked.path / "conda-lock.yml")
    unified = (locked.path / "conda-lock.yml").read_text()
    assert locked.cnd("lock", "--export", "conda-lock").stdout == unified
    requirements = locked.cnd("lock", "--export", "requirements")
    assert "# Without 3 conda packages, which have to be installed before: " in requirements.stdout
    assert "lib 1.0" in requirements.stdout
    assert "Without 3 conda packages" in requirements.stderr


def test_an_exported_environment_locks_to_the_same_packages(
    locked: Project, make_project: Any
) -> None:
    locked.cnd("lock")
    again = make_project("again", "", **locked.environment)
    output = str(again.path / "environment.yml")
    locked.cnd("lock", "--export", "environment", "--output", output)
    again.cnd("lock")
    assert versions(again) == versions(locked)


def test_an_exported_environment_has_the_channels_in_their_order(
    make_project: Any, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "more/second"
    tiny.package(first, "app", "1.0", ["base"])
    # It comes first in the lock, but its channel does not have that app.
    tiny.package(second, "base", "1.0")
    tiny.package(second, "app", "2.0")
    for channel in (first, second):
        tiny.package(channel, "twin", "1.0")
        tiny.index(channel)
    names = f"[{first.as_uri()}, {second.as_uri()}]"
    project = make_project(text=f"channels: {names}\ndependencies: [app]\n")
    project.cnd("lock")
    again = make_project("again", project.cnd("lock", "--export", "environment").stdout)
    again.cnd("lock")
    assert versions(again) == versions(project) == {"app": "1.0", "base": "1.0"}
    # Without its channel, that of the first one would be taken.
    project = make_project(
        "asked", f"channels: {names}\ndependencies: [app, '{second.as_uri()}::twin']\n"
    )
    project.cnd("lock")
    again = make_project("once more", project.cnd("lock", "--export", "environment").stdout)
    again.cnd("lock")
    assert f"{second.as_uri()}/noarch/twin-1.0-0" in again.lockfile.read_text()


def test_an_export_does_not_become_an_input(locked: Project) -> None:
    locked.cnd("lock")
    before = bytes_of(locked)
    for name in ("environment.yml", "requirements.txt", "conda-lock.yml", locked.lockfile.name):
        done = locked.cnd("lock", "--export", "requirements", "--output", name, status=4)
        assert "Name another file" in done.stderr
    would = locked.cnd("-y", "lock", "--export", "requirements", "--output", "new.txt").stderr
    assert "Would write new.txt" in would
    assert bytes_of(locked) == before
    told = locked.json("lock", "--export", "requirements", "--output", "new.txt")
    assert told["text"] == (locked.path / "new.txt").read_text()
    assert locked.cnd("lock", "--output", "new.txt", status=2).stdout == ""
    into = locked.cnd("lock", "--export", "requirements", "--output", ".", status=2).stderr
    assert "is a directory" in into


@pytest.mark.parametrize(("form", "name"), [("pixi", "pixi.lock"), ("conda", "conda.lock")])
def test_an_exported_lockfile_is_the_same_environment(
    locked: Project, make_project: Any, form: str, name: str
) -> None:
    locked.cnd("lock")
    text = locked.cnd("lock", "--export", form).stdout
    again = make_project("again", "", **locked.environment)
    again.write(text, name)
    assert again.json("status")["address"] == locked.json("status")["address"]
    # Beside environment.yml, from which the project is made; but another tool's file stays.
    for _ in range(2):
        locked.cnd("lock", "--export", form, "--output", name)
    assert (locked.path / name).read_text() == text
    locked.cnd("lock", "--check")
    locked.write(text.partition("\n")[2], name)
    done = locked.cnd("lock", "--export", form, "--output", name, status=4)
    assert "Name another file" in done.stderr


def test_exports_for_several_platforms(locked: Project) -> None:
    locked.cnd("lock", "--platform", "linux-64", "--platform", "linux-aarch64")
    both = ["--platform", "linux-64", "--platform", "linux-aarch64"]
    assert "one platform" in locked.cnd("lock", "--export", "explicit", *both, status=4).stderr
    text = locked.cnd("lock", "--export", "explicit", "--platform", "linux-aarch64").stdout
    assert text.startswith("# platform: linux-aarch64\n@EXPLICIT\n")
    text = locked.cnd("lock", "--export", "conda-lock", "--platform", "linux-aarch64").stdout
    assert "linux-64" not in text
    assert "name: lib" in text


# Where these lead, by a format.
PLACES = {
    "UV_INDEX": "ours={}",
    "UV_DEFAULT_INDEX": "{}",
    "UV_INDEX_URL": "{}/",
    "UV_EXTRA_INDEX_URL": "{}",
    "UV_FIND_LINKS": "{}/gamma/",
}


@pytest.mark.parametrize("name", PLACES)
def test_variables_that_say_where_packages_are(
    make_project: Any, wheels: tuple[Path, str], tmp_path: Path, name: str
) -> None:
    given = {"UV_DEFAULT_INDEX": wheels[1], "UV_NO_CACHE": "1"}
    project = make_project(text="dependencies: [python]\n", **given)
    project.write("gamma==1.0\n", "requirements.txt")
    with tiny.serve_wheels(wheels[0]) as other:
        value = PLACES[name].format(other)
        project.cnd("build", **{name: value.replace("://", "://anna:geheim@")})
        text = project.lockfile.read_text()
        assert f"# place: {name}={value.rstrip('/')}\n" in text
        assert "geheim" not in text
        # A login does not count, and neither does a variable that is not set.
        same = {name: value}
        assert "current" in project.cnd("lock", "--check", **same).stderr
        assert "Found" in project.cnd("build", "--locked", **same).stderr
        project.environment.pop("UV_DEFAULT_INDEX")
        project.cnd("lock", "--check")
        project.cnd("build", "--locked")
        moved = {name: PLACES[name].format("http://127.0.0.1:9")}
        for command in (["lock", "--check"], ["build", "--locked"]):
            said = project.cnd(*command, status=7, **moved).stderr
            assert f"{name} changed since it was locked" in said
        # Where the conda-lock.yml alone was kept, the packages are taken from there.
        project.lockfile.unlink()
        for _ in range(2):
            project.cnd("build", "--locked", **moved)
    # Nothing of it is in a lock without pip packages.
    project.write("", "requirements.txt")
    project.cnd("lock", **same)
    assert "# place:" not in project.lockfile.read_text()
    project.cnd("lock", "--check", **moved)


def test_what_packages_provide_is_asked_once(
    make_project: Any, wheels: tuple[Path, str], server: ChannelServer, tmp_path: Path
) -> None:
    cache = tmp_path / "packages"
    project = make_project(
        text="dependencies: [python, click =8.1, requests, {pip: [alpha, idna, click]}]\n",
        CONDAINER_MIRRORS=f"conda-forge={server.url}/conda-forge",
        CONDAINER_PACKAGE_CACHE=str(cache),
        UV_DEFAULT_INDEX=wheels[1],
        UV_NO_CACHE="1",
    )
    project.cnd("lock")
    cold = project.lockfile.read_bytes()
    # The conda packages have idna and click, which the index does not.
    assert {"alpha", "beta", "idna", "click"} <= versions(project).keys()
    assert len([line for line in cold.decode().splitlines() if line.startswith("# pip ")]) == 2
    remove_tree(cache / "archives")
    server.requests.clear()
    project.cnd("lock", "--upgrade")
    assert project.lockfile.read_bytes() == cold
    assert [path.rpartition("/")[2].partition("-")[0] for path in server.downloads] == ["python"]
    for path in (cache / "metadata").rglob("*.json"):
        path.write_text('{"../outside.dist-info/METADATA": ""}' if path.stat().st_size % 2 else "[")
    project.cnd("lock", "--upgrade")
    assert project.lockfile.read_bytes() == cold
    assert len(server.downloads) > 5


@pytest.mark.parametrize("name", ["thing @ ", ""])
def test_a_branch_stays_at_its_commit(
    make_project: Any, wheels: tuple[Path, str], tmp_path: Path, name: str
) -> None:
    needs_program("git")
    repository = Repository(tmp_path / "served" / "thing.git", "thing", "python")
    first = repository.commit("1.0")
    project = make_project(text=PIP, UV_DEFAULT_INDEX=wheels[1], UV_CACHE_DIR=str(tmp_path / "uv"))
    line = f"{name}git+{repository.path.as_uri()}@main#subdirectory=python\n"
    project.write(line, "requirements.txt")
    project.cnd("lock")
    second = repository.commit("2.0")
    project.write(f"{line}gamma\n", "requirements.txt")
    project.cnd("lock")
    assert f"@{first}#subdirectory=python" in project.lockfile.read_text()
    assert "# pip gamma" in project.lockfile.read_text()
    # What has nothing to do with it does not move it.
    project.write(f"{line}gamma==99\n", "requirements.txt")
    done = project.cnd("lock", status=5)
    assert "gamma==99" in done.stderr
    assert "A commit of the lock cannot stay" not in done.stderr
    # Another branch is another wish, even at the same repository.
    repository.git("branch", "other", first)
    project.write(f"{line.replace('@main', '@other')}gamma\n", "requirements.txt")
    project.cnd("lock", "--update", "thing")
    project.write(f"{line}gamma\n", "requirements.txt")
    project.cnd("lock")
    assert f"@{second}#subdirectory=python" in project.lockfile.read_text()


def test_a_merge_of_two_branches_keeps_what_was_locked(locked: Project) -> None:
    def git(*words: str, status: int = 0) -> None:
        identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        done = subprocess.run(["git", *identity, *words], cwd=locked.path, capture_output=True)
        assert done.returncode == status, done

    def branch(name: str, package: str) -> None:
        git("switch", "--quiet", "--create", name, "start")
        environment(locked, "lib", "tool", "app", package)
        locked.cnd("lock")
        git("commit", "--quiet", "--all", "--message", name)

    git("init", "--quiet", "--initial-branch=start")
    git("add", "environment.yml", "conda-linux-64.lock", "conda-lock.yml")
    git("commit", "--quiet", "--message", "start")
    branch("theirs", "gpu")
    branch("ours", "other")
    git("merge", "theirs", status=1)
    assert "both sides of a merge" in locked.cnd("lock", "--check", status=4).stderr
    environment(locked, "lib", "tool", "app", "gpu", "other")
    assert "git checkout --ours" in locked.cnd("build", "--locked", status=8).stderr
    git("checkout", "--ours", "conda-linux-64.lock", "conda-lock.yml")
    locked.cnd("lock")
    held = {"lib": "1.0", "tool": "1.0", "app": "1.0"}
    assert versions(locked) == {**held, "gpu": "1.0", "other": "2.0"}


def test_a_package_moves_to_the_channel_that_its_spec_names(
    make_project: Any, tmp_path: Path
) -> None:
    channels = [tmp_path / number / "channel" for number in ("first", "second")]
    for channel in channels:
        tiny.package(channel, "app", "1", files=[("share/app/channel", channel.parent.name)])
        tiny.index(channel)
    first, second = (channel.as_uri() for channel in channels)
    head = f"channels: ['{first}', '{second}']\n"
    project = make_project(text=f"{head}dependencies: [app]\n")
    project.cnd("lock")
    assert f"{first}/noarch/app-1-0.conda" in project.lockfile.read_text()
    project.write(f"{head}dependencies: ['{second}::app']\n")
    project.cnd("lock")
    assert f"{second}/noarch/app-1-0.conda" in project.lockfile.read_text()
    # Without a channel in the spec, it stays where it is.
    project.write(f"{head}dependencies: [app>=1]\n")
    project.cnd("lock")
    assert f"{second}/noarch/app-1-0.conda" in project.lockfile.read_text()
