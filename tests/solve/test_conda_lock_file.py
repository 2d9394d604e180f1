"""conda-lock.yml as we write it, where no channel is needed to see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from condainer.inputs.inputs import Inputs
from condainer.lock.locks import CondaPackage, Lock, PipPackage, Solved, Source
from condainer.solve import conda_lock_file, lock_state
from condainer.solve.conda_lock_file import Detail, Solution

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONDA = CondaPackage("https://channel.example/a/noarch/lib-1.0-0.conda", "a" * 64)
GIT = PipPackage("tool", f"git+https://host.example/tool@{COMMIT}#subdirectory=x", "")
WHEEL = PipPackage("alpha", "https://index.example/alpha-1.0-py3-none-any.whl", "b" * 64)


def solution(platform: str = "linux-64", *pip: PipPackage, channel: str = "a") -> Solution:
    sources = (Source("environment.yml", "c" * 64), Source("requirements.txt", "absent"))
    inputs = Inputs("x", platform, (), (channel,), (), (), (), False, sources)
    lock = Lock(platform, (CONDA,), pip, inputs=inputs.fingerprint(), sources=sources)
    return Solution(lock, inputs, (Solved(CONDA, "lib", "1.0", "0", "d" * 32, ("z >=1", "a")),))


def write(path: Path, *solutions: Solution) -> None:
    path.write_text(conda_lock_file.render(solutions, conda_lock_file.parse(path)))


def test_platforms_are_locked_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    write(path, solution("linux-64", WHEEL))
    first = path.read_text()
    write(path, solution("linux-aarch64"))
    content = conda_lock_file.parse(path)
    assert conda_lock_file.agrees(content, solution("linux-64", WHEEL).lock)
    assert conda_lock_file.agrees(content, solution("linux-aarch64").lock)
    assert not conda_lock_file.agrees(content, solution("linux-aarch64", WHEEL).lock)
    assert not conda_lock_file.agrees(content, solution("osx-64").lock)
    assert conda_lock_file.only(content, ["linux-64"]) == first
    both = tmp_path / "both.yml"
    write(both, solution("linux-aarch64"), solution("linux-64", WHEEL))
    assert both.read_text() == path.read_text()


def test_a_version_control_reference_stands_as_conda_lock_has_it(tmp_path: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file

    path, theirs = tmp_path / "conda-lock.yml", tmp_path / "theirs.yml"
    write(path, solution("linux-64", GIT, WHEEL))
    write_conda_lock_file(parse_conda_lock_file(path), theirs, None, include_help_text=False)
    assert path.read_text() == conda_lock_file.HEAD + theirs.read_text()
    assert conda_lock_file.agrees(
        conda_lock_file.parse(path), solution("linux-64", GIT, WHEEL).lock
    )


def test_agreement_is_seen_without_yaml(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    write(path, solution("linux-64", GIT, WHEEL), solution("linux-aarch64"))
    text = path.read_text()
    lock = solution("linux-64", GIT, WHEEL).lock
    assert lock_state._plainly_agrees(text, lock)
    assert lock_state._plainly_agrees(text, solution("linux-aarch64").lock)
    for other in (solution("linux-64", GIT), solution("osx-64"), solution("linux-aarch64", WHEEL)):
        assert not lock_state._plainly_agrees(text, other.lock)
    edits = {
        lock.inputs: "e" * 64,
        "a" * 64: "e" * 64,
        CONDA.url: CONDA.url.replace("1.0", "2.0"),
        WHEEL.url: GIT.url,
        COMMIT: COMMIT[::-1],
        "metadata:": "<<<<<<< ours\nmetadata:",
        conda_lock_file.HEAD: "# Made by conda-lock\n",
    }
    for old, new in edits.items():
        assert old in text
        assert not lock_state._plainly_agrees(text.replace(old, new), lock), old
        path.write_text(text.replace(old, new))
        assert not conda_lock_file.agrees(conda_lock_file.parse(path), lock), old


def test_passwords_of_channels_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    write(path, solution(channel="https://me:secret@channel.example/t/secret/a"))
    assert "secret" not in path.read_text()
    assert "url: https://channel.example/a\n" in path.read_text()


def test_a_damaged_file_and_that_of_another_tool_hold_nothing(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    assert conda_lock_file.parse(path) == {}
    write(path, solution())
    text = path.read_text()
    for damaged in (
        text.removeprefix(conda_lock_file.HEAD),
        text[:-200],
        conda_lock_file.HEAD,
        "[",
        "\0",
    ):
        path.write_text(damaged)
        assert conda_lock_file.parse(path) == {}
    path.write_bytes(b"\xff")
    assert conda_lock_file.parse(path) == {}
    assert conda_lock_file.details(path) == {}
    path.write_text(text.removeprefix(conda_lock_file.HEAD))
    assert conda_lock_file.details(path) == {CONDA.url: Detail("d" * 32, ("a", "z >=1"))}


TEXTS = st.one_of(
    st.text(max_size=90),
    st.text("0123456789abcdefxo._:-+eE", max_size=12),
    st.text("ab01 >=<!*|~^,.[]{}&%@`'\"#?:-_/", max_size=90),
    st.sampled_from(
        [
            "1.0",
            "010",
            "1e5",
            "12:30",
            "off",
            "y",
            "null",
            "~",
            "=",
            "<<",
            "2024-01-01",
            "a: b",
            "a:",
            "a #b",
            " a",
            "a ",
            "x" * 130,
            "https://a.example/" + "b" * 120,
            "a b " * 40,
            "1_0",
        ]
    ),
)


@settings(max_examples=50)
@given(
    st.lists(
        st.builds(
            lambda name, version, url, depends, digest, optional: {
                "name": name,
                "version": version,
                "dependencies": depends,
                "url": url,
                "hash": {"md5": digest, "sha256": digest},
                "optional": optional,
            },
            TEXTS,
            TEXTS,
            TEXTS,
            st.dictionaries(TEXTS, TEXTS, max_size=5),
            st.text("0123456789abcdef", min_size=32, max_size=32),
            st.booleans(),
        ),
        max_size=4,
    )
)
def test_the_text_is_what_yaml_makes_of_it(packages: list[dict[str, Any]]) -> None:
    content = {"version": 1, "metadata": {"channels": []}, "package": packages}
    text = yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False)
    assert conda_lock_file._text(content) == conda_lock_file.HEAD + text
