"""A small system of its own below a directory, as a container has one, made anew for each use."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

PACKAGES = ("ca-certificates", "fuse3", "python3", "python3-venv")
# Half of it all, of which nothing is used.
EXCLUDED = ("./usr/share/doc", "./usr/share/locale", "./usr/share/man", "./var/*/apt/*")
NEEDED = ("apt-get", "debootstrap", "unshare", "nsenter", "chroot")
# No account that useradd makes has it, for those are ended together with their processes.
USER = 70001
NAME = "runner"
HOME = Path("/home", NAME)
PATH = "/usr/local/bin:/usr/bin:/bin"

# The first process: all others end with it, and it ends with its input.
FIRST = """
set -e
read -r number rest </proc/self/stat
mount -t proc proc "$0/proc"
mount -t tmpfs -o mode=1777 tmpfs "$0/dev/shm"
if [ "$1" = fuse ]; then touch "$0/dev/fuse"; mount --bind /dev/fuse "$0/dev/fuse"; fi
echo "$number"
read -r || true
"""


def missing() -> list[str]:
    """Return what is missing to make containers."""
    found = [tool for tool in NEEDED if shutil.which(tool) is None]
    device = [] if os.path.exists("/dev/fuse") else ["/dev/fuse"]
    return [*found, *device, *(["root"] if os.geteuid() != 0 else [])]


def ensure_root(directory: Path) -> Path:
    """Return the archive of a root directory, made if need be: this machine's release, and little.

    Parameters: `directory` keeps the archive.
    """
    mirror, suite, components = _source()
    archive = directory / f"{'-'.join((suite, *PACKAGES))}.tar"
    directory.mkdir(exist_ok=True)
    # Another worker may have made it while this one waited.
    with FileLock(directory / ".lock"):
        if not archive.exists():
            _make_root(archive, mirror, suite, components)
    return archive


def _make_root(archive: Path, mirror: str, suite: str, components: str) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as draft:
        root = f"{draft}/root"
        options = (f"--components={components}", f"--include={','.join(PACKAGES)}")
        _do("debootstrap", "--variant=minbase", *options, suite, root, mirror, **_proxies())
        _do("chroot", root, "useradd", "--create-home", f"--uid={USER}", NAME)
        # Whatever starts containers makes it; fusermount3 needs it to unmount.
        os.symlink("/proc/mounts", f"{root}/etc/mtab")
        excluded = (f"--exclude={place}" for place in EXCLUDED)
        _do("tar", "--create", f"--file={root}.tar", *excluded, f"--directory={root}", ".")
        os.rename(f"{root}.tar", archive)


def _source() -> tuple[str, str, str]:
    """Return from where apt installs this machine's packages: mirror, release and components."""
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    line = "$(CREATED_BY) $(CODENAME) $(REPO_URI) $(COMPONENT)"
    known = [text.split() for text in _do("apt-get", "indextargets", "--format", line).splitlines()]
    mirrors = [words[2] for words in known if words[:2] == ["Packages", suite] and "main" in words]
    assert mirrors, f"apt knows no source of {suite} main; `apt-get update`?"
    wanted = ["Packages", suite, mirrors[0]]
    # On Ubuntu, python3-venv is not in main.
    return mirrors[0], suite, ",".join({words[3]: "" for words in known if words[:3] == wanted})


def _proxies() -> dict[str, str]:
    """Return the variables of the proxies that apt uses."""
    variables = {}
    for scheme in ("http", "https"):
        said = _do("apt-config", "shell", "PROXY", f"Acquire::{scheme}::Proxy")
        if found := re.fullmatch(r"PROXY='(.+)'\n", said):
            variables[f"{scheme}_proxy"] = found[1]
    return variables


def _do(*argv: str, **environment: str) -> str:
    done = subprocess.run(
        argv, env={**os.environ, **environment}, capture_output=True, text=True, umask=0o022
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Container:
    """A running system: its directory, and the number of its first process."""

    root: Path
    first: int

    def path(self, inside: Path | str) -> Path:
        """Return where a file of the container is for us."""
        return self.root / str(inside).lstrip("/")

    def give(self, *inside: Path | str) -> None:
        """Make files and directories of the container belong to its user."""
        subprocess.run(
            ["chown", "-R", f"{USER}:{USER}", *(self.path(p) for p in inside)], check=True
        )

    def run(
        self,
        *argv: str,
        environment: Mapping[str, str],
        directory: str = str(HOME),
        umask: int = 0o022,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the ordinary user, in nothing but the given environment."""
        variables = {"PATH": PATH, "HOME": str(HOME), "USER": NAME, **environment}
        become = ("chroot", f"--userspec={USER}:{USER}", "--groups=", str(self.root))
        inside = ("env", "-i", "-C", directory, *(f"{k}={v}" for k, v in variables.items()))
        return subprocess.run(
            ["nsenter", f"--target={self.first}", "--mount", "--pid", *become, *inside, *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            umask=umask,
        )


@contextmanager
def container(archive: Path, directory: Path, fuse: bool) -> Iterator[Container]:
    """Start what ensure_root() made, with or without /dev/fuse, and remove it at the end."""
    root = directory / "root"
    root.mkdir()
    _do("tar", "--extract", f"--file={archive}", f"-C{root}")
    argv = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", FIRST)
    first = subprocess.Popen(
        [*argv, str(root), "fuse" if fuse else ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert first.stdout is not None
        line = first.stdout.readline()
        assert line, "the container does not start"
        yield Container(root, int(line))
    finally:
        first.communicate()
        shutil.rmtree(root)
