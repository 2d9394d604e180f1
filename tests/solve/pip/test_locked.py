"""Locks of pip packages by PEP 751: what is taken for a platform and a Python, and what is not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from condainer.inputs import toml_file
from condainer.inputs.inputs import Inputs
from condainer.inputs.read import read_inputs
from condainer.lock.locks import CondaPackage, Solved
from condainer.settings.load import load_settings
from condainer.solve.pip import locked
from condainer.system.errors import InputError

HEAD = 'lock-version = "1.0"\ncreated-by = "test"\nrequires-python = ">=3.10"\n'
DIGEST = "a" * 64
FILES = "https://files.example/p"


def wheel(name: str, tags: str = "py3-none-any", digest: str = DIGEST) -> str:
    url = f"{FILES}/{name}-1.0-{tags}.whl"
    return f'{{url = "{url}", hashes = {{sha256 = "{digest}"}}}}'


def package(name: str, *wheels: str, more: str = "") -> str:
    files = f"wheels = [{', '.join(wheels)}]\n" if wheels else ""
    return f'[[packages]]\nname = "{name}"\n{more}{files}'


def python(version: str = "3.11.7", build: str = "0_cpython") -> Solved:
    return Solved(CondaPackage("", ""), "python", version, build, "", ())


@pytest.fixture
def choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what chooses from the text of a pylock.toml, with no machine's own glibc."""
    monkeypatch.setenv("CONDA_OVERRIDE_GLIBC", "2.28")

    def made(text: str, platform: str = "linux-64", interpreter: Solved | None = None) -> list[str]:
        path = tmp_path / "pylock.toml"
        path.write_text(HEAD + text)
        inputs = read_inputs(load_settings(tmp_path, (), {}), platform)
        assert inputs.pip_lock is not None
        document = toml_file.parsed(path, inputs.pip_lock.text)
        found = locked.chosen(document, interpreter or python(), inputs)
        assert all(item.sha256 == DIGEST for item in found)
        return [item.filename for item in found]

    return made


MANY = package(
    "x",
    wheel("x"),
    wheel("x", "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64"),
    wheel("x", "cp311-cp311-manylinux_2_28_x86_64"),
    wheel("x", "cp311-cp311-manylinux_2_34_x86_64"),
    wheel("x", "cp311-cp311-manylinux_2_17_aarch64"),
    wheel("x", "cp310-abi3-macosx_11_0_arm64"),
    wheel("x", "cp311-cp311-macosx_12_0_arm64"),
    wheel("x", "cp311-cp311-win_amd64"),
    wheel("x", "cp313-cp313t-manylinux_2_28_x86_64"),
    wheel("x", "cp313-cp313-manylinux_2_28_x86_64"),
)


@pytest.mark.parametrize(
    ("platform", "interpreter", "tags"),
    [
        ("linux-64", python(), "cp311-cp311-manylinux_2_28_x86_64"),
        ("linux-aarch64", python(), "cp311-cp311-manylinux_2_17_aarch64"),
        ("osx-arm64", python(), "cp310-abi3-macosx_11_0_arm64"),
        ("win-64", python(), "cp311-cp311-win_amd64"),
        ("osx-64", python(), "py3-none-any"),
        ("linux-64", python("3.12.1"), "py3-none-any"),
        ("linux-64", python("3.13.1"), "cp313-cp313-manylinux_2_28_x86_64"),
        ("linux-64", python("3.13.1", "100_cp313t"), "cp313-cp313t-manylinux_2_28_x86_64"),
    ],
)
def test_the_best_wheel_of_a_platform(
    choose: Any, platform: str, interpreter: Solved, tags: str
) -> None:
    assert choose(MANY, platform, interpreter) == [f"x-1.0-{tags}.whl"]


def test_an_older_glibc_gets_an_older_wheel(choose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_OVERRIDE_GLIBC", "2.17")
    tags = "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64"
    assert choose(MANY) == [f"x-1.0-{tags}.whl"]


def test_markers_are_those_of_the_platform_and_its_python(choose: Any) -> None:
    text = (
        package("a", wheel("a"), more="marker = \"sys_platform == 'win32'\"\n")
        + package("b", wheel("b"), more="marker = \"python_version < '3.12'\"\n")
        + package("c", wheel("c"), more="marker = \"platform_machine == 'aarch64'\"\n")
        + package("d", wheel("d"), more="marker = \"'dev' in dependency_groups\"\n")
    )
    text = 'dependency-groups = ["dev"]\n' + text
    assert choose(text) == ["b-1.0-py3-none-any.whl"]
    assert choose(text, "win-64", python("3.12.0")) == ["a-1.0-py3-none-any.whl"]
    assert choose(text, "linux-aarch64") == ["b-1.0-py3-none-any.whl", "c-1.0-py3-none-any.whl"]


def test_a_long_lock_takes_no_square_of_its_time(choose: Any) -> None:
    lines = "# via\n" * 20
    text = "".join(package(f"p{n}", wheel(f"p{n}"), more=lines) for n in range(600))
    start = time.monotonic()
    assert len(choose(text)) == 600
    assert time.monotonic() - start < 5


def test_what_has_no_wheel_is_built_from_its_sdist(choose: Any) -> None:
    sdist = f'sdist = {{url = "{FILES}/x-1.0.tar.gz", hashes = {{sha256 = "{DIGEST}"}}}}\n'
    assert choose(package("x", more=sdist)) == ["x-1.0.tar.gz"]
    both = package("x", wheel("x", "cp311-cp311-win_amd64"), more=sdist)
    assert choose(both) == ["x-1.0.tar.gz"]
    archive = f'archive = {{url = "{FILES}/v1.zip", hashes = {{sha256 = "{DIGEST}"}}}}\n'
    assert choose(package("x", more=archive)) == ["v1.zip"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (package("x", more='directory = {path = "../x", editable = true}\n'), "a local directory"),
        (
            package("x", more=f'vcs = {{type="git", url="{FILES}/x", commit-id="{"b" * 40}"}}\n'),
            "comes from version control",
        ),
        (
            package(
                "x",
                more='wheels = [{path = "x-1.0-py3-none-any.whl", hashes = {sha256 = '
                f'"{DIGEST}"}}}}]\n',
            ),
            "a local file: x-1.0-py3",
        ),
        (
            package(
                "x",
                more=f'wheels = [{{url = "{FILES}/x-1.0-py3-none-any.whl", hashes = '
                '{md5 = "aa"}}]\n',
            ),
            "x has no sha256",
        ),
        (
            package(
                "x",
                more=f'archive = {{url = "{FILES}/x.zip", subdirectory = "python", '
                f'hashes = {{sha256 = "{DIGEST}"}}}}\n',
            ),
            "a directory of an archive",
        ),
        (
            package(
                "x",
                more=f'wheels = [{{name = "x-1.0-py3-none-any.whl", url = "{FILES}/y", '
                f'hashes = {{sha256 = "{DIGEST}"}}}}]\n',
            ),
            "is called x-1.0-py3-none-any.whl, but its URL ends in y",
        ),
        (package("x", wheel("x", "cp311-cp311-win_amd64")), "does not fit to Python 3.11.7"),
        (package("x", wheel("x"), more='requires-python = ">=3.12"\n'), "does not fit to Python"),
        (package("x", wheel("y")), "not valid by PEP 751"),
        (package("x"), "not valid by PEP 751"),
        (package("x", wheel("x"), more='version = "2"\n'), "not valid by PEP 751"),
    ],
    ids=lambda value: value[:40].replace("\n", " "),
)
def test_what_no_image_is_made_from_is_refused_with_its_place(
    choose: Any, tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        choose(package("w", wheel("w")) + text)
    # The second package stands where the first has ended.
    assert caught.value.message.startswith(f"{tmp_path}/pylock.toml:7: ")
    assert problem in caught.value.message
    assert caught.value.hint
    others = package("x", more='marker = "sys_platform == \'win32\'"\ndirectory = {path = "."}\n')
    assert choose(package("w", wheel("w")) + others) == ["w-1.0-py3-none-any.whl"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('created-by = "x"\npackages = []\n', "no `lock-version`"),
        ("packages = [\n", "not TOML 1.0"),
    ],
)
def test_what_is_no_pylock(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "pylock.toml").write_text(text)
    with pytest.raises(InputError, match=problem):
        read_inputs(load_settings(tmp_path, (), {}), "linux-64")


@pytest.mark.parametrize("value", ["'>=\"3.10\"'", '">=3.10]"', "3.10", '[">=3.10"]'])
def test_a_python_that_no_spec_can_ask_for_is_refused_with_its_place(
    tmp_path: Path, value: str
) -> None:
    text = HEAD.replace('">=3.10"', value) + package("w", wheel("w"))
    (tmp_path / "pylock.toml").write_text(text)
    with pytest.raises(InputError, match=r"pylock\.toml:3: `requires-python` is not") as caught:
        read_inputs(load_settings(tmp_path, (), {}), "linux-64")
    assert caught.value.hint


def test_versions_that_are_not_known(choose: Any, tmp_path: Path) -> None:
    for old, new, problem in (
        ('"1.0"', '"2.0"', "version 2.0 is not supported"),
        (">=3.10", ">=3.12", "Python 3.11.7"),
        (">=3.10", "3.10", "not valid by PEP 751"),
    ):
        path = tmp_path / "pylock.toml"
        path.write_text((HEAD + package("w", wheel("w"))).replace(old, new))
        inputs = read_inputs(load_settings(tmp_path, (), {}), "linux-64")
        document = toml_file.parsed(path, path.read_text())
        with pytest.raises(InputError, match=r"pylock\.toml") as caught:
            locked.chosen(document, python(), inputs)
        assert problem in caught.value.message
    with pytest.raises(InputError, match="cannot be chosen here"):
        choose(package("w", wheel("w")), "linux-64", python("3.10.1", "0_73_pypy"))


def read(project: Path, *overrides: str) -> Inputs:
    return read_inputs(load_settings(project, overrides, {}), "linux-64")


def test_alone_it_asks_for_its_python_and_beside_an_environment_file_for_nothing(
    tmp_path: Path,
) -> None:
    lock = tmp_path / "pylock.toml"
    lock.write_text(HEAD + package("w", wheel("w")))
    (alone,) = read(tmp_path).specs
    assert (alone.text, alone.where.partition(" ")[0]) == ("python[version='>=3.10']", str(lock))
    (tmp_path / "environment.yml").write_text("dependencies: [python=3.12, {pip: [w]}]\n")
    (tmp_path / "requirements.txt").write_text("six\n")
    beside = read(tmp_path)
    assert [spec.text for spec in beside.specs] == ["python=3.12"]
    assert [line.text for line in beside.requirements] == ["w"]
    assert f"{tmp_path}/requirements.txt is not read, because pylock.toml is there" in beside.notes
    named = read(tmp_path, f"requirements_txt={tmp_path}/requirements.txt")
    assert named.pip_lock is None
    assert [line.text for line in named.requirements] == ["w", "six"]
    # What a tool says of itself changes nothing; a package does.
    lock.write_text(lock.read_text().replace('"test"', '"other"') + "# comment\n")
    assert read(tmp_path).fingerprint() == beside.fingerprint()
    lock.write_text(lock.read_text().replace(DIGEST, "b" * 64))
    assert read(tmp_path).fingerprint() != beside.fingerprint()
    (tmp_path / "environment.yml").unlink()
    with pytest.raises(InputError, match="has no environments"):
        read(tmp_path, "environment=x")


def test_a_named_one_is_chosen_by_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "pylock.gpu.toml").write_text(HEAD + package("w", wheel("w")))
    with pytest.raises(InputError, match=r"but pylock\.gpu\.toml is there") as caught:
        read(tmp_path)
    assert "`requirements_txt: pylock.gpu.toml`" in caught.value.hint
    found = read(tmp_path, f"requirements_txt={tmp_path}/pylock.gpu.toml")
    assert found.pip_lock is not None
    assert [source.path for source in found.sources] == ["pylock.gpu.toml"]
