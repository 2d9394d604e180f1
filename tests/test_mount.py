"""Real images, mounted by the real tools: shared, kept, repaired, and in private namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import condainer
from condainer import backends, keeper, mount, namespace
from condainer.errors import CondainerError, MountError, StorageError, ToolError
from condainer.mount import Image, State

# useradd locks /etc/passwd: whoever makes accounts does so in one worker.
pytestmark = [pytest.mark.timeout(60), pytest.mark.xdist_group("accounts")]

ADDRESS = "00112233445566778899aabbccddeeff"
LINGER = 0.3
NEEDED = ("mksquashfs", "squashfuse_ll", "fusermount3")

# Claims the image, says whether privately, and becomes a command.
DRIVER = """
import json, os, sys
from pathlib import Path
given = json.loads(sys.argv[1])
sys.path.insert(0, given["source"])
from condainer import mount, namespace
from condainer.errors import CondainerError
exec(given["before"])
image = mount.Image(Path(given["path"]), given["address"], Path(given["prefix"]))
try:
    hold = mount.hold(image, linger=given["linger"])
except CondainerError as error:
    print(f"{type(error).__name__}: {error.message} | {error.hint}", file=sys.stderr)
    sys.exit(error.exit_code)
print("private" if hold.private else "shared", flush=True)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def missing(what: str) -> None:
    """Skip where something is missing, but not in continuous integration."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@dataclass(frozen=True)
class Account:
    """A user that runs drivers: ourselves, or an account made for the tests."""

    python: str = sys.executable
    source: str = str(Path(condainer.__file__).parent.parent)
    linger: float = LINGER
    user: dict[str, object] = field(default_factory=dict)

    def driver(self, image: Image, *command: str, before: str = "") -> list[str]:
        given = {
            "source": self.source,
            "before": before,
            "path": str(image.path),
            "address": image.address,
            "prefix": str(image.prefix),
            "linger": self.linger,
        }
        return [self.python, "-c", DRIVER, json.dumps(given), *command]

    def start(self, image: Image, *command: str, before: str = "") -> subprocess.Popen[str]:
        return self.popen(self.driver(image, *command, before=before))

    def popen(self, argv: list[str]) -> subprocess.Popen[str]:
        child: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            **self.user,
        )
        return child

    def run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        with self.popen(argv) as child:
            stdout, stderr = child.communicate(timeout=30)
        return subprocess.CompletedProcess(argv, child.returncode, stdout, stderr)

    def hold(
        self, image: Image, *command: str, before: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return self.run(self.driver(image, *command, before=before))


ME = Account()


def processes(*words: str) -> list[int]:
    """Return the living processes whose command line has all these words."""
    found = []
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if directory.name.isdigit():
                line = (directory / "cmdline").read_bytes().decode(errors="replace")
                if all(word in line for word in words):
                    found.append(int(directory.name))
    return found


def daemons(image: Image) -> list[int]:
    return [p for p in processes(str(image.prefix), "squashfuse") if p not in keepers(image)]


def keepers(image: Image) -> list[int]:
    return processes(str(image.prefix), "condainer.keeper")


def is_gone(image: Image) -> bool:
    """Tell whether nothing of a mount is left: no process, no mount, no directory."""
    return not (daemons(image) or keepers(image) or os.path.lexists(image.prefix))


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory like /tmp that every account can use, with our code and an image in it."""
    for tool in NEEDED:
        if shutil.which(tool) is None:
            missing(tool)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        missing("/dev/fuse")
    place = Path(tempfile.mkdtemp(prefix="condainer-test-", dir="/tmp"))
    place.chmod(0o1777)
    package = Path(condainer.__file__).parent
    shutil.copytree(package, place / "code/condainer", ignore=shutil.ignore_patterns("__pycache__"))
    make_image(place / "image.squashfs", ADDRESS)
    yield place
    shutil.rmtree(place)


def make_image(path: Path, address: str) -> Path:
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory)
        (source / ".condainer").mkdir()
        (source / ".condainer/address").write_text(f"{address}\n")
        (source / "bin").mkdir()
        shutil.copy(shutil.which("sleep") or "/bin/sleep", source / "bin/doze")
        (source / "data").write_bytes(os.urandom(300_000))
        command = ["mksquashfs", directory, str(path), "-all-root", "-no-progress", "-quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    path.chmod(0o444)
    return path


@pytest.fixture
def image(place: Path) -> Iterator[Image]:
    """An image whose mount point is in a fresh directory that all can write."""
    base = Path(tempfile.mkdtemp(prefix="base ", dir=place))
    base.chmod(0o1777)
    image = Image(place / "image.squashfs", ADDRESS, base / f"condainer-{ADDRESS}")
    yield image
    for pid in (*keepers(image), *daemons(image)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while backends.mounted_at(image.prefix):
        backends.stop(image.prefix, None, lazy=True)


@pytest.fixture(scope="module")
def accounts(place: Path) -> Iterator[list[Account]]:
    """Two ordinary users of this node."""
    if os.geteuid() != 0:
        pytest.skip("only root can make test accounts")
    if shutil.which("useradd") is None:
        missing("useradd")
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        missing("/dev/fuse that everybody can use")
    names = [f"cndtest{os.getpid()}{letter}" for letter in "ab"]
    for name in names:
        subprocess.run(["useradd", "--no-create-home", name], check=True)
    try:
        yield [account(name, place) for name in names]
    finally:
        for name in names:
            subprocess.run(["userdel", name], check=True, capture_output=True)


def account(name: str, place: Path) -> Account:
    entry = pwd.getpwnam(name)
    user: dict[str, object] = {
        "user": entry.pw_uid,
        "group": entry.pw_gid,
        "extra_groups": [],
        "env": {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/", "USER": name},
    }
    check = "import sys; sys.exit(sys.version_info < (3, 10))"
    for python in (sys.executable, "/usr/bin/python3"):
        found = Account(python, str(place / "code"), user=user)
        with contextlib.suppress(PermissionError, FileNotFoundError):
            if found.run([python, "-c", check]).returncode == 0:
                return found
    missing("a python3 that other accounts can run")
    raise AssertionError


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


def test_namespaces_of_an_ordinary_user(accounts: list[Account], image: Image) -> None:
    first, second = accounts
    holder = first.start(image, "cat")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "shared\n"
    staging = image.prefix.parent / "staging"
    staging.mkdir()
    (staging / "mine").touch()
    # Over somebody else's FUSE file system, where stat fails; without privileges afterwards.
    text = "from condainer import namespace; from pathlib import Path; import sys, os;"
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
    assert mount.probe(image) is State.ABSENT
    prefix.mkdir(0o700)
    assert mount.probe(image) is State.ABSENT
    prefix.chmod(0o777)
    assert mount.probe(image) is State.FOREIGN
    prefix.chmod(0o700)
    (prefix / "something").touch()
    assert mount.probe(image) is State.FOREIGN
    (prefix / "something").unlink()
    prefix.rmdir()
    prefix.touch()
    assert mount.probe(image) is State.FOREIGN
    prefix.unlink()
    prefix.symlink_to(image.prefix.parent)
    assert mount.probe(image) is State.FOREIGN
    for attempt in (
        lambda: mount.mount(image),
        lambda: mount.hold(image, linger=0),
    ):
        with pytest.raises(MountError) as caught:
            attempt()
        assert caught.value.hint


def test_mount_stays_until_unmount(image: Image) -> None:
    mount.mount(image)
    mount.mount(image)
    assert mount.probe(image) is State.MOUNTED
    assert len(daemons(image)) == 1
    entry = backends.mounted_at(image.prefix)
    assert entry is not None
    assert entry.owner == os.geteuid()
    assert (image.prefix / "data").stat().st_size == 300_000
    assert ME.hold(image, "true").stdout == "shared\n"
    time.sleep(3 * LINGER)
    assert mount.probe(image) is State.MOUNTED
    assert not keepers(image)
    assert mount.unmount(image)
    until(lambda: is_gone(image))
    assert not mount.unmount(image)


def test_mount_upgrades_a_mount_that_only_lingers(image: Image) -> None:
    assert ME.hold(image, "true").returncode == 0
    mount.mount(image)
    until(lambda: not keepers(image))
    assert mount.probe(image) is State.MOUNTED
    mount.unmount(image)


def test_dead_mount_is_recognised_and_repaired(image: Image) -> None:
    mount.mount(image)
    inside = os.open(image.prefix / "data", os.O_RDONLY)
    try:
        os.kill(daemons(image)[0], signal.SIGKILL)
        until(lambda: mount.probe(image) is State.DEAD)
        done = ME.hold(image, "cat", str(image.prefix / ".condainer/address"))
        assert done.stdout == f"shared\n{ADDRESS}\n"
        # It was kept before, so it is kept now.
        time.sleep(3 * LINGER)
        assert mount.probe(image) is State.MOUNTED
        os.kill(daemons(image)[0], signal.SIGKILL)
        until(lambda: mount.probe(image) is State.DEAD)
        assert mount.unmount(image)
    finally:
        os.close(inside)
    assert is_gone(image)


def test_unmounted_by_hand_is_no_longer_kept(image: Image) -> None:
    mount.mount(image)
    backends.stop(image.prefix, None)
    assert ME.hold(image, "true").stdout == "shared\n"
    until(lambda: is_gone(image))


# Shared while in use


def test_mount_goes_when_the_last_user_ends(image: Image) -> None:
    started = time.monotonic()
    done = ME.hold(image, "cat", str(image.prefix / ".condainer/address"))
    assert done.stdout == f"shared\n{ADDRESS}\n"
    # The keeper holds no end of our pipes: we have read to their end, and it still lingers.
    assert time.monotonic() - started < 5
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
    assert len(daemons(image)) == len(keepers(image)) == 1
    for child in children[:-1]:
        child.communicate()
    time.sleep(3 * LINGER)
    assert mount.probe(image) is State.MOUNTED
    children[-1].communicate()
    until(lambda: is_gone(image))


def test_one_after_the_other_reuses_the_mount(image: Image) -> None:
    # Long enough for the next to come also on a machine that is busy.
    patient = Account(linger=5)
    patient.hold(image, "true")
    first = daemons(image)
    for _ in range(10):
        patient.hold(image, "true")
    assert daemons(image) == first
    assert len(first) == 1
    mount.unmount(image)
    until(lambda: is_gone(image))


def test_killed_user_releases_the_mount(image: Image) -> None:
    child = ME.start(image, "sleep", "60")
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    child.communicate()
    until(lambda: is_gone(image))


def test_child_that_outlives_the_command_keeps_the_mount(image: Image) -> None:
    done = ME.hold(image, "sh", "-c", "sleep 2 >/dev/null 2>&1 </dev/null & true")
    assert done.returncode == 0
    time.sleep(3 * LINGER)
    assert mount.probe(image) is State.MOUNTED
    until(lambda: is_gone(image))


def test_busy_mount_is_not_taken_away_even_without_the_lock(image: Image) -> None:
    text = 'import os, sys, time; os.closerange(3, 99); print("in", flush=True); time.sleep(2)'
    script = f"cd '{image.prefix}' && exec '{sys.executable}' -c '{text}'"
    child = ME.start(image, "sh", "-c", script)
    assert child.stdout is not None
    assert [child.stdout.readline() for _ in range(2)] == ["shared\n", "in\n"]
    time.sleep(3 * LINGER)
    assert mount.probe(image) is State.MOUNTED
    with pytest.raises(MountError, match=rf"{child.pid} \(.*\): .*time.sleep"):
        mount.unmount(image)
    child.communicate()
    until(lambda: is_gone(image))


def test_killed_keeper_is_replaced_by_the_next_user(image: Image) -> None:
    child = ME.start(image, "cat")
    assert child.stdout is not None
    child.stdout.readline()
    (first,) = keepers(image)
    os.kill(first, signal.SIGKILL)
    until(lambda: not keepers(image))
    assert ME.hold(image, "true").returncode == 0
    assert len(keepers(image)) == 1
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
    shutil.rmtree(keeper.locks_for(image.prefix).users.parent)
    second = ME.start(image, "cat")
    assert second.stdout is not None
    assert second.stdout.readline() == "shared\n"
    first.communicate()
    time.sleep(4 * LINGER)
    assert mount.probe(image) is State.MOUNTED
    second.communicate()
    until(lambda: is_gone(image))


def test_release_gives_up_the_claim(image: Image) -> None:
    first = mount.hold(image, linger=LINGER)
    second = mount.hold(image, linger=LINGER)
    assert not first.private
    assert os.get_inheritable(first.descriptor)
    first.release()
    time.sleep(3 * LINGER)
    assert mount.probe(image) is State.MOUNTED
    second.release()
    until(lambda: is_gone(image))


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
        mount.unmount(image)
    assert f"\n  {child.pid} ({user}): {image.prefix}/bin/doze 60" in caught.value.message
    assert "keeper" not in caught.value.message
    assert mount.unmount(image, force=True)
    assert child.poll() is None
    child.kill()
    child.communicate()
    until(lambda: is_gone(image))


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
            mount.mount(damaged)
        assert str(path) in caught.value.message
        assert "cnd build" in caught.value.hint
        # No keeper was needed, so nothing has to be waited for.
        assert is_gone(damaged)


def test_missing_image(image: Image, tmp_path: Path) -> None:
    with pytest.raises(MountError, match="does not exist"):
        mount.mount(Image(tmp_path / "absent", ADDRESS, image.prefix))
    done = ME.hold(Image(tmp_path / "absent", ADDRESS, image.prefix), "echo", "ran")
    assert (done.returncode, done.stdout) == (MountError.exit_code, "")
    until(lambda: is_gone(image))


def test_image_of_another_address_is_never_served(image: Image, tmp_path: Path) -> None:
    path = make_image(tmp_path / "other.squashfs", "f" * 32)
    other = Image(path, ADDRESS, image.prefix)
    with pytest.raises(MountError, match="does not hold"):
        mount.mount(other)
    assert ME.hold(other, "echo", "ran").stdout == ""
    until(lambda: is_gone(image))


def test_missing_tools(image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="squashfuse") as caught:
        mount.mount(image)
    assert "Debian" in caught.value.hint
    mount.mount(image, tool_directory=Path("/usr/bin"))
    assert mount.unmount(image)


@pytest.mark.skipif(os.geteuid() != 0, reason="hiding a device needs root")
def test_missing_device(image: Image) -> None:
    hide = "namespace.enter(); namespace.tmpfs(Path('/dev'))"
    done = ME.hold(image, "true", before=hide)
    assert done.returncode == ToolError.exit_code
    assert "/dev/fuse does not exist" in done.stderr
    assert "modprobe fuse" in done.stderr


def test_unsafe_places_are_refused(image: Image) -> None:
    base = image.prefix.parent / "open"
    base.mkdir()
    base.chmod(0o777)
    loose = Image(image.path, ADDRESS, base / image.prefix.name)
    for attempt in (lambda: mount.mount(loose), lambda: mount.hold(loose, linger=0)):
        with pytest.raises(MountError, match="no safe place"):
            attempt()
    inside = Image(image.path, ADDRESS, base / "deeper" / image.prefix.name)
    with pytest.raises(MountError, match="no safe place"):
        mount.mount(inside)


def test_missing_base_is_made(image: Image) -> None:
    deeper = Image(image.path, ADDRESS, image.prefix.parent / "a/b" / image.prefix.name)
    mount.mount(deeper)
    assert mount.unmount(deeper)
    blocked = image.prefix.parent / "file"
    blocked.touch()
    with pytest.raises(CondainerError):
        mount.mount(Image(image.path, ADDRESS, blocked / "x" / image.prefix.name))


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
    assert mount.probe(image) is State.FOREIGN
    with pytest.raises(MountError, match="is taken by a mount of cndtest"):
        mount.mount(image)
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
    until(lambda: len(keepers(image)) == 1)
    stdout, stderr = guest.communicate("go\n")
    assert stdout == f"{ADDRESS}\n", stderr
    until(lambda: not daemons(image) and not keepers(image))
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
    locks = keeper.locks_for(image.prefix)
    locks.users.symlink_to("/etc/passwd")
    with pytest.raises(StorageError):
        mount.mount(image)
    locks.users.unlink()
    locks.users.mkdir()
    with pytest.raises(StorageError):
        mount.mount(image)
