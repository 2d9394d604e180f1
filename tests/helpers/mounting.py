"""A small image, the accounts that mount it, and what is left of its mounts."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import condainer
from condainer.mount import mount_locks
from condainer.mount.mounts import Image
from tests.helpers.needed import needs
from tests.helpers.waiting import until, wait_until

ADDRESS = "00112233445566778899aabbccddeeff"
LINGER = 0.3

# Claims the image, says whether privately, and becomes a command.
DRIVER = """
import json, os, sys
from pathlib import Path
given = json.loads(sys.argv[1])
sys.path.insert(0, given["source"])
from condainer.mount import mounts as mount; from condainer.system import namespace
from condainer.system.errors import CondainerError
more = {}
exec(given["before"])
image = mount.Image(Path(given["path"]), given["address"], Path(given["prefix"]))
try:
    hold = mount.hold(image, mount.Options(given["way"], given["linger"], **more))
except CondainerError as error:
    print(f"{type(error).__name__}: {error.message} | {error.hint}", file=sys.stderr)
    sys.exit(error.exit_code)
print("private" if hold.private else "shared", flush=True)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Account:
    """A user that runs drivers: ourselves, or an account made for the tests."""

    python: str = sys.executable
    source: str = str(Path(condainer.__file__).parent.parent)
    linger: float = LINGER
    way: str = "auto"
    user: dict[str, object] = field(default_factory=dict)

    def driver(self, image: Image, *command: str, before: str = "") -> list[str]:
        given = {
            "source": self.source,
            "before": before,
            "path": str(image.path),
            "address": image.address,
            "prefix": str(image.prefix),
            "linger": self.linger,
            "way": self.way,
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
        child = self.popen(argv)
        stdout, stderr = child.communicate()
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
    return daemons_at(image.prefix)


def daemons_at(prefix: Path) -> list[int]:
    """Return the processes that serve a prefix; a keeper's command line names them, too."""
    kept = processes(str(prefix), "condainer.mount.keep")
    return [p for p in processes(str(prefix), "squashfuse") if p not in kept]


def keepers(image: Image) -> list[int]:
    return keepers_at(image.prefix)


def keepers_at(prefix: Path) -> list[int]:
    """Return the keepers of a prefix, without the children that ask the daemon for them."""
    found = processes(str(prefix), "condainer.mount.keep")
    return [pid for pid in found if _parent(pid) not in found]


def keeper_of(prefix: Path) -> int:
    """Return the one keeper of a prefix, which may not be called by its name yet."""
    until(lambda: len(keepers_at(prefix)) == 1, "there is not one keeper")
    return keepers_at(prefix)[0]


def _parent(pid: int) -> int:
    """Return the parent of a process; itself if it has ended."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


def is_left_by(image: Image, account: Account) -> bool:
    """Tell whether nobody looks after a mount of an account any more, which has been unmounted."""
    found = image.prefix.parent.glob(f".condainer-{account.user['user']}/*.keeper")
    return not any(mount_locks.is_locked(path) for path in found)


def is_gone(image: Image) -> bool:
    """Tell whether nothing of a mount is left: no process, no mount, no directory."""
    return not (daemons(image) or keepers(image) or os.path.lexists(image.prefix))


def make_image(path: Path, address: str) -> Path:
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory)
        source.chmod(0o755)
        (source / ".condainer").mkdir()
        (source / ".condainer/address").write_text(f"{address}\n")
        (source / "bin").mkdir()
        shutil.copy(shutil.which("sleep") or "/bin/sleep", source / "bin/doze")
        (source / "data").write_bytes(os.urandom(300_000))
        command = ["mksquashfs", directory, str(path), "-all-root", "-no-progress", "-quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    path.chmod(0o444)
    return path


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
    needs("a python3 that other accounts can run")
    raise AssertionError


def daemon_of(prefix: Path) -> int:
    """Return the process that serves a mount; not a keeper, nor a child of one, which name it."""
    serving: list[int] = []

    def is_one() -> bool:
        # While it becomes a daemon, there are two.
        serving[:] = processes("squashfuse_ll\0", str(prefix))
        return len(serving) == 1

    assert wait_until(is_one)
    return serving[0]
