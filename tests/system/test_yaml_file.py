"""YAML as users write it, and as somebody who means harm would."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condainer.system import yaml_file
from condainer.system.errors import ConfigError, InputError
from condainer.system.yaml_file import Document

PATH = Path("dir/file.yml")


def load(text: str) -> Document:
    return yaml_file.load(PATH, text, InputError)


def refused(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        load(text)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# a comment\n", None),
        ("---\n", None),
        ("a: 1", {"a": 1}),
        ("\ufeffa: 1", {"a": 1}),
        ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("a: [x, 1, 2.5, true, ~]", {"a": ["x", 1, 2.5, True, None]}),
        ("a: 2024-02-30", {"a": "2024-02-30"}),
        ("a: 2024-01-02", {"a": "2024-01-02"}),
        ("a: =", {"a": "="}),
        ("a: [<<]", {"a": ["<<"]}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("'a b': \"c\\nd\"", {"a b": "c\nd"}),
        ("schön: für", {"schön": "für"}),
        ("!!str 1: !!str 2", {"1": "2"}),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert load(text).value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("base: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}", {"x": 1, "y": 3}),
        ("base: &b {x: 1, y: 2}\nc: {y: 3, <<: *b}", {"x": 1, "y": 3}),
        ("base: &b {x: 1}\nd: &d {x: 2, z: 4}\nc: {<<: [*b, *d]}", {"x": 1, "z": 4}),
        ("base: &b {x: 1}\nd: &d {<<: *b, z: 4}\nc: {<<: *d}", {"x": 1, "z": 4}),
    ],
)
def test_merge_keys(text: str, value: Any) -> None:
    assert load(text).value["c"] == value


def test_merged_items_keep_the_line_and_the_text_of_their_origin() -> None:
    document = load("base: &b\n  x: 010\n  y: 1\nc:\n  <<: *b\n  y: 2\n")
    assert document.where("c", "x") == "dir/file.yml:2"
    assert document.where("c", "y") == "dir/file.yml:6"
    assert document.texts["c", "x"] == "010"
    assert document.texts["c", "y"] == "2"


def test_lines_of_keys_and_items() -> None:
    document = load("a:\n  - x\n  -\n    b: 1\n\nc: 2\n")
    assert document.where() == "dir/file.yml:1"
    assert document.where("a") == "dir/file.yml:1"
    assert document.where("a", 0) == "dir/file.yml:2"
    assert document.where("a", 1, "b") == "dir/file.yml:4"
    assert document.where("c") == "dir/file.yml:6"


def test_the_place_of_what_is_absent_is_the_nearest_one_around_it() -> None:
    document = load("x: 1\na:\n  - y\n")
    assert document.where("a", 7, "b") == "dir/file.yml:2"
    assert document.where("nothing") == "dir/file.yml:1"


def test_a_key_named_key_has_its_own_line() -> None:
    assert load("a: 1\nkey: 2\nb: 3\n").where("key") == "dir/file.yml:2"


@pytest.mark.parametrize(
    "text", ["12:30", "010", "1_000", "off", "yes", "1.10", "0x10", "2024-1-1"]
)
def test_the_text_of_a_scalar_is_what_stands_in_the_file(text: str) -> None:
    assert load(f"a: [{text}]").texts["a", 0] == text


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("a: 1\nb: [1, 2", "3:1", "expected ',' or ']'"),
        ("a: b: c", "1:5", "mapping values are not allowed"),
        ("a: 1\nb: *missing", "2:4", "undefined alias"),
        ("a: 1\n---\nb: 2", "2:1", "another document"),
        ('a: "x', "1:6", "end of stream"),
        ("a: 1\nb: @x", "2:4", "cannot start any token"),
        ("- a\nb: c", "2:1", "not valid YAML"),
        ("ä: 1\nb: \x00", "2", "control characters"),
        ("a:\n  b: 1\x01\n", "2", "control characters"),
        ('a: "\\ud800"', "1:7", "Unicode"),
        ("%YAML 9.9\n---\na: 1", "1:1", "incompatible"),
    ],
)
def test_invalid_yaml_names_the_place(text: str, place: str, what: str) -> None:
    message = refused(text).message
    assert message.startswith(f"dir/file.yml:{place}: not valid YAML: ")
    assert what in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["a:\n\tb: 1", "a:\n  \tb: 1\n  c: 2", "a:\n  -\tb\n\t- c"])
def test_tabs_are_named_as_the_reason(text: str) -> None:
    assert "tabs" in refused(text).hint


def test_tabs_are_not_blamed_for_other_mistakes() -> None:
    assert "tabs" not in refused("a: 1\t# fine\nb: [").hint


@pytest.mark.parametrize(
    ("text", "line", "tag"),
    [
        ("a: 1\nb: !!python/object/apply:os.system [x]", 2, "python/object/apply:os.system"),
        ("a: !!binary aGk=", 1, "binary"),
        ("a: !!set {x, y}", 1, "set"),
        ("a: !!omap [x: 1]", 1, "omap"),
        ("a: !own x", 1, "!own"),
        ("a: !own:str x", 1, "!own:str"),
        ("!own {a: 1}", 1, "!own"),
        ("!own a: 1", 1, "!own"),
        ("a: !!map [x]", 1, "map"),
        ("a: !!str [x]", 1, "str"),
    ],
)
def test_tags_are_refused(text: str, line: int, tag: str) -> None:
    message = refused(text).message
    assert message.startswith(f"dir/file.yml:{line}: ")
    assert tag in message


@pytest.mark.parametrize(
    "value", ["!!int x", '!!int ""', "!!bool maybe", '!!float ""', "!!float x", "9" * 5000]
)
def test_values_that_are_not_what_their_tag_says(value: str) -> None:
    try:
        message = refused(f"b: 1\na: {value}").message
    except pytest.fail.Exception:
        # Interpreters before the limit on the digits of a number read it.
        assert value.isdigit()
        assert not hasattr(sys, "get_int_max_str_digits")
        return
    assert message.startswith("dir/file.yml:2: ")
    assert len(message) < 200


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\na: 2", 2), ("a: 1\nb: {c: 1,\n c: 2}", 3), ("a: 1\n'a': 2", 2)],
)
def test_a_key_that_stands_twice_is_refused(text: str, line: int) -> None:
    message = refused(text).message
    assert message.startswith(f"dir/file.yml:{line}: ")
    assert "already" in message


@pytest.mark.parametrize("text", ["? [a]\n: b", "{a: 1}: 2", "? {a: 1}\n: 2"])
def test_keys_must_be_words(text: str) -> None:
    assert refused(text).message.startswith("dir/file.yml:1: a key must be a word")


@pytest.mark.parametrize("value", ["1", "[1]", "x"])
def test_merging_what_is_no_mapping_is_refused(value: str) -> None:
    assert refused(f"a: 1\nb: {{<<: {value}}}").message.startswith("dir/file.yml:2: ")


def bomb(levels: int) -> str:
    return "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, levels)
    )


def merge_bomb(levels: int) -> str:
    return "a0: &a0 {x: 1}\n" + "".join(
        f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, levels)
    )


@pytest.fixture(scope="module")
def usual() -> float:
    """The seconds that a long list takes."""
    start = time.process_time()
    load("- a\n" * 50_000)
    return time.process_time() - start


@pytest.mark.parametrize(
    "text",
    [
        bomb(20),
        merge_bomb(20),
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: &a {<<: *a}",
        "[" * 1000,
        "[" * 100_000,
        "a: " + "[" * 100_000 + "]" * 100_000,
        "{a: " * 10_000,
        "- " * 10_000,
        "? " * 10_000,
        "\n".join(" " * depth + "a:" for depth in range(1000)),
        "- a\n" * 300_000,
    ],
    ids=lambda text: text[:12].strip(),
)
def test_what_would_exhaust_the_memory_is_refused_at_once(text: str, usual: float) -> None:
    start = time.process_time()
    error = refused(text)
    assert time.process_time() - start < 20 * usual
    assert "too many or too deeply nested" in error.message
    assert error.message.startswith("dir/file.yml:")


def test_very_deep_nesting_does_not_crash_the_interpreter() -> None:
    # In a process of its own: the parser in C overflows the stack, which no exception shows.
    program = (
        "from pathlib import Path; from condainer.system import yaml_file as yamlfile, errors\n"
        "try: yamlfile.load(Path('f'), '[' * 1_000_000, errors.InputError)\n"
        "except errors.InputError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "refused\n")


def test_a_file_of_many_megabytes_is_refused() -> None:
    assert "larger than" in refused("#" * (yaml_file.MAX_BYTES + 1)).message


def test_a_long_list_is_no_bomb() -> None:
    assert len(load("- a\n" * 20_000).value) == 20_000


def test_the_class_of_the_error_is_the_callers() -> None:
    with pytest.raises(ConfigError):
        yaml_file.load(PATH, "a: [", ConfigError)


# No file decodes to lone surrogates.
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_gives_a_value_or_an_error_with_the_file(text: str) -> None:
    message = "dir/file.yml:"
    try:
        load(text)
    except InputError as error:
        message = error.message
    assert message.startswith("dir/file.yml:")


@given(st.dictionaries(st.from_regex(r"\A[a-z]{1,8}\Z"), st.integers() | st.booleans()))
def test_mappings_of_scalars(value: dict[str, int]) -> None:
    text = "".join(f"'{key}': {str(item).lower()}\n" for key, item in value.items())
    assert load(text).value == (value or None)


def test_not_a_number_stays_a_float() -> None:
    assert math.isnan(load("a: .nan").value["a"])


def test_a_merge_that_git_left_is_named_as_the_reason() -> None:
    text = "a:\n<<<<<<< HEAD\n- b\n=======\n- c\n>>>>>>> other\n"
    assert "both sides of a merge" in refused(text).hint
