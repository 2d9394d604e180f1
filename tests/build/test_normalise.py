"""A staged prefix does not show how it was made."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from condainer.build import mark, normalise

PREFIX = Path("/tmp/condainer-0123")


def record(**changes: Any) -> dict[str, Any]:
    """Return a conda-meta record as an installer writes it."""
    return {
        "name": "zlib",
        "version": "1.3",
        "build": "h1_0",
        "subdir": "linux-64",
        "fn": "zlib-1!1.3-h1_0.conda",
        "channel": "https://mirror.example/conda-forge",
        "url": "https://mirror.example/conda-forge/linux-64/zlib-1!1.3-h1_0.conda",
        "sha256": "a" * 64,
        "files": ["lib/libz.so"],
        "paths_data": {"paths_version": 1, "paths": [{"_path": "lib/libz.so"}]},
        "requested_spec": "zlib >=1",
        "requested_specs": ["zlib >=1"],
        "link": {"source": "/home/one/pkgs/zlib", "type": 1},
        "extracted_package_dir": "/home/one/pkgs/zlib",
        "package_tarball_full_path": "/home/one/pkgs/zlib.conda",
        **changes,
    }


def make(directory: Path, **changes: Any) -> Path:
    """Make a small staged prefix and return its directory."""
    meta = directory / "conda-meta"
    meta.mkdir(parents=True)
    (meta / "zlib-1.3-h1_0.json").write_text(json.dumps(record(**changes), indent=2))
    return directory


def dist_info(prefix: Path, installer: str = "uv", name: str = "six-1.0.dist-info") -> Path:
    """Add the metadata of an installed wheel to a prefix."""
    path = prefix / "lib" / "python3.12" / "site-packages" / name
    path.mkdir(parents=True)
    (path / "INSTALLER").write_text(installer)
    (path / "METADATA").write_text("Name: six\n")
    for transient in ("direct_url.json", "REQUESTED", "uv_cache.json", "uv_build.json"):
        (path / transient).write_text("x")
    rows = ["six.py,sha256=abc,10", f"{name}/REQUESTED,,", f"{name}/direct_url.json,sha256=d,2"]
    rows += [f"{name}/uv_cache.json,,", f"{name}/uv_build.json,,", '"a,b.py",sha256=e,1']
    rows += [f"{name}/RECORD,,", f"{name}/METADATA,sha256=f,9"]
    (path / "RECORD").write_text("\r\n".join(rows) + "\r\n")
    return path


def tree(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_two_ways_to_the_same_packages_leave_the_same_bytes(tmp_path: Path) -> None:
    one = make(tmp_path / "one")
    other = make(
        tmp_path / "two",
        channel="conda-forge",
        url="file:///srv/linux-64/zlib-1!1.3-h1_0.conda",
        requested_spec="zlib=1.3",
        requested_specs=[],
        link={"source": "/home/two/pkgs/zlib", "type": 3},
        extracted_package_dir="/home/two/pkgs/zlib",
    )
    (one / "conda-meta" / "history").write_text("==> 2024-01-01 <==\n")
    for directory in (one, other):
        dist_info(directory)
        normalise.metadata(directory, PREFIX)
    (other_record,) = (other / "conda-meta").glob("*.json")
    assert tree(one) == tree(other)
    assert str(tmp_path) not in other_record.read_text()


def test_which_of_two_packages_with_a_file_in_common_came_first_does_not_show(
    tmp_path: Path,
) -> None:
    (tmp_path / "conda-meta").mkdir()
    moved = f"{normalise.CLOBBERED}/two/m"
    files = {"one": ["m", "z", "a"], "two": ["b", moved], "three": ["y", "x"]}
    for name, paths in files.items():
        said: list[dict[str, str]] = [{"_path": path} for path in paths]
        if name == "two":
            said[1]["original_path"] = "m"
        content = record(files=paths, paths_data={"paths_version": 1, "paths": said})
        (tmp_path / "conda-meta" / f"{name}.json").write_text(json.dumps(content))
    # The engine leaves this where it moved nothing in the end.
    (tmp_path / normalise.CLOBBERED / "one").mkdir(parents=True)
    normalise.metadata(tmp_path, PREFIX)
    expected = {"one": ["a", "m", "z"], "two": [moved, "b"], "three": ["y", "x"]}
    for name, paths in expected.items():
        found = json.loads((tmp_path / "conda-meta" / f"{name}.json").read_text())
        assert found["files"] == paths
        assert [path["_path"] for path in found["paths_data"]["paths"]] == paths
    assert not (tmp_path / normalise.CLOBBERED).exists()


def test_what_a_record_says_of_the_package_stays(tmp_path: Path) -> None:
    prefix = make(tmp_path / "p")
    normalise.metadata(prefix, PREFIX)
    found = json.loads((prefix / "conda-meta" / "zlib-1.3-h1_0.json").read_text())
    for key in ("name", "version", "build", "subdir", "fn", "sha256", "files", "paths_data"):
        assert found[key] == record()[key]
    assert found["url"].endswith("/linux-64/zlib-1%211.3-h1_0.conda")
    assert ".invalid/" in found["url"]
    assert "mirror" not in json.dumps(found)
    assert "/home" not in json.dumps(found)


def test_the_size_of_what_the_prefix_was_written_into_is_the_file_s(tmp_path: Path) -> None:
    paths = [
        {"_path": "replaced", "prefix_placeholder": "/opt", "size_in_bytes": 99},
        {"_path": "link", "prefix_placeholder": "/opt", "size_in_bytes": 99},
        {"_path": "plain", "size_in_bytes": 99},
    ]
    meta = tmp_path / "conda-meta"
    meta.mkdir()
    content = record(paths_data={"paths_version": 1, "paths": paths})
    (meta / "zlib.json").write_text(json.dumps(content))
    for name in ("replaced", "plain"):
        (tmp_path / name).write_text("12345")
    (tmp_path / "link").symlink_to("plain")
    normalise.metadata(tmp_path, PREFIX)
    after = json.loads((meta / "zlib.json").read_text())["paths_data"]["paths"]
    assert [path["size_in_bytes"] for path in after] == [5, 99, 99]


def test_conda_takes_the_prefix_for_an_environment(tmp_path: Path) -> None:
    prefix = make(tmp_path / "p")
    normalise.metadata(prefix, PREFIX)
    assert (prefix / "conda-meta" / "history").read_bytes() == b""


def test_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    prefix = make(tmp_path / "p")
    dist_info(prefix)
    normalise.metadata(prefix, PREFIX)
    before = tree(prefix)
    normalise.metadata(prefix, PREFIX)
    assert tree(prefix) == before


def test_an_installed_wheel_loses_what_is_transient(tmp_path: Path) -> None:
    prefix = make(tmp_path / "p")
    path = dist_info(prefix)
    normalise.metadata(prefix, PREFIX)
    assert sorted(os.listdir(path)) == ["INSTALLER", "METADATA", "RECORD"]
    assert (path / "RECORD").read_bytes().decode().splitlines() == [
        '"a,b.py",sha256=e,1',
        "six-1.0.dist-info/METADATA,sha256=f,9",
        "six-1.0.dist-info/RECORD,,",
        "six.py,sha256=abc,10",
    ]


@pytest.mark.parametrize("installer", ["conda", "pip\n", ""])
def test_what_a_conda_package_brought_is_not_touched(tmp_path: Path, installer: str) -> None:
    prefix = make(tmp_path / "p")
    path = dist_info(prefix, installer)
    before = tree(path)
    normalise.metadata(prefix, PREFIX)
    assert tree(path) == before


def test_hard_links_into_the_package_cache_are_cut(tmp_path: Path) -> None:
    prefix = make(tmp_path / "p")
    path = dist_info(prefix)
    cached = []
    for number, linked in enumerate(
        [prefix / "conda-meta" / "zlib-1.3-h1_0.json", path / "RECORD", path / "REQUESTED"]
    ):
        os.link(linked, tmp_path / str(number))
        cached.append((tmp_path / str(number), linked.read_bytes()))
    normalise.metadata(prefix, PREFIX)
    for copy, content in cached:
        assert copy.read_bytes() == content


# --- modes ------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (0o600, 0o644),
        (0o666, 0o644),
        (0o444, 0o644),
        (0o000, 0o644),
        (0o644, 0o644),
        (0o700, 0o755),
        (0o654, 0o755),
        (0o645, 0o755),
        (0o4755, 0o755),
        (0o2755, 0o755),
    ],
)
def test_modes_of_files(tmp_path: Path, before: int, after: int) -> None:
    path = tmp_path / "tree" / "with blank" / "-für\nx"
    path.parent.mkdir(parents=True)
    path.write_text("content")
    path.chmod(before)
    normalise.modes(tmp_path / "tree")
    assert mode(path) == after
    assert path.read_text() == "content"


@pytest.mark.parametrize("before", [0o700, 0o777, 0o2775, 0o1777, 0o500])
def test_modes_of_directories(tmp_path: Path, before: int) -> None:
    top = tmp_path / "tree"
    (top / "a" / "empty").mkdir(parents=True)
    for path in (top / "a" / "empty", top / "a", top):
        path.chmod(before)
    normalise.modes(top)
    assert {mode(path) for path in (top, top / "a", top / "a" / "empty")} == {0o755}


def test_links_are_left_alone_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("")
    (outside / "file").chmod(0o600)
    outside.chmod(0o700)
    top = tmp_path / "tree"
    top.mkdir()
    for name, target in (
        ("dir", "../outside"),
        ("file", "../outside/file"),
        ("dangling", "gone"),
        ("loop", "loop"),
    ):
        (top / name).symlink_to(target)
    normalise.modes(top)
    assert (mode(outside), mode(outside / "file")) == (0o700, 0o600)
    assert os.readlink(top / "dangling") == "gone"
    assert os.readlink(top / "dir") == "../outside"


def test_linked_files_with_the_right_mode_stay_linked(tmp_path: Path) -> None:
    # Copying a whole environment for nothing takes seconds.
    top = tmp_path / "tree"
    top.mkdir()
    cached = tmp_path / "cached"
    cached.write_text("content")
    cached.chmod(0o644)
    os.link(cached, top / "file")
    normalise.modes(top)
    assert (top / "file").stat().st_ino == cached.stat().st_ino


@pytest.mark.parametrize(
    ("before", "after"), [(0o600, 0o644), (0o664, 0o644), (0o4711, 0o755), (0o775, 0o755)]
)
def test_linked_files_with_another_mode_are_copied(tmp_path: Path, before: int, after: int) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    cached = tmp_path / "cached"
    cached.write_text("content")
    # A package can bring a link by the name that a copy might have.
    for name in ("file.condainer-copy", "file.tmp", ".file"):
        (top / name).symlink_to(tmp_path / "outside")
    os.link(cached, top / "file")
    cached.chmod(before)
    normalise.modes(top)
    assert (mode(cached), cached.stat().st_nlink, cached.read_text()) == (before, 1, "content")
    assert (mode(top / "file"), (top / "file").read_text()) == (after, "content")
    assert len(list(top.iterdir())) == 4
    assert not (tmp_path / "outside").exists()


def test_two_umasks_leave_the_same_modes(tmp_path: Path) -> None:
    for name, mask in (("one", 0o002), ("two", 0o077)):
        before = os.umask(mask)
        try:
            path = tmp_path / name / "bin"
            path.mkdir(parents=True)
            (path / "tool").write_text("")
            shutil.copymode("/bin/sh", path / "tool")
            (path / "data").write_text("")
        finally:
            os.umask(before)
        (path / "tool").chmod(0o777 & ~mask)
        normalise.modes(tmp_path / name)
    for below in ("", "bin", "bin/tool", "bin/data"):
        assert mode(tmp_path / "one" / below) == mode(tmp_path / "two" / below)


# --- markers ----------------------------------------------------------------------------------


def test_markers_replace_what_packages_bring_and_not_the_cache(tmp_path: Path) -> None:
    library = tmp_path / "prefix" / "lib" / "python3.12"
    library.mkdir(parents=True)
    (tmp_path / "prefix" / "conda-meta").mkdir()
    cached = tmp_path / "cached"
    cached.write_text("[externally-managed]\nError=another\n")
    os.link(cached, library / "EXTERNALLY-MANAGED")
    mark.unchangeable(tmp_path / "prefix", [library])
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(library / "EXTERNALLY-MANAGED", encoding="utf-8")
    assert parser["externally-managed"]["Error"] == mark.REASON
    assert "another" in cached.read_text()
