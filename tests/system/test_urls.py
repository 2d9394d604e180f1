"""What of a URL is secret: it is never shown."""

from __future__ import annotations

import pytest

from condainer.system.errors import InputError
from condainer.system.process import CommandFailed
from condainer.system.urls import (
    has_secret,
    has_user,
    redacted,
    without_index_login,
    without_login,
    without_user,
)

SECRETS = [
    ("https://u:p@a.example/x", "https://***@a.example/x", "https://a.example/x"),
    ("x @ http://token@a.example", "x @ http://***@a.example", "x @ http://a.example"),
    ("git+https://${U}:${P}@a/b@v1", "git+https://***@a/b@v1", "git+https://a/b@v1"),
    ("https://u:p@ss@a/x?y", "https://***@a/x?y", "https://a/x?y"),
    ("ssh://git:p@a/x", "ssh://***@a/x", "ssh://a/x"),
    ("https://a/x/y/t/tk-12/c", "https://a/x/y/t/***/c", "https://a/x/y/t/tk-12/c"),
    ("https://a//t/tk-12/c", "https://a//t/***/c", "https://a//t/tk-12/c"),
    ("https://a/t/tk-12/c/noarch", "https://a/t/***/c/noarch", "https://a/t/tk-12/c/noarch"),
]
PLAIN = [
    "https://a.example/b@v1",
    "git+ssh://git@a.example/b.git@v1",
    "git+https://a.example/b.git@v1#subdirectory=x",
    "name@1.0",
    "https://a.example/?q=a@b",
    "see https://a.example and bob@a.example",
    "https://a.example/test/x",
    "https://a.example/?q=/t/x/",
    "://a" * 100_000,
    "https://a" + "/b" * 100_000,
]


@pytest.mark.parametrize(("text", "shown", "bare"), SECRETS)
def test_secrets_are_hidden(text: str, shown: str, bare: str) -> None:
    assert redacted(text) == shown
    assert without_user(text) == bare
    assert has_secret(text)
    assert has_user(text) is (text != bare)


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == without_user(text) == text
    assert not has_secret(text)


@pytest.mark.parametrize(
    ("url", "conda", "index"),
    [
        ("https://u:p@a/x/t/tk-12/c", "https://a/x/c", "https://a/x/t/tk-12/c"),
        ("https://a/conda/t/tk-12", "https://a/conda", "https://a/conda/t/tk-12"),
        ("https://a/t/tk-12/c", "https://a/c", "https://a/c"),
        ("https://a/source/t/tk/tk-1.tar.gz", "https://a/source/tk-1.tar.gz", ""),
    ],
)
def test_a_token_is_taken_from_where_conda_and_indexes_have_it(
    url: str, conda: str, index: str
) -> None:
    assert without_login(url) == conda
    assert without_index_login(url) == (index or url)


def test_no_error_shows_one() -> None:
    error = InputError("bad: https://u:p@a/x", "not https://u:p@a/x")
    assert (error.message, error.hint) == ("bad: https://***@a/x", "not https://***@a/x")
    failed = CommandFailed(["uv", "https://u:p@a/x"], 1, "at https://u:p@a/x")
    assert ":p@" not in f"{failed} {failed.message} {failed.stderr} {failed.reason}"
