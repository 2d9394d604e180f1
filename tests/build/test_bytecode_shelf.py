"""Kept byte code: what is kept, for other prefixes to the byte, and what is not believed."""

from __future__ import annotations

import marshal
import os
import py_compile
from pathlib import Path
from types import CodeType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condainer.build import bytecode_shelf
from condainer.build.bytecode_shelf import Module, Shelf

SOURCE = (
    '"""About."""\n\nclass A:\n    def f(self):\n        return lambda: [x for x in ("a", A)]\n'
)
PREFIX = "/base/condainer-0123456789abcdef0123456789abcdef"
NAME = "lib/python3/package/module.py"
TARGET = "lib/python3/package/__pycache__/module.pyc"


def compiled(text: str, path: str, tmp_path: Path) -> bytes:
    """Compile as builds do, as if the source stood at `path`."""
    source, target = tmp_path / "source.py", tmp_path / "target.pyc"
    source.write_text(text, encoding="utf-8")
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), str(target), path, doraise=True, invalidation_mode=mode)
    return target.read_bytes()


def keep(code: bytes | None, name: str = NAME, prefix: str = PREFIX) -> Module | None:
    return bytecode_shelf.kept(name, "sha256 of the source", TARGET, code, prefix)


def names(code: CodeType) -> set[str]:
    """Return the file names in code and all that is nested in it."""
    nested = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return {code.co_filename}.union(*(names(inner) for inner in nested))


@pytest.mark.parametrize("base", ["/tmp", "/x", "/scratch/of/a/group/with/a/long/name"])
def test_another_prefix_gives_what_compiling_there_gives(tmp_path: Path, base: str) -> None:
    module = keep(compiled(SOURCE, f"{PREFIX}/{NAME}", tmp_path))
    assert module is not None
    new = f"{base}/condainer-fedcba9876543210fedcba9876543210"
    pieces = bytecode_shelf.for_prefix(module, PREFIX, new)
    assert pieces is not None
    assert b"".join(pieces) == compiled(SOURCE, f"{new}/{NAME}", tmp_path)
    assert names(marshal.loads(b"".join(pieces)[16:])) == {f"{new}/{NAME}"}


@given(st.integers(1, 240), st.integers(1, 240))
def test_paths_of_any_length(tmp_path_factory: pytest.TempPathFactory, old: int, new: int) -> None:
    tmp_path = tmp_path_factory.mktemp("lengths")
    before, after = "/" + "o" * old, "/" + "n" * new
    module = keep(compiled(SOURCE, f"{before}/{NAME}", tmp_path), prefix=before)
    wanted = compiled(SOURCE, f"{after}/{NAME}", tmp_path)
    if len(f"{before}/{NAME}") > bytecode_shelf.LONGEST:
        assert module is None
        return
    assert module is not None
    pieces = bytecode_shelf.for_prefix(module, before, after)
    if len(f"{after}/{NAME}") > bytecode_shelf.LONGEST:
        assert pieces is None
    else:
        assert pieces is not None
        assert b"".join(pieces) == wanted


def test_nobody_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(descriptor: int) -> None:
        raise AssertionError("there may be hundreds of packages")

    monkeypatch.setattr(os, "fsync", refused)
    shelf = Shelf(PREFIX, (Module(NAME, "sha256 of the source", TARGET, None),))
    bytecode_shelf.write(tmp_path / "shelf", shelf)
    assert bytecode_shelf.read(tmp_path / "shelf") == shelf


def test_what_cannot_be_moved_is_not_kept(tmp_path: Path) -> None:
    path = f"{PREFIX}/{NAME}"
    assert keep(compiled(f"WHERE = '{PREFIX}/share'\n", path, tmp_path)) is None
    assert keep(compiled(SOURCE, "/elsewhere/module.py", tmp_path)) is None
    assert keep(b"\xe3" + path.encode() + b"no marshal") is None
    odd = "lib/größe.py"
    assert keep(compiled(SOURCE, f"{PREFIX}/{odd}", tmp_path), odd) is None
    module = keep(compiled(SOURCE, path, tmp_path))
    assert module is not None
    assert bytecode_shelf.for_prefix(module, PREFIX, "/größe") is None


def shelf(tmp_path: Path) -> Shelf:
    good = keep(compiled(SOURCE, f"{PREFIX}/{NAME}", tmp_path))
    not_python = keep(None, "lib/python3/template.py")
    assert good is not None
    assert not_python is not None
    return Shelf(PREFIX, (good, not_python, good))


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    place = bytecode_shelf.place(tmp_path, "a" * 64, "b" * 64)
    assert bytecode_shelf.read(place) is None
    written = shelf(tmp_path)
    bytecode_shelf.write(place, written)
    assert bytecode_shelf.read(place) == written
    assert bytecode_shelf.place(tmp_path, "a" * 64, "c" * 64) != place
    bytecode_shelf.write(place, Shelf(PREFIX, ()))
    assert bytecode_shelf.read(place) == Shelf(PREFIX, ())


def test_nothing_damaged_is_read(tmp_path: Path) -> None:
    place = tmp_path / "shelf"
    bytecode_shelf.write(place, shelf(tmp_path))
    whole = place.read_bytes()
    for at in [*range(0, len(whole), 17), len(whole) - 1]:
        place.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert bytecode_shelf.read(place) is None
    for length in (0, 10, 40, len(whole) // 2, len(whole) - 1):
        place.write_bytes(whole[:length])
        assert bytecode_shelf.read(place) is None
    place.write_bytes(whole + b"\0")
    assert bytecode_shelf.read(place) is None
    place.unlink()
    place.mkdir()
    assert bytecode_shelf.read(place) is None
