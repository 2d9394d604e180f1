"""Private directories: gone when their process is, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from condainer.system import private_directory

HOLDER = (
    "import sys, time; from pathlib import Path\n"
    "from condainer.system.private_directory import claimed_directory\n"
    "with claimed_directory(Path(sys.argv[1]), 'x.y') as path:\n"
    "    (path / 'file').write_text('work'); print(path, flush=True); time.sleep(60)\n"
)


def holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(parent)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    return child, Path(child.stdout.readline().strip())


def test_a_directory_lives_as_long_as_its_block(tmp_path: Path) -> None:
    with private_directory.claimed_directory(tmp_path, "purpose") as path:
        assert path.stat().st_mode & 0o777 == 0o700
        claim = private_directory.read_claim(path)
        assert claim == private_directory.Claim(
            "purpose", private_directory.this_host(), os.getpid()
        )
        private_directory.reclaim(tmp_path)
        assert path.is_dir()
    assert not path.exists()


def test_what_a_killed_process_left_is_reclaimed(tmp_path: Path) -> None:
    child, path = holder(tmp_path)
    private_directory.reclaim(tmp_path)
    assert (path / "file").exists()
    child.send_signal(signal.SIGKILL)
    child.wait()
    private_directory.reclaim(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_both_signs_of_life_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child, path = holder(tmp_path)
    try:
        with monkeypatch.context() as patched:
            # A lock that every process gets.
            patched.setattr("fcntl.flock", lambda descriptor, how: None)
            private_directory.reclaim(tmp_path)
        with monkeypatch.context() as patched:
            # A process in a container, which cannot be seen.
            patched.setattr(private_directory, "_is_alive", lambda pid: False)
            private_directory.reclaim(tmp_path)
        assert (path / "file").exists()
    finally:
        child.kill()
        child.wait()


def test_other_hosts_and_other_names_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "x.otherhost-00000000.999999999.abc"
    names = [other, tmp_path / "notes", tmp_path / "a.b.c.d", tmp_path / "a.b.7.d.txt"]
    for path in names:
        path.mkdir()
    private_directory.reclaim(tmp_path)
    assert all(path.is_dir() for path in names)
    assert private_directory.read_claim(tmp_path / "a.b.c.d") is None
    # A digit to str.isdigit() that int() does not know.
    assert private_directory.read_claim(tmp_path / "a.b.\u00b2.d") is None
    link = tmp_path / f"x.{private_directory.this_host()}.999999999.abc"
    link.symlink_to(other)
    private_directory.reclaim(tmp_path)
    assert other.is_dir()
