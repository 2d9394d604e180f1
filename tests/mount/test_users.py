"""Which processes use what is below a prefix."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from condainer.mount.users import users_of

WAIT = "print('ready', flush=True); sys.stdin.read()"
OPEN = f"import sys; file = open(sys.argv[1]); {WAIT}"
# The mapping has a descriptor of its own.
MAP = (
    "import mmap, os, sys; file = open(sys.argv[1], 'rb'); "
    f"mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); os.closerange(3, 99); {WAIT}"
)


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    path = tmp_path / "prefix"
    path.mkdir()
    (path / "data").write_text("data")
    (tmp_path / "prefix of another").mkdir()
    return path


@contextmanager
def running(program: str, *arguments: str, cwd: Path) -> Iterator[int]:
    """Run a program until the end of the block; return its number."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process.pid
        finally:
            process.stdin.close()


@pytest.mark.parametrize(
    ("program", "inside"),
    [(f"import sys; {WAIT}", True), (OPEN, False), (MAP, False)],
    ids=["directory", "file", "mapping"],
)
def test_a_process_is_found_by_what_it_holds(prefix: Path, program: str, inside: bool) -> None:
    cwd = prefix if inside else prefix.parent
    with running(program, str(prefix / "data"), "two\nlines", cwd=cwd) as pid:
        (user,) = users_of(prefix)
        assert user.pid == pid
        assert str(user).endswith("two lines")
    assert users_of(prefix) == []


def test_a_process_is_found_where_the_base_directory_is_a_link(prefix: Path) -> None:
    link = prefix.with_name("link")
    link.symlink_to(prefix.parent)
    with running(f"import sys; {WAIT}", cwd=prefix) as pid:
        assert [user.pid for user in users_of(link / prefix.name)] == [pid]


def test_others_are_not_found(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = prefix.parent / "prefix of another"
    with running(f"import sys; {WAIT}", str(prefix), cwd=other) as pid:
        assert users_of(prefix) == []
        # A shell that has claimed it may hold nothing.
        assert [user.pid for user in users_of(prefix, shells=frozenset((pid,)))] == [pid]
    # Nor is this process itself.
    monkeypatch.chdir(prefix)
    assert os.getpid() not in [user.pid for user in users_of(prefix)]
