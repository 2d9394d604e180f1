"""Byte code that is written beside a prefix while that is filled, and what of it gets there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from condainer.build import bytecode_shelf, prepared, unshelve
from condainer.build.bytecode_shelf import Module, Shelf
from condainer.build.prepared import Prepared, Restored
from condainer.system.errors import StorageError
from tests.helpers.told import Told
from tests.helpers.waiting import until

FINAL = Path("/new")
SOURCE = b"X = 1\n"
SHA256 = hashlib.sha256(SOURCE).hexdigest()


def module(source: str, sha256: str = SHA256, size: int = 5) -> Module:
    """Return a module that was compiled for /old."""
    path = f"/old/{source}".encode()
    folder, _, name = source.rpartition("/")
    target = f"{folder}/__pycache__/{name}c".removeprefix("/")
    code = b"head\xfa" + bytes([len(path)]) + path + b" tail".ljust(size)
    return Module(source, sha256, target, code, 6)


def wanted(source: str) -> bytes:
    path = f"{FINAL}/{source}".encode()
    return b"head\xfa" + bytes([len(path)]) + path + b" tail"


class Build:
    """A prefix in the making, and shelves."""

    def __init__(self, top: Path, *shelves: tuple[Module, ...]) -> None:
        self.top = top
        self.directory = top / "prefix"
        self.digests: dict[str, str] = {}
        self.places = {str(n): top / "shelves" / str(n) for n in range(len(shelves))}
        for place, modules in zip(self.places.values(), shelves, strict=True):
            bytecode_shelf.write(place, Shelf("/old", modules))
            for one in modules:
                self.source(one.source)

    def source(self, name: str, content: bytes = SOURCE) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.digests[name] = hashlib.sha256(content).hexdigest()

    def restored(self, compiled: bool = False, jobs: int = 2) -> list[Restored | None]:
        scratch = self.top / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        with prepared.preparing(self.places, FINAL, scratch, jobs) as ready:
            ready.wait(Told())
            return ready.put(self.directory, self.digests, lambda source: compiled)

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.directory.rglob("*.pyc") if path.is_file())
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in found}


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_what_has_the_same_source_gets_into_the_prefix(tmp_path: Path, jobs: int) -> None:
    names = [f"lib/{folder}/{name}.py" for folder in ("a", "b", "b/c") for name in ("x", "y")]
    build = Build(tmp_path, *((module(name),) for name in names[:3]), tuple(map(module, names[3:])))
    build.source(names[0], b"of pip")
    (build.directory / names[5]).unlink()
    del build.digests[names[5]]
    left = [names[1], names[2], names[3], names[4]]
    digests = {n: (module(n).target, hashlib.sha256(wanted(n)).hexdigest()) for n in left}
    assert build.restored(jobs=jobs) == [
        Restored((), {}),
        Restored((names[1],), dict([digests[names[1]]])),
        Restored((names[2],), dict([digests[names[2]]])),
        Restored((names[3], names[4]), dict(digests[n] for n in left[2:])),
    ]
    assert build.files() == {module(name).target: wanted(name) for name in left}


def test_a_shelf_that_is_used_counts_as_used(tmp_path: Path) -> None:
    build = Build(tmp_path, (module("m.py"),))
    # To read it is not noted then, as it never is on a file system that is mounted noatime.
    os.utime(build.places["0"], (time.time() + 3600, 0))
    build.restored()
    assert abs(time.time() - build.places["0"].stat().st_atime) < 600


def test_packages_with_the_same_module(tmp_path: Path) -> None:
    build = Build(tmp_path, (module("m.py"),), (module("m.py"), module("n.py")))
    first, second = build.restored()
    assert first is not None
    assert second is not None
    assert (first.sources, second.sources) == (("m.py",), ("m.py", "n.py"))
    assert build.files() == {module(n).target: wanted(n) for n in ("m.py", "n.py")}


def test_a_hard_link_into_the_package_cache_is_replaced(tmp_path: Path) -> None:
    build = Build(tmp_path, (module("m.py"),))
    cached = tmp_path / "cached"
    cached.write_bytes(b"stale")
    target = build.directory / module("m.py").target
    target.parent.mkdir()
    target.hardlink_to(cached)
    build.restored()
    assert (target.read_bytes(), cached.read_bytes()) == (wanted("m.py"), b"stale")


def test_what_is_not_valid_python_has_no_byte_code(tmp_path: Path) -> None:
    template = Module("m.py", SHA256, "", None)
    assert Build(tmp_path / "a", (template,)).restored() == [Restored(("m.py",), {})]
    # Somebody else's goes when compiling fails again.
    assert Build(tmp_path / "b", (template,)).restored(compiled=True) == [Restored((), {})]


def test_damaged_shelves_give_nothing(tmp_path: Path) -> None:
    build = Build(tmp_path, (module("m.py"), Module("t.py", SHA256, "", None)), (module("n.py"),))
    damaged = build.places["0"]
    whole = damaged.read_bytes()
    out = tmp_path / "out"
    for at in [*range(0, len(whole), 7), len(whole) - 1]:
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert unshelve.unshelve(damaged, out, "/new") is None
    for content in (b"", whole[:10], whole[:40], whole[:-1], whole + b"\0"):
        damaged.write_bytes(content)
        assert unshelve.unshelve(damaged, out, "/new") is None
    assert build.restored() == [None, Restored(("n.py",), {module("n.py").target: digest("n.py")})]
    damaged.unlink()
    assert unshelve.unshelve(damaged, out, "/new") is None
    assert build.restored()[0] is None
    damaged.mkdir()
    assert unshelve.unshelve(damaged, out, "/new") is None
    assert build.restored()[0] is None
    assert not out.exists()


def digest(source: str) -> str:
    return hashlib.sha256(wanted(source)).hexdigest()


def test_without_shelves_nothing_is_started(tmp_path: Path) -> None:
    places = {"0": tmp_path / "none"}
    with prepared.preparing(places, FINAL, tmp_path, 2) as ready:
        assert ready.finish is None
        ready.wait(Told())
        assert ready.put(tmp_path, {}, lambda source: False) == [None]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    build = Build(tmp_path, (module("m.py", size=1 << 20),))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    before = resource_limit(100_000)
    try:
        with (
            prepared.preparing(build.places, FINAL, scratch, 2) as ready,
            pytest.raises(StorageError, match="No space left"),
        ):
            ready.wait(Told())
    finally:
        resource_limit(before)


def resource_limit(size: int) -> int:
    """Limit the size of files that we and our children write; a write stops there as at ENOSPC."""
    import resource

    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    return before


def test_a_process_that_was_killed_is_told_and_no_error(tmp_path: Path) -> None:
    build = Build(tmp_path, *((module(f"m{n}.py", size=1 << 22),) for n in range(40)))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    reporter = Told()
    # Nobody writes into it, so that who reads it is there until it is killed.
    endless = build.places["0"]
    endless.unlink()
    os.mkfifo(endless)
    with prepared.preparing(build.places, FINAL, scratch, 3) as ready:
        # The kernel shows no command line in the moment after its start.
        until(children)
        os.kill(children()[0], signal.SIGKILL)
        ready.wait(reporter)
        assert "cannot be used: it was ended by SIGKILL" in reporter.warnings[0]
        assert len(ready.put(build.directory, {}, lambda source: False)) == 40
    assert children() == []


def test_an_interrupted_build_ends_it(tmp_path: Path) -> None:
    build = Build(tmp_path, *((module(f"m{n}.py", size=1 << 22),) for n in range(40)))
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def interrupted() -> None:
        with prepared.preparing(build.places, FINAL, scratch, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert children() == []
    # Nor does a worker write any more.
    left = sorted(scratch.rglob("*"))
    time.sleep(0.2)
    assert sorted(scratch.rglob("*")) == left


def children() -> list[int]:
    """Return our children that write byte code; other tests may have left us others."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    found = []
    for number in map(int, text.split()):
        with contextlib.suppress(OSError):
            if b"condainer.build.unshelve" in Path(f"/proc/{number}/cmdline").read_bytes():
                found.append(number)
    return found


def test_what_stands_on_another_file_system_is_copied(tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    assert shared.stat().st_dev != tmp_path.stat().st_dev
    build = Build(tmp_path, (module("lib/a/m.py"), module("lib/b/m.py"), module("lib/b/n.py")))
    build.source("lib/b/n.py", b"of pip")
    scratch = shared / f"condainer-test-{os.getpid()}"
    scratch.mkdir()
    try:
        with prepared.preparing(build.places, FINAL, scratch, 2) as ready:
            ready.wait(Told())
            ready.put(build.directory, build.digests, lambda source: False)
    finally:
        shutil.rmtree(scratch)
    left = ("lib/a/m.py", "lib/b/m.py")
    assert build.files() == {module(name).target: wanted(name) for name in left}


def test_other_failures_of_a_move_are_errors(tmp_path: Path) -> None:
    build = Build(tmp_path, (module("m.py"),))
    (build.directory / "__pycache__").write_text("in the way")
    with pytest.raises(OSError, match="File exists") as caught:
        build.restored()
    assert caught.value.errno == errno.EEXIST
    assert Prepared(tmp_path / "none", {"0": tmp_path}, None).written(0) is None
