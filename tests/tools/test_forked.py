"""A forked `cnd` is as one that is started by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import forked


@pytest.mark.parametrize("words", [["version"], ["mistaken"], ["status", "--json"], ["list", "-h"]])
def test_it_says_and_ends_the_same(tmp_path: Path, words: list[str]) -> None:
    environment = {**os.environ, "CONDAINER_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "condainer", *words]
    alone = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    done = forked.run(words, tmp_path, environment)
    assert (done.returncode, done.stdout, done.stderr) == (
        alone.returncode,
        alone.stdout,
        alone.stderr,
    )


def test_it_has_the_environment_directory_and_umask_that_are_given(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        done = forked.run(["init"], tmp_path, {"HOME": str(tmp_path), "PATH": os.defpath})
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "environment.yml").stat().st_mode & 0o777 == 0o640


def test_what_forks_ends_with_what_started_it() -> None:
    _, server = forked._server.__wrapped__()
    assert server.stdin is not None
    server.stdin.close()
    assert server.wait() == 0
