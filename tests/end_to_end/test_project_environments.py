"""Several environments in one project: a variant for CPUs and one for CUDA, side by side."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from condainer.startup import answer
from tests.helpers import tiny
from tests.helpers.entries import grow_old
from tests.helpers.needed import needs_program
from tests.helpers.projects import Project

CPU, GPU = "dependencies: [engine]\n", "dependencies: [engine, kernels]\n"
SEVERAL = """\
environments:
  cpu:
    environment_yml: cpu.yml
    virtual_packages: {cuda: ""}
  gpu:
    environment_yml: gpu.yml
    virtual_packages: {cuda: "12.4", cuda_arch: "9.0"}
"""


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A channel with builds of one package for CPUs and for CUDA."""
    channel = tmp_path_factory.mktemp("variants") / "channel"
    tiny.package(channel, "base-library", "1.0")
    for build, depends in (("cpu_0", ()), ("cuda_0", ("__cuda >=12",))):
        kind = build.partition("_")[0]
        tiny.package(
            channel,
            "engine",
            "1.1" if depends else "1.0",
            ["base-library", *depends],
            build,
            files=[("bin/engine", f"#!/bin/sh\necho {kind}\n")],
        )
    tiny.package(channel, "kernels", "1.0", ["__cuda_arch >=9.0"])
    tiny.index(channel)
    return channel


@pytest.fixture
def two(make_project: Any, variants: Path) -> Project:
    """A project with an environment for CPUs and one for CUDA, and none of the name `default`."""
    project: Project = make_project(
        text="", CONDAINER_MIRRORS=f"conda-forge={variants.as_uri()}", SHELL="/bin/bash"
    )
    project.write(CPU, "cpu.yml")
    project.write(GPU, "gpu.yml")
    project.write(SEVERAL, "condainer.yml")
    return project


def is_quick(project: Project, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Tell whether a stamp answers a command, in the environment of a project."""
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project.path)
    call = answer.parsed(list(arguments))
    return call is not None and call.stamped is not None


def test_two_variants_side_by_side(two: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    built = two.json("build", "--all")
    assert list(built) == ["cpu", "gpu"]
    addresses = {name: answer["address"] for name, answer in built.items()}
    assert len(set(addresses.values())) == 2
    # Each has its own lockfiles; what both have was downloaded once.
    assert {path.name for path in two.path.glob("*lock*")} == {
        *("conda-cpu-linux-64.lock", "cpu.conda-lock.yml"),
        *("conda-gpu-linux-64.lock", "gpu.conda-lock.yml"),
    }
    assert "# virtual-package: cuda=12.4\n" in (two.path / "conda-gpu-linux-64.lock").read_text()
    for name, said in (("cpu", "cpu\n"), ("gpu", "cuda\n")):
        assert two.json("status", "-e", name)["address"] == addresses[name]
        assert two.json("status", "-e", name)["environment"] == name
        assert two.cnd("exec", "-e", name, "engine").stdout == said
        for words in (("exec", "-e", name, "engine"), ("-e", name, "exec", "--", "engine")):
            assert is_quick(two, *words, monkeypatch=monkeypatch)
            assert two.cnd(*words).stdout == said
        assert is_quick(two, "build", "--environment", name, monkeypatch=monkeypatch)
        assert two.json("build", "-e", name)["address"] == addresses[name]
        told = two.cnd("build", "-e", name).stderr
        assert f"source ./activate-{name}, cnd shell -e {name}, or cnd exec -e {name} --" in told
        # The variable chooses as the option does.
        assert two.cnd("exec", "engine", status=0, CONDAINER_ENVIRONMENT=name).stdout == said
    assert two.cnd("exec", "-e", "cpu", "engine", CONDAINER_ENVIRONMENT="gpu").stdout == "cpu\n"
    changed = two.json("diff", "cpu", "gpu")
    assert [item["new"]["name"] for item in changed["changed"]] == ["engine"]
    assert [item["name"] for item in changed["added"]] == ["kernels"]
    assert [changed[side]["address"] for side in ("old", "new")] == list(addresses.values())
    assert two.json("show", "gpu")["address"] == addresses["gpu"]
    assert "engine 1.1" in two.cnd("tree", "-e", "gpu").stdout


def test_an_edit_makes_one_stale(two: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    two.cnd("build", "--all")
    two.write("dependencies: [engine, base-library]\n", "cpu.yml")
    assert two.json("status", "-e", "cpu")["lock"] == "stale"
    assert two.json("status", "-e", "gpu")["lock"] == "current"
    assert is_quick(two, "exec", "-e", "gpu", "engine", monkeypatch=monkeypatch)
    assert not is_quick(two, "exec", "-e", "cpu", "engine", monkeypatch=monkeypatch)
    done = two.cnd("exec", "-e", "cpu", "engine", status=125)
    assert f"The lock of {two.path} (environment cpu) is stale" in done.stderr
    assert "`cnd build -e cpu`" in done.stderr
    checked = two.cnd("lock", "--check", "--all", "--json", status=7)
    assert '"gpu": {"current": true' in checked.stdout
    assert "Run `cnd lock -e cpu`" in checked.stderr
    before = (two.path / "conda-gpu-linux-64.lock").stat()
    two.cnd("lock", "--all")
    two.cnd("lock", "--check", "--all")
    assert (two.path / "conda-gpu-linux-64.lock").stat() == before
    # A virtual package of one is nothing to the other, either.
    two.write(SEVERAL.replace("12.4", "12.5"), "condainer.yml")
    states = {name: two.json("status", "-e", name)["lock"] for name in ("cpu", "gpu")}
    assert states == {"cpu": "current", "gpu": "stale"}


def test_a_collection_keeps_the_images_of_all(two: Project) -> None:
    built = two.json("build", "--all")
    kept = {answer["address"] for answer in built.values()}
    (listed,) = ({item["address"]: item for item in two.json("list")},)
    assert all(listed[address]["pinned_by"] == [str(two.path)] for address in kept)
    grow_old(two.cache)
    two.cnd("gc", "--older-than", "1d")
    assert {item["address"] for item in two.json("list")} == kept
    assert f"{two.path} (" in two.cnd("show", "gpu").stdout
    assert ", environment gpu)" in two.cnd("show", "gpu").stdout
    # What is declared no more and has no lock is not kept for ever.
    two.write(SEVERAL.partition("  gpu:")[0], "condainer.yml")
    two.cnd("gc", "--older-than", "1d")
    assert {item["address"] for item in two.json("list")} == kept
    (two.path / "conda-gpu-linux-64.lock").unlink()
    (two.path / "gpu.conda-lock.yml").unlink()
    two.cnd("gc", "--older-than", "1d")
    assert {item["address"] for item in two.json("list")} == {built["cpu"]["address"]}


def test_a_failure_of_one_leaves_the_others(two: Project) -> None:
    two.write("dependencies: [no-such-package]\n", "cpu.yml")
    done = two.cnd("build", "--all", "--json", status=5)
    assert "no-such-package" in done.stderr
    answers = json.loads(done.stdout)
    assert answers["cpu"].keys() == {"error", "hint", "exit_code"}
    assert answers["cpu"]["exit_code"] == 5
    assert "address" in answers["gpu"]
    assert two.cnd("exec", "-e", "gpu", "engine").stdout == "cuda\n"
    assert two.cnd("lock", "--all", status=5).stderr.count("Environment ") == 2


def test_who_names_none_gets_default_or_is_told(two: Project, empty_packages: Path) -> None:
    # Of its own, for `cnd clean`: others build from the one that tests share.
    two.environment["CONDAINER_PACKAGE_CACHE"] = str(empty_packages)
    for words in (("build",), ("lock",), ("status",), ("exec", "true"), ("tree",), ("fetch",)):
        done = two.cnd(*words, status=None)
        assert done.returncode in (3, 125)
        assert f"{two.path} has the environments cpu, gpu, and none of them" in done.stderr
        assert "Choose one: `-e cpu`." in done.stderr
    # These are about no environment of the project.
    for words in (("list",), ("gc",), ("clean",), ("version",), ("prereq",), ("tag", "--list")):
        two.cnd(*words, status=0, CONDAINER_ENVIRONMENT="other")
    two.write(SEVERAL.replace("cpu:", "default:"), "condainer.yml")
    two.cnd("build")
    assert two.cnd("exec", "engine").stdout == "cpu\n"
    # It has the files of a project without `environments:`, which can begin to have them.
    assert (two.path / "conda-linux-64.lock").exists()
    assert (two.path / "activate").exists()
    two.write("environment_yml: cpu.yml\nvirtual_packages: {cuda: ''}\n", "condainer.yml")
    assert two.json("build")["locked"] is False


def test_mistaken_names_are_told_from_names_of_images(two: Project) -> None:
    two.cnd("build", "-e", "gpu")
    two.cnd("tag", "tagged", "-e", "gpu")
    done = two.cnd("exec", "--env", "gpu", "true", status=125)
    assert f"It is an environment of {two.path}: `-e gpu`, in place of" in done.stderr
    done = two.cnd("exec", "-e", "tagged", "true", status=125)
    assert "has the environments cpu, gpu, but no tagged" in done.stderr
    assert "`--env NAME` takes an image by its name in a cache" in done.stderr
    done = two.cnd("exec", "-e", "gpu", "--env", "tagged", "true", status=2)
    assert "give one of them" in done.stderr
    assert "-e NAME chooses" in two.cnd("build", "--env", "gpu", status=2).stderr
    assert "give one of them" in two.cnd("build", "-e", "gpu", "--all", status=2).stderr
    assert "an empty name" in two.cnd("build", "-e", "", status=2).stderr
    for words in (("lock", "--all", "--export", "explicit"), ("build", "--all", "--from", "x")):
        two.cnd(*words, status=2)
    # The variable for images is stronger than that for environments, and an option than both.
    both = {"CONDAINER_ENV": "tagged", "CONDAINER_ENVIRONMENT": "cpu"}
    for _ in range(2):
        assert two.cnd("exec", "engine", status=0, **both).stdout == "cuda\n"
    done = two.cnd("exec", "-e", "cpu", "engine", status=125, **both)
    assert "(environment cpu) is missing" in done.stderr


def test_a_project_that_declares_none(project: Project) -> None:
    project.cnd("build", "--all")
    for words in (("build",), ("exec", "true")):
        done = project.cnd(words[0], "-e", "gpu", *words[1:], status=None)
        assert "has no environment gpu" in done.stderr
        assert "environments:" in done.stderr
        project.cnd(words[0], "-e", "default", *words[1:])
    assert list(project.json("build", "--all")) == ["default"]


def test_equal_inputs_are_one_image(two: Project) -> None:
    two.write("environments:\n  one: {environment_yml: cpu.yml}\n", "condainer.yml")
    two.write(
        "environments:\n  one: {environment_yml: cpu.yml}\n  two: {environment_yml: cpu.yml}\n",
        "condainer.yml",
    )
    built = two.json("build", "--all")
    assert built["one"]["address"] == built["two"]["address"]
    assert [built["one"]["hit"], built["two"]["hit"]] == [False, True]
    assert len(two.json("list")) == 1
    assert two.cnd("diff", "one", "two").stderr == "No difference\n"
    assert two.cnd("exec", "-e", "two", "engine").stdout == "cpu\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_activation(two: Project, shell: str) -> None:
    needs_program(shell)
    two.cnd("build", "--all")
    end = {"fish": ".fish", "tcsh": ".csh"}.get(shell, "")
    script = f"source ./activate-gpu{end}; engine; source ./activate-cpu{end}; engine; deactivate"
    done = two.bash(script, shell)
    assert done.stdout == "cuda\ncpu\n", done.stderr
    # It tells when the inputs of its own environment have changed, and only then.
    two.write(f"{CPU}# \nvariables: {{A: b}}\n", "cpu.yml")
    assert "The lock is stale" in two.bash(f"source ./activate-cpu{end}", shell).stderr
    assert "stale" not in two.bash(f"source ./activate-gpu{end}", shell).stderr


def test_whatever_uses_an_image_takes_the_environment(two: Project) -> None:
    two.cnd("build", "--all")
    done = two.bash('eval "$(cnd shell-hook -e gpu)"; engine')
    assert done.stdout == "cuda\n", done.stderr
    two.cnd("wrap", "-e", "gpu", "tools")
    assert two.bash("tools/bin/engine").stdout == "cuda\n"
    prefix = two.cnd("mount", "-p", "-e", "cpu").stdout.strip()
    assert (Path(prefix) / "bin" / "engine").read_text().endswith("cpu\n")
    assert f"Unmounted {prefix}" in two.cnd("umount", "-e", "cpu").stderr
    materials = [two.json("licenses", "-e", name) for name in ("cpu", "gpu")]
    assert materials[0] != materials[1]
    exported = two.cnd("lock", "-e", "gpu", "--export", "explicit").stdout
    assert "kernels-1.0-0.conda" in exported


def test_remedies_name_the_environment(two: Project) -> None:
    two.cnd("build", "-e", "cpu")
    locking = "`cnd lock -e cpu --platform linux-aarch64`"
    assert locking in two.cnd("fetch", "-e", "cpu", "--platform", "linux-aarch64", status=8).stderr
    assert (
        "`cnd add -e cpu ipykernel`" in two.cnd("kernel", "install", "-e", "cpu", status=4).stderr
    )
    address = two.json("status", "-e", "cpu")["address"]
    two.write(CPU + "variables: {KIND: cpu}\n", "cpu.yml")
    hook = two.cnd("shell-hook", "-e", "cpu").stderr
    assert "the last image built, `cnd build -e cpu` makes a new one" in hook
    two.cnd("umount", "-e", "cpu", "--force")
    two.cnd("rm", "--force", address)
    assert "`cnd build -e cpu`" in two.cnd("verify", "-e", "cpu", status=15).stderr
    asked = two.cnd("lock", "-e", "gpu", "--platform", "osx-arm64", status=5).stderr
    assert "`cnd lock -e gpu --platform linux-64` locks for this machine only" in asked


def test_packages_are_added_to_one(two: Project) -> None:
    two.cnd("build", "--all")
    two.cnd("add", "-e", "cpu", "base-library")
    assert "base-library" in (two.path / "cpu.yml").read_text()
    assert (two.path / "gpu.yml").read_text() == GPU
    two.cnd("lock", "--check", "--all")


def test_a_bundle_has_one_environment(two: Project, make_project: Any) -> None:
    file = two.path / "bundled"
    two.cnd("bundle", "-e", "gpu", str(file))
    other: Project = make_project("other", text="")
    packages = other.path.parent / "other packages"
    packages.mkdir()
    other.environment["CONDAINER_PACKAGE_CACHE"] = str(packages)
    other.environment["CONDAINER_CACHE"] = str(packages / "cache")
    other.cnd("build", "-e", "gpu", "--from", str(file))
    names = {"conda-gpu-linux-64.lock", "gpu.conda-lock.yml", "gpu.yml", "condainer.yml"}
    assert names <= set(os.listdir(other.path))
    assert other.cnd("exec", "-e", "gpu", "engine").stdout == "cuda\n"
    # A project with a lock of one environment takes no files of another.
    two.cnd("bundle", "-e", "cpu", str(file))
    other.cnd("build", "-e", "gpu", "--from", str(file))
    assert not (other.path / "cpu.yml").exists()
