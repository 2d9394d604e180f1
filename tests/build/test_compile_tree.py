"""Compiling a tree: what is skipped, what is an error, and that the bytes do not vary."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from condainer.build import compile_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A few modules: good ones, one that is not valid Python, a link."""
    tree = tmp_path / "lib"
    (tree / "package").mkdir(parents=True)
    for number in range(30):
        (tree / "package" / f"m{number}.py").write_text(f"X = {{'a', 'b', 'c{number}'}}\n")
    (tree / "bad.py").write_text("print 'old'\n")
    (tree / "template.py").write_bytes(b"\xff\xfe")
    (tree / "link.py").symlink_to("bad.py")
    return tree


def cached(path: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(path)))


def run(monkeypatch: pytest.MonkeyPatch, jobs: int, *trees: Path) -> int:
    """Compile what modules.py would list of some trees."""
    listed = trees[0].parent / "listed"
    paths = (path for tree in trees for path in sorted(tree.rglob("*.py")))
    listed.write_bytes(b"".join(bytes(p) + b"\0" for p in paths if not p.is_symlink()))
    monkeypatch.setattr(sys, "argv", ["compile_tree.py", str(jobs), str(listed)])
    return compile_tree.main()


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_a_tree(
    tree: Path, jobs: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stale = cached(tree / "bad.py")
    stale.parent.mkdir()
    stale.write_bytes(b"stale")
    assert run(monkeypatch, jobs, tree) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "32 32"
    assert not stale.exists()
    assert not cached(tree / "link.py").exists()
    good = [cached(tree / "package" / f"m{number}.py") for number in range(30)]
    # Flags 1: a hash of the source that is never compared.
    assert {path.read_bytes()[4] for path in good} == {1}


def test_what_cannot_be_written_is_an_error(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tree / "package" / "__pycache__").write_text("in the way")
    assert run(monkeypatch, 2, tree) == 1
    stderr = capfd.readouterr().err
    assert "__pycache__" in stderr
    assert "Traceback" not in stderr


def test_no_modules_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    assert run(monkeypatch, 2, tmp_path) == 0
    assert children() == before


def children() -> set[str]:
    """Return the processes that we have started and not yet waited for."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}
