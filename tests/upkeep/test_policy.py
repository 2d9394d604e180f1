"""The limits of a cache: ages, sizes, and a file that only its owner can write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from condainer.cache.publish import POLICY
from condainer.system import quantities
from condainer.system.errors import CondainerError, ConfigError
from condainer.upkeep import policy
from tests.helpers.needed import needs_root


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 2_592_000), ("12h", 43_200), ("2w", 1_209_600), ("0", 0), ("1.5 min", 90), ("0s", 0)],
)
def test_ages(text: str, seconds: float) -> None:
    assert quantities.age(text, "x") == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1y", "1e9d", "30 d x", "9999999w", "nan"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(ConfigError, match=r"where: .* is not an age"):
        quantities.age(text, "where")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("500G", 500 << 30), ("1.5T", 3 << 39), ("2 MiB", 2 << 20), ("4kb", 4096)],
)
def test_sizes(text: str, number: int) -> None:
    assert quantities.size(text, "x") == number


@pytest.mark.parametrize("text", ["", "G", "-1", "1X", "1e9", "inf", "9" * 400])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match=r"where: .* is not a size"):
        quantities.size(text, "where")


def test_options_come_before_what_is_written(tmp_path: Path) -> None:
    assert policy.read(tmp_path) == policy.Policy()
    policy.write(tmp_path, policy.policy_of({"older_than": "30d", "grace": None}))
    policy.write(tmp_path, policy.policy_of({"max_size": "1.5T"}))
    assert (tmp_path / POLICY).stat().st_mode & 0o777 == 0o644
    written = policy.read(tmp_path)
    assert (written.older_than, written.max_size) == (30 * 86400, 3 << 39)
    chosen = policy.in_force(tmp_path, policy.policy_of({"max_size": "1", "grace": "0"}))
    assert (chosen.older_than, chosen.max_size, chosen.grace) == (30 * 86400, 1, 0)
    with pytest.raises(ConfigError, match="--max-size: 'x'"):
        policy.policy_of({"max_size": "x"})


@pytest.mark.parametrize(
    "text",
    ["older_then: 30d\n", "- 1\n", "max_size: [1]\n", "grace: true\n", "older_than: 30\n", "a: {"],
)
def test_what_its_owner_wrote_and_means_nothing_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / POLICY).write_text(text)
    with pytest.raises(ConfigError, match=POLICY) as caught:
        policy.read(tmp_path)
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize("kind", ["fifo", "link", "directory", "huge", "binary", "foreign"])
def test_a_file_that_a_member_put_there_is_ignored(tmp_path: Path, kind: str) -> None:
    path = tmp_path / POLICY
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        (tmp_path / "other").write_text("max_size: 1\n")
        path.symlink_to(tmp_path / "other")
    elif kind == "directory":
        path.mkdir()
    elif kind == "huge":
        with path.open("w") as stream:
            stream.truncate(1 << 30)
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe")
    else:
        needs_root("to give a file away")
        path.write_text("max_size: 1\n")
        os.chown(path, 65534, -1)
    written = policy.read(tmp_path)
    assert (written.max_size, written.older_than) == (None, None)
    assert f"{path} is ignored" in written.ignored


def test_only_the_owner_of_a_cache_writes_its_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path.stat().st_uid + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(CondainerError, match="counts only if"):
        policy.write(tmp_path, policy.policy_of({"grace": "1d"}))
    monkeypatch.undo()
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / POLICY).symlink_to(target)
    policy.write(tmp_path, policy.policy_of({"grace": "1d"}))
    assert target.read_text() == "mine"
