"""What a cluster's users find on its node: `cnd`, a project, and an image in a cache."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from condainer.mount import backends
from tests.helpers.waiting import wait_until
from tests.slurm.cluster import Cluster, cluster
from tests.slurm.settings import Tracking
from tests.torture.bench import CND, SMALL

# What `cnd exec` imports besides the standard library.
MODULES = ("click", "yaml", "_yaml", "xxhash", "filelock")


@dataclass(frozen=True)
class Site:
    """A directory that every account can use; `environment` is what its commands need."""

    place: Path
    base: Path
    prefix: Path
    address: str
    environment: dict[str, str]

    @property
    def cnd(self) -> str:
        """The command, in the project of the image."""
        return str(self.place / "bin" / "cnd")

    def mounts(self) -> list[str]:
        """Return the mount points below the base that this process sees, dead ones included."""
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.split()[1] for line in lines if line.split()[1].startswith(f"{self.base}/")]

    def processes(self) -> dict[int, str]:
        """Return the command lines of processes of our accounts, or that name the base."""
        accounts = {entry.pw_uid for entry in pwd.getpwall() if self.place in _parents(entry)}
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                words = (directory / "cmdline").read_bytes().split(b"\0")
                owner = directory.stat().st_uid
            except OSError:
                continue
            line = b" ".join(words).decode(errors="replace").strip()
            # A process that has ended has no command line.
            if line and (owner in accounts or f"{self.base}/" in line):
                found[int(directory.name)] = line
        return found

    def left(self) -> list[str]:
        """Return what users left: mounts and processes."""
        return [*self.mounts(), *self.processes().values()]

    def points(self) -> list[str]:
        """Return what stands in the base: mount points, mounted or not, and notices of visitors."""
        return [str(path) for path in self.base.glob("condainer-*")]

    def tidy(self, points: bool = False) -> None:
        """Raise AssertionError unless, a moment after the last user, nothing is left.

        Parameters: `points` includes empty mount points, which nobody can remove when Slurm has
        killed all that a step has started.
        """

        def left() -> list[str]:
            return [*self.left(), *(self.points() if points else ())]

        assert wait_until(lambda: not left()), f"left behind: {left()}"

    def clear(self) -> None:
        """End and unmount what a failed test left."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for point in self.mounts():
            backends.stop(Path(point), None, lazy=True)
        for point in self.points():
            with contextlib.suppress(OSError):
                os.rmdir(point) if os.path.isdir(point) else os.unlink(point)

    @contextmanager
    def cluster(
        self, tracking: Tracking, lines: str = "", before: Sequence[str] = ()
    ) -> Iterator[Cluster]:
        """Start a cluster whose users find all this; see `tests.slurm.cluster`."""
        directory = Path(tempfile.mkdtemp(prefix="slurm-", dir=self.place))
        with cluster(directory, tracking, self.environment, lines=lines, before=before) as running:
            yield running


def _parents(entry: pwd.struct_passwd) -> Iterable[Path]:
    return Path(entry.pw_dir).parents


@contextmanager
def site(
    channel: Path, text: str = SMALL, linger: float = 0.3, packages: Path | None = None
) -> Iterator[Site]:
    """Make a directory with `cnd` for everybody and the built image of a small environment.

    Parameters: the local `channel`, the `text` of environment.yml, `linger` in seconds, `packages`
    the package cache, by default a new one. Raises LookupError when there is no Python that other
    accounts can run.
    """
    place = Path(tempfile.mkdtemp(prefix="condainer-slurm-", dir="/tmp"))
    try:
        place.chmod(0o755)
        base = place / "m"
        base.mkdir()
        base.chmod(0o1777)
        environment = {
            "CONDAINER_CACHE": str(place / "cache"),
            "CONDAINER_MOUNT_BASE": str(base),
            "CONDAINER_LINGER": str(linger),
        }
        built = _build(place, text, channel, packages or place / "packages", environment)
        _install(place)
        made = Site(place, base, Path(built["prefix"]), built["address"], environment)
        try:
            yield made
        finally:
            made.clear()
    finally:
        shutil.rmtree(place)


def _build(
    place: Path, text: str, channel: Path, packages: Path, environment: dict[str, str]
) -> dict[str, str]:
    project = place / "project"
    project.mkdir()
    (project / "environment.yml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [*CND, "build", "--json"],
        cwd=project,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(place / "home"),
            "CONDAINER_MIRRORS": f"conda-forge={channel.as_uri()}",
            "CONDAINER_STAGING": str(place / "staging"),
            "CONDAINER_PACKAGE_CACHE": str(packages),
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        umask=0o022,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    built: dict[str, str] = json.loads(done.stdout)
    return built


def _install(place: Path) -> None:
    """Copy what `cnd exec` needs, because the tests' own files may be closed to other accounts."""
    code = place / "code"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("condainer", *MODULES):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        for directory in spec.submodule_search_locations or ():
            shutil.copytree(directory, code / name, ignore=ignored)
    python = public_python()
    subprocess.run([python, "-m", "compileall", "-q", str(code)], check=True)
    program = place / "bin" / "cnd"
    program.parent.mkdir()
    # Kernels, wrappers and modules call what argv[0] names.
    start = f"import sys; sys.path.insert(0, {str(code)!r}); sys.argv[0] = {str(program)!r}; "
    start += "from condainer.__main__ import entry; sys.exit(entry())"
    command = f'{python} -I -c {shlex.quote(start)} -d {place}/project "$@"'
    program.write_text(f"#!/bin/sh\nexec {command}\n", encoding="utf-8")
    program.chmod(0o755)


def public_python() -> str:
    """Return a Python of our version, which the copied modules need, that everybody can run."""
    number = "python{}.{}".format(*sys.version_info[:2])
    base = Path(sys.base_prefix) / "bin" / number
    for path in (base, Path("/usr/bin") / number, Path("/usr/local/bin") / number):
        if path.exists() and _is_open(path):
            return str(path)
    raise LookupError(f"a {number} that other accounts can run")


def _is_open(path: Path) -> bool:
    real = path.resolve()
    return all(item.stat().st_mode & stat.S_IXOTH for item in (real, *real.parents))
