"""What of a URL is secret: it is never shown."""

from __future__ import annotations

import pytest

from condainer.errors import InputError
from condainer.process import CommandFailed
from condainer.urls import has_secret, has_user, redacted, without_user

SECRETS = [
    ("https://u:p@a.example/x", "https://***@a.example/x", "https://a.example/x"),
    ("x @ http://token@a.example", "x @ http://***@a.example", "x @ http://a.example"),
    ("git+https://${U}:${P}@a/b@v1", "git+https://***@a/b@v1", "git+https://a/b@v1"),
    ("https://u:p@ss@a/x?y", "https://***@a/x?y", "https://a/x?y"),
    ("ssh://git:p@a/x", "ssh://***@a/x", "ssh://a/x"),
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


def test_no_error_shows_one() -> None:
    error = InputError("bad: https://u:p@a/x", "not https://u:p@a/x")
    assert (error.message, error.hint) == ("bad: https://***@a/x", "not https://***@a/x")
    failed = CommandFailed(["uv", "https://u:p@a/x"], 1, "at https://u:p@a/x")
    assert ":p@" not in f"{failed} {failed.message} {failed.stderr} {failed.reason}"
