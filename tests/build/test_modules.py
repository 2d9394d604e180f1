"""Which modules are compiled and which are taken from shelves, without an interpreter's help."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from condainer.build import bytecode_shelf, modules, own_sources
from condainer.build.bytecode_shelf import Module, Shelf
from condainer.lock.locks import CondaPackage, Lock, PipPackage
from condainer.settings.load import load_settings
from tests.helpers.told import Told

SHA256 = "a" * 64
EMPTY = hashlib.sha256(b"").hexdigest()
EMPTY_RECORDED = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"


def lock(post_link_scripts: bool = False, *, python: bool = True) -> Lock:
    url = "https://conda.invalid/conda-forge/noarch/{}-1.0-py_0.conda"
    names = ["six", "python"] if python else ["six"]
    conda = tuple(CondaPackage(url.format(n), str(i) * 64) for i, n in enumerate(names))
    wheels = (
        PipPackage("Zope.Event", "https://x.invalid/zope_event-5.0-py3-none-any.whl", SHA256),
        PipPackage("built", "https://x.invalid/built-1.0.tar.gz", "c" * 64),
    )
    return Lock("linux-64", conda, wheels, post_link_scripts=post_link_scripts)


def test_shelves_are_those_of_packages_for_an_interpreter(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, (f"package_cache={tmp_path}",))
    places = modules.places_of(lock(), settings)
    # A source distribution is not the same bytes each time.
    assert set(places) == {"0" * 64, "1" * 64, SHA256}
    assert modules.places_of(lock(post_link_scripts=True), settings) == {}
    assert modules.places_of(lock(python=False), settings) == {}


def test_packages_are_found_by_what_installers_record(tmp_path: Path) -> None:
    meta = tmp_path / "conda-meta"
    meta.mkdir()
    files = ["lib/python3.11/site-packages/six.py", "share/doc"]
    paths = [
        {"_path": files[0], "sha256": EMPTY},
        {"_path": "tests/__init__.py", "sha256": "another"},
        {"_path": "prefix.py", "sha256": EMPTY, "prefix_placeholder": "/opt"},
    ]
    record = {
        "fn": "six-1.0-py_0.conda",
        "files": [*files, "tests/__init__.py", "prefix.py", "unknown.py"],
        "paths_data": {"paths": paths},
    }
    (meta / "six-1.0-py_0.json").write_text(json.dumps(record))
    (meta / "other.json").write_text(json.dumps({"fn": "other.conda", "files": files}))
    site = tmp_path / "lib/python3.11/site-packages"
    for name in ("zope.event-5.0", "stranger-1.0", "odd"):
        (site / f"{name}.dist-info").mkdir(parents=True)
        (site / f"{name}.dist-info" / "RECORD").write_text(
            f'zope/event.py,{EMPTY_RECORDED},0\n"zope/a,b.py",,\n../../../bin/tool,,\n\n'
            "tests/__init__.py,sha256=another,1\n"
        )
    base = "lib/python3.11/site-packages"
    names = [*files, "tests/__init__.py", "prefix.py", f"{base}/zope/event.py"]
    names += [f"{base}/tests/__init__.py"]
    digests = dict.fromkeys(names, EMPTY)
    assert dict(own_sources.of_packages(tmp_path, lock(), digests)) == {
        "0" * 64: [f"{base}/six.py", "unknown.py"],
        SHA256: [f"{base}/zope/event.py", f"{base}/zope/a,b.py"],
    }


def prefix(tmp_path: Path, text: str = "X = 1\n") -> tuple[modules.Stage, dict[str, str]]:
    directory = tmp_path / "prefix"
    directory.mkdir()
    (directory / "m.py").write_text(text)
    place = modules.Stage(directory, Path("/new"), tmp_path, ())
    return place, {"m.py": hashlib.sha256(text.encode()).hexdigest()}


def test_what_is_kept_of_a_package(tmp_path: Path) -> None:
    place, digests = prefix(tmp_path)

    def kept(source: str) -> bytecode_shelf.Module | None:
        return modules._module(place, source, digests, modules._ByteCode(place.directory))

    assert kept("gone.py") is None
    nothing = kept("m.py")
    assert nothing is not None
    assert nothing.code is None
    cache = place.directory / "__pycache__"
    cache.mkdir()
    (cache / "m.cpython-311.pyc").write_bytes(b"head\xfa\x09/new/m.py tail")
    (cache / "m.cpython-311.opt-1.pyc").write_bytes(b"")
    (cache / "mm.cpython-311.pyc").write_bytes(b"")
    (cache / "m.pyc").write_bytes(b"")
    one = kept("m.py")
    assert one is not None
    assert (one.target, one.at) == ("__pycache__/m.cpython-311.pyc", 6)
    # Which of two is ours cannot be told.
    (cache / "m.cpython-312.pyc").write_bytes(b"")
    assert kept("m.py") is None


def test_a_cache_that_cannot_be_written_is_told_and_no_error(tmp_path: Path) -> None:
    place, digests = prefix(tmp_path)
    meta = place.directory / "conda-meta"
    meta.mkdir()
    text = json.dumps({"fn": "six-1.0-py_0.conda", "files": ["m.py"]})
    (meta / "six.json").write_text(text)
    (tmp_path / "compiled").write_text("in the way")
    reporter = Told()
    places = {"0" * 64: tmp_path / "compiled" / "00" / "shelf"}
    modules._keep(place, digests, digests, places, places, lock(), reporter)
    assert len(reporter.warnings) == 1
    assert "cannot be kept in the package cache" in reporter.warnings[0]
    (tmp_path / "compiled").unlink()
    modules._keep(place, digests, digests, places, places, lock(), reporter)
    shelf = bytecode_shelf.read(places["0" * 64])
    assert shelf is not None
    assert [module.source for module in shelf.modules] == ["m.py"]


def test_a_shelf_grows_with_what_builds_compile(tmp_path: Path) -> None:
    place = tmp_path / "shelf"

    def module(name: str, base: str, sha256: str = "0") -> Module:
        path = f"{base}/{name}"
        code = b"head\xfa" + bytes([len(path)]) + path.encode() + b" tail"
        return Module(name, sha256, f"{name}c", code, 6)

    def kept() -> Shelf | None:
        return bytecode_shelf.read(place)

    # Of the package, pip left nothing in the first build.
    bytecode_shelf.add(place, [], "/old")
    assert kept() == Shelf("/old", ())
    bytecode_shelf.add(place, [module("a.py", "/old")], "/old")
    both = [module("b.py", "/longer"), Module("c.py", "0", "", None)]
    bytecode_shelf.add(place, both, "/longer")
    whole = Shelf("/longer", (module("a.py", "/longer"), *both))
    assert kept() == whole
    before = place.stat().st_ino
    for known in ([], both[:1], both):
        bytecode_shelf.add(place, known, "/longer")
    assert place.stat().st_ino == before
    # What an older Condainer kept of another package goes.
    bytecode_shelf.add(place, [module("a.py", "/new", "1")], "/new")
    now = kept()
    assert now is not None
    assert {m.source: m.sha256 for m in now.modules} == {"a.py": "1", "b.py": "0", "c.py": "0"}


def test_a_damaged_shelf_is_written_anew(tmp_path: Path) -> None:
    place = tmp_path / "shelf"
    place.write_bytes(b"damaged")
    bytecode_shelf.add(place, [Module("c.py", "0", "", None)], "/new")
    assert bytecode_shelf.read(place) == Shelf("/new", (Module("c.py", "0", "", None),))
