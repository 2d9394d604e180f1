"""Manifests of pixi and conda-workspaces, read as the inputs that an environment file gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from condainer.inputs import toml_file
from condainer.inputs.inputs import Inputs
from condainer.inputs.manifests import workspace
from condainer.inputs.read import declared_platforms, read_inputs
from condainer.settings import input_files
from condainer.settings.load import load_settings
from condainer.settings.project_files import ProjectFiles
from condainer.solve.conda_solver import match_specs
from condainer.startup import find_project
from condainer.system.errors import CondainerError, InputError
from condainer.system.files import read_bytes

HEAD = '[workspace]\nchannels = ["conda-forge"]\nplatforms = ["linux-64", "osx-arm64"]\n'
PROJECT = """\
[project]
name = "my_project"
requires-python = ">=3.9,<4"
dependencies = ["click>=8"]
[project.optional-dependencies]
test = ["six>=1"]
all = ["idna", "My.Project[test]"]
[dependency-groups]
docs = ["pyparsing", {include-group = "more"}]
more = ["cycler"]
[tool.pixi.workspace]
channels = ["conda-forge"]
platforms = ["linux-64"]
"""


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Return what reads the text of a manifest."""

    def made(
        text: str, platform: str = "linux-64", name: str = "pixi.toml", *overrides: str
    ) -> Inputs:
        (tmp_path / name).write_text(text)
        return read_inputs(load_settings(tmp_path, overrides, {}), platform)

    return made


def specs(inputs: Inputs) -> list[str]:
    """Return the specs of inputs as the solver understands them."""
    return [str(spec) for spec in match_specs(inputs.specs)]


def lines(inputs: Inputs) -> list[str]:
    return [line.text for line in inputs.requirements]


def test_it_means_what_an_environment_file_means(read: Any, tmp_path: Path) -> None:
    inputs = read(
        HEAD + '[dependencies]\npython = "3.11.*"\nclick = "*"\n[pypi-dependencies]\nrich = "*"\n'
    )
    (tmp_path / "pixi.toml").unlink()
    text = "dependencies: [python=3.11, click, {pip: [rich]}]\nplatforms: [linux-64, osx-arm64]\n"
    same = read(text, name="environment.yml")
    assert specs(inputs) == specs(same)
    assert lines(inputs) == lines(same)
    assert (inputs.channels, inputs.platforms) == (same.channels, same.platforms)


@pytest.mark.parametrize(
    ("entry", "spec"),
    [
        ('"*"', "numpy"),
        ('">=1.26,<3"', "numpy >=1.26,<3"),
        ('{version = "1.26.*", build = "py311*", channel = "bioconda"}', "numpy 1.26.* py311*"),
        ('{build-number = ">=2", subdir = "noarch"}', 'build_number=">=2"'),
        ('{sha256 = "' + "a" * 64 + '"}', "a" * 64),
    ],
)
def test_a_dependency_is_a_spec(read: Any, entry: str, spec: str) -> None:
    (found,) = specs(read(f"{HEAD}[dependencies]\nnumpy = {entry}\n"))
    assert spec in found
    assert ("bioconda" in found) == ("bioconda" in entry)


def test_archives_are_named_by_their_place(read: Any, tmp_path: Path) -> None:
    url = "https://a.example/noarch/x-1-0.conda"
    inputs = read(
        f'{HEAD}[dependencies]\nx = {{url = "{url}", md5 = "{"b" * 32}"}}\n'
        'y = {path = "noarch/y-1-0.conda"}\n'
    )
    texts = [spec.text for spec in inputs.specs]
    assert texts == [f"{url}#{'b' * 32}", (tmp_path / "noarch/y-1-0.conda").as_uri()]


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ('"~=1.2"', "x~=1.2"),
        ('{version = "*", extras = ["a", "b"]}', "x[a,b]"),
        ('{version = ">=1", env-markers = "python_version < \'3.12\'"}', "x>=1 ; python_version"),
        ('{url = "https://a.example/x-1-py3-none-any.whl"}', "x @ https://a.example/x-1-py3-none"),
        (
            '{git = "https://a.example/x.git", tag = "v1", subdirectory = "python"}',
            "x @ git+https://a.example/x.git@v1#subdirectory=python",
        ),
        ('{git = "ssh://git@a.example/x"}', "x @ git+ssh://git@a.example/x"),
    ],
)
def test_a_dependency_on_pypi_is_a_requirement(read: Any, entry: str, line: str) -> None:
    inputs = read(f"{HEAD}[pypi-dependencies]\nx = {entry}\n")
    assert lines(inputs)[0].startswith(line)
    assert specs(inputs) == ["python"]


def test_what_a_target_says_overrules(read: Any) -> None:
    text = (
        HEAD + '[dependencies]\na = "1.*"\nb = "1.*"\n[host-dependencies]\nb = "2.*"\n'
        '[target.unix.dependencies]\na = "2.*"\n[target.linux-64.dependencies]\na = "3.*"\n'
        '[target.osx.dependencies]\nc = "*"\n[target.win.dependencies]\nd = "*"\n'
    )
    assert specs(read(text)) == ["a 3.*", "b 2.*"]
    assert specs(read(text, "osx-arm64")) == ["a 2.*", "c", "b 2.*"] or set(
        specs(read(text, "osx-arm64"))
    ) == {"a 2.*", "b 2.*", "c"}


def test_the_later_target_wins_by_whichever_name(read: Any) -> None:
    text = HEAD.replace('"osx-arm64"', '"osx-arm64", {name = "cuda-l", platform = "linux-64"}')
    text += (
        '[target.linux-64.dependencies]\na = "3.*"\n[target.unix.dependencies]\na = "2.*"\n'
        '[target.macos.dependencies]\nb = "*"\n[target."cuda-*".dependencies]\na = "4.*"\n'
        '[feature.c]\nplatforms = ["cuda-l"]\n[environments]\nc = ["c"]\n'
    )
    assert specs(read(text)) == ["a 2.*"]
    assert specs(read(text, "osx-arm64")) == ["a 2.*", "b"]
    assert specs(read(text, "linux-64", "pixi.toml", "environment=c")) == ["a 4.*"]


def test_environments_are_made_of_features(read: Any, tmp_path: Path) -> None:
    text = (
        HEAD + '[dependencies]\na = "*"\n[feature.one.dependencies]\na = ">=2"\nb = "*"\n'
        '[feature.two]\nchannels = ["other", {channel = "first", priority = 2}]\n'
        'platforms = ["linux-64"]\n[feature.two.dependencies]\nc = "*"\n'
        '[environments]\nboth = ["one", "two"]\n'
        'bare = {features = ["two"], no-default-feature = true, solve-group = "x"}\n'
    )
    assert specs(read(text)) == ["a"]
    both = read(text, "linux-64", "pixi.toml", "environment=both")
    assert specs(both) == ["a >=2", "b", "c", "a"]
    # pixi sorts by priority; the channels of the workspace come with the features that have none.
    assert both.channels == ("first", "conda-forge", "other")
    assert both.platforms == ("linux-64",)
    bare = read(text, "linux-64", "pixi.toml", "environment=bare")
    assert (specs(bare), bare.channels) == (["c"], ("first", "other"))
    assert {both.environment, bare.environment} == {"both", "bare"}
    assert both.fingerprint() != bare.fingerprint()
    with pytest.raises(InputError, match=r"pixi.toml:\d+: there is no environment `x`") as caught:
        read(text, "linux-64", "pixi.toml", "environment=x")
    assert "bare, both, default" in caught.value.hint
    with pytest.raises(InputError, match=r":3: environment `both` is for linux-64, not for osx"):
        read(text, "osx-arm64", "pixi.toml", "environment=both")
    settings = load_settings(tmp_path, ["environment=both"], {})
    assert declared_platforms(settings, "linux-64") == ("linux-64",)


def test_system_requirements_are_virtual_packages(read: Any) -> None:
    text = (
        HEAD + '[dependencies]\na = "*"\n[system-requirements]\ncuda = "12"\nlinux = "5.4"\n'
        'libc = {family = "glibc", version = "2.31"}\nmacos = "13.0"\n'
        '[feature.new.system-requirements]\ncuda = "12.4"\n[environments]\nnew = ["new"]\n'
    )
    found = dict(read(text).virtual_packages)
    assert found == {"cuda": "12", "linux": "5.4", "glibc": "2.31", "osx": "13.0"}
    newer = read(text, "linux-64", "pixi.toml", "environment=new", "virtual_packages=linux=6.1")
    assert dict(newer.virtual_packages) == {**found, "cuda": "12.4", "linux": "6.1"}


def test_platforms_can_have_names_and_virtual_packages(read: Any) -> None:
    text = (
        '[workspace]\nchannels = ["c"]\nplatforms = ["linux-64", "osx-64", '
        '{name = "gpu", platform = "linux-64", cuda = "12.0", __glibc = "2.34"}]\n'
        '[dependencies]\na = "*"\n[target.gpu.dependencies]\nb = "*"\n'
        '[feature.cuda]\nplatforms = ["gpu"]\n[environments]\ncuda = ["cuda"]\n'
    )
    plain = read(text)
    assert (specs(plain), plain.virtual_packages) == (["a"], ())
    gpu = read(text, "linux-64", "pixi.toml", "environment=cuda")
    assert specs(gpu) == ["a", "b"]
    assert dict(gpu.virtual_packages) == {"cuda": "12.0", "glibc": "2.34"}
    assert gpu.platforms == ("linux-64",)
    two = text.replace('"linux-64", "osx-64"', '{name = "old", platform = "linux-64"}')
    with pytest.raises(InputError, match="several platforms for linux-64: old, gpu"):
        read(two)


def test_options_of_pypi(read: Any, tmp_path: Path) -> None:
    inputs = read(
        HEAD.replace("[workspace]", "[workspace]\npypi-options = {index-url = 'https://w.example'}")
        + '[pypi-dependencies]\nx = "*"\n[pypi-options]\nindex-url = "https://i.example/simple"\n'
        'extra-index-urls = ["https://e.example/simple"]\nfind-links = [{path = "wheels"}]\n'
        'no-build = true\nno-binary = ["y"]\nprerelease-mode = "allow"\n'
        'index-strategy = "first-index"\nno-build-isolation = []\n'
    )
    assert lines(inputs) == [
        "--index-url https://i.example/simple",
        "--extra-index-url https://e.example/simple",
        f"--find-links {tmp_path}/wheels",
        "--only-binary :all:",
        "--no-binary y",
        "--pre",
        "x",
    ]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ('[dependencies]\na = {path = "../a"}\n', 5, "a is built from source"),
        ('[dependencies]\na = {git = "https://a.example/a"}\n', 5, "a is built from source"),
        ("[dependencies]\na = 3\n", 5, "must be a text or a table"),
        ("[dependencies]\na = {extras = ['x']}\n", 5, "`extras` of a is not possible here"),
        ("[dependencies]\na = {channel = 'https://u:p@a.example'}\n", 5, "a URL with user"),
        ("[dependencies]\n'a b' = '*'\n", 5, "not the name of a package"),
        ("[pypi-dependencies]\na = {path = '.', editable = true}\n", 5, "a local directory"),
        ("[pypi-dependencies]\na = {version='*', index='https://i.example'}\n", 5, "`index` of a"),
        ("[pypi-dependencies]\na = '1.2'\n", 5, "not a version specifier"),
        ("[pypi-dependencies]\na = {git = 'git://a.example/a'}\n", 5, "not the URL of a git"),
        ("[constraints]\na = '<2'\n", 4, "`constraints` is not possible here"),
        ("[dev]\na = {path = '.'}\n", 4, "`dev` is not possible here"),
        ("[dependancies]\na = '*'\n", 4, "`dependancies` is not possible here"),
        ("[target.linux.constraints]\na = '*'\n", 4, "`constraints` is not possible here"),
        ("[target.linux64.dependencies]\na = '*'\n", 4, "there is no platform `linux64`"),
        ("[pypi-options]\nno-build-isolation = ['a']\n", 5, "`no-build-isolation` with"),
        ("[pypi-options]\nindex-strategy = 'unsafe-best-match'\n", 5, "`index-strategy` with"),
        ("[system-requirements]\nlibc = {family = 'musl', version = '1'}\n", 4, "family 'musl'"),
        ("[system-requirements]\ncuda = true\n", 4, "version of cuda must be a text"),
        ("[environments]\ndefault = ['x']\n", 5, "there is no feature `x`"),
        ("[environments]\ndefault = {features = 'x'}\n", 5, "not a list of features"),
        ("dependencies = 3\n", 4, "must be a table"),
        (
            "[feature.x]\nchannels = 'a'\n[environments]\ndefault = ['x']\n"
            "[dependencies]\na = '*'\n",
            *(5, "must be a list"),
        ),
        ("[feature.x]\nplatforms = 3\n[environments]\ndefault = ['x']\n", 5, "must be a list"),
        ("[pypi-dependencies]\na = {extras = 3}\n", 5, "`extras` must be a list"),
        ("[pypi-dependencies]\na = {extras = 'xy'}\n", 5, "`extras` must be a list"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_place(
    read: Any, tmp_path: Path, text: str, line: int, problem: str
) -> None:
    if text.startswith("dependencies ="):
        text = text + HEAD
        line = 1
    else:
        text = HEAD + text
    with pytest.raises(CondainerError) as caught:
        read(text)
    assert caught.value.message.startswith(f"{tmp_path}/pixi.toml:{line}: ")
    assert problem in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ('exclude-newer = "2025-01-01"', "`exclude-newer` is not possible here"),
        ('channel-priority = "disabled"', "only 'strict'"),
        ('solve-strategy = "lowest"', "only 'highest'"),
        ('chanels = ["x"]', "`chanels` is not possible here"),
    ],
)
def test_keys_of_the_workspace_that_change_the_result_are_refused(
    read: Any, tmp_path: Path, key: str, problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(f'{HEAD}{key}\n[dependencies]\na = "*"\n')
    assert caught.value.message.startswith(f"{tmp_path}/pixi.toml:4: ")
    assert problem in caught.value.message
    # Values that mean what is done here are fine.
    read(f'{HEAD}channel-priority = "strict"\n[dependencies]\na = "*"\n')


def test_what_means_nothing_for_an_image_is_told_once(read: Any, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six\n")
    inputs = read(
        HEAD + '[dependencies]\na = "*"\n[tasks]\nx = "y"\n[activation.env]\nA = "b"\n'
        '[feature.f.tasks]\nz = "w"\n[environments]\ndefault = ["f"]\n[package]\nname = "p"\n'
    )
    told = f"{tmp_path}/pixi.toml: activation and tasks and package mean nothing for an image"
    assert [note.partition(",")[0] for note in inputs.notes] == [
        told,
        f"{tmp_path}/requirements.txt is not read",
    ]
    assert lines(inputs) == []
    assert inputs.variables == ()


def test_a_pyproject_has_its_own_tables_too(read: Any, tmp_path: Path) -> None:
    text = (
        PROJECT + '[tool.pixi.pypi-dependencies]\nmy_project = {path = ".", editable = true}\n'
        '[tool.pixi.environments]\nall = ["all"]\ndocs = ["docs"]\n'
    )
    inputs = read(text, name="pyproject.toml")
    assert specs(inputs) == ["python >=3.9,<4"]
    assert lines(inputs) == ["click>=8"]
    assert inputs.name == "my_project"
    assert "the project itself, is not in the image" in inputs.notes[0]
    found = read(text, "linux-64", "pyproject.toml", "environment=all")
    assert lines(found) == ["idna", "six>=1", "click>=8"]
    found = read(text, "linux-64", "pyproject.toml", "environment=docs")
    assert lines(found) == ["pyparsing", "cycler", "click>=8"]
    extras = text.replace("editable = true", 'extras = ["test"]')
    assert lines(read(extras, name="pyproject.toml")) == ["click>=8", "six>=1"]
    with pytest.raises(InputError, match="no extra 'x'"):
        read(text.replace("editable = true", 'extras = ["x"]'), name="pyproject.toml")
    circle = text.replace('more = ["cycler"]', 'more = [{include-group = "docs"}]')
    with pytest.raises(InputError, match="include each other"):
        read(circle, "linux-64", "pyproject.toml", "environment=docs")
    with pytest.raises(InputError, match=r"toml:\d+: the project has no dependency group 'other'"):
        read(
            text.replace('group = "more"', 'group = "other"'),
            *("linux-64", "pyproject.toml", "environment=docs"),
        )
    own = text + '[tool.pixi.dependencies]\npython = "3.11.*"\n'
    assert specs(read(own, name="pyproject.toml")) == ["python 3.11.*"]


def test_what_a_project_requires_of_python_is_of_the_default_feature(read: Any) -> None:
    text = PROJECT + (
        '[tool.pixi.feature.new.dependencies]\npython = "3.12.*"\n'
        '[tool.pixi.feature.lint.dependencies]\nruff = "*"\n[tool.pixi.environments]\n'
        'new = ["new"]\nlint = {features = ["lint"], no-default-feature = true}\n'
    )
    new = read(text, "linux-64", "pyproject.toml", "environment=new")
    assert specs(new) == ["python 3.12.*", "python >=3.9,<4"]
    lint = read(text, "linux-64", "pyproject.toml", "environment=lint")
    assert (specs(lint), lines(lint)) == (["ruff"], [])


def test_the_project_itself_is_never_looked_for_in_an_index(read: Any) -> None:
    text = PROJECT + '[tool.pixi.environments]\ndocs = ["docs"]\n'
    for item, found in (
        ('"my-project"', []),
        ("\"My.Project>=1; python_version<'3'\"", []),
        ('"my_project [test, all]>=1"', ["six>=1", "idna"]),
        ('"my-project-stubs"', ["my-project-stubs"]),
    ):
        changed = text.replace('"cycler"', item)
        inputs = read(changed, "linux-64", "pyproject.toml", "environment=docs")
        assert lines(inputs) == ["pyparsing", *found, "click>=8"]
    marked = text.replace('"cycler"', "\"my-project[test]; python_version<'3'\"")
    with pytest.raises(InputError, match=r"toml:\d+: extras of the project itself cannot have"):
        read(marked, "linux-64", "pyproject.toml", "environment=docs")


def test_a_group_can_have_the_name_of_the_extra_that_it_includes(read: Any) -> None:
    more = 'all = ["my_project[all]"]\nTest_It = ["my-project[test-it]", "mock"]\nmore = ['
    text = PROJECT.replace("more = [", more)
    text = text.replace("test = [", "test_it = [").replace("[test]", "[Test.It]")
    text += '[tool.pixi.environments]\ntest = ["Test_It"]\nall = ["all"]\n'
    found = read(text, "linux-64", "pyproject.toml", "environment=test")
    assert lines(found) == ["six>=1", "mock", "click>=8"]
    found = read(text, "linux-64", "pyproject.toml", "environment=all")
    assert lines(found) == ["idna", "six>=1", "click>=8"]


@pytest.mark.parametrize(
    ("head", "tail", "problem"),
    [
        ("dependencies = 3", "", "`dependencies` must be a list"),
        ("requires-python = 3.9", "", "`requires-python` is not a version"),
        ("requires-python = '>=\"3.9\"'", "", "`requires-python` is not a version"),
        ("dependencies = 'six'", "", "`dependencies` must be a list"),
        ("[dependency-groups]\na = 'six'", "[tool.pixi.environments]\ndefault = ['a']", "a list"),
        (
            "optional-dependencies = 3",
            "[tool.pixi.feature.a]\n[tool.pixi.environments]\ndefault = ['a']",
            "`optional-dependencies` must be a table",
        ),
        ("", "[tool.pixi.pypi-dependencies]\nx = {path = '.', extras = 3}", "must be a list"),
        (
            "optional-dependencies = 3",
            "[tool.pixi.pypi-dependencies]\nx = {path = '.', extras = ['a']}",
            "must be a table",
        ),
    ],
)
def test_a_pyproject_of_other_types_is_refused(
    read: Any, tmp_path: Path, head: str, tail: str, problem: str
) -> None:
    ours = "[tool.pixi.workspace]\nchannels = ['conda-forge']\nplatforms = ['linux-64']"
    with pytest.raises(InputError) as caught:
        read(f"[project]\nname = 'x'\n{head}\n{ours}\n{tail}\n", name="pyproject.toml")
    assert caught.value.message.startswith(f"{tmp_path}/pyproject.toml:")
    assert problem in caught.value.message


def test_conda_workspaces_have_a_pool_of_dependencies(read: Any) -> None:
    text = (
        HEAD + '[workspace.dependencies]\nnumpy = ">=1.26"\n'
        '[dependencies]\nnumpy = {workspace = true, build = "py311*"}\n'
    )
    assert specs(read(text, name="conda.toml")) == ["numpy >=1.26 py311*"]
    with pytest.raises(InputError, match=r"conda.toml:7: scipy is not among the `dependencies`"):
        read(text.replace("numpy = {", "scipy = {"), name="conda.toml")


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["environment.yaml", "pixi.toml", "pylock.toml"], "environment.yaml"),
        (["pixi.toml", "conda.toml"], "pixi.toml"),
        (["conda.toml", "pyproject.toml"], "conda.toml"),
        (["pyproject.toml", "pylock.toml"], "pyproject.toml"),
        (["plain/pyproject.toml", "pylock.toml", "uv.lock"], "pyproject.toml"),
        (["plain/pyproject.toml", "pylock.toml"], "pylock.toml"),
        (["plain/pyproject.toml"], "environment.yml"),
    ],
)
def test_which_file_a_project_is_made_from(tmp_path: Path, files: list[str], chosen: str) -> None:
    for name in files:
        text = '[project]\nname = "x"\n' if "/" in name else PROJECT
        (tmp_path / name.rpartition("/")[2]).write_text(text)
    assert load_settings(tmp_path, (), {}).environment_yml == tmp_path / chosen


def test_an_environment_that_is_chosen_is_one_of_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text("dependencies: [a]\n")
    (tmp_path / "pixi.toml").write_text(HEAD)
    usual = load_settings(tmp_path, (), {})
    assert usual.environment_yml.name == "environment.yml"
    assert load_settings(tmp_path, ["environment=x"], {}).environment_yml.name == "pixi.toml"
    # A pixi.lock is used as it is, with the variables of the environment file.
    (tmp_path / "pixi.lock").write_text("version: 6\n")
    assert load_settings(tmp_path, ["environment=x"], {}).environment_yml.name == "environment.yml"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[workspace\n", ":1: not TOML 1.0"),
        (HEAD + "[dependencies]\na = {\n  version = '1',\n}\n", "not TOML 1.0"),
        ("a = " + "[" * 3000 + "]" * 3000, "not TOML 1.0"),
        ("\xff", "not TOML 1.0"),
        ("[other]\n", "no workspace of pixi or conda"),
        ('[workspace]\nchannels = ["c"]\n[dependencies]\na = "*"\n', "must be a list"),
    ],
)
def test_what_is_no_manifest(read: Any, tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=r"pixi.toml") as caught:
        read(text)
    assert problem in caught.value.message


def test_places_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(
        'a."b c".d = 1\n[t]\nx = """\n[no]\ny = 2\n"""\ny = 3\n[[list]]\nn = 1\n'
        "[[list]]\nn = 2\n[list.sub]\nm = 3\n"
    )
    document = toml_file.load(path, read_bytes)
    for keys, line in (
        (("a", "b c", "d"), 1),
        (("a", "b c"), 1),
        (("a", "x"), None),
        (("t", "y"), 7),
        (("t", "absent"), 2),
        (("list", 0, "n"), 9),
        (("list", 1), 10),
        (("list", 1, "sub", "m"), 13),
    ):
        assert document.where(*keys) == (f"{path}:{line}" if line else str(path))
    assert document.where("absent") == str(path)
    assert not workspace.is_one(document)


@pytest.mark.parametrize(
    ("header", "is_one"),
    [
        ("[tool.pixi.workspace]", True),
        ("[tool.conda.workspace]", True),
        ("\t[ tool . pixi ]", True),
        ("[[tool.pixi.tasks]]", True),
        ("[tool.conda-lock]", False),
        ("[tool.ruff]", False),
        ("# [tool.pixi]", False),
        ("a = '[tool.pixi]'", False),
    ],
)
def test_a_pyproject_above_is_found_if_it_is_a_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str, is_one: bool
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "pyproject.toml").write_text(f"{header}\nname = 'x'\n")
    monkeypatch.chdir(below)
    assert find_project.project_of("status") == str(tmp_path if is_one else below)
    # It is one for those who are in its directory, too.
    found = input_files.environment_file(tmp_path, ProjectFiles(), chooses=False)
    assert (found.name == "pyproject.toml") == is_one


def test_a_pyproject_that_is_no_file_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pyproject.toml")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert find_project.project_of("status") == str(tmp_path / "below")
