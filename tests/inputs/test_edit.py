"""Edits of environment files: what is asked for, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from condainer.beginning import EXAMPLE
from condainer.inputs import edit
from condainer.inputs.edit import Environment
from condainer.system.errors import InputError

PATH = Path("environment.yml")
BLOCK = """\
# Ours.
name: x
channels: [conda-forge]
dependencies:
  - python=3.11   # the language
  # Numbers.
  - "numpy>=1.26" # quoted
  - conda-forge::Scipy
  - pip:
      - requests>2  # web
      - Flask_Login
variables:
  A: 1
"""


def added(text: str, spec: str, pip: bool = False) -> str:
    environment = Environment(PATH, text)
    environment.add(spec, pip)
    return environment.text


def removed(text: str, name: str, pip: bool = False) -> str:
    environment = Environment(PATH, text)
    assert environment.remove(name, pip)
    return environment.text


@pytest.mark.parametrize(
    ("spec", "pip", "old", "new"),
    [
        ("pandas", False, "::Scipy\n", "::Scipy\n  - pandas\n"),
        ("python=3.12", False, "python=3.11 ", "python=3.12 "),
        ("numpy>=2", False, '"numpy>=1.26"', "numpy>=2"),
        ("conda-forge::numpy", False, '"numpy>=1.26"', "conda-forge::numpy"),
        ("scipy>=1.11,<2", False, "conda-forge::Scipy", "scipy>=1.11,<2"),
        ("requests==2.1", True, "requests>2 ", "requests==2.1 "),
        ("flask-login>=1", True, "Flask_Login", "flask-login>=1"),
        ("rich", True, "Flask_Login\n", "Flask_Login\n      - rich\n"),
        ("x[build='a: #b']", False, "::Scipy\n", "::Scipy\n  - 'x[build=''a: #b'']'\n"),
    ],
)
def test_what_is_added_stands_in_its_place(spec: str, pip: bool, old: str, new: str) -> None:
    assert BLOCK.count(old) == 1
    assert added(BLOCK, spec, pip) == BLOCK.replace(old, new)


def test_the_example_of_a_beginning_has_no_second_place_for_a_package() -> None:
    assert added(EXAMPLE, "numpy").count("numpy") == 1


@pytest.mark.parametrize(("name", "pip"), [("numpy", False), ("flask-login", True)])
def test_a_bare_name_takes_nothing_from_what_is_asked_already(name: str, pip: bool) -> None:
    assert added(BLOCK, name, pip) == BLOCK
    assert edit.add_requirement(Path("r"), "six>1\n", "Six") == "six>1\n"


@pytest.mark.parametrize(
    ("name", "pip", "line"),
    [
        ("python", False, "  - python=3.11   # the language\n"),
        ("numpy", False, '  - "numpy>=1.26" # quoted\n'),
        ("scipy", False, "  - conda-forge::Scipy\n"),
        ("requests", True, "      - requests>2  # web\n"),
        ("flask.login", True, "      - Flask_Login\n"),
    ],
)
def test_what_is_removed_takes_its_line(name: str, pip: bool, line: str) -> None:
    assert removed(BLOCK, name, pip) == BLOCK.replace(line, "")


def test_the_last_of_pip_takes_the_list_with_it() -> None:
    one = removed(BLOCK, "requests", True)
    assert (
        removed(one, "flask-login", True) == BLOCK.partition("  - pip:")[0] + "variables:\n  A: 1\n"
    )
    assert removed("dependencies: [a, {pip: [b]}, c]\n", "b", True) == "dependencies: [a, c]\n"


@pytest.mark.parametrize(
    ("text", "spec", "pip", "after"),
    [
        ("dependencies: [a, b]\n", "c", False, "dependencies: [a, b, c]\n"),
        ("dependencies: [a, b]", "c>=1,<2", False, "dependencies: [a, b, 'c>=1,<2']"),
        ("dependencies: [a]\n", "a>=1", False, "dependencies: [a>=1]\n"),
        ("dependencies: []\n", "a", False, "dependencies: [a]\n"),
        ("dependencies: [a, {pip: [b]}]\n", "c", False, "dependencies: [a, c, {pip: [b]}]\n"),
        ("dependencies: [{pip: [b]}]\n", "c", False, "dependencies: [c, {pip: [b]}]\n"),
        ("dependencies: [a]\n", "b", True, "dependencies: [a, {pip: [b]}]\n"),
        ("dependencies:\n- a\n", "b", True, "dependencies:\n- a\n- pip:\n    - b\n"),
        ("dependencies:\n- pip:\n  - b\n", "a", False, "dependencies:\n- a\n- pip:\n  - b\n"),
        ("dependencies:\n- a", "b", False, "dependencies:\n- a\n- b\n"),
        ("dependencies:\nname: x\n", "a", False, "dependencies:\n  - a\nname: x\n"),
        ("name: x\n", "a", False, "name: x\ndependencies:\n  - a\n"),
        ("dependencies:\n-   a\n\n# end\n", "b", False, "dependencies:\n-   a\n-   b\n\n# end\n"),
        (
            "dependencies:\n- \u00e4 # \u20ac\n",
            "b",
            False,
            "dependencies:\n- \u00e4 # \u20ac\n- b\n",
        ),
    ],
)
def test_other_ways_to_write_a_list(text: str, spec: str, pip: bool, after: str) -> None:
    assert added(text, spec, pip) == after


@pytest.mark.parametrize(
    ("text", "name", "after"),
    [
        ("dependencies: [a, b, c]\n", "a", "dependencies: [b, c]\n"),
        ("dependencies: [a, b, c]\n", "b", "dependencies: [a, c]\n"),
        ("dependencies: [a, b, c]\n", "c", "dependencies: [a, b]\n"),
        ("dependencies: [a]\n", "a", "dependencies: []\n"),
        ("dependencies:\n- a # [linux]\n- a>1 # [osx]\n- b\n", "a", "dependencies:\n- b\n"),
        ("dependencies:\n- a\n- b", "b", "dependencies:\n- a\n"),
    ],
)
def test_other_ways_to_remove(text: str, name: str, after: str) -> None:
    assert removed(text, name) == after


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dependencies:\n- a # [linux]\n- a>1 # [osx]\n", "environment.yml:3: a stands there more"),
        ("dependencies: {a: b}\n", "environment.yml:1: `dependencies` is not a list"),
        ("x: &d [b]\ndependencies: *d\nname: y\n", None),
        ("- a\n", "not an environment file"),
        ("dependencies: [\n", "not valid YAML"),
    ],
)
def test_what_only_a_person_can_edit(text: str, told: str | None) -> None:
    if told is None:
        assert added(text, "a") == "x: &d [b, a]\ndependencies: *d\nname: y\n"
        return
    with pytest.raises(InputError) as caught:
        added(text, "a>2")
    assert told in caught.value.message


def test_what_has_no_name_stands_for_itself() -> None:
    text = (
        "dependencies:\n- pip:\n  - git+ssh://git@example.org/one.git\n  - -r base.txt\n"
        "  - -e ./mine\n"
    )
    for line in ("git+ssh://git@example.org/two.git", "-r dev.txt", "-e ./other"):
        assert added(text, line, True) == f"{text}  - {line}\n"
        assert not Environment(PATH, text).remove(line, True)
    assert removed(text, "-r base.txt", True) == text.replace("  - -r base.txt\n", "")
    more = "git+https://example.org/one.git\n"
    new = edit.add_requirement(Path("r"), more, "git+https://example.org/two.git")
    assert new == f"{more}git+https://example.org/two.git\n"


def test_selectors_of_mamba_stay() -> None:
    head, one, end = "dependencies:\n- a\n", "- sel(win): b\n", "variables: {A: b}\n"
    assert added(head + one + end, "c") == f"{head}- c\n{one}{end}"
    with_pip = added(head + one + end, "d", True)
    assert with_pip == f"{head}{one}- pip:\n    - d\n{end}"
    assert removed(with_pip, "d", True) == head + one + end
    assert removed(f"{head}- pip: [d]\n{one}{end}", "d", True) == head + one + end


def test_a_pip_without_a_list_is_for_a_person_to_edit() -> None:
    text = "dependencies:\n- a\n- pip:\n"
    assert added(text, "b") == "dependencies:\n- a\n- b\n- pip:\n"
    with pytest.raises(InputError, match=r"environment\.yml:3: there is no list below `pip:`"):
        added(text, "b", True)


def test_comments_after_the_last_of_pip_stay() -> None:
    head, tail = "dependencies:\n  - a\n", "\n# why:\n# ask\nvariables: {A: b}\n"
    for pip in ("  - pip:\n    - b  # b\n", "  - pip: [b]\n"):
        assert removed(head + pip + tail, "b", True) == head + tail


def test_line_ends_and_tabs_stay() -> None:
    text = "dependencies:\r\n  - a\r\n  - b\r\n"
    assert added(text, "c") == f"{text}  - c\r\n"
    assert added(text, "c", True) == f"{text}  - pip:\r\n      - c\r\n"
    assert removed(text, "a") == "dependencies:\r\n  - b\r\n"
    assert edit.add_requirement(Path("r"), "a\r\nb\r\n", "b>1") == "a\r\nb>1\r\n"
    assert edit.add_requirement(Path("r"), "a\r\n", "b") == "a\r\nb\r\n"
    assert added("dependencies:\n  - a\t# c\n", "b") == "dependencies:\n  - a\t# c\n  - b\n"


@pytest.mark.parametrize("row", ["a==1 --hash=sha256:00", "\ufeffa==1", "a==1 \\"])
def test_requirements_that_are_not_simply_replaced(row: str) -> None:
    with pytest.raises(InputError, match="a has hashes, or more than one line"):
        edit.add_requirement(Path("r"), f"{row}\n", "a==2")


def test_requirements_files() -> None:
    path, text = Path("requirements.txt"), "# ours\nrequests>2  # web\n-r more.txt\nFlask_Login\n"
    assert edit.add_requirement(path, text, "rich") == f"{text}rich\n"
    assert edit.add_requirement(path, "", "rich") == "rich\n"
    assert edit.add_requirement(path, "a", "rich") == "a\nrich\n"
    new = edit.add_requirement(path, text, "requests==2.5")
    assert new == text.replace("requests>2", "requests==2.5")
    assert edit.remove_requirement(path, text, "flask-login") == text.replace("Flask_Login\n", "")
    assert edit.remove_requirement(path, text, "rich") is None
    with pytest.raises(InputError, match=r"requirements.txt:1: a has hashes"):
        edit.add_requirement(path, "a \\\n --hash=sha256:0\n", "a>1")


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("numpy>=1.26", "numpy"),
        ("conda-forge::Numpy=1.2=*_0", "numpy"),
        ("requests[socks]>2; python_version<'3'", "requests"),
        ("pkg @ https://example.org/pkg.whl", "pkg"),
        ("https://example.org/c/noarch/a-b-1.0-0.conda#12", "a-b"),
        ("x[version='>1']", "x"),
    ],
)
def test_names(spec: str, name: str) -> None:
    assert edit.name_of(spec) == name
