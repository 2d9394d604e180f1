"""Files and directories: published whole or not at all, with the modes that were asked for."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from condainer.system import files
from condainer.system.errors import StorageError
from tests.helpers.waiting import PATIENCE

MASKS = [0o000, 0o022, 0o077]


@pytest.fixture
def set_umask() -> Iterator[Callable[[int], int]]:
    """Set the umask for one test."""
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "permission"),
        (errno.EPERM, "permission"),
        (errno.EROFS, "read-only"),
        (errno.EEXIST, "move it away"),
        (errno.ENOTDIR, "move it away"),
        (errno.EIO, "try again"),
        (errno.ENXIO, ""),
    ],
)
def test_an_operating_system_error_names_place_reason_and_remedy(number: int, hint: str) -> None:
    cause = OSError(number, "ignored", "/some/place")
    with pytest.raises(StorageError) as caught, files.storage_errors("write the image"):
        raise cause
    error = caught.value
    assert error.message == f"Cannot write the image: {os.strerror(number)} (/some/place)"
    assert hint in error.hint
    assert bool(error.hint) == bool(hint)
    assert error.__cause__ is cause
    assert error.exit_code == 12


def test_an_error_without_number_and_place() -> None:
    assert files.storage_error("do it", OSError("odd")).message == "Cannot do it: odd"


def test_a_place_is_named_once() -> None:
    error = FileNotFoundError(errno.ENOENT, "", "/place/file")
    told = "No such file or directory"
    assert files.storage_error("read /place/file", error).message.endswith(f"/place/file: {told}")
    below = files.storage_error("read /place/file/below", error)
    assert below.message.endswith(f"{told} (/place/file)")
    assert files.storage_error("go on", error).message == f"Cannot go on: {told} (/place/file)"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_full_disk_is_known_by_what_a_program_tells_of_it(number: int) -> None:
    told = f"failed to write /place/file: {os.strerror(number)} (os error {number})\n"
    error = files.storage_error_told("link packages into /place", told)
    assert error is not None
    assert error.message.startswith(f"Cannot link packages into /place: {os.strerror(number)}\n")
    assert "/place/file" in error.message
    assert "condainer.yml" in error.hint
    assert files.storage_error_told("do it", "no such package") is None


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), files.storage_errors("do it"):
        raise KeyError


# --- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", MASKS)
def test_the_umask_is_told_without_changing_it(set_umask: Callable[[int], int], mask: int) -> None:
    set_umask(mask)
    assert files.umask() == mask
    assert set_umask(mask) == mask


@pytest.mark.parametrize(
    "name", ["x", "with blank", "-rf", "line\nbreak", "für", ".hidden", "l" * 255, "𝄞" * 63]
)
def test_a_published_file_has_the_text_and_leaves_nothing_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    files.publish_text(path, "für\r\nuns\n")
    assert path.read_bytes() == "für\r\nuns\n".encode()
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("mask", MASKS)
def test_the_mode_of_a_published_file_follows_the_umask(
    tmp_path: Path, set_umask: Callable[[int], int], mask: int
) -> None:
    set_umask(mask)
    files.publish_text(tmp_path / "x", "")
    assert mode(tmp_path / "x") == 0o666 & ~mask


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("wanted", [0o444, 0o664, 0o600])
def test_a_given_mode_does_not_follow_the_umask(
    tmp_path: Path, set_umask: Callable[[int], int], mask: int, wanted: int
) -> None:
    set_umask(mask)
    files.publish_text(tmp_path / "x", "", wanted)
    assert mode(tmp_path / "x") == wanted


def test_a_file_is_replaced_and_a_reader_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old and longer")
    with path.open() as reader:
        files.publish_text(path, "new")
        assert reader.read() == "old and longer"
    assert path.read_text() == "new"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    target = tmp_path / "dir" / "target"
    target.write_text("old")
    link = tmp_path / "link"
    link.symlink_to("dir/target")
    files.publish_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["target"]


def test_a_dangling_link_gets_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    files.publish_text(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "new"


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.publish_text(tmp_path / "x", "new")
    assert os.listdir(tmp_path) == ["x"]
    with pytest.raises(UnicodeEncodeError):
        files.publish_text(tmp_path / "y", "\ud800")
    assert os.listdir(tmp_path) == ["x"]


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        files.publish_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_no_directory_to_publish_in(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.publish_text(tmp_path / "gone" / "x", "")


@pytest.mark.parametrize(
    ("number", "raised"),
    [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True), (errno.ENOSPC, True)],
)
def test_only_real_failures_to_sync_a_directory_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raised: bool
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fail)
    before = os.listdir("/proc/self/fd")
    if raised:
        with pytest.raises(OSError, match="no"):
            files.sync_directory(tmp_path)
    else:
        files.sync_directory(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == len(before)


# --- directories ------------------------------------------------------------------------------


def test_a_directory_is_published_by_one_rename(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a")
    number = source.stat().st_ino
    assert files.publish_directory(source, tmp_path / "target")
    assert not source.exists()
    assert (tmp_path / "target").stat().st_ino == number
    assert (tmp_path / "target" / "a").read_text() == "a"


def test_who_comes_second_keeps_the_first(tmp_path: Path) -> None:
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    assert not files.publish_directory(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target" / "a").read_text() == "target"
    assert (tmp_path / "source" / "a").read_text() == "source"


def test_an_empty_directory_is_no_entry(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("")
    (tmp_path / "target").mkdir()
    assert files.publish_directory(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target" / "a").exists()


@pytest.mark.parametrize("target", ["file", "link", "nowhere"])
def test_what_is_no_directory_is_in_the_way_like_an_entry(tmp_path: Path, target: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "file").write_text("kept")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "nowhere").symlink_to("gone")
    assert not files.publish_directory(tmp_path / "source", tmp_path / target)
    assert (tmp_path / "source").is_dir()
    assert (tmp_path / "file").read_text() == "kept"
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.parametrize("target", ["file/target", "gone/target"])
def test_other_failures_to_publish_are_raised(tmp_path: Path, target: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match=r"directory"):
        files.publish_directory(tmp_path / "source", tmp_path / target)
    assert (tmp_path / "source").is_dir()
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("wanted", [0o755, 0o3775, 0o2770])
def test_directories_are_made_with_exactly_the_mode(
    tmp_path: Path, set_umask: Callable[[int], int], mask: int, wanted: int
) -> None:
    set_umask(mask)
    files.make_directory(tmp_path / "a" / "b c" / "d", wanted)
    for path in (tmp_path / "a", tmp_path / "a" / "b c", tmp_path / "a" / "b c" / "d"):
        assert mode(path) == wanted


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    files.make_directory(tmp_path / "a" / "b", 0o775)
    files.make_directory(tmp_path / "a", 0o775)
    assert mode(tmp_path / "a") == 0o700
    assert mode(tmp_path / "a" / "b") == 0o775


def test_a_linked_directory_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    files.make_directory(tmp_path / "link" / "b", 0o755)
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("below", ["", "a", "a/b"])
def test_a_file_where_a_directory_should_be(tmp_path: Path, below: str) -> None:
    path = tmp_path / "x"
    path.write_text("kept")
    with pytest.raises(StorageError) as caught, files.storage_errors("create the cache"):
        files.make_directory(path / below, 0o755)
    assert str(path) in caught.value.message
    assert "move it away" in caught.value.hint
    assert path.read_text() == "kept"


def test_a_dangling_link_where_a_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(FileExistsError):
        files.make_directory(tmp_path / "link", 0o755)


def test_a_tree_is_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_text("")
    (tree / "dangling").symlink_to("gone")
    files.remove_tree(tree)
    assert not tree.exists()
    files.remove_tree(tree)


def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "below").mkdir(parents=True)
    (outside / "below").chmod(0o555)
    (outside / "file").write_text("kept")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(outside)
    link = tmp_path / "link"
    link.symlink_to(outside)
    files.remove_tree(tree)
    files.remove_tree(link)
    assert os.listdir(tmp_path) == ["outside"]
    assert (outside / "file").read_text() == "kept"
    assert mode(outside / "below") == 0o555


def test_a_file_is_no_tree(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("")
    path.chmod(0o644)
    files.remove_tree(path)
    assert mode(path) == 0o644


@pytest.mark.parametrize("wanted", ["0o555", "0o000", "0o300"])
def test_directories_without_permission_are_removed_too(tmp_path: Path, wanted: str) -> None:
    # In a process without root's rights, to whom permissions mean nothing.
    program = f"""
import os, sys, tempfile
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from condainer.system import files
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
top = Path(tempfile.mkdtemp())
(top / "tree" / "a" / "b").mkdir(parents=True)
(top / "tree" / "a" / "b" / "file").write_text("")
(top / "tree" / "a" / "b").chmod({wanted})
(top / "tree" / "a").chmod({wanted})
files.remove_tree(top / "tree")
print(os.listdir(top))
os.rmdir(top)
"""
    source = Path(files.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(source)], capture_output=True, text=True
    )
    if "ModuleNotFoundError" in done.stderr or "PermissionError" in done.stderr:
        pytest.skip("this checkout cannot be read by another user")
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("bits", "private"),
    [(0o700, True), (0o755, True), (0o775, False), (0o757, False), (0o1777, False)],
)
def test_private_directories(tmp_path: Path, bits: int, private: bool) -> None:
    path = tmp_path / "x"
    path.mkdir()
    path.chmod(bits)
    assert files.is_private_directory(path) is private


def test_what_is_no_private_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "dir"
    directory.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("dir")
    (tmp_path / "file").write_text("")
    assert files.is_private_directory(directory)
    for name in ("link", "file", "gone", "file/below"):
        assert not files.is_private_directory(tmp_path / name)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    assert not files.is_private_directory(directory)


def test_the_tag_of_a_cache_is_the_standards() -> None:
    # Backup programs compare the first 43 bytes.
    assert files.CACHEDIR_TAG[:43] == "Signature: 8a477f597d28d172789f06886806bc55"


# --- taking turns -----------------------------------------------------------------------------


def test_who_reads_and_replaces_a_file_by_turns_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.touch()

    def add(line: int) -> None:
        with files.turn(tmp_path, PATIENCE):
            text = path.read_text()
            time.sleep(0.001)
            files.publish_text(path, f"{text}{line}\n", durable=False)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert sorted(map(int, path.read_text().split())) == list(range(40))


def test_nobody_holds_up_others_for_ever(tmp_path: Path) -> None:
    with files.turn(tmp_path):
        begun = time.monotonic()
        with files.turn(tmp_path, longest=0.2):
            assert 0.2 <= time.monotonic() - begun < 5


def test_where_no_directory_can_be_locked_nobody_waits(tmp_path: Path) -> None:
    with files.turn(tmp_path / "none"):
        pass
