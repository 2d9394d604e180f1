"""Copies of images on the node: made once, shared, bounded, and gone with the last mount."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from condainer.mount import mounts, node_copies, unmount
from condainer.mount.mounts import Image, Options, State
from condainer.mount.node_copies import Source, Wish
from condainer.settings.load import load_settings
from condainer.system import files, mount_table
from condainer.system.errors import IntegrityError
from condainer.system.private_directory import this_host
from condainer.system.reporter import Silent
from tests.helpers.mounting import ADDRESS, LINGER, Account, daemons, is_gone, keepers
from tests.helpers.needed import needs_root
from tests.helpers.told import Told
from tests.helpers.waiting import until

pytestmark = pytest.mark.xdist_group("accounts")

ROOMY = 1 << 30


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for copies, which is the only one of the node that is known."""
    directory = tmp_path / "node"
    directory.mkdir()
    monkeypatch.setattr(node_copies, "MEMORY", directory)
    for name in ("SLURM_TMPDIR", "TMPDIR"):
        monkeypatch.setenv(name, str(directory))
    return directory


@pytest.fixture
def source(tmp_path: Path) -> Source:
    path = tmp_path / "image.squashfs"
    path.write_bytes(os.urandom(300_000))
    return Source(path, ADDRESS, files.sha256_of(path))


def staged(node: Path) -> list[Path]:
    return sorted(node.glob(".condainer-*/staged/*"))


def test_a_copy_has_the_bytes_and_is_ours_alone(node: Path, source: Source) -> None:
    wish = Wish(str(node), ROOMY)
    copy = node_copies.provide(source, wish, Silent())
    assert copy is not None
    assert copy.path.read_bytes() == source.path.read_bytes()
    assert copy.path.stat().st_mode & 0o777 == 0o400
    for directory in (copy.path.parent, copy.path.parent.parent):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert node_copies.by_address(wish) == {ADDRESS: copy.path}
    # The next one shares it, also when the image has gone from its server.
    source.path.unlink()
    again = node_copies.provide(source, wish, Silent())
    assert again is not None
    assert again.path == copy.path
    assert node_copies.sweep(wish) == []
    copy.release()
    assert node_copies.unused(wish) == []
    again.release()
    assert node_copies.unused(wish) == node_copies.sweep(wish) == [copy.path]
    # In memory, not even directories stay.
    assert list(node.iterdir()) == []


def test_never_and_auto_on_a_local_disk_copy_nothing(node: Path, source: Source) -> None:
    for word in ("never", "auto"):
        assert node_copies.provide(source, Wish(word, ROOMY), Silent()) is None
    assert list(node.iterdir()) == []


def test_always_takes_the_first_place_of_the_job(
    node: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_job = node.parent / "job"
    of_job.mkdir()
    monkeypatch.setenv("SLURM_TMPDIR", str(of_job))
    copy = node_copies.provide(source, Wish("always", ROOMY), Silent())
    assert copy is not None
    assert staged(of_job) == [copy.path]
    # Another job, whose place is another one, finds what is where all can see it.
    monkeypatch.setenv("SLURM_TMPDIR", str(node))
    other = node_copies.provide(source, Wish("always", ROOMY), Silent())
    assert other is not None
    monkeypatch.setenv("SLURM_TMPDIR", str(of_job))
    copy.release()
    assert node_copies.remove(copy.path)
    again = node_copies.provide(source, Wish("always", ROOMY), Silent())
    assert again is not None
    assert again.path == other.path
    for item in (other, again):
        item.release()


def test_other_bytes_are_refused_and_nothing_is_left(node: Path, source: Source) -> None:
    with source.path.open("r+b") as stream:
        stream.write(b"other")
    with pytest.raises(IntegrityError) as caught:
        node_copies.provide(source, Wish(str(node), ROOMY), Silent())
    assert str(source.path) in caught.value.message
    assert list(node.iterdir()) == []


def test_what_is_too_large_is_used_where_it_is(node: Path, source: Source) -> None:
    size, told = source.path.stat().st_size, Told()
    assert node_copies.provide(source, Wish(str(node), size - 1), told) is None
    assert "stage_max_size" in told.notes[0]
    assert list(node.iterdir()) == []
    # Copies that are in use count together.
    first = node_copies.provide(source, Wish(str(node), size), Silent())
    assert first is not None
    another = replace(source, address=ADDRESS[::-1])
    assert node_copies.provide(another, Wish(str(node), 2 * size - 1), Silent()) is None
    first.release()
    # Those that nobody uses make room.
    second = node_copies.provide(another, Wish(str(node), size), Silent())
    assert second is not None
    assert staged(node) == [second.path]
    second.release()


def test_a_place_that_others_can_write_is_not_used(node: Path, source: Source) -> None:
    told = Told()
    node.chmod(0o777)
    assert node_copies.provide(source, Wish(str(node), ROOMY), told) is None
    assert "others can replace" in told.notes[0]
    assert list(node.iterdir()) == []
    node.chmod(0o1777)
    copy = node_copies.provide(source, Wish(str(node), ROOMY), told)
    assert copy is not None
    copy.release()


@pytest.mark.parametrize("kind", ["open", "link"])
def test_no_copy_is_made_where_none_would_be_found(node: Path, source: Source, kind: str) -> None:
    directory, elsewhere = node / f".condainer-{os.geteuid()}" / "staged", node.parent / "elsewhere"
    directory.parent.mkdir(0o700)
    elsewhere.mkdir()
    if kind == "link":
        directory.symlink_to(elsewhere)
    else:
        directory.mkdir()
        directory.chmod(0o777)
    assert node_copies.provide(source, Wish(str(node), ROOMY), Silent()) is None
    assert list(directory.iterdir()) == []


def test_a_sweep_beside_another(
    node: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish, look = Wish(str(node), ROOMY), node_copies.existing_directory
    copy = node_copies.provide(source, wish, Silent())
    assert copy is not None
    copy.release()

    def gone_since(place: Path) -> Path | None:
        found = look(place)
        if found is not None:
            shutil.rmtree(found.parent)
        return found

    monkeypatch.setattr(node_copies, "existing_directory", gone_since)
    assert node_copies.sweep(wish) == []
    assert list(node.iterdir()) == []


def test_nobody_elses_copy_is_believed(node: Path, source: Source) -> None:
    """Whoever has taken the name of our directory, or put a link or an open file there."""
    wish = Wish(str(node), ROOMY)
    node.chmod(0o1777)
    taken = node / f".condainer-{os.geteuid()}"
    (taken / "staged").mkdir(parents=True, mode=0o777)
    taken.chmod(0o777)
    evil = taken / "staged" / f"{source.name}{node_copies.COMPLETE}"
    evil.write_bytes(b"evil")
    copy = node_copies.provide(source, wish, Silent())
    assert copy is not None
    assert copy.path.parent.parent.name == f".condainer-{os.geteuid()}.1"
    copy.release()
    node_copies.sweep(wish)
    shutil.rmtree(taken)
    (node / f".condainer-{os.geteuid()}" / "staged").mkdir(parents=True, mode=0o700)
    taken.chmod(0o700)
    evil.symlink_to("/etc/passwd")
    assert node_copies.claimed(evil) is None
    evil.unlink()
    evil.write_bytes(b"evil")
    evil.chmod(0o666)
    assert node_copies.claimed(evil) is None


def test_many_starters_copy_once(node: Path, source: Source) -> None:
    """The second waits for the first; the file on the server is read by one alone."""
    wish = Wish(str(node), ROOMY)
    partial = node / f".condainer-{os.geteuid()}" / "staged" / f"{source.name}{node_copies.PARTIAL}"
    partial.parent.mkdir(parents=True)
    for directory in (partial.parent, partial.parent.parent):
        directory.chmod(0o700)
    found: list[node_copies.Copy | None] = []
    reports = [Told() for _ in range(4)]
    with partial.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)

        def start(report: Told) -> None:
            found.append(node_copies.provide(source, wish, report))

        threads = [threading.Thread(target=start, args=(report,)) for report in reports]
        for thread in threads:
            thread.start()
        waits = "Waiting for the process that copies the image to this node"
        until(lambda: all(waits in report.steps for report in reports))
        assert found == []
        # As a process that is killed: its lock is gone, its copy not complete.
    for thread in threads:
        thread.join()
    assert len({copy.path for copy in found if copy}) == 1
    copied = [report for report in reports if "Copying the image to this node" in report.steps]
    assert len(copied) == 1
    for copy in found:
        assert copy is not None
        copy.release()


def test_what_killed_processes_and_earlier_starts_left_is_cleared(
    node: Path, source: Source
) -> None:
    wish = Wish(str(node), ROOMY)
    copy = node_copies.provide(source, wish, Silent())
    assert copy is not None
    copy.release()
    host, boot = this_host().rsplit("-", 1)
    begun = copy.path.with_suffix(node_copies.PARTIAL)
    earlier = copy.path.with_name(copy.path.name.replace(boot, "00000000"))
    elsewhere = copy.path.with_name(copy.path.name.replace(f".{host}-", ".another-node-"))
    other = copy.path.with_name("notes.txt")
    for path in (begun, earlier, elsewhere, other):
        path.write_bytes(b"x")
    assert node_copies.by_address(wish) == {ADDRESS: copy.path}
    again = node_copies.provide(replace(source, address=ADDRESS[::-1]), wish, Silent())
    assert again is not None
    # Another node's are left alone: its locks cannot be seen here.
    assert set(staged(node)) == {again.path, elsewhere, other}
    again.release()


def test_what_a_batch_script_brought_is_taken_if_it_is_right(node: Path, source: Source) -> None:
    wish, brought = Wish(str(node), ROOMY), node / f"condainer-{ADDRESS}.squashfs"
    content = source.path.read_bytes()
    # Not for the wrong bytes, of which the image itself takes the place.
    brought.write_bytes(b"other" + content[5:])
    copy = node_copies.provide(source, wish, Silent())
    assert copy is not None
    assert copy.path.read_bytes() == content
    copy.release()
    node_copies.sweep(wish)
    brought.write_bytes(content)
    # What others can write is not looked at, although it has the right bytes now.
    brought.chmod(0o666)
    source.path.write_bytes(b"changed")
    with pytest.raises(IntegrityError):
        node_copies.provide(source, wish, Silent())
    brought.chmod(0o600)
    copy = node_copies.provide(source, wish, Silent())
    assert copy is not None
    assert copy.path.read_bytes() == content
    assert not brought.exists()
    copy.release()


def test_memory_is_not_filled(node: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control group with 100 kB left, as the kernel would write it."""
    needs_root("to mount a tmpfs")
    script = f"""
import sys; sys.path.insert(0, {str(Path(node_copies.__file__).parents[2])!r})
from pathlib import Path
from condainer.mount import node_copies
from condainer.system import machine
from tests.helpers.needed import needs_root
class Told:
    def __getattr__(self, name): return lambda *given: name == "note" and print(*given)
source = node_copies.Source(Path({str(source.path)!r}), {ADDRESS!r}, {source.sha256!r})
left = machine.memory()
machine.memory = lambda: int(sys.argv[1])
print(node_copies.provide(source, node_copies.Wish({str(node)!r}, 1 << 30), Told()) is not None)
"""
    for left, text in ((100_000, "too little memory"), (10_000_000, "True")):
        command = f'mount -t tmpfs -o size=8m none "{node}" && exec "$0" -c "$1" {left}'
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", command, sys.executable, script],
            capture_output=True,
            text=True,
            check=False,
        )
        assert text in done.stdout, done
    # Nothing is noted where there is room.
    assert done.stdout == "True\n"


@pytest.fixture
def kept(image: Image, node: Path) -> Iterator[Image]:
    """The image, which is to be copied, with its sha256."""
    node.chmod(0o1777)
    yield replace(image, stated_sha256=files.sha256_of(image.path))
    until(lambda: staged(node) == [])


def options(node: Path, **values: str) -> Options:
    return Options(linger=LINGER, stage=Wish(str(node), ROOMY), **values)  # type: ignore[arg-type]


def test_the_copy_is_mounted_and_goes_with_the_mount(kept: Image, node: Path) -> None:
    mounts.mount(kept, options(node))
    (copy,) = staged(node)
    (daemon,) = daemons(kept)
    assert str(copy) in Path(f"/proc/{daemon}/cmdline").read_text().split("\0")
    assert node_copies.unused(options(node).stage) == []
    # The image itself is not needed any more.
    assert (kept.prefix / "data").stat().st_size == 300_000
    assert unmount.unmount(kept)
    until(lambda: is_gone(kept))
    assert staged(node) == []


def test_the_daemon_keeps_the_copy_when_the_keeper_is_killed(kept: Image, node: Path) -> None:
    mounts.mount(kept, options(node))
    (copy,) = staged(node)
    # The mount is there before its keeper is called by its name.
    until(lambda: keepers(kept))
    for pid in keepers(kept):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not keepers(kept))
    assert node_copies.sweep(options(node).stage) == []
    assert mounts.probe(kept) is State.MOUNTED
    assert unmount.unmount(kept)
    until(lambda: node_copies.sweep(options(node).stage) == [copy])


def test_a_repair_mounts_the_copy_again(kept: Image, node: Path) -> None:
    mounts.mount(kept, options(node))
    (copy,) = staged(node)
    (daemon,) = daemons(kept)
    os.kill(daemon, signal.SIGKILL)
    until(lambda: daemons(kept) not in ([], [daemon]))
    until(lambda: mounts.probe(kept) is State.MOUNTED)
    (another,) = daemons(kept)
    assert str(copy) in Path(f"/proc/{another}/cmdline").read_text().split("\0")
    assert staged(node) == [copy]
    assert unmount.unmount(kept)
    until(lambda: is_gone(kept))


def test_private_mounts_of_two_jobs_share_the_copy(kept: Image, accounts: list[Account]) -> None:
    """Each job has a mount of its own, whose keeper and daemon hold the one copy."""
    user, node = accounts[0], kept.prefix.parent / "node"
    node.mkdir()
    node.chmod(0o1777)
    before = (
        "from condainer.mount.node_copies import Wish\n"
        f"more['stage'] = Wish({str(node)!r}, {ROOMY})\n"
        "import functools\n"
        f"mount.Image = functools.partial(mount.Image, stated_sha256={kept.stated_sha256!r})\n"
    )
    holders = [
        user.start(kept, "cat", before=before + f"os.environ['SLURM_JOB_ID'] = '{number}'\n")
        for number in range(2)
    ]
    for holder in holders:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "private\n", holder.communicate()
    directory = node / f".condainer-{user.user['user']}" / "staged"
    (copy,) = directory.iterdir()
    assert copy.suffix == node_copies.COMPLETE
    assert len([p for p in daemons(kept) if str(copy) in _words(p)]) == 2
    holders[0].communicate()
    until(lambda: len(daemons(kept)) == 1)
    assert copy.exists()
    holders[1].communicate()
    until(lambda: not daemons(kept) and not keepers(kept))
    assert not directory.exists()


def _words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_without_room_the_image_itself_is_mounted(kept: Image, node: Path) -> None:
    told = Told()
    small = replace(options(node), stage=Wish(str(node), 1))
    mounts.mount(kept, small, told)
    assert "without a copy" in told.notes[0]
    (daemon,) = daemons(kept)
    assert str(kept.path) in _words(daemon)
    assert unmount.unmount(kept)
    until(lambda: is_gone(kept))


def test_umount_all_clears_what_was_left(
    kept: Image, node: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = node_copies.provide(source, Wish(str(node), ROOMY), Silent())
    assert copy is not None
    copy.release()
    # Not what others who test have mounted on this machine.
    monkeypatch.setattr(unmount, "mount_table", list)
    base = f"mount_base_directory={kept.prefix.parent}"
    settings = load_settings(node, [f"stage={node}", base])
    cleared = unmount.unmount_all(settings, force=False)
    assert [item.prefix for item in cleared] == [copy.path]
    assert staged(node) == []


def test_the_file_systems_of_servers(monkeypatch: pytest.MonkeyPatch, kept: Image) -> None:
    """A real FUSE file system that is none of ours counts as one that asks a server."""
    assert not mount_table.is_on_network(kept.path)
    mounts.mount(kept, Options(linger=LINGER))
    entry = mount_table.mounted_at(kept.prefix)
    assert entry is not None
    assert entry.kind == "fuse.squashfuse_ll"
    assert not mount_table.is_on_network(kept.prefix / "data")
    monkeypatch.setattr(mount_table, "LOCAL", frozenset())
    assert mount_table.is_on_network(kept.prefix / "data")
    assert unmount.unmount(kept)
    until(lambda: is_gone(kept))
