"""A kept Python: what shows that it changed, and for which machine its path is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from condainer.solve.pip import interpreters
from condainer.solve.pip.interpreters import Interpreter


def edit_with_its_time_kept(prefix: Path) -> None:
    path = prefix / "lib" / "os.py"
    before = path.stat()
    path.write_text("b")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def turn_a_link(prefix: Path) -> None:
    (prefix / "python").unlink()
    (prefix / "python").symlink_to("lib")


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": edit_with_its_time_kept,
    "added": lambda prefix: (prefix / "lib" / "new.py").touch(),
    "empty directory added": lambda prefix: (prefix / "new").mkdir(),
    "removed": lambda prefix: (prefix / "lib" / "os.py").unlink(),
    "not to be run any more": lambda prefix: (prefix / "python3").chmod(0o644),
    "renamed": lambda prefix: (prefix / "lib" / "os.py").rename(prefix / "lib" / "so.py"),
    "link turned": turn_a_link,
    "all gone": lambda prefix: prefix.rename(prefix.with_name("elsewhere")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_noticed(tmp_path: Path, name: str) -> None:
    kept = Interpreter(tmp_path)
    (kept.prefix / "lib").mkdir(parents=True)
    (kept.prefix / "lib" / "os.py").write_text("a")
    (kept.prefix / "python3").write_text("")
    (kept.prefix / "python3").chmod(0o755)
    (kept.prefix / "python").symlink_to("python3")
    assert not kept.is_whole()
    kept.state.write_text(interpreters._state(kept.prefix))
    assert kept.is_whole()
    CHANGES[name](kept.prefix)
    assert not kept.is_whole()


def test_another_c_library_or_kernel_has_another_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Interpreter(tmp_path)
    here = kept.program
    assert kept.program == here
    with monkeypatch.context() as patch:
        patch.setattr(os, "confstr", lambda name: "glibc 2.99")
        assert kept.program != here
    system = os.uname()
    other = os.uname_result((*system[:3], "#2 SMP", system.machine))
    with monkeypatch.context() as patch:
        patch.setattr(os, "uname", lambda: other)
        assert kept.program != here
    # Of the names of hosts that share a cache it does not depend.
    renamed = os.uname_result((system.sysname, "another", *system[2:]))
    monkeypatch.setattr(os, "uname", lambda: renamed)
    assert kept.program == here
