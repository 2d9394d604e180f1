"""Private mounts that processes share, kernel mounts, verified copies, claims of shells, leases."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from condainer.cache import leases
from condainer.mount import backends, choice, mount_locks, mounts, node_copies, unmount
from condainer.mount.mounts import Image, Options, State
from condainer.mount.node_copies import Copy, Source, Wish
from condainer.settings import config
from condainer.startup import launch, tool_paths
from condainer.system import mount_table
from condainer.system.errors import IntegrityError, MountError
from condainer.system.reporter import Reporter
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
    processes,
)
from tests.helpers.needed import needs
from tests.helpers.waiting import until

# useradd locks /etc/passwd: whoever makes accounts does so in one worker.
pytestmark = pytest.mark.xdist_group("accounts")

PRIVATE = Account(way="private")
NAMESPACE = "readlink /proc/self/ns/mnt"


def read(prefix: Path) -> str:
    return f"cat '{prefix}/.condainer/address'"


def started(account: Account, image: Image, *command: str) -> subprocess.Popen[str]:
    """Start a command and wait until it has the image."""
    child = account.start(image, *command)
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line in ("shared\n", "private\n"), child.communicate()
    return child


def private_of(account: Account) -> Account:
    return Account(account.python, account.source, account.linger, "private", account.user)


def test_ways_are_those_of_the_configuration() -> None:
    assert (
        *(choice.AUTO, choice.DIRECT, choice.PRIVATE, choice.KERNEL, choice.UNPACK),
    ) == config.WAYS


@pytest.mark.parametrize("who", ["root", "ordinary"])
def test_later_commands_join_the_namespace_of_the_first(
    accounts: list[Account], image: Image, who: str
) -> None:
    account = PRIVATE if who == "root" else private_of(accounts[0])
    first = started(account, image, "sh", "-c", f"{NAMESPACE}; read x")
    assert first.stdout is not None
    namespace = first.stdout.readline()
    assert namespace.strip() != os.readlink("/proc/self/ns/mnt")
    script = f"{NAMESPACE}; {read(image.prefix)}; pwd; grep CapEff /proc/self/status"
    others = [account.start(image, "sh", "-c", script) for _ in range(8)]
    capabilities = Path("/proc/self/status").read_text().partition("CapEff:\t")[2].split()[0]
    allowed = capabilities if who == "root" else "0" * 16
    for child in others:
        stdout, stderr = child.communicate()
        expected = f"private\n{namespace}{ADDRESS}\n/\nCapEff:\t{allowed}\n"
        assert stdout == expected, stderr
    # A second keeper, begun at the same time, sees the first one and ends.
    until(lambda: len(daemons(image)) == len(keepers(image)) == 1)
    # The first may leave: who has joined goes on.
    last = started(account, image, "sh", "-c", f"read x; {read(image.prefix)}")
    first.communicate("\n")
    time.sleep(3 * LINGER)
    assert last.communicate("\n")[0] == f"{ADDRESS}\n"
    until(lambda: is_gone(image))
    assert not list(image.prefix.parent.glob("*visitor*"))


def test_private_mounts_of_many_at_once_are_one(image: Image) -> None:
    children = [PRIVATE.start(image, "sh", "-c", f"{NAMESPACE}; read x") for _ in range(24)]
    seen = set()
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "private\n"
        seen.add(child.stdout.readline())
    assert len(seen) == 1
    until(lambda: len(daemons(image)) == len(keepers(image)) == 1)
    for child in children:
        child.communicate("\n")
    until(lambda: is_gone(image))


@pytest.mark.parametrize("who", ["root", "ordinary"])
@pytest.mark.parametrize("victim", [daemons, keepers])
def test_private_mount_survives_kills(
    accounts: list[Account], image: Image, who: str, victim: object
) -> None:
    account = PRIVATE if who == "root" else private_of(accounts[0])
    assert callable(victim)
    child = started(account, image, "sh", "-c", "read x")
    until(lambda: victim(image))
    os.kill(victim(image)[0], signal.SIGKILL)
    done = account.hold(image, "sh", "-c", read(image.prefix))
    assert done.stdout == f"private\n{ADDRESS}\n", done.stderr
    until(lambda: len(daemons(image)) == len(keepers(image)) == 1)
    child.communicate("\n")
    until(lambda: is_gone(image))


def test_private_mount_is_found_where_the_base_directory_is_a_link(
    image: Image, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(image.prefix.parent)
    linked = replace(image, prefix=tmp_path / "link" / image.prefix.name)
    child = started(PRIVATE, linked, "sh", "-c", f"{NAMESPACE}; read x")
    assert child.stdout is not None
    namespace = child.stdout.readline()
    os.kill(keepers(linked)[0], signal.SIGKILL)
    assert PRIVATE.hold(linked, "sh", "-c", NAMESPACE).stdout == f"private\n{namespace}"
    child.communicate("\n")
    until(lambda: is_gone(linked))


def test_command_inside_a_private_mount_uses_it(accounts: list[Account], image: Image) -> None:
    for account in (PRIVATE, private_of(accounts[0])):
        inner = account.driver(image, "sh", "-c", NAMESPACE)
        done = account.hold(image, "sh", "-c", f'{NAMESPACE}; "$@"', "sh", *inner)
        lines = done.stdout.split()
        assert (lines[0], lines[2]) == ("private", "private"), done.stderr
        assert lines[1] == lines[3]
        until(lambda: is_gone(image))


@pytest.mark.parametrize("who", ["root", "ordinary"])
def test_command_inside_a_private_mount_waits_for_its_repair(
    accounts: list[Account], image: Image, who: str
) -> None:
    def waits() -> bool:
        for pid in processes("mount.hold(image", str(image.prefix)):
            with contextlib.suppress(OSError):
                files = [os.readlink(item) for item in Path(f"/proc/{pid}/fd").iterdir()]
                if any(file.endswith("/mountinfo") for file in files):
                    return True
        return False

    account = PRIVATE if who == "root" else private_of(accounts[0])
    inner = account.driver(image, "sh", "-c", NAMESPACE)
    child = started(account, image, "sh", "-c", f'{NAMESPACE}; read x; "$@"', "sh", *inner)
    assert child.stdout is not None
    assert child.stdin is not None
    namespace = child.stdout.readline()
    until(lambda: len(keepers(image)) == 1)
    (keeper,) = keepers(image)
    os.kill(keeper, signal.SIGSTOP)
    os.kill(daemons(image)[0], signal.SIGKILL)
    child.stdin.write("\n")
    child.stdin.flush()
    try:
        until(lambda: waits() or child.poll() is not None)
    finally:
        os.kill(keeper, signal.SIGCONT)
    assert child.communicate()[0] == f"private\n{namespace}"
    until(lambda: is_gone(image))


def test_command_inside_a_private_mount_does_not_wait_for_a_dead_keeper(image: Image) -> None:
    inner = PRIVATE.driver(image, "sh", "-c", read(image.prefix))
    child = started(PRIVATE, image, "sh", "-c", 'echo; read x; "$@"', "sh", *inner)
    assert child.stdout is not None
    child.stdout.readline()
    until(lambda: len(keepers(image)) == 1)
    killed = {*keepers(image), *daemons(image)}
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not killed & {*keepers(image), *daemons(image)})
    start = time.monotonic()
    assert child.communicate("\n")[0].endswith(f"{ADDRESS}\n")
    assert time.monotonic() - start < backends.PATIENCE
    until(lambda: not keepers(image) and not daemons(image))


def test_in_a_user_namespace_a_project_has_a_stamp_of_its_own(accounts: list[Account]) -> None:
    text = "import sys; sys.path.insert(0, sys.argv[1]); "
    text += "from condainer.startup import stamp; from condainer.system import namespace; "
    text += "print(stamp.path_of('/p')); namespace.enter(); print(stamp.path_of('/p'))"
    account = accounts[0]
    outside, inside = account.run([account.python, "-c", text, account.source]).stdout.split()
    assert outside != inside


def test_steps_of_jobs_have_mounts_of_their_own(image: Image) -> None:
    def step(number: int) -> str:
        return f"os.environ.update(SLURM_JOB_ID='7', SLURM_STEP_ID='{number}')"

    first = ME.start(image, "sh", "-c", f"read x; {read(image.prefix)}", before=step(0))
    second = ME.start(image, "sh", "-c", f"{NAMESPACE}; read x", before=step(1))
    assert first.stdout is not None
    assert second.stdout is not None
    assert first.stdout.readline() == second.stdout.readline() == "private\n"
    until(lambda: len(daemons(image)) == len(keepers(image)) == 2)
    namespace = second.stdout.readline()
    # What the end of a step does to all that was started in it.
    for pid in (*daemons(image), *keepers(image)):
        if f"{os.readlink(f'/proc/{pid}/ns/mnt')}\n" == namespace:
            os.kill(pid, signal.SIGKILL)
    second.kill()
    second.communicate()
    assert first.communicate("\n")[0] == f"{ADDRESS}\n"
    # One who is in no job, meanwhile, has the mount that all share.
    assert ME.hold(image, "true").stdout == "shared\n"
    until(lambda: is_gone(image))


def test_daemon_that_hangs_is_told_and_can_be_left(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts.mount(image, Options(linger=0))
    (daemon,) = daemons(image)
    monkeypatch.setattr(backends, "PATIENCE", 0.5)
    os.kill(daemon, signal.SIGSTOP)
    try:
        with pytest.raises(MountError, match=r"has not answered for 0\.5 s") as caught:
            mounts.hold(image)
        assert "cnd umount --force" in caught.value.hint
        assert unmount.unmount(image, force=True)
        assert ME.hold(image, "sh", "-c", read(image.prefix)).stdout == f"shared\n{ADDRESS}\n"
    finally:
        os.kill(daemon, signal.SIGCONT)
    until(lambda: is_gone(image))


@pytest.mark.parametrize("who", ["root", "ordinary"])
def test_private_mount_that_ends_leaves_the_one_that_all_see(
    accounts: list[Account], image: Image, who: str
) -> None:
    own = ME if who == "root" else accounts[0]
    private = started(private_of(own), image, "cat")
    direct = started(own, image, "sh", "-c", f"read x; {read(image.prefix)}")
    private.communicate()
    until(lambda: len(keepers(image)) == 1)
    assert direct.communicate("\n")[0] == f"{ADDRESS}\n"
    until(lambda: is_gone(image))


def test_private_mount_that_ends_leaves_one_in_use_whose_keeper_was_killed(image: Image) -> None:
    private = started(PRIVATE, image, "cat")
    first = keepers(image)
    direct = started(ME, image, "sh", "-c", f"read x; {read(image.prefix)}")
    until(lambda: len(keepers(image)) == 2)
    (second,) = {*keepers(image)} - {*first}
    os.kill(second, signal.SIGKILL)
    private.communicate()
    until(lambda: not keepers(image))
    assert direct.communicate("\n")[0] == f"{ADDRESS}\n"
    assert unmount.unmount(image)
    until(lambda: is_gone(image))


def test_job_without_namespaces_shares_the_mount(image: Image) -> None:
    before = "os.environ['PBS_JOBID'] = '7'; namespace.available = lambda: False"
    done = ME.hold(image, "sh", "-c", read(image.prefix), before=before)
    assert done.stdout == f"shared\n{ADDRESS}\n", done.stderr
    until(lambda: is_gone(image))


def test_script_from_which_the_image_was_taken_does_not_find_other_commands(image: Image) -> None:
    script = f"PATH='{image.prefix}/bin':$PATH; read x; doze 0; echo $?"
    child = started(ME, image, "sh", "-c", script)
    assert unmount.unmount(image, force=True)
    stdout, stderr = child.communicate("\n")
    assert stdout == "125\n"
    assert "the image is not mounted any more" in stderr
    until(lambda: is_gone(image))


# Hostile mount points


@pytest.mark.parametrize("what", ["closed", "open", "link", "file", "populated"])
def test_mount_point_of_somebody_not_trusted_is_covered(
    accounts: list[Account], image: Image, what: str
) -> None:
    victim, attacker = accounts
    base = image.prefix.parent
    evil = f"mkdir -p '{image.prefix}/bin' && ln -s /bin/false '{image.prefix}/bin/python'"
    script = {
        "closed": f"mkdir -m 700 '{image.prefix}'",
        "open": f"mkdir -m 777 '{image.prefix}'",
        "link": f"mkdir '{base}/evil' && ln -s '{base}/evil' '{image.prefix}'",
        "file": f"touch '{image.prefix}'",
        "populated": evil,
    }[what]
    assert attacker.run(["sh", "-c", script]).returncode == 0
    (base / "before").write_text("seen\n")
    distrust = "more['trusted'] = lambda user: False"
    script = f"read x; {read(image.prefix)}; cat '{base}/before'; echo kept > '{base}/written'"
    child = victim.start(image, "sh", "-c", script, before=distrust)
    assert child.stdout is not None
    assert child.stdout.readline() == "private\n"
    # From the older namespace, the owner takes the place away and puts another there.
    swap = f"rm -rf '{image.prefix}' && mkdir -p '{image.prefix}/.condainer'"
    swap += f" && echo evil > '{image.prefix}/.condainer/address'"
    assert attacker.run(["sh", "-c", swap]).returncode == 0
    stdout, stderr = child.communicate("\n")
    assert stdout == f"{ADDRESS}\nseen\n", stderr
    until(lambda: not daemons(image) and not keepers(image))
    (written,) = base.glob(".condainer-*/*.files/written")
    assert written.read_text() == "kept\n"
    assert [path.name for path in written.parent.iterdir()] == ["written"]


def test_trusted_owner_of_the_mount_point_is_no_reason_to_cover(
    accounts: list[Account], image: Image
) -> None:
    victim, colleague = accounts
    assert colleague.run(["mkdir", "-m", "700", str(image.prefix)]).returncode == 0
    script = f"{read(image.prefix)}; echo here > '{image.prefix.parent}/written'"
    assert victim.hold(image, "sh", "-c", script).stdout == f"private\n{ADDRESS}\n"
    assert (image.prefix.parent / "written").read_text() == "here\n"
    until(lambda: not daemons(image) and not keepers(image))


# The kernel's squashfs


@pytest.fixture
def owned(image: Image, place: Path) -> Image:
    """An image that is root's own, which root may let the kernel mount."""
    if os.geteuid() != 0 or not tool_paths.kernel_works():
        needs("root with loop devices and the kernel's squashfs")
    path = place / "owned.squashfs"
    if not path.exists():
        shutil.copy(image.path, path)
        path.chmod(0o444)
    return Image(path, ADDRESS, image.prefix)


def kernel_mounts(image: Image) -> int:
    kinds = [entry.kind for entry in mount_table.mount_table() if entry.path == str(image.prefix)]
    return kinds.count(tool_paths.KERNEL)


def test_root_uses_the_kernel_for_what_is_its_own(owned: Image) -> None:
    child = started(ME, owned, "sh", "-c", f"read x; {read(owned.prefix)}")
    assert (kernel_mounts(owned), daemons(owned)) == (1, [])
    assert child.communicate("\n")[0] == f"{ADDRESS}\n"
    until(lambda: is_gone(owned) and not kernel_mounts(owned))


def test_kernel_is_not_given_the_image_of_somebody_else(image: Image) -> None:
    child = started(ME, image, "cat")
    assert (kernel_mounts(image), len(daemons(image))) == (0, 1)
    child.communicate()
    until(lambda: is_gone(image))
    # Unless that is what root wants.
    child = started(Account(way="kernel"), image, "cat")
    assert (kernel_mounts(image), daemons(image)) == (1, [])
    child.communicate()
    until(lambda: is_gone(image))


def test_kernel_mount_of_root_serves_everybody(accounts: list[Account], owned: Image) -> None:
    mounts.mount(owned, Options(way="kernel"))
    children = [started(account, owned, "cat") for account in accounts]
    script = f"{read(owned.prefix)}; {NAMESPACE}"
    for account in accounts:
        done = account.hold(owned, "sh", "-c", script)
        assert done.stdout == f"shared\n{ADDRESS}\n{os.readlink('/proc/self/ns/mnt')}\n"
        # Who wants a mount of their own gets it.
        done = private_of(account).hold(owned, "sh", "-c", script)
        assert done.stdout.startswith(f"private\n{ADDRESS}\n"), done.stderr
    # Root does not take away what anybody uses.
    with pytest.raises(MountError, match="in use"):
        unmount.unmount(owned)
    for child in children:
        child.communicate()
    until(lambda: not daemons(owned))
    assert unmount.unmount(owned)
    until(lambda: is_gone(owned))


def test_root_mounts_where_a_killed_process_left_a_mount_point(
    accounts: list[Account], owned: Image
) -> None:
    leave = ["mkdir", "-m", "700", str(owned.prefix)]
    assert accounts[0].run(leave).returncode == 0
    # Not while somebody has a private mount on it, which would go with it.
    visitor = started(private_of(accounts[0]), owned, "sh", "-c", f"read x; {read(owned.prefix)}")
    with pytest.raises(MountError, match="is taken by"):
        mounts.mount(owned, Options(way="kernel"))
    assert visitor.communicate("\n")[0] == f"{ADDRESS}\n"
    until(lambda: is_gone(owned))
    assert accounts[0].run(leave).returncode == 0
    mounts.mount(owned, Options(way="kernel"))
    assert kernel_mounts(owned) == 1
    assert unmount.unmount(owned)
    until(lambda: is_gone(owned))


def test_kernel_mount_of_root_is_not_taken_for_verified_bytes(owned: Image) -> None:
    mounts.mount(owned, Options(way="kernel"))
    digest = subprocess.run(["sha256sum", owned.path], capture_output=True, text=True, check=True)
    wanted = Image(owned.path, ADDRESS, owned.prefix, digest.stdout.split()[0])
    with pytest.raises(MountError, match="without verification"):
        mounts.mount(wanted)
    assert mounts.outlook(wanted, Options())["with"] == tool_paths.KERNEL
    unmount.unmount(owned)
    until(lambda: is_gone(owned))


def test_only_root_can_use_the_kernel(accounts: list[Account], image: Image) -> None:
    account = Account(accounts[0].python, accounts[0].source, 0, "kernel", accounts[0].user)
    done = account.hold(image, "true")
    assert done.returncode == MountError.exit_code
    assert "Only root can mount with the kernel's squashfs" in done.stderr
    assert not os.path.lexists(image.prefix)


@pytest.mark.parametrize("second", ["direct", "private", "kernel"])
@pytest.mark.parametrize("first", ["direct", "private", "kernel"])
def test_two_users_of_one_address(
    accounts: list[Account], owned: Image, first: str, second: str
) -> None:
    """Every pair of ways; by the kernel, it is root who mounts for a user."""
    script = f"{read(owned.prefix)}; read x; {read(owned.prefix)}"
    children = []
    for account, way in zip(accounts, (first, second), strict=True):
        user = account.user["user"]
        if way == "kernel":
            with contextlib.suppress(MountError):
                # Taken by a user's own mount: then that user is served by a private one.
                mounts.mount(owned, Options(way="kernel"))
        chosen = "auto" if way in ("direct", "kernel") else way
        account = Account(account.python, account.source, LINGER, chosen, account.user)
        child = started(account, owned, "sh", "-c", script)
        assert child.stdout is not None
        assert child.stdout.readline() == f"{ADDRESS}\n", user
        children.append(child)
    # Neither can take the other's away.
    for account in accounts:
        take = (
            f"rmdir '{owned.prefix}'; umount -l '{owned.prefix}'; fusermount3 -uz '{owned.prefix}'"
        )
        if account is not accounts[0 if first != "kernel" else 1]:
            account.run(["sh", "-c", take])
    for child in children:
        assert child.communicate("\n")[0] == f"{ADDRESS}\n"
    unmount.unmount(owned)
    until(lambda: is_gone(owned) and not kernel_mounts(owned))


# Verified bytes


def test_what_was_verified_is_what_runs(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "image.squashfs"
    shutil.copy(image.path, path)
    digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
    wanted = Image(path, ADDRESS, image.prefix, digest.stdout.split()[0])
    mounts.mount(wanted, Options(copies=tmp_path))
    assert [item.name for item in tmp_path.iterdir()] == ["image.squashfs"]
    before = (image.prefix / "data").read_bytes()
    # Whoever can write the cache's file changes it now.
    path.chmod(0o644)
    path.write_bytes(make_image(tmp_path / "evil", ADDRESS).read_bytes())
    subprocess.run(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"], check=False)
    assert (image.prefix / "data").read_bytes() == before
    # The same bytes are wanted, and mounted; later they cannot be had any more.
    mounts.mount(wanted, Options(copies=tmp_path))
    unmount.unmount(wanted)
    with pytest.raises(IntegrityError, match=r"not the .* that it should have"):
        mounts.mount(wanted, Options(copies=tmp_path))
    until(lambda: is_gone(image))


def test_unverified_mount_is_not_taken_for_a_verified_one(image: Image, tmp_path: Path) -> None:
    digest = subprocess.run(["sha256sum", image.path], capture_output=True, text=True, check=True)
    mounts.mount(image)
    wanted = Image(image.path, ADDRESS, image.prefix, digest.stdout.split()[0])
    with pytest.raises(MountError, match="without verification"):
        mounts.mount(wanted, Options(copies=tmp_path))
    unmount.unmount(image)
    until(lambda: is_gone(image))


# Shells and leases


def test_mount_for_a_shell_goes_with_it(image: Image) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as shell:
        claim = mounts.mount(image, Options(linger=0), shell=shell.pid)
        assert claim is not None
        time.sleep(3 * LINGER)
        assert mounts.probe(image) is State.MOUNTED
        with pytest.raises(MountError, match=rf"{shell.pid} \(.*\): cat"):
            unmount.unmount(image)
    until(lambda: is_gone(image))
    assert not claim.exists()


def test_mount_for_a_shell_goes_when_that_gives_it_up(image: Image) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as shell:
        claim = mounts.mount(image, Options(linger=0), shell=shell.pid)
        assert claim is not None
        claim.unlink()
        until(lambda: is_gone(image))
    with pytest.raises(MountError, match="no process"):
        mounts.mount(image, shell=shell.pid)
    until(lambda: is_gone(image))


def test_commands_fail_loudly_where_an_image_was_taken_from_a_shell(image: Image) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as shell:
        mounts.mount(image, Options(linger=0), shell=shell.pid)
        assert unmount.unmount(image, force=True)
        path = f"{image.prefix}/bin:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", "doze 0; echo $?"],
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "125\n"
        assert f"{image.prefix}/bin/doze: the image is not mounted any more" in done.stderr
        # It can be had back.
        assert ME.hold(image, "doze", "0").returncode != 0
        assert ME.hold(image, str(image.prefix / "bin/doze"), "0").returncode == 0
        assert unmount.unmount(image, force=True)
    until(lambda: is_gone(image))


CLEAR = """
import sys, types
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from condainer.mount import unmount
settings = types.SimpleNamespace(
    mount_base_directory=Path(sys.argv[2]), tool_directory=None, stage="never", stage_max_size="1G"
)
cleared = unmount.unmount_all(settings, sys.argv[3] == "force")
print("\\n".join(unmount.lines(cleared)))
unmount.demand(cleared)
"""


def test_all_of_ours_is_unmounted(accounts: list[Account], image: Image) -> None:
    first, second = accounts
    base = image.prefix.parent

    def clear(account: Account, how: str) -> subprocess.CompletedProcess[str]:
        return account.run([account.python, "-c", CLEAR, account.source, str(base), how])

    direct = started(first, image, "cat")
    private = started(second, image, "cat")
    done = clear(second, "gently")
    assert "in use in a private namespace" in done.stderr
    assert done.returncode != 0
    assert clear(second, "force").stdout == f"Unmounted {image.prefix}\n"
    private.communicate()
    # Not that of anybody else.
    until(lambda: len(daemons(image)) == len(keepers(image)) == 1)
    assert f"{image.prefix} is in use by\n  {direct.pid} (" in clear(first, "gently").stderr
    direct.communicate()
    until(lambda: is_gone(image))
    stale = base / f".condainer-{first.user['user']}" / "condainer-0-00000000-s1.users"
    stale.touch()
    # What a killed keeper has written of its mount is none.
    record = mount_locks.locks_for(image.prefix, "private").namespace
    record = stale.with_name(record.name)
    script = f"echo '999999999 mnt:[1] user:[1]' > '{record}'"
    assert first.run(["sh", "-c", script]).returncode == 0
    assert clear(first, "gently").stdout == "Nothing of yours is mounted on this machine\n"
    assert not stale.exists()
    assert not record.exists()


UNMOUNT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from condainer.mount import unmount
from condainer.mount.mounts import Image
unmount.unmount(Image(Path(), sys.argv[2], Path(sys.argv[3])))
"""


@pytest.mark.parametrize("who", ["root", "ordinary"])
def test_private_mount_is_not_taken_away_from_inside(
    accounts: list[Account], image: Image, who: str
) -> None:
    account = PRIVATE if who == "root" else private_of(accounts[0])
    script = f'"$@" 2>&1; {read(image.prefix)}'
    argv = [account.python, "-c", UNMOUNT, account.source, ADDRESS, str(image.prefix)]
    done = account.hold(image, "sh", "-c", script, "sh", *argv)
    assert f"{image.prefix} is in use by" in done.stdout
    assert done.stdout.endswith(f"\n{ADDRESS}\n")
    until(lambda: is_gone(image))


@pytest.mark.parametrize("way", ["auto", "private"])
def test_mount_point_goes_when_the_visitors_have_gone(
    accounts: list[Account], image: Image, way: str
) -> None:
    first, second = (
        Account(account.python, account.source, LINGER, way, account.user) for account in accounts
    )
    owner = started(first, image, "cat")
    visitor = started(second, image, "sh", "-c", f"read x; {read(image.prefix)}")
    owner.communicate()
    until(lambda: is_left_by(image, first))
    # Longer than a keeper that has ended took to give up.
    time.sleep(10 * LINGER)
    # Of all that end, one waits.
    again = started(first, image, "cat")
    until(lambda: len(keepers(image)) == 2)
    again.communicate()
    until(lambda: is_left_by(image, first))
    until(lambda: len(keepers(image)) == 2)
    assert image.prefix.is_dir()
    assert visitor.communicate("\n")[0] == f"{ADDRESS}\n"
    until(lambda: is_gone(image))
    assert not list(image.prefix.parent.glob("*visitor*"))


def test_mount_point_that_a_killed_keeper_left_is_removed(
    accounts: list[Account], image: Image
) -> None:
    first, second = (private_of(account) for account in accounts)
    base = image.prefix.parent
    clear = [first.python, "-c", CLEAR, first.source, str(base), "gently"]
    nothing = "Nothing of yours is mounted on this machine\n"
    owner = started(first, image, "cat")
    keeper = keeper_of(image.prefix)
    visitor = started(second, image, "sh", "-c", f"read x; {read(image.prefix)}")
    owner.communicate()
    until(lambda: is_left_by(image, first))
    os.kill(keeper, signal.SIGKILL)
    # Not while a visitor uses it.
    assert first.run(clear).stdout == nothing
    assert visitor.communicate("\n")[0] == f"{ADDRESS}\n"
    until(lambda: not daemons(image) and not keepers(image))
    assert image.prefix.is_dir()
    assert first.run(clear).stdout == f"Removed {image.prefix}, which was left\n"
    assert is_gone(image)
    notice = base / f"{image.prefix.name}.visitor-{first.user['user']}-1"
    assert first.run(["touch", str(notice)]).returncode == 0
    assert first.run(clear).stdout == nothing
    assert not notice.exists()


@pytest.mark.parametrize("way", ["auto", "private"])
@pytest.mark.parametrize("who", ["root", "ordinary"])
def test_keeper_repairs_what_a_command_uses(
    accounts: list[Account], image: Image, who: str, way: str
) -> None:
    own = ME if who == "root" else accounts[0]
    account = Account(own.python, own.source, LINGER, way, own.user)
    loop = f"for i in $(seq 3000); do {read(image.prefix)} 2>&- && break; sleep 0.1; done"
    child = started(account, image, "sh", "-c", f"read x; {loop}")
    (daemon,) = daemons(image)
    os.kill(daemon, signal.SIGKILL)
    assert child.communicate("\n")[0] == f"{ADDRESS}\n"
    until(lambda: is_gone(image))


def test_keeper_repairs_by_tools_that_condainer_has_installed(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, others = tmp_path / "data/condainer/tools/current/programs", tmp_path / "bin"
    for place, name in ((own, "squashfuse_ll"), (others, "fusermount3")):
        place.mkdir(parents=True)
        (place / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", str(others))
    mounts.mount(image)
    (killed,) = daemons(image)
    os.kill(killed, signal.SIGKILL)
    until(lambda: {*daemons(image)} - {killed} and mounts.probe(image) is State.MOUNTED)
    assert unmount.unmount(image)
    until(lambda: is_gone(image))


def test_keeper_repairs_what_a_shell_uses(image: Image) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as shell:
        mounts.mount(image, Options(linger=0), shell=shell.pid)
        os.kill(daemons(image)[0], signal.SIGKILL)
        until(lambda: mounts.probe(image) is State.MOUNTED)
    until(lambda: is_gone(image))


def test_lease_while_it_is_mounted(image: Image, tmp_path: Path) -> None:
    for name in ("leases", "uses", "tmp"):
        (tmp_path / name).mkdir()
    leased = Image(image.path, ADDRESS, image.prefix, cache=tmp_path)
    mounts.mount(leased, Options(linger=0))
    (lease,) = leases.live(tmp_path, time.time())[ADDRESS]
    assert (lease.user, lease.address) == (os.geteuid(), ADDRESS)
    mounts.mount(leased, Options(linger=0))
    assert len(list((tmp_path / "leases").iterdir())) == 1
    unmount.unmount(leased)
    until(lambda: not list((tmp_path / "leases").iterdir()))
    assert ADDRESS in leases.last_uses(tmp_path)


def test_lease_goes_when_no_keeper_can_be_started(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise BlockingIOError

    (tmp_path / "leases").mkdir()
    monkeypatch.setattr(launch, "start_daemon", refused)
    with pytest.raises(BlockingIOError):
        mounts.mount(replace(image, cache=tmp_path))
    assert not list((tmp_path / "leases").iterdir())


def test_use_is_noted_before_the_image_is_opened(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied(source: Source, wish: Wish, report: Reporter) -> Copy | None:
        seen.append(ADDRESS in leases.last_uses(tmp_path))
        return provide(source, wish, report)

    seen: list[bool] = []
    provide = node_copies.provide
    monkeypatch.setattr(node_copies, "provide", copied)
    (tmp_path / "uses").mkdir()
    mounts.mount(replace(image, cache=tmp_path))
    assert unmount.unmount(image)
    assert seen == [True]
    until(lambda: is_gone(image))


@pytest.mark.parametrize("kept", [True, False])
def test_lease_goes_with_a_mount_that_is_taken_away(
    image: Image, tmp_path: Path, kept: bool
) -> None:
    (tmp_path / "leases").mkdir()
    leased = Image(image.path, ADDRESS, image.prefix, cache=tmp_path)
    # Longer than this test may take.
    options = Options(linger=100)
    if kept:
        mounts.mount(leased, options)
    else:
        mounts.hold(leased, options).release()
    assert list((tmp_path / "leases").iterdir())
    assert unmount.unmount(leased)
    until(lambda: not list((tmp_path / "leases").iterdir()))
    until(lambda: is_gone(image))


def test_locks_of_the_namespace_we_are_in(image: Image) -> None:
    assert mount_locks.of_our_namespace(image.prefix) is None
    done = PRIVATE.hold(
        image,
        sys.executable,
        "-c",
        "import sys; from pathlib import Path;"
        "from condainer.mount import mount_locks as mountlocks;"
        "print(mountlocks.of_our_namespace(Path(sys.argv[1])).users.name)",
        str(image.prefix),
    )
    assert done.stdout.split()[1].endswith("-private.users"), done.stderr
    until(lambda: is_gone(image))
