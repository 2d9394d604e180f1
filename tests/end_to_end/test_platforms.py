"""Locks for other platforms, made where their programs cannot run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from condainer.inputs.read import read_inputs
from condainer.lock.explicit import read_explicit
from condainer.packages import conda_packages
from condainer.pypi import wheels
from condainer.settings import virtual
from condainer.settings.load import load_settings
from condainer.solve.conda_solver import solve
from condainer.solve.pip.foreign import put_interpreter
from condainer.system.machine import this_platform
from condainer.system.reporter import Silent
from tests.helpers import tiny
from tests.helpers.projects import Project

FOREIGN = ("linux-aarch64", "linux-ppc64le")
TAGS = {
    "linux-64": "manylinux_2_17_x86_64",
    "linux-aarch64": "manylinux_2_17_aarch64",
    "linux-ppc64le": "manylinux_2_17_ppc64le",
    "osx-arm64": "macosx_11_0_arm64",
    "win-64": "win_amd64",
}

MACHINES = {"x86-64": "x86_64", "ppc64le": "ppc64le"}


@pytest.fixture(scope="module")
def foreign_channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A channel with packages for several platforms, and a python that cannot run."""
    channel = tmp_path_factory.mktemp("foreign") / "channel"
    for platform in ("linux-64", *FOREIGN, "osx-arm64", "win-64"):
        for version in ("1.0", "2.0"):
            tiny.package(channel, "native", version, subdir=platform)
        if platform != "linux-64":
            tiny.python(channel, platform)
    provided = [
        ("site-packages/provided-1.5.dist-info/METADATA", tiny.dist_info("provided", "1.5")),
        ("site-packages/provided-1.5.dist-info/RECORD", ""),
    ]
    tiny.python_package(channel, "provided", "1.5", provided)
    tiny.package(channel, "wants-old-glibc", "1.0", ["__glibc <2.30"])
    tiny.index(channel)
    return channel


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Iterator[str]:
    """The URL of an index with wheels for each platform, and what needs them."""
    directory = tmp_path / "wheels"
    for tag in TAGS.values():
        tiny.wheel(directory, "compiled", "1.0", ["provided", "pure"], f"cp312-cp312-{tag}")
    tiny.wheel(directory, "compiled", "2.0", [], "cp312-cp312-manylinux_2_39_aarch64")
    tiny.wheel(directory, "compiled", "1.0", ["provided"], "cp311-cp311-manylinux_2_17_x86_64")
    marked = [f"on-{name}; platform_machine == '{machine}'" for name, machine in MACHINES.items()]
    tiny.wheel(directory, "pure", "1.0", [*marked, "on-mac; sys_platform == 'darwin'"])
    for name in ("on-x86-64", "on-ppc64le", "on-mac", "provided"):
        tiny.wheel(directory, name, "1.0")
    tiny.wheel(directory, "provided", "1.9")
    tiny.wheel(directory, "demanding", "1.0", ["provided>=1.8"])
    tiny.wheel(directory, "elsewhere", "1.0", [], "cp312-cp312-win_arm64")
    with tiny.serve_wheels(directory) as url:
        yield url


@pytest.fixture
def many(make_project: Any, foreign_channel: Path, channel: Path, wheelhouse: str) -> Project:
    """A project whose channels have packages for several platforms."""
    mirrors = f"foreign={foreign_channel.as_uri()} conda-forge={channel.as_uri()}"
    project: Project = make_project(
        text="", CONDAINER_MIRRORS=mirrors, UV_DEFAULT_INDEX=wheelhouse, UV_NO_CACHE="1"
    )
    return project


def locked(project: Project, platform: str) -> list[str]:
    """Return the file names in the lock of a platform."""
    lock = read_explicit(project.path / f"conda-{platform}.lock", platform)
    return sorted([p.filename for p in lock.conda] + [p.filename for p in lock.pip])


def test_all_platforms_of_the_environment_file_are_locked(many: Project) -> None:
    many.write(
        "channels: [foreign]\nplatforms: [linux-64, linux-aarch64, linux-ppc64le, win-64]\n"
        "dependencies: [native]\n"
    )
    made = many.json("lock")
    names = [item["platform"] for item in made["platforms"]]
    assert names == ["linux-64", "linux-aarch64", "linux-ppc64le", "win-64"]
    for platform in names:
        text = (many.path / f"conda-{platform}.lock").read_text()
        assert f"/foreign/{platform}/native-2.0-0.conda#sha256:" in text
    from conda_lock.lockfile import parse_conda_lock_file

    unified = parse_conda_lock_file(many.path / "conda-lock.yml")
    assert unified.metadata.platforms == names
    assert sorted(package.platform for package in unified.package) == names
    many.cnd("lock", "--check")
    assert "current" in many.cnd("lock").stderr


def test_an_external_engine_locks_for_other_platforms_as_well(many: Project, conda: Path) -> None:
    many.write("channels: [foreign]\ndependencies: [native, wants-old-glibc]\n")
    foreign = many.path / f"conda-{FOREIGN[0]}.lock"
    many.cnd("lock", "--platform", FOREIGN[0])
    embedded = foreign.read_text()
    for path in many.path.glob("conda-*"):
        path.unlink()
    many.cnd("lock", "--platform", FOREIGN[0], CONDAINER_CONDA_EXE=str(conda))
    assert foreign.read_text() == embedded
    assert f"/foreign/{FOREIGN[0]}/native-2.0-0.conda#" in embedded


def test_more_platforms_one_after_the_other(many: Project) -> None:
    many.write("channels: [foreign]\ndependencies: [native =1]\n")
    many.cnd("lock")
    many.cnd("lock", "--platform", "linux-aarch64", "--platform", "osx-arm64")
    first = (many.path / "conda-linux-64.lock").read_text()
    # From now on the project has three, which are kept together.
    many.write("channels: [foreign]\ndependencies: [native]\n")
    stale = many.cnd("lock", "--check", status=7).stderr
    assert all(platform in stale for platform in ("linux-64", "linux-aarch64", "osx-arm64"))
    many.cnd("lock", "--platform", "linux-64")
    assert "native-1.0" in (many.path / "conda-linux-64.lock").read_text()
    assert (many.path / "conda-linux-64.lock").read_text() != first
    many.cnd("lock", "--check", "--platform", "linux-64")
    many.cnd("lock", "--check", status=7)
    many.cnd("lock", "--upgrade")
    many.cnd("lock", "--check")
    assert locked(many, "osx-arm64") == ["native-2.0-0.conda"]
    assert "missing" in many.cnd("lock", "--check", "--platform", "win-64", status=7).stderr


def test_a_build_locks_this_platform_only(many: Project) -> None:
    many.write("channels: [foreign]\nplatforms: [linux-64, win-arm64]\ndependencies: [native]\n")
    many.cnd("build")
    assert "win-arm64" in many.cnd("lock", "--check", status=7).stderr
    done = many.cnd("lock", status=5)
    assert "no solution on win-arm64" in done.stderr


@pytest.mark.parametrize("name", ["linux", "linux-x86_64", "../x", "linux_64"])
def test_what_is_no_platform(many: Project, name: str) -> None:
    many.write("channels: [foreign]\ndependencies: [native]\n")
    assert "is not a platform" in many.cnd("lock", "--platform", name, status=4).stderr
    many.write(f"channels: [foreign]\nplatforms: [{name}]\ndependencies: [native]\n")
    assert "environment.yml: `platforms`: " in many.cnd("lock", status=4).stderr


def test_the_glibc_of_another_platform_is_a_usual_one_or_what_is_said(many: Project) -> None:
    many.write("channels: [foreign]\ndependencies: [wants-old-glibc]\n")
    many.cnd("lock", "--platform", "linux-aarch64")
    done = many.cnd("lock", "--platform", "linux-ppc64le", status=5, CONDA_OVERRIDE_GLIBC="2.34")
    assert "__glibc" in done.stderr
    assert "__glibc" in many.cnd("lock", "--platform", "osx-arm64", status=5).stderr


@pytest.mark.parametrize("platform", [*FOREIGN, "osx-arm64", "win-64"])
def test_pip_packages_of_another_platform(many: Project, platform: str) -> None:
    many.write(
        "channels: [foreign, conda-forge]\n"
        "dependencies: [python=3.12, provided, {pip: [compiled]}]\n"
    )
    many.cnd("lock", "--platform", platform)
    extra = {"linux-ppc64le": ["on_ppc64le-1.0"], "osx-arm64": ["on_mac-1.0"]}
    assert locked(many, platform) == sorted(
        [
            f"compiled-1.0-cp312-cp312-{TAGS[platform]}.whl",
            "pure-1.0-py3-none-any.whl",
            "provided-1.5-py_0.conda",
            "python-3.12.4-h0_0_cp312.conda",
            *(f"{name}-py3-none-any.whl" for name in extra.get(platform, [])),
        ]
    )


def test_what_is_known_of_another_platform_is_not_linked_again(
    many: Project, empty_packages: Path
) -> None:
    many.environment["CONDAINER_PACKAGE_CACHE"] = str(empty_packages)
    many.write("channels: [foreign]\ndependencies: [python, provided, {pip: [demanding]}]\n")
    locks = []
    for linked in (True, False):
        done = many.cnd("lock", "--platform", "osx-arm64", "--upgrade")
        assert ("Linking" in done.stderr) == linked
        assert "replace conda packages: provided" in done.stderr
        locks.append((many.path / "conda-osx-arm64.lock").read_bytes())
    assert locks[0] == locks[1]
    many.write("channels: [foreign]\ndependencies: [python, {pip: [compiled]}]\n")
    assert "Linking" not in many.cnd("lock", "--platform", "osx-arm64").stderr
    assert f"compiled-1.0-cp312-cp312-{TAGS['osx-arm64']}.whl" in locked(many, "osx-arm64")


def test_a_newer_glibc_lets_newer_wheels_in(many: Project) -> None:
    many.write("channels: [foreign]\ndependencies: [python, {pip: [compiled]}]\n")
    many.write("virtual_packages: {glibc: '2.39'}\n", "condainer.yml")
    many.cnd("lock", "--platform", "linux-aarch64")
    assert "compiled-2.0-cp312-cp312-manylinux_2_39_aarch64.whl" in locked(many, "linux-aarch64")


def test_a_requirement_that_replaces_a_conda_package_says_so(many: Project) -> None:
    many.write("channels: [foreign]\ndependencies: [python, provided, {pip: [demanding]}]\n")
    done = many.cnd("lock", "--platform", "linux-ppc64le")
    assert "replace conda packages: provided" in done.stderr
    assert "provided-1.9-py3-none-any.whl" in locked(many, "linux-ppc64le")


def test_what_has_no_wheel_for_the_platform_is_refused(many: Project) -> None:
    many.write("channels: [foreign]\ndependencies: [python, {pip: [elsewhere]}]\n")
    done = many.cnd("lock", "--platform", "linux-ppc64le", status=5)
    assert "For linux-ppc64le: " in done.stderr
    assert "elsewhere" in done.stderr
    assert "locks for this machine only" in done.stderr
    assert not list(many.path.glob("conda-*"))


def test_the_stand_in_gives_what_the_interpreter_itself_gives(
    many: Project, tmp_path: Path
) -> None:
    many.write(
        "channels: [conda-forge, foreign]\ndependencies: [python, requests, {pip: [pure]}]\n"
    )
    overrides = [
        f"package_cache={many.environment['CONDAINER_PACKAGE_CACHE']}",
        f"mirrors={many.environment['CONDAINER_MIRRORS']}",
    ]
    settings = load_settings(many.path, overrides)
    inputs = read_inputs(settings, this_platform())
    solved = solve(inputs, settings, Silent())
    archives = conda_packages.fetch([item.package for item in solved], settings, Silent())
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_DEFAULT_INDEX", many.environment["UV_DEFAULT_INDEX"])
        for name in ("native", "stand-in"):
            scratch = tmp_path / name
            prefix = scratch / "prefix"
            scratch.mkdir()
            conda_packages.link(archives, prefix, prefix, scratch, settings, Silent())
            if name == "stand-in":
                python = next(item for item in solved if item.name == "python")
                offered = virtual.virtual_packages(this_platform(), ())
                put_interpreter(prefix, this_platform(), python, offered)
            foreign = name == "stand-in"
            results.append(wheels.resolve(inputs, prefix, scratch, Silent(), (), foreign))
    assert results[0] == results[1]
    assert [package.name for package in results[0].packages] == ["on-x86-64", "pure"]
