"""Another tool's conda-lock.yml: what it says of packages cannot say anything else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from condainer.lock import conda_lock
from condainer.lock.explicit import checked, parse_explicit, render_explicit
from condainer.lock.locks import CondaPackage, Lock, PipPackage
from condainer.packages import git_repositories
from condainer.system.errors import LockfileError

CONDA = {
    "name": "a",
    "manager": "conda",
    "platform": "linux-64",
    "url": "https://a.example/linux-64/a-1-0.conda",
    "hash": {"sha256": "0" * 64},
}
GIT = f"git+https://a.example/b@{'0' * 40}"
SCRIPTS = "# post-link-scripts: true"
LOCK = Lock("linux-64", (CondaPackage(str(CONDA["url"]), "0" * 64),))
BROKEN: list[dict[str, Any]] = [
    {"url": f"{SCRIPTS}\n# variable: LD_AUDIT=/x.so\n{CONDA['url']}"},
    {"manager": "pip", "url": f"{GIT}\n{SCRIPTS}"},
    {"manager": "pip", "url": f"{GIT}\r{SCRIPTS}"},
    {"manager": "pip", "name": f"b @ {GIT}\n{SCRIPTS}\n# pip c"},
    {"url": f"{CONDA['url']}\u2028x"},
    {"name": "a\tb"},
]


def written(tmp_path: Path, *packages: dict[str, Any]) -> Path:
    path = tmp_path / "conda-lock.yml"
    metadata = {"platforms": ["linux-64"]}
    path.write_text(json.dumps({"version": "1", "metadata": metadata, "package": packages}))
    return path


@pytest.mark.parametrize("change", BROKEN, ids=repr)
def test_a_line_break_in_a_package(tmp_path: Path, change: dict[str, Any]) -> None:
    path = written(tmp_path, CONDA, {**CONDA, "name": "b", **change})
    with pytest.raises(LockfileError, match="package 2 has a blank or control character"):
        conda_lock.read(path, "linux-64", partial=True)


@pytest.mark.parametrize(
    "lock",
    [
        replace(LOCK, conda=(CondaPackage(f"{SCRIPTS}\n{CONDA['url']}", "0" * 64),)),
        replace(LOCK, pip=(PipPackage("b", f"{GIT}\n{SCRIPTS}", ""),)),
        replace(LOCK, virtual=(("cuda", f"12\n{SCRIPTS}"),)),
        replace(LOCK, inputs=f"{'0' * 64}\n{SCRIPTS}"),
    ],
    ids=repr,
)
def test_a_lock_that_its_file_would_not_say(lock: Lock) -> None:
    with pytest.raises(LockfileError):
        checked(lock, "x")


def test_a_lock_stays_what_it_is(tmp_path: Path) -> None:
    upper = {**CONDA, "hash": {"sha256": "A" * 64}}
    lock = conda_lock.read(written(tmp_path, upper), "linux-64")
    assert checked(lock, "x") == lock


@pytest.mark.parametrize(
    "change",
    [{"url": "https://a.example/linux-64/a-2-0.conda"}, {"hash": {"sha256": "1" * 64}}],
    ids=repr,
)
def test_two_packages_of_one_name(tmp_path: Path, change: dict[str, Any]) -> None:
    other = {**CONDA, **change}
    with pytest.raises(LockfileError, match="two packages a: ") as caught:
        conda_lock.read(written(tmp_path, CONDA, other), "linux-64")
    assert other["url"] in caught.value.message
    for second in (
        CONDA,
        {**other, "category": "dev"},
        {**other, "platform": "osx-64"},
    ):
        path = written(tmp_path, CONDA, second)
        assert conda_lock.read(path, "linux-64").conda == LOCK.conda
    lock = conda_lock.read(written(tmp_path, CONDA, {**CONDA, "manager": "pip"}), "linux-64")
    assert (len(lock.conda), len(lock.pip)) == (1, 1)


def test_a_commit_in_capitals_is_the_same_commit(tmp_path: Path) -> None:
    url = f"git+https://a.example/B.git@{'AB' * 20}#subdirectory=C"
    git = {**CONDA, "name": "b", "manager": "pip", "url": url}
    lock = checked(conda_lock.read(written(tmp_path, CONDA, git), "linux-64"), "x")
    lines = f"@EXPLICIT\n{CONDA['url']}#{'0' * 64}\n# pip b @ {url}\n"
    (package,) = lock.pip
    assert package.url == url.replace("AB" * 20, "ab" * 20)
    assert parse_explicit(lines, "x", "linux-64").pip == lock.pip
    git_repositories.check(package)


def test_headers_between_packages_are_comments() -> None:
    text = f"{render_explicit(LOCK)}{SCRIPTS}\n# variable: LD_AUDIT=/x.so\n"
    assert parse_explicit(text, "x", "linux-64") == LOCK


BOMB = "".join(f'"{n}": &{n} [{", ".join([f"*{n - 1}"] * 9 if n else "x")}]\n' for n in range(9))
HOSTILE = [
    ('x: "' + "]" * 100_000 + '"\ny: ' + "[" * 100_000, "too deeply nested"),
    ("x:\n" + "- " * 100_000 + "x\n", "too deeply nested"),
    ("x: " + "{a: " * 100_000, "too deeply nested"),
    (f"{BOMB}package: [*8]\n", "no anchors"),
    ('"a": &a [x]\npackage: []\n', "no anchors"),
    ("package: [x, ! y]\n", "tags"),
    ("a: *b\n", "no anchors"),
    ("\n" * 300_000 + "x", "not a lockfile"),
    ("a: [" + "x," * 3_000 + "]\n", "more than"),
]


@pytest.mark.parametrize(("text", "what"), HOSTILE, ids=[text[:20] for text, _ in HOSTILE])
def test_what_would_take_a_stack_memory_or_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, what: str
) -> None:
    monkeypatch.setattr(conda_lock, "MAX_EVENTS", 2_000)
    path = tmp_path / "conda-lock.yml"
    path.write_text(f'version: "1"\n{text}')
    with pytest.raises(LockfileError, match=what):
        conda_lock.read(path, "linux-64")


def test_quotation_marks_make_a_text_of_anything(tmp_path: Path) -> None:
    path = written(tmp_path, {**CONDA, "x": ["*a", "&a", "!a", "[" * 50]})
    assert conda_lock.read(path, "linux-64") == LOCK


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("package: []\n--- \npackage: []\n", "several documents"),
        ("? [a]\n: b\npackage: []\n", ":2: .*a key is no text"),
        ("package: {a: b}\n", "no `package:`"),
    ],
)
def test_what_is_yaml_but_no_lockfile(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "conda-lock.yml"
    path.write_text(f'version: "1"\n{text}')
    with pytest.raises(LockfileError, match=what):
        conda_lock.read(path, "linux-64")


@settings(max_examples=50)
@given(
    st.recursive(
        st.text(max_size=100),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4)
        ),
    )
)
def test_it_is_read_as_yaml_has_it(value: object) -> None:
    text = yaml.dump({"version": "1", "package": [value]}, allow_unicode=True)
    loaded = yaml.load(text, yaml.BaseLoader)
    assert conda_lock._content(Path("x"), text) == loaded
