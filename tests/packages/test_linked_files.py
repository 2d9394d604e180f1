"""Files that an engine left half-written are found."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from condainer.package_cache.archives import UNPACKED
from condainer.packages import conda_packages, linked_files
from condainer.settings.load import load_settings
from condainer.system.errors import IntegrityError, StorageError
from condainer.system.reporter import Silent
from tests.channel.package import PLACEHOLDER, Recipe, write_conda, write_file

CONTENT = b"text with /the/prefix"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def path(name: str = "share/file", kind: str = linked_files.FILE, **more: Any) -> dict[str, Any]:
    return {"_path": name, "path_type": kind, "size_in_bytes": len(CONTENT), **more}


def prefix(directory: Path, *records: list[dict[str, Any]]) -> Path:
    """Make a prefix whose files are as they should be."""
    (directory / "conda-meta").mkdir()
    for number, paths in enumerate(records):
        text = json.dumps({"paths_data": {"paths": paths}})
        (directory / "conda-meta" / f"package-{number}.json").write_text(text)
        for item in paths:
            place = directory / item["_path"]
            place.parent.mkdir(parents=True, exist_ok=True)
            if item["path_type"] == linked_files.LINK:
                place.symlink_to("elsewhere")
            else:
                place.write_bytes(CONTENT)
    return directory


REPLACED = {"prefix_placeholder": "/opt/placeholder", "sha256_in_prefix": SHA256}
CASES = {
    "file": path(),
    "prefix": path(**REPLACED),
    "script": path(kind=linked_files.SCRIPT, sha256=SHA256),
    "link": path(kind=linked_files.LINK),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("how", ["missing", "empty", "directory"])
def test_what_is_not_as_recorded_is_found(tmp_path: Path, case: str, how: str) -> None:
    directory = prefix(tmp_path, [CASES[case]])
    linked_files.check(directory)
    file = directory / "share" / "file"
    file.unlink()
    if how == "empty":
        file.touch()
    elif how == "directory":
        file.mkdir()
    with pytest.raises(StorageError) as caught:
        linked_files.check(directory)
    assert caught.value.message == f"{file} was not written as its package says"
    assert "staging_directory" in caught.value.hint


@pytest.mark.parametrize("case", ["prefix", "script"])
def test_other_content_of_the_same_size_is_found_where_the_engine_wrote(
    tmp_path: Path, case: str
) -> None:
    directory = prefix(tmp_path, [CASES[case], path("second", **REPLACED)])
    (directory / "share" / "file").write_bytes(b"\0" * len(CONTENT))
    (directory / "second").write_bytes(b"")
    with pytest.raises(StorageError, match=r"second was not written .*, and 1 more"):
        linked_files.check(directory)


def test_what_records_leave_open_is_not_held_against_a_file(tmp_path: Path) -> None:
    bare = {"_path": "bare", "path_type": linked_files.FILE}
    other = path("other", kind="pyc_file")
    directory = prefix(tmp_path, [bare, other, path("shared")], [path("shared", size_in_bytes=1)])
    (directory / "other").unlink()
    linked_files.check(directory)


def test_what_was_compared_and_hard_linked_is_vouched_for(tmp_path: Path) -> None:
    for name in ("one", "two"):
        tree = tmp_path / name
        write_file(tree / "share" / "shared", name)
        write_file(tree / "share" / name, f"of {name}")
        write_file(tree / "share" / f"prefix-{name}", f"{PLACEHOLDER}\n")
        (tree / "share" / f"link-{name}").symlink_to(name)
        write_conda(tree, Recipe(name, "1.0"), tmp_path / "channel")
    archives = sorted((tmp_path / "channel").rglob("*.conda"))
    settings = load_settings(tmp_path, (f"package_cache={tmp_path / 'packages'}",))
    where = (tmp_path / "final", tmp_path / "scratch", settings, Silent())

    def linked_anew(hard_links: bool = True) -> dict[str, str]:
        directory = Path(tempfile.mkdtemp(dir=tmp_path))
        found = conda_packages.link(archives, directory, *where, hard_links=hard_links).vouched
        for path, vouched in found.items():
            assert hashlib.sha256((directory / path).read_bytes()).hexdigest() == vouched.sha256
            assert vouched.is_of((directory / path).lstat())
            # In its place comes another file, and it is not vouched for any more.
            (directory / path).unlink()
            (directory / path).write_bytes(b"another")
            assert not vouched.is_of((directory / path).lstat())
        return {path: vouched.sha256 for path, vouched in found.items()}

    # What is unpacked now was compared with nothing, and copies have not been read.
    assert linked_anew() == {}
    assert linked_anew(hard_links=False) == {}
    digests = {f"share/{n}": hashlib.sha256(f"of {n}".encode()).hexdigest() for n in ("one", "two")}
    assert linked_anew() == digests
    # A damaged package is unpacked anew, without being compared.
    damaged = tmp_path / "packages" / UNPACKED / "one-1.0-0" / "share" / "one"
    damaged.chmod(0o644)
    damaged.write_bytes(b"of two")
    assert linked_anew() == {"share/two": digests["share/two"]}
    assert damaged.read_bytes() == b"of one"
    assert linked_anew() == digests


def test_packages_that_bring_the_same_files_pass(tmp_path: Path) -> None:
    for name in ("one", "two"):
        tree = tmp_path / name
        write_file(tree / "share" / "text", name * 3)
        write_file(tree / "share" / "prefix", f"{PLACEHOLDER}{name}\n")
        (tree / "share" / "link").symlink_to("text" if name == "one" else "prefix")
        write_conda(tree, Recipe(name, "1.0"), tmp_path / "channel")
    archives = sorted((tmp_path / "channel").rglob("*.conda"))
    settings = load_settings(tmp_path, (f"package_cache={tmp_path / 'packages'}",))
    where = (tmp_path / "prefix", tmp_path / "final", tmp_path / "scratch")
    assert sorted(conda_packages.link(archives, *where, settings, Silent()).order) == ["one", "two"]
    # In a package cache, each stands below its sha256.
    moved = tmp_path / ("0" * 64) / archives[0].name
    moved.parent.mkdir()
    archives[0].rename(moved)
    with pytest.raises(IntegrityError, match="was changed after"):
        conda_packages.link([moved], tmp_path / "other", *where[1:], settings, Silent())
