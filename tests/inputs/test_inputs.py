"""environment.yml as people write it: what is read from it, what makes a lock stale, what fails."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condainer.inputs.conda_specs import Spec
from condainer.inputs.inputs import Inputs
from condainer.inputs.read import read_inputs
from condainer.inputs.requirements import Line
from condainer.lock.explicit import checked
from condainer.lock.locks import ABSENT, CondaPackage, Lock
from condainer.settings.config import Settings
from condainer.settings.load import load_settings
from condainer.solve.lock_state import lock_state
from condainer.system.errors import InputError

Write = Callable[[str, str | bytes], Path]
Read = Callable[..., Inputs]

PIP = "dependencies:\n  - python\n  - pip:\n"


@pytest.fixture
def read(project: Path, write: Write) -> Read:
    """Read the inputs of a project whose environment.yml has the given content."""

    def read(content: str | bytes, platform: str = "linux-64", **files: str) -> Inputs:
        write("environment.yml", content)
        for name, text in files.items():
            write(f"{name}.txt", text)
        return read_inputs(load_settings(project), platform)

    return read


def specs(inputs: Inputs) -> list[str]:
    return [spec.text for spec in inputs.specs]


def wanted(inputs: Inputs) -> list[str]:
    return [line.text for line in inputs.requirements]


def refused(read: Read, content: str | bytes, **files: str) -> InputError:
    with pytest.raises(InputError) as caught:
        read(content, **files)
    assert caught.value.hint, caught.value.message
    return caught.value


def test_everything_of_a_full_file(read: Read, project: Path) -> None:
    inputs = read(
        "name: full\n"
        "channels: [conda-forge, bioconda, nodefaults, conda-forge]\n"
        "platforms: [linux-64, osx-arm64]\n"
        "prefix: /home/somebody/envs/full\n"
        "category: dev\n"
        "variables: {B: 2, A: x}\n"
        "dependencies:\n"
        "  - python >=3.10,<4\n"
        "  - conda-forge::numpy=1.26=py312*\n"
        '  - \'scipy[version=">=1", build="py*"]\'\n'
        "  - pip:\n"
        "    - requests >= 2  # why\n"
    )
    assert inputs.name == "full"
    assert inputs.platform == "linux-64"
    assert inputs.channels == ("conda-forge", "bioconda")
    assert inputs.platforms == ("linux-64", "osx-arm64")
    assert inputs.variables == (("A", "x"), ("B", "2"))
    assert inputs.specs == (
        Spec("python >=3.10,<4", f"{project}/environment.yml:8"),
        Spec("conda-forge::numpy=1.26=py312*", f"{project}/environment.yml:9"),
        Spec('scipy[version=">=1", build="py*"]', f"{project}/environment.yml:10"),
    )
    assert inputs.requirements == (Line("requests >= 2", f"{project}/environment.yml:12"),)
    assert not inputs.post_link_scripts


def test_what_is_not_said_has_a_default(read: Read) -> None:
    inputs = read("dependencies: [zlib]")
    assert inputs.name == "project"
    assert inputs.channels == ("conda-forge",)
    assert inputs.platforms == ("linux-64",)
    assert inputs.variables == ()
    assert inputs.requirements == ()


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("channels: bioconda", ("bioconda",)),
        ("channels: [nodefaults]", ("conda-forge",)),
        ("channels: []", ("conda-forge",)),
        ("channels:", ("conda-forge",)),
        ("channels: [b, a, b]", ("b", "a")),
        ("channels: [https://a.example/x, file:///y z]", ("https://a.example/x", "file:///y z")),
    ],
)
def test_channels(read: Read, text: str, channels: tuple[str, ...]) -> None:
    assert read(f"{text}\ndependencies: [zlib]").channels == channels


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("close", "close"),
        ("'a b '", "a b "),
        ("''", ""),
        ("1", "1"),
        ("1.10", "1.10"),
        ("010", "010"),
        ("12:30:00", "12:30:00"),
        ("1_000", "1_000"),
        ("off", "off"),
        ("true", "true"),
        ("2024-01-02", "2024-01-02"),
        ('"a\\nb"', "a\nb"),
        ("für", "für"),
        ("a=b", "a=b"),
        ("=", "="),
        ("$HOME", "$HOME"),
    ],
)
def test_a_variable_has_the_value_that_stands_in_the_file(
    read: Read, value: str, text: str
) -> None:
    inputs = read(f"dependencies: [zlib]\nvariables:\n  NAME: {value}\n")
    assert inputs.variables == (("NAME", text),)


@pytest.mark.parametrize("name", ["3.10", "010", "true", "für", "a b", "2024-01-02"])
def test_a_name_is_what_stands_in_the_file(read: Read, name: str) -> None:
    assert read(f"name: {name}\ndependencies: [zlib]").name == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("environment.yml", "dependencies: [zlib]"),
        ("pixi.toml", "workspace.platforms = ['linux-64']\ndependencies.zlib = '*'"),
        ("pylock.toml", "lock-version = '1.0'\npackages = []"),
        ("conda-linux-64.lock", f"@EXPLICIT\nhttps://a.example/noarch/a-1-0.conda#{'0' * 64}"),
    ],
)
def test_a_directory_that_is_not_utf8_still_gives_a_name(
    tmp_path: Path, name: str, text: str
) -> None:
    project = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    project.mkdir()
    (project / name).write_text(text)
    settings = load_settings(project)
    if name.endswith(".lock"):
        lock = lock_state(settings, "linux-64").lock
        assert lock is not None
        assert lock.name == "caf\ufffd"
        return
    inputs = read_inputs(settings, "linux-64")
    assert inputs.name.encode().decode() == "caf\ufffd"
    assert inputs.fingerprint()


@pytest.mark.parametrize(
    "spec",
    [
        "python",
        "Python",
        "python=3.12",
        "python 3.12.* *_cpython",
        "python>=3.10",
        "python ~=3.10",
        "python!=3.11",
        "conda-forge::python=3.12",
        "python[version='>=3']",
    ],
)
def test_python_is_not_added_where_it_is_named(read: Read, spec: str) -> None:
    inputs = read(f'dependencies:\n  - "{spec}"\n  - pip: [six]\n')
    assert specs(inputs) == [spec]


@pytest.mark.parametrize("spec", ["python-dateutil", "ipython", "pip", "python_abi=3.12"])
def test_python_is_added_for_pip_requirements(read: Read, spec: str) -> None:
    inputs = read(f"dependencies:\n  - {spec}\n  - pip: [six]\n")
    assert specs(inputs) == [spec, "python"]
    assert "added because of the pip requirements" in inputs.specs[1].where


def test_requirements_alone_are_an_environment(read: Read, project: Path) -> None:
    inputs = read("name: x\n", requirements="six\n")
    assert specs(inputs) == ["python"]
    assert inputs.requirements == (Line("six", f"{project}/requirements.txt:1"),)


@pytest.mark.parametrize("text", ["--pre\n", "-c limits.txt\n"])
def test_options_and_constraints_ask_for_nothing(read: Read, text: str) -> None:
    inputs = read("dependencies: [zlib]\n", requirements=text, limits="six<2\n")
    assert specs(inputs) == ["zlib"]
    error = refused(read, "name: x\n", requirements=text, limits="six<2\n")
    assert "no dependencies" in error.message


def test_requirements_follow_the_pip_section(read: Read) -> None:
    assert wanted(read(PIP + "    - b\n", requirements="a\n")) == ["b", "a"]


def test_included_files_are_found_and_recorded(read: Read, project: Path) -> None:
    inputs = read(
        PIP + "    - -r more.txt\n    - -c limits.txt\n",
        more="b\n",
        limits="c<2\n",
        requirements="-r deeper.txt\n",
        deeper="d\n",
    )
    assert wanted(inputs) == ["b", "c<2", "d"]
    assert [line.constraint for line in inputs.requirements] == [False, True, False]
    assert [source.path for source in inputs.sources] == [
        "environment.yml",
        "more.txt",
        "limits.txt",
        "requirements.txt",
        "deeper.txt",
    ]


def test_sources_hold_the_hash_of_the_bytes_and_absence(read: Read) -> None:
    content = b"dependencies: [a]\r\n"
    assert {source.path: source.sha256 for source in read(content).sources} == {
        "environment.yml": hashlib.sha256(content).hexdigest(),
        "requirements.txt": ABSENT,
    }


@pytest.mark.parametrize(
    ("item", "platform", "kept"),
    [
        ("- a  # [linux]", "linux-64", True),
        ("- a  # [linux]", "linux-aarch64", True),
        ("- a  # [linux]", "osx-64", False),
        ("- a  #[linux64]", "linux-64", True),
        ("- a  # [ linux64 ] ", "linux-aarch64", False),
        ("- a  # [unix]", "linux-64", True),
        ("- a  # [unix]", "osx-arm64", True),
        ("- a  # [unix]", "win-64", False),
        ("- a  # [osx]", "linux-64", False),
        ("- a  # [arm64]", "linux-aarch64", False),
        ("- a  # [arm64]", "osx-arm64", True),
        ("- a  # [win]", "linux-64", False),
        ("- a  # [win64]", "win-64", True),
        ("- a  # [py37]", "linux-64", True),
        ("- a  # see [win] below", "linux-64", False),
        ("- a  # only there [linux]", "linux-64", True),
        ("- a  # [linux] (see below)", "linux-64", True),
        ("- a  # [win] (see below)", "linux-64", True),
        ("- a  # [aarch64]", "linux-64", False),
        ("- a  # [aarch64]", "linux-aarch64", True),
        ("- a  # [ppc64le]", "linux-ppc64le", True),
        ("- a  # [s390x]", "linux-s390x", True),
        ("- a  # [unix]", "linux-s390x", True),
        ("- a  # [armv7l]", "linux-armv7l", True),
        ("- a  # [linux32]", "linux-32", True),
        ("- a  # [linux64]", "linux-aarch64", False),
        ("- a  # [unix]", "win-arm64", False),
        ("- a  # [win]", "win-arm64", True),
        ("- a  # [not win]", "linux-64", False),
        ("- a  # as said in [1]", "linux-64", True),
        ('- "a[build=x]"', "linux-64", True),
    ],
)
def test_selectors(read: Read, item: str, platform: str, kept: bool) -> None:
    inputs = read(f"dependencies:\n  - zlib\n  {item}\n", platform)
    assert len(inputs.specs) == 1 + kept


@pytest.mark.parametrize("platform", ["linux-64", "linux-aarch64", "linux-ppc64le", "osx-arm64"])
def test_selectors_mean_what_they_mean_to_conda_lock(platform: str) -> None:
    from conda_lock.src_parser.selectors import filter_platform_selectors

    from condainer.inputs import environment_yml

    words = ("linux", "aarch64", "arm64", "osx", "unix", "win", " linux ", "not win", "x86_64")
    forms = ("- a  # [{}]", "- a #[{}] needs it", "- a  # only [{}]", "- a  # [{}] (b)", "- a")
    lines = [form.format(word) for form in forms for word in words]
    kept = [line for line in lines if environment_yml._selected(line, platform)]
    assert kept == list(filter_platform_selectors("\n".join(lines), platform))


def test_a_selector_that_is_none_is_told(read: Read, project: Path) -> None:
    notes = read("dependencies:\n  - a\n  - b  # [not win]\n").notes
    assert notes == (
        f"{project}/environment.yml:3: the selector [not win] is none of conda-lock's: the line is "
        "left out",
    )


def test_selectors_of_mamba(read: Read) -> None:
    text = "dependencies:\n  - a\n  - sel(linux): b\n  - sel(win): c\n  - sel(unix): d\n"
    assert [spec.text for spec in read(text, "linux-64").specs] == ["a", "b", "d"]
    assert [spec.text for spec in read(text, "win-64").specs] == ["a", "c"]
    assert "must have one package" in refused(read, "dependencies: [{sel(linux): [a]}]\n").message


def test_variables_alone_are_an_environment(read: Read) -> None:
    inputs = read("dependencies: []\nvariables: {A: b}\n")
    assert (inputs.specs, inputs.variables) == ((), (("A", "b"),))
    assert "variables only" in inputs.notes[0]


def test_the_indexes_of_conda_lock_are_asked(read: Read) -> None:
    inputs = read("pip-repositories: [https://private.example/simple]\n" + PIP + "    - ourpkg\n")
    assert [line.text for line in inputs.requirements] == [
        "--extra-index-url https://private.example/simple",
        "ourpkg",
    ]
    assert not any("pip-repositories" in note for note in inputs.notes)


def test_a_selector_does_not_move_the_lines_below_it(read: Read, project: Path) -> None:
    inputs = read("dependencies:\n  - a  # [win]\n  - b\n")
    assert inputs.specs == (Spec("b", f"{project}/environment.yml:3"),)


def test_selectors_hold_for_pip_lines(read: Read) -> None:
    assert wanted(read(PIP + "    - a  # [win]\n    - b  # [linux]\n")) == ["b"]


@pytest.mark.parametrize(
    "content",
    [
        b"dependencies:\r\n  - zlib  # [linux]\r\n  - x  # [win]\r\n",
        b"\xef\xbb\xbfdependencies:\n  - zlib\n",
        "dependencies:\n  - zlib\n".encode("utf-16"),
        "\ufeffdependencies:\n  - zlib\n".encode("utf-16-be"),
        b"---\ndependencies:\n  - zlib\n...\n",
        b"dependencies:\n- zlib",
        b"dependencies: [ zlib ]",
    ],
)
def test_other_encodings_and_line_ends(read: Read, content: bytes) -> None:
    assert specs(read(content)) == ["zlib"]


@pytest.mark.parametrize(
    "line",
    ["pip-repositories: [https://a.example]", "x-note: y", "1: 2", "extends: a", "variant: {a: b}"],
)
def test_keys_of_other_tools_are_ignored_as_conda_does(read: Read, line: str) -> None:
    assert specs(read(f"{line}\ndependencies: [zlib]\n")) == ["zlib"]


def test_multiline_pip_items_are_lines(read: Read) -> None:
    inputs = read(PIP + "    - |\n      a\n      b \\\n        --hash=sha256:00\n      # c\n")
    assert wanted(inputs) == ["a", "b --hash=sha256:00"]


def test_an_empty_pip_section(read: Read) -> None:
    inputs = read("dependencies:\n  - zlib\n  - pip:\n")
    assert (specs(inputs), wanted(inputs)) == (["zlib"], [])


def test_two_pip_sections_are_one(read: Read) -> None:
    assert wanted(read(PIP + "    - a\n  - pip:\n    - b\n")) == ["a", "b"]


def test_post_link_scripts_come_from_the_settings(read: Read, write: Write) -> None:
    before = read("dependencies: [zlib]")
    write("condainer.yml", "post_link_scripts: true")
    after = read("dependencies: [zlib]")
    assert after.post_link_scripts
    assert after.fingerprint() != before.fingerprint()


def test_other_names_of_the_files(project: Path, write: Write) -> None:
    write("envs/für alle.yml", "dependencies: [a, pip: [-r -x.txt]]")
    write("envs/-x.txt", "b")
    write("reqs/r.txt", "c")
    settings = load_settings(
        project,
        [
            f"environment_yml={project}/envs/für alle.yml",
            f"requirements_txt={project}/reqs/r.txt",
        ],
    )
    inputs = read_inputs(settings, "linux-64")
    assert wanted(inputs) == ["b", "c"]
    assert [source.path for source in inputs.sources] == [
        "envs/für alle.yml",
        "envs/-x.txt",
        "reqs/r.txt",
    ]


# --- what makes a lock stale ------------------------------------------------------------------


SAME = [
    "# comment\nname: other\nprefix: /x\n" + "{base}",
    "channels: [conda-forge]\n{base}",
    "channels: [conda-forge, nodefaults]\n{base}",
    "dependencies:\n  - pip: [b, 'a  >= 1']\n  - numpy\n  - python  >=  3.10 , < 4\n"
    "variables: {A: 1}\n",
    "variables: {A: '1'}\ndependencies: [numpy, 'python>=3.10,<4', numpy, pip: [b, a>=1, b]]\n",
]
BASE = (
    "dependencies:\n  - python >=3.10,<4\n  - numpy\n"
    "  - pip:\n    - a>=1\n    - b\nvariables: {A: 1}\n"
)


@pytest.mark.parametrize("text", SAME)
def test_what_does_not_make_a_lock_stale(read: Read, text: str) -> None:
    base = read(BASE)
    other = read(text.replace("{base}", BASE))
    assert other.fingerprint() == base.fingerprint()


def test_moving_requirements_to_a_file_does_not_make_a_lock_stale(read: Read) -> None:
    base = read(BASE)
    moved = read(BASE.replace("    - a>=1\n", ""), requirements="# comment\n\na>=1\n")
    assert moved.fingerprint() == base.fingerprint()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (">=3.10", ">=3.11"),
        ("  - numpy\n", ""),
        ("- numpy\n", "- numpy\n  - zlib\n"),
        ("- numpy\n", "- bioconda::numpy\n"),
        ("- numpy\n", "- numpy 1.0 py_0\n"),
        ("- b\n", "- c\n"),
        ("- b\n", "- b\n    - --pre\n"),
        ("- b\n", "- b; python_version < '3'\n"),
        ("- b\n", "- -r x.txt\n"),
        ("A: 1", "A: 2"),
        ("A: 1", "B: 1"),
        ("dependencies", "channels: [bioconda]\ndependencies"),
        ("dependencies", "channels: [conda-forge, bioconda]\ndependencies"),
    ],
)
def test_what_makes_a_lock_stale(read: Read, old: str, new: str) -> None:
    assert old in BASE
    changed = read(BASE.replace(old, new), x="d\n")
    assert changed.fingerprint() != read(BASE).fingerprint()


def test_the_order_of_channels_matters(read: Read) -> None:
    one = read("channels: [a, b]\ndependencies: [zlib]")
    other = read("channels: [b, a]\ndependencies: [zlib]")
    assert one.fingerprint() != other.fingerprint()


def test_the_platform_matters(read: Read) -> None:
    inputs = read(BASE)
    other = dataclasses.replace(inputs, platform="linux-aarch64")
    assert other.fingerprint() != inputs.fingerprint()


def test_a_constraint_is_not_a_requirement(read: Read) -> None:
    one = read(PIP + "    - a\n    - -c x.txt\n", x="b<2\n")
    other = read(PIP + "    - a\n    - -r x.txt\n", x="b<2\n")
    assert one.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("option", ["-c", "-r"])
def test_the_content_of_included_files_matters(read: Read, option: str) -> None:
    one = read(PIP + f"    - a\n    - {option} x.txt\n", x="b<2\n")
    same = read(PIP + f"    - a\n    - {option} y.txt\n", y="# why\nb < 2\n")
    other = read(PIP + f"    - a\n    - {option} x.txt\n", x="b<3\n")
    assert one.fingerprint() == same.fingerprint()
    assert one.fingerprint() != other.fingerprint()


names = st.from_regex(r"\A[a-z][a-z0-9]{0,6}\Z")
versions = st.sampled_from(["", ">=1", "=1.2", "==3", "~=2.0", ">1,<3", "!=4|>5", ">=1,<2 py_0"])


def spread(spec: str) -> str:
    """Return a spec with blanks wherever they mean nothing."""
    return re.sub(r"(>=|==|~=|!=|[<>=,|])", r"  \1 ", f"  {spec} ")


@given(st.lists(st.tuples(names, versions)), st.randoms(use_true_random=False))
def test_order_blanks_and_repetition_of_specs_do_not_matter(
    items: list[tuple[str, str]], chance: random.Random
) -> None:
    base = made([Spec(name + version, "x:1") for name, version in items])
    other = [Spec(spread(name + version), "y:2") for name, version in [*items, *items[:1]]]
    chance.shuffle(other)
    assert made(other).fingerprint() == base.fingerprint()


@given(st.sets(names, min_size=1), st.sets(names, min_size=1))
def test_different_sets_of_specs_differ(one: set[str], other: set[str]) -> None:
    same = (
        made([Spec(name, "") for name in one]).fingerprint()
        == made([Spec(name, "") for name in other]).fingerprint()
    )
    assert same == (one == other)


def made(specs: list[Spec]) -> Inputs:
    return Inputs("n", "linux-64", ("linux-64",), ("c",), tuple(specs), (), (), False, ())


# --- bad input --------------------------------------------------------------------------------


def test_no_environment_file(load: Callable[..., Settings], project: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_inputs(load(), "linux-64")
    assert caught.value.message.startswith(f"{project}/environment.yml: ")
    assert "cnd init" in caught.value.hint
    assert caught.value.exit_code == 4


def test_a_directory_instead_of_the_file(load: Callable[..., Settings], project: Path) -> None:
    (project / "environment.yml").mkdir()
    with pytest.raises(InputError, match="Is a directory") as caught:
        read_inputs(load(), "linux-64")
    assert caught.value.hint


def test_a_directory_instead_of_the_requirements(
    load: Callable[..., Settings], project: Path, write: Write
) -> None:
    write("environment.yml", "dependencies: [a]")
    (project / "requirements.txt").mkdir()
    with pytest.raises(InputError, match="Is a directory"):
        read_inputs(load(), "linux-64")


BAD = [
    ("- a\n", 1, "must be a mapping"),
    ("text\n", 1, "must be a mapping"),
    ("", 1, "must be a mapping"),
    ("# only a comment\n", 1, "must be a mapping"),
    ("name: x\n", 1, "no dependencies"),
    ("name: x\ndependencies:\n", 2, "no dependencies"),
    ("name: x\ndependencies: []\n", 2, "no dependencies"),
    ("name: x\ndependencies:\n  - pip:\n", 2, "no dependencies"),
    ("name: x\ndependencies:\n  - pip: []\n", 2, "no dependencies"),
    ("name: x\ndependencies: numpy\n", 2, "`dependencies` must be a list"),
    ("name: x\ndependencies: {numpy: 1}\n", 2, "`dependencies` must be a list"),
    ("name: x\ndependencies: 1\n", 2, "`dependencies` must be a list"),
    ("dependencies:\n  - a\n  - 1.2\n", 3, "must be a text"),
    ("dependencies:\n  - a\n  -\n", 3, "must be a text"),
    ("dependencies:\n  - a\n  - ''\n", 3, "must be a text"),
    ("dependencies:\n  - a\n  - [b]\n", 3, "must be a text"),
    ("dependencies:\n  - a\n  - b: 1.2\n", 3, "must be a text"),
    ("dependencies:\n  - a\n  - pip: [x]\n    b: c\n", 3, "must be a text"),
    ("dependencies:\n  - a\n  - npm: [x]\n", 3, "must be a text"),
    ("dependencies:\n  - a\n  - pip: six\n", 3, "`pip:` must be a list"),
    ("dependencies:\n  - a\n  - pip: {six: 1}\n", 3, "`pip:` must be a list"),
    ("dependencies:\n  - a\n  - pip:\n    - 1.0\n", 4, "must be a text"),
    ("dependencies:\n  - a\n  - pip:\n    - six: 1\n", 4, "must be a text"),
    ("dependencies:\n  - a\n  - pip:\n    -\n", 4, "must be a text"),
    ("dependencies: [a]\nchannels: {a: b}\n", 2, "`channels` must be a list"),
    ("dependencies: [a]\nchannels: 1\n", 2, "`channels` must be a list"),
    ("dependencies: [a]\nchannels:\n  - b\n  - 1\n", 4, "`channels` must be a list"),
    ("dependencies: [a]\nchannels: [b, '']\n", 2, "`channels` must be a list"),
    ("dependencies: [a]\nplatforms: {a: b}\n", 2, "`platforms` must be a list"),
    ("dependencies: [a]\nplatforms: [[a]]\n", 2, "`platforms` must be a list"),
    ("dependencies: [a]\nname: [x]\n", 2, "`name` must be a word"),
    ("dependencies: [a]\nname: {x: y}\n", 2, "`name` must be a word"),
    ('dependencies: [a]\nname: "x\\ny"\n', 2, "`name` must be a word"),
    ("dependencies: [a]\nvariables: [A]\n", 2, "`variables` must be a mapping"),
    ("dependencies: [a]\nvariables: A=1\n", 2, "`variables` must be a mapping"),
    ("dependencies: [a]\nvariables:\n  A: 1\n  1: x\n", 4, "not the name"),
    ("dependencies: [a]\nvariables:\n  A: 1\n  B-C: x\n", 4, "not the name"),
    ("dependencies: [a]\nvariables:\n  A: 1\n  'B=C': x\n", 4, "not the name"),
    ('dependencies: [a]\nvariables:\n  A: 1\n  "B\\nC": x\n', 4, "not the name"),
    ("dependencies: [a]\nvariables:\n  A: 1\n  B:\n", 4, "must be a text or a number"),
    ("dependencies: [a]\nvariables:\n  A: 1\n  B: [1]\n", 4, "must be a text or a number"),
    ('dependencies: [a]\nvariables:\n  A: 1\n  B: "\\0"\n', 4, "NUL"),
    ("dependencies: [a]\nname: x\nname: y\n", 3, "already"),
    ("dependencies:\n  - a\n  - !!python/name:os.system x\n", 3, "tag"),
    ("dependencies: &a [*a]\n", 1, "too deeply"),
]


@pytest.mark.parametrize(("text", "line", "what"), BAD, ids=[repr(text)[:70] for text, *_ in BAD])
def test_mistakes_are_named_with_file_and_line(
    read: Read, project: Path, text: str, line: int, what: str
) -> None:
    error = refused(read, text)
    assert error.message.startswith(f"{project}/environment.yml:{line}: ")
    assert what in error.message


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        *(("channel", "channels"), ("chanels", "channels")),
        *(("pip-repository", "pip-repositories"), ("pip_repositories", "pip-repositories")),
    ],
)
def test_keys_that_say_where_code_comes_from_are_not_misspelt(
    read: Read, project: Path, key: str, meant: str
) -> None:
    error = refused(read, f"dependencies: [a]\n{key}: [a]\n")
    assert error.message == f"{project}/environment.yml:2: unknown key `{key}`"
    assert error.hint == f"Did you mean `{meant}`?"


@pytest.mark.parametrize(("key", "meant"), [("variable", "variables"), ("platform", "platforms")])
def test_other_misspelt_keys_are_ignored_and_told(
    read: Read, project: Path, key: str, meant: str
) -> None:
    assert read(f"dependencies: [a]\n{key}: [a]\n").notes == (
        f"{project}/environment.yml:2: `{key}` has no meaning here, and is ignored; did you mean "
        f"`{meant}`?",
    )


@pytest.mark.parametrize(
    "key",
    [
        *("dependency", "dependancies", "Dependencies", "dependecies"),
        *("depends", "requirements"),
    ],
)
def test_misspelt_dependencies_are_none(read: Read, key: str) -> None:
    error = refused(read, f"name: x\n{key}: [a]\n")
    assert "no dependencies" in error.message
    assert error.hint == f"Did you mean `dependencies` by `{key}`?"


def test_invalid_yaml(read: Read, project: Path) -> None:
    error = refused(read, "dependencies:\n  - a\n - b\n")
    assert error.message.startswith(f"{project}/environment.yml:3:2: not valid YAML: ")


def test_not_utf8(read: Read, project: Path) -> None:
    error = refused(read, "dependencies: [a] # für".encode("latin-1"))
    assert error.message == f"{project}/environment.yml: not UTF-8 text"


@pytest.mark.parametrize("line", ["-e .", "-e ./x", "--editable=.", "./x", ".", "/x", "a @ ./x"])
def test_what_cannot_be_in_an_image(read: Read, project: Path, line: str) -> None:
    error = refused(read, f"{PIP}    - six\n    - '{line}'\n")
    assert error.message.startswith(f"{project}/environment.yml:5: ")
    assert "cannot be locked" in error.message
    assert "build a wheel" in error.hint


def test_options_cannot_smuggle_in_another_line(read: Read) -> None:
    error = refused(read, PIP + '    - "--pre\\n-e ."\n')
    assert "editable" in error.message


def test_a_missing_requirements_file(read: Read, project: Path) -> None:
    error = refused(read, PIP + "    - -r gone.txt\n")
    assert error.message == (f"{project}/environment.yml:4: no such file: {project / 'gone.txt'}")


def test_paths_with_blanks_line_breaks_dashes_and_other_letters(tmp_path: Path) -> None:
    for name in ("with blank", "-rf", "line\nbreak", "für", "a:b", "[x]", "100%"):
        project = tmp_path / name
        project.mkdir()
        (project / "environment.yml").write_text("dependencies: [a, pip: ['-r my r.txt']]\n")
        (project / "my r.txt").write_text("six\n")
        inputs = read_inputs(load_settings(project), "linux-64")
        assert inputs.name == name
        assert wanted(inputs) == ["six"]
        assert [source.path for source in inputs.sources][:2] == ["environment.yml", "my r.txt"]


def test_the_other_usual_name_is_told(read: Read, project: Path) -> None:
    read("dependencies: [a]\n")
    (project / "environment.yml").rename(project / "environment.yaml")
    named = load_settings(project, [f"environment_yml={project}/environment.yml"])
    with pytest.raises(InputError, match=r"environment\.yaml is there") as caught:
        read_inputs(named, "linux-64")
    assert "environment_yml: environment.yaml" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "extra"),
    [
        ("Web[b,a]>=1", "Web[a,b]"),
        ('web[a]>1; python_version>"3"', 'web[a]; python_version > "3"'),
        ("web[a] @ https://host.example/web.whl ; os_name=='nt'", 'web[a]; os_name == "nt"'),
        (f"web[a]==1 --hash=sha256:{'a' * 64}", "web[a]"),
        ("web>=1", ""),
        ("web[]", ""),
        ("-c web[a]", ""),
    ],
)
def test_extras_that_are_asked_for(line: str, extra: str) -> None:
    lines = (Line(line, "here"), Line("other[x]", "here", constraint=True))
    asked = dataclasses.replace(made([]), requirements=lines)
    assert asked.extras == ((extra,) if extra else ())
    conda = CondaPackage("https://host.example/noarch/one-1-0.conda", "a" * 64)
    lock = Lock("linux-64", (conda,), extras=asked.extras)
    assert checked(lock, "here") == lock
