"""Real images, mounted by the real tools: shared, kept, repaired, and in private namespaces."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pwd
import random
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from condainer.mount import backends, keeper, mount_locks, mount_work, mounts, unmount
from condainer.mount.mounts import Image, Options, State
from condainer.startup import attach
from condainer.startup.namespace import call
from condainer.system import mount_table, namespace
from condainer.system.errors import CondainerError, MountError, StorageError, ToolError
from condainer.system.reporter import Silent
from tests.helpers.mounting import (
    ADDRESS,
    LINGER,
    ME,
    Account,
    daemons,
    is_gone,
    is_left_by,
    keeper_of,
    keepers,
    make_image,
)
from tests.helpers.needed import needs_program
from tests.helpers.waiting import PATIENCE, until

# useradd locks /etc/passwd: whoever makes accounts does so in one worker.
pytestmark = pytest.mark.xdist_group("accounts")

# Namespaces


def test_source_appears_at_target_for_the_command_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "so urce", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "file").write_text("content\n")
    command = namespace.command(source, target)
    script = 'cat "$1/file"; echo new > "$1/written"; id -u; pwd; exit 5'
    # The working directory has something that must not be taken for our code.
    (tmp_path / "condainer").mkdir()
    (tmp_path / "condainer/__init__.py").write_text("raise SystemExit('wrong')")
    done = subprocess.run(
        [*command, "sh", "-c", script, "sh", str(target)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"content\n{os.geteuid()}\n{tmp_path}\n", done.stderr
    assert done.returncode == 5
    assert (source / "written").exists()
    assert not list(target.iterdir())


def test_namespace_command_says_what_is_wrong(tmp_path: Path) -> None:
    command = namespace.command(tmp_path, tmp_path / "absent" / "prefix")
    done = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    assert done.returncode == MountError.exit_code
    assert f"No such file or directory ({tmp_path / 'absent'})" in done.stderr
    assert "Traceback" not in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2


def test_what_is_open_for_a_moment_only_does_not_keep_a_mount(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: Any, **more: Any) -> None:
        try:
            backends_stop(*given, **more)
        except backends.Busy:
            holder.communicate()
            raise

    backends_stop = backends.stop
    monkeypatch.setattr(backends, "stop", stop)
    monkeypatch.setattr(unmount, "PATIENCE", PATIENCE)
    mounts.mount(image)
    with subprocess.Popen(["cat"], cwd=image.prefix, stdin=subprocess.PIPE) as holder:
        assert unmount.unmount(image)
        assert holder.poll() == 0
    until(lambda: is_gone(image))


def test_namespaces_of_an_ordinary_user(accounts: list[Account], image: Image) -> None:
    first, second = accounts
    holder = first.start(image, "cat")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "shared\n"
    staging = image.prefix.parent / "staging"
    staging.mkdir()
    (staging / "mine").touch()
    # Over somebody else's FUSE file system, where stat fails; without privileges afterwards.
    text = "from condainer.system import namespace; from pathlib import Path; import sys, os;"
    text += "os.execvp(sys.executable, namespace.command(*map(Path, sys.argv[1:3])) + sys.argv[3:])"
    start = [second.python, "-c", f"import sys; sys.path.insert(0, {second.source!r}); {text}"]
    script = f"ls '{image.prefix}'; id -u; grep CapEff /proc/self/status"
    done = second.run([*start, str(staging), str(image.prefix), "sh", "-c", script])
    assert done.stdout.split() == ["mine", str(second.user["user"]), "CapEff:", "0" * 16], done
    holder.communicate()
    assert holder.returncode == 0


def test_available_is_tried_and_leaves_us_where_we_are() -> None:
    before = os.readlink("/proc/self/ns/mnt")
    assert namespace.available()
    assert os.readlink("/proc/self/ns/mnt") == before


# What is at the mount point


def test_probe_of_what_is_not_our_mount(image: Image) -> None:
    prefix = image.prefix
    assert mounts.probe(image) is State.ABSENT
    prefix.mkdir(0o700)
    assert mounts.probe(image) is State.ABSENT
    prefix.chmod(0o777)
    assert mounts.probe(image) is State.FOREIGN
    prefix.chmod(0o700)
    (prefix / "something").touch()
    assert mounts.probe(image) is State.FOREIGN
    (prefix / "something").unlink()
    prefix.rmdir()
    prefix.touch()
    assert mounts.probe(image) is State.FOREIGN
    prefix.unlink()
    prefix.symlink_to(image.prefix.parent)
    assert mounts.probe(image) is State.FOREIGN
    with pytest.raises(MountError) as caught:
        mounts.mount(image)
    assert caught.value.hint


def test_mount_stays_until_unmount(image: Image) -> None:
    mounts.mount(image)
    mounts.mount(image)
    assert mounts.probe(image) is State.MOUNTED
    assert len(daemons(image)) == 1
    entry = mount_table.mounted_at(image.prefix)
    assert entry is not None
    assert entry.owner == os.geteuid()
    assert (image.prefix / "data").stat().st_size == 300_000
    assert ME.hold(image, "true").stdout == "shared\n"
    time.sleep(3 * LINGER)
    assert mounts.probe(image) is State.MOUNTED
    # It refreshes the lease.
    assert keeper_of(image.prefix)
    assert unmount.unmount(image)
    until(lambda: is_gone(image))
    assert not unmount.unmount(image)


def test_mount_upgrades_a_mount_that_only_lingers(image: Image) -> None:
    assert ME.hold(image, "true").returncode == 0
    mounts.mount(image)
    time.sleep(3 * LINGER)
    assert mounts.probe(image) is State.MOUNTED
    unmount.unmount(image)
    until(lambda: is_gone(image))


@contextmanager
def keepers_stopped(image: Image) -> Iterator[None]:
    """Let a dead mount be seen: its keeper repairs it at once otherwise."""
    until(lambda: keepers(image))
    stopped = keepers(image)

    def send(number: signal.Signals) -> None:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    send(signal.SIGSTOP)
    try:
        yield
    finally:
        send(signal.SIGCONT)


def test_dead_mount_is_recognised_and_repaired(image: Image) -> None:
    mounts.mount(image)
    inside = os.open(image.prefix / "data", os.O_RDONLY)
    try:
        with keepers_stopped(image):
            os.kill(daemons(image)[0], signal.SIGKILL)
            until(lambda: mounts.probe(image) is State.DEAD)
            done = ME.hold(image, "cat", str(image.prefix / ".condainer/address"))
            assert done.stdout == f"shared\n{ADDRESS}\n"
        # It was kept before, so it is kept now.
        time.sleep(3 * LINGER)
        assert mounts.probe(image) is State.MOUNTED
        with keepers_stopped(image):
            os.kill(daemons(image)[0], signal.SIGKILL)
            until(lambda: mounts.probe(image) is State.DEAD)
            assert unmount.unmount(image)
    finally:
        os.close(inside)
    until(lambda: is_gone(image))


def start_again(image: Image) -> None:
    """Mount once more at a prefix, as a command whose starter was killed meanwhile."""
    backends.find_fuse(None).start(image.path, image.prefix)
    assert len(mount_table.mounts_at(image.prefix)) == 2


def test_no_mount_is_left_below_another(image: Image) -> None:
    mounts.mount(image)
    start_again(image)
    assert unmount.unmount(image)
    until(lambda: is_gone(image))
    child = ME.start(image, "cat")
    assert child.stdout is not None
    child.stdout.readline()
    start_again(image)
    child.communicate()
    until(lambda: is_gone(image))


def test_unmounted_by_hand_is_no_longer_kept(image: Image) -> None:
    mounts.mount(image)
    backends.stop(image.prefix, None)
    assert ME.hold(image, "true").stdout == "shared\n"
    until(lambda: is_gone(image))


# Shared while in use


def test_mount_goes_when_the_last_user_ends(image: Image) -> None:
    done = ME.hold(image, "cat", str(image.prefix / ".condainer/address"))
    assert done.stdout == f"shared\n{ADDRESS}\n"
    until(lambda: is_gone(image))


def test_exit_status_and_pid_are_those_of_the_command(image: Image) -> None:
    child = ME.start(image, "sh", "-c", "echo $$; exit 9")
    stdout, _ = child.communicate()
    assert stdout == f"shared\n{child.pid}\n"
    assert child.returncode == 9
    until(lambda: is_gone(image))


def test_command_has_no_child_that_it_did_not_start(image: Image) -> None:
    done = ME.hold(image, "sh", "-c", "cat /proc/$$/task/$$/children; true")
    children = done.stdout.split()[1:]
    # At most the `cat` itself.
    assert len(children) <= 1


def test_many_at_once_share_one_mount(image: Image) -> None:
    children = [ME.start(image, "cat") for _ in range(24)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "shared\n"
    until(lambda: len(daemons(image)) == len(keepers(image)) == 1)
    for child in children[:-1]:
        child.communicate()
    time.sleep(3 * LINGER)
    assert mounts.probe(image) is State.MOUNTED
    children[-1].communicate()
    until(lambda: is_gone(image))


def test_one_after_the_other_reuses_the_mount(image: Image) -> None:
    # Long enough for the next to come also on a machine that is busy.
    patient = Account(linger=PATIENCE)
    # The keeper holds no end of our pipes: we read to their end, and it still lingers.
    patient.hold(image, "true")
    first = daemons(image)
    for _ in range(10):
        patient.hold(image, "true")
    assert daemons(image) == first
    assert len(first) == 1


def test_killed_user_releases_the_mount(image: Image) -> None:
    child = ME.start(image, "sleep", "3600")
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    child.communicate()
    until(lambda: is_gone(image))


def test_child_that_outlives_the_command_keeps_the_mount(image: Image) -> None:
    # The shell gives its jobs an empty input of their own.
    child = ME.start(image, "sh", "-c", "exec 9<&0; cat <&9 >/dev/null 2>&1 & true")
    assert child.wait() == 0
    time.sleep(3 * LINGER)
    assert mounts.probe(image) is State.MOUNTED
    child.communicate()
    until(lambda: is_gone(image))


def test_busy_mount_is_not_taken_away_even_without_the_lock(image: Image) -> None:
    text = 'import os, sys; os.closerange(3, 99); print("in", flush=True); sys.stdin.read()'
    script = f"cd '{image.prefix}' && exec '{sys.executable}' -c '{text}'"
    child = ME.start(image, "sh", "-c", script)
    assert child.stdout is not None
    assert [child.stdout.readline() for _ in range(2)] == ["shared\n", "in\n"]
    time.sleep(3 * LINGER)
    assert mounts.probe(image) is State.MOUNTED
    with pytest.raises(MountError, match=rf"{child.pid} \(.*\): .*sys.stdin.read"):
        unmount.unmount(image)
    child.communicate()
    until(lambda: is_gone(image))


def test_killed_keeper_is_replaced_by_the_next_user(image: Image) -> None:
    child = ME.start(image, "cat")
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(keeper_of(image.prefix), signal.SIGKILL)
    until(lambda: not keepers(image))
    assert ME.hold(image, "true").returncode == 0
    until(lambda: len(keepers(image)) == 1)
    child.communicate()
    until(lambda: is_gone(image))


def test_killed_daemon_under_a_user_is_repaired_by_the_next(image: Image) -> None:
    child = ME.start(image, "cat")
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(daemons(image)[0], signal.SIGKILL)
    assert "data" in ME.hold(image, "ls", str(image.prefix)).stdout
    child.communicate()
    until(lambda: is_gone(image))


def test_removed_lock_files_lead_to_no_early_unmount(image: Image) -> None:
    first = ME.start(image, "cat")
    assert first.stdout is not None
    first.stdout.readline()
    shutil.rmtree(mount_locks.locks_for(image.prefix).users.parent)
    second = ME.start(image, "cat")
    assert second.stdout is not None
    assert second.stdout.readline() == "shared\n"
    first.communicate()
    time.sleep(4 * LINGER)
    assert mounts.probe(image) is State.MOUNTED
    second.communicate()
    until(lambda: is_gone(image))


def test_release_gives_up_the_claim(image: Image) -> None:
    first = mounts.hold(image, Options(linger=LINGER))
    second = mounts.hold(image, Options(linger=LINGER))
    assert not first.private
    assert os.get_inheritable(first.descriptor)
    first.release()
    time.sleep(3 * LINGER)
    assert mounts.probe(image) is State.MOUNTED
    second.release()
    until(lambda: is_gone(image))


@pytest.mark.long
def test_random_kills_leave_nothing_and_break_nothing(image: Image) -> None:
    chance = random.Random(1)
    for _ in range(15):
        children = [ME.start(image, "sleep", "0.1") for _ in range(4)]
        time.sleep(chance.uniform(0, 0.15))
        victims = [*daemons(image), *keepers(image), children[0].pid]
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(victims), signal.SIGKILL)
        for child in children:
            child.communicate()
        read = ME.hold(image, "cat", f"{image.prefix}/.condainer/address")
        assert read.stdout == f"shared\n{ADDRESS}\n", read.stderr
    until(lambda: is_gone(image))


# Unmounting


def test_unmount_names_those_who_use_it(image: Image) -> None:
    child = ME.start(image, str(image.prefix / "bin/doze"), "60")
    assert child.stdout is not None
    child.stdout.readline()
    user = pwd.getpwuid(os.geteuid()).pw_name
    with pytest.raises(MountError) as caught:
        unmount.unmount(image)
    assert f"\n  {child.pid} ({user}): {image.prefix}/bin/doze 60" in caught.value.message
    assert "keeper" not in caught.value.message
    assert unmount.unmount(image, force=True)
    assert child.poll() is None
    child.kill()
    child.communicate()
    until(lambda: is_gone(image))


def test_users_are_named_where_the_base_directory_is_a_link(image: Image, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(image.prefix.parent)
    linked = replace(image, prefix=tmp_path / "link" / image.prefix.name)
    child = ME.start(linked, "cat")
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(MountError, match=rf"in use by\n  {child.pid} \(.*\): cat"):
        unmount.unmount(linked)
    child.communicate()
    until(lambda: is_gone(linked))


# What cannot be mounted


def test_damaged_images_are_named_and_leave_nothing(image: Image, tmp_path: Path) -> None:
    good = image.path.read_bytes()
    cases = {
        "text": (b"this is no image", "not a squashfs image"),
        "empty": (b"", "not a squashfs image"),
        "short": (good[:5000], "truncated: 5000 of"),
        "noise": (good[:96] + bytes(len(good) - 96), "cannot be mounted|does not hold"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        damaged = Image(path, ADDRESS, image.prefix)
        with pytest.raises(MountError, match=message) as caught:
            mounts.mount(damaged)
        assert str(path) in caught.value.message
        assert "cnd build" in caught.value.hint
        # No keeper was needed, so nothing has to be waited for.
        assert is_gone(damaged)


def test_missing_image(image: Image, tmp_path: Path) -> None:
    with pytest.raises(MountError, match="does not exist"):
        mounts.mount(Image(tmp_path / "absent", ADDRESS, image.prefix))
    done = ME.hold(Image(tmp_path / "absent", ADDRESS, image.prefix), "echo", "ran")
    assert (done.returncode, done.stdout) == (MountError.exit_code, "")
    until(lambda: is_gone(image))


def test_image_of_another_address_is_never_served(image: Image, tmp_path: Path) -> None:
    path = make_image(tmp_path / "other.squashfs", "f" * 32)
    other = Image(path, ADDRESS, image.prefix)
    with pytest.raises(MountError, match="does not hold"):
        mounts.mount(other)
    assert ME.hold(other, "echo", "ran").stdout == ""
    until(lambda: is_gone(image))


def test_missing_tools(image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="squashfuse") as caught:
        mounts.mount(image)
    assert "Debian" in caught.value.hint
    mounts.mount(image, Options(tool_directory=Path("/usr/bin")))
    assert unmount.unmount(image)


def test_libraries_of_modules_do_not_reach_the_tools(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A loader that meets this does not start the program.
    for name in ("libfuse3.so.3", "libfuse.so.2"):
        (tmp_path / name).write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    mounts.mount(image)
    assert unmount.unmount(image)


def test_squashfuse_without_its_library_is_told(image: Image, tmp_path: Path) -> None:
    program = Path(shutil.which("squashfuse_ll") or "").read_bytes()
    broken = tmp_path / "squashfuse_ll"
    broken.write_bytes(program.replace(b"libfuse3.so", b"libnone3.so"))
    assert broken.read_bytes() != program
    broken.chmod(0o755)
    with pytest.raises(MountError, match="shared librar") as caught:
        mounts.mount(image, Options(tool_directory=tmp_path))
    assert "it misses its libraries" in caught.value.hint
    until(lambda: is_gone(image))


@pytest.mark.skipif(os.geteuid() != 0, reason="hiding a device needs root")
def test_missing_device(image: Image) -> None:
    hide = "namespace.enter(); namespace.tmpfs(Path('/dev'))"
    done = replace(ME, way="direct").hold(image, "true", before=hide)
    assert done.returncode == ToolError.exit_code
    assert "/dev/fuse does not exist" in done.stderr
    assert "modprobe fuse" in done.stderr


def test_unsafe_places_are_refused(image: Image) -> None:
    base = image.prefix.parent / "open"
    base.mkdir()
    base.chmod(0o777)
    loose = Image(image.path, ADDRESS, base / image.prefix.name)
    for attempt in (lambda: mounts.mount(loose), lambda: mounts.hold(loose, Options(linger=0))):
        with pytest.raises(MountError, match="no safe place"):
            attempt()
    inside = Image(image.path, ADDRESS, base / "deeper" / image.prefix.name)
    with pytest.raises(MountError, match="no safe place"):
        mounts.mount(inside)


def test_a_base_that_cannot_be_made_names_its_setting(image: Image) -> None:
    below = Image(image.path, ADDRESS, image.path / "base" / image.prefix.name)
    with pytest.raises(StorageError) as caught:
        mounts.mount(below)
    assert "`mount_base_directory`" in caught.value.hint


def test_missing_base_is_made(image: Image) -> None:
    deeper = Image(image.path, ADDRESS, image.prefix.parent / "a/b" / image.prefix.name)
    mounts.mount(deeper)
    assert unmount.unmount(deeper)
    blocked = image.prefix.parent / "file"
    blocked.touch()
    with pytest.raises(CondainerError):
        mounts.mount(Image(image.path, ADDRESS, blocked / "x" / image.prefix.name))


# Several users


def test_second_user_gets_a_private_mount(accounts: list[Account], image: Image) -> None:
    first, second = accounts
    holder = first.start(image, "cat")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "shared\n"
    script = f"cat '{image.prefix}/.condainer/address'; id -u; grep CapEff /proc/self/status"
    for _ in range(2):
        done = second.hold(image, "sh", "-c", script)
        lines = ["private", ADDRESS, str(second.user["user"]), "CapEff:", "0" * 16]
        assert done.stdout.split() == lines, done.stderr
    # Root is somebody else too.
    assert ME.hold(image, "cat", f"{image.prefix}/.condainer/address").stdout.startswith("private")
    until(lambda: len(daemons(image)) == len(keepers(image)) == 1)
    assert mounts.probe(image) is State.FOREIGN
    with pytest.raises(MountError, match=r"is taken by a mount of cnd\d"):
        mounts.mount(image)
    holder.communicate()
    until(lambda: is_gone(image))
    assert [p.name for p in image.prefix.parent.iterdir() if "visitor" in p.name] == []


def test_first_user_leaving_does_not_take_the_private_mount(
    accounts: list[Account], image: Image
) -> None:
    first, second = accounts
    owner = first.start(image, "cat")
    assert owner.stdout is not None
    owner.stdout.readline()
    script = f"read x; cat '{image.prefix}/.condainer/address'"
    guest = second.start(image, "sh", "-c", script)
    assert guest.stdout is not None
    assert guest.stdout.readline() == "private\n"
    owner.communicate()
    # The owner's keeper stays for the directory.
    until(lambda: is_left_by(image, first))
    stdout, stderr = guest.communicate("go\n")
    assert stdout == f"{ADDRESS}\n", stderr
    until(lambda: is_gone(image))
    assert first.hold(image, "true").stdout == "shared\n"
    until(lambda: is_gone(image))


def test_background_process_keeps_the_private_mount(accounts: list[Account], image: Image) -> None:
    image.prefix.mkdir(0o700)
    first, _ = accounts
    script = f"(sleep 1; cat '{image.prefix}/.condainer/address' > \"$0\") >/dev/null 2>&1 & true"
    result = image.prefix.parent / "result"
    assert first.hold(image, "sh", "-c", script, str(result)).stdout == "private\n"
    until(lambda: result.exists() and result.read_text() == f"{ADDRESS}\n")
    until(lambda: not daemons(image) and not keepers(image))


def test_private_mount_needs_namespaces(accounts: list[Account], image: Image) -> None:
    image.prefix.mkdir(0o700)
    done = accounts[0].hold(image, "true", before="namespace.available = lambda: False")
    assert done.returncode == MountError.exit_code
    assert "does not allow a private one in a user namespace" in done.stderr
    assert "max_user_namespaces" in done.stderr


def test_without_a_setuid_helper_the_mount_is_private(
    accounts: list[Account], image: Image
) -> None:
    first, _ = accounts
    # In a user namespace, set-user-ID programs gain nothing.
    inside = "namespace.enter()"
    done = first.hold(image, "cat", f"{image.prefix}/.condainer/address", before=inside)
    assert done.stdout == f"private\n{ADDRESS}\n", done.stderr
    until(lambda: is_gone(image))


def numbered(account: Account, way: str = "auto") -> Account:
    """Return a user that no account names."""
    names = {entry.pw_uid for entry in pwd.getpwall()}
    number = next(number for number in range(54321, 60000) if number not in names)
    user = {**account.user, "user": number, "group": number}
    return Account(account.python, account.source, account.linger, way, user)


def test_number_without_an_account_mounts_privately(accounts: list[Account], image: Image) -> None:
    script = f"cat '{image.prefix}/.condainer/address'"
    for _ in range(2):
        done = numbered(accounts[0]).hold(image, "sh", "-c", script)
        assert done.stdout == f"private\n{ADDRESS}\n", done.stderr
    until(lambda: is_gone(image))
    done = numbered(accounts[0], "direct").hold(image, "true")
    assert done.returncode == MountError.exit_code
    assert "which has no account here" in done.stderr
    assert "fuse3" not in done.stderr
    until(lambda: is_gone(image))


def test_where_fusermount_refuses_the_mount_is_private(
    accounts: list[Account], image: Image
) -> None:
    first, _ = accounts
    direct = Account(first.python, first.source, first.linger, "direct", first.user)
    base = image.prefix.parent
    # It does not know this file system.
    subprocess.run(["mount", "-t", "ramfs", "ramfs", str(base)], check=True)
    try:
        base.chmod(0o1777)
        done = first.hold(image, "cat", f"{image.prefix}/.condainer/address")
        assert done.stdout == f"private\n{ADDRESS}\n", done.stderr
        until(lambda: is_gone(image))
        done = direct.hold(image, "true")
        assert done.returncode == MountError.exit_code
        assert "Choose a `mount_base_directory` on a local file system." in done.stderr
        until(lambda: is_gone(image))
    finally:
        subprocess.run(["umount", "-l", str(base)], check=True)


def test_name_of_the_lock_directory_taken_by_another(accounts: list[Account], image: Image) -> None:
    first, second = accounts
    base = image.prefix.parent
    taken = base / f".condainer-{first.user['user']}"
    assert second.run(["mkdir", "-m", "777", str(taken)]).returncode == 0
    assert first.hold(image, "true").stdout == "shared\n"
    assert not list(taken.iterdir())
    taken.rmdir()
    assert first.hold(image, "true").stdout == "shared\n"
    assert not taken.exists()
    until(lambda: is_gone(image))


def test_lock_file_that_is_not_a_file(image: Image) -> None:
    locks = mount_locks.locks_for(image.prefix)
    locks.users.symlink_to("/etc/passwd")
    with pytest.raises(StorageError):
        mounts.mount(image)
    locks.users.unlink()
    locks.users.mkdir()
    with pytest.raises(StorageError):
        mounts.mount(image)


def test_who_looks_at_locks_is_not_taken_for_the_keeper_by_one_who_mounts(image: Image) -> None:
    locks = mount_locks.locks_for(image.prefix)
    turn = mount_locks.wait_for(locks.mount, exclusive=True)
    with mount_locks.all_taken((locks.mount, locks.keeper)) as alone:
        free = mount_locks.take(locks.keeper, exclusive=True, wait=False)
    assert not alone
    assert free is not None
    for descriptor in (turn, free):
        os.close(descriptor)


def test_who_is_interrupted_leaves_no_child(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def noted() -> int:
        children.append(fork())
        return children[-1]

    mounts.mount(image)
    (daemon,) = daemons(image)
    children: list[int] = []
    fork = os.fork
    monkeypatch.setattr(os, "fork", noted)
    monkeypatch.setattr(select, "select", interrupted)
    os.kill(daemon, signal.SIGSTOP)
    try:
        with pytest.raises(KeyboardInterrupt):
            attach.answer(str(image.prefix))
        with contextlib.suppress(ChildProcessError):
            assert os.WTERMSIG(os.waitpid(children[0], 0)[1]) == 9
    finally:
        os.kill(daemon, signal.SIGCONT)


# A daemon of FUSE that takes the first question, and never answers it.
SILENT = """
import os, struct, sys
device = int(sys.argv[1])
(unique,) = struct.unpack_from("=8xQ", os.read(device, 1 << 18))
begun = (80, 0, unique, 7, 31, 4096, 0, 16, 12, 4096, 1, 1, 0, 0)
os.write(device, struct.pack("=IiQIIIIHHIIHHI28x", *begun))
os.read(device, 1 << 18)
sys.stdin.read()
"""


@contextmanager
def silent_file_system(place: Path) -> Iterator[None]:
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    mount = (b"silent", os.fsencode(place), b"fuse", ctypes.c_ulong(0), options)
    argv = [sys.executable, "-c", SILENT, str(device)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=(device,)) as daemon:
        try:
            call("mount", *mount)
            os.close(device)
            yield
        finally:
            daemon.kill()
            subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of FUSE by hand needs root")
def test_no_more_than_one_process_waits_for_a_daemon_that_does_not_answer(tmp_path: Path) -> None:
    def children() -> set[str]:
        return {*Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}

    place = tmp_path / "silent"
    place.mkdir()
    before = children()
    with silent_file_system(place):
        assert attach.answer(str(place), 0.5) is None
        waiting = children()
        # It was killed, but cannot end.
        assert len(waiting - before) == 2
        for _ in range(3):
            assert attach.answer(str(place), 0.5) is None
            assert children() == waiting
    # Its end is an answer, and no dead child is left.
    until(lambda: attach.answer(str(place), 0.5) is not None)
    assert children() <= before


def test_who_looks_at_a_mount_does_not_try_every_descriptor_that_there_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_after_another(first: int, last: int) -> None:
        for number in range(first, last):
            with contextlib.suppress(OSError):
                os.close(number)

    # As on older kernels, where a container sets no limit.
    monkeypatch.setattr(os, "closerange", one_after_another)
    monkeypatch.setattr(os, "sysconf", lambda name: 1 << 30)
    assert attach.answer(str(tmp_path), 10.0) is not None


def test_a_keeper_lives_on_where_it_cannot_start_a_process(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    mounts.mount(image)
    locks = mount_locks.locks_for(image.prefix)
    duty = mount_work.duty_of(mount_work.Work(image, Options(), locks, Silent()))
    looking = keeper.Keeper(duty)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", fork)
        assert looking._repaired() == keeper.LONGEST_PAUSE
        assert not looking._unmounted()
    assert unmount.unmount(image)
    until(lambda: is_gone(image))


def test_a_keeper_waits_for_the_end_of_a_daemon_also_without_pidfd(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end() -> None:
        daemon.kill()
        daemon.wait()

    monkeypatch.delattr(os, "pidfd_open")
    with subprocess.Popen(["sleep", "60"]) as daemon:
        monkeypatch.setattr(keeper, "_daemons", lambda prefix: [daemon.pid])
        killer = threading.Timer(0.3, end)
        killer.start()
        assert keeper._until_gone(image.prefix, 1.0)
        killer.join()


def test_a_shell_that_ends_while_a_keeper_looks_for_it_is_looked_for_again_soon(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = mount_locks.locks_for(image.prefix)
    duty = mount_work.duty_of(mount_work.Work(image, Options(), locks, Silent()))
    seen = iter([["a shell"]])
    monkeypatch.setattr(mount_locks, "shells", lambda locks: next(seen, []))
    looking = keeper.Keeper(duty)
    assert looking._kept() == keeper.LONGEST_PAUSE
    assert looking._kept() == 0


def test_who_looks_at_a_mount_waits_for_no_daemon_that_stops_meanwhile(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def and_stops(prefix: str, patience: float) -> bytes | None:
        said = answer(prefix, patience)
        os.kill(daemon, signal.SIGSTOP)
        return said

    mounts.mount(image)
    (daemon,) = daemons(image)
    answer = attach.answer
    monkeypatch.setattr(attach, "answer", and_stops)
    try:
        assert mounts.probe(image) is State.MOUNTED
    finally:
        os.kill(daemon, signal.SIGCONT)


def test_those_who_begin_at_once_agree_on_the_lock_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def before_another(base: Path) -> None:
        (base / f".condainer-{os.geteuid()}").mkdir(0o700)

    monkeypatch.setattr(mount_locks, "existing_directory", before_another)
    found = mount_locks.private_directory(tmp_path)
    assert found == tmp_path / f".condainer-{os.geteuid()}"


@pytest.mark.parametrize("name", ["squashfuse", "squashfuse_ll"])
def test_what_the_kernel_knows_of_an_image_it_does_not_ask_again(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Longer than libfuse keeps it otherwise; a daemon that is stopped answers nothing."""
    for program in (name, "fusermount3"):
        (tmp_path / program).symlink_to(needs_program(program))
    with monkeypatch.context() as patch:
        # It would have the better one.
        patch.setenv("PATH", str(tmp_path))
        fuse = backends.find_fuse(None)
    assert fuse.name == name
    image.prefix.mkdir(0o700)
    fuse.start(image.path, image.prefix)
    (daemon,) = daemons(image)
    command = ["stat", "-c", "%s", str(image.prefix / "data")]
    absent = ["test", "-e", str(image.prefix / "absent")]
    assert subprocess.run(absent, check=False).returncode == 1
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"300000\n"
    os.kill(daemon, signal.SIGSTOP)
    try:
        time.sleep(1.2)
        done = subprocess.run(command, capture_output=True, check=True, timeout=20)
        assert done.stdout == b"300000\n"
        if name == "squashfuse":
            assert subprocess.run(absent, check=False, timeout=20).returncode == 1
    finally:
        os.kill(daemon, signal.SIGCONT)
    backends.stop(image.prefix, None)
