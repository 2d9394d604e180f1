"""Real projects against the real local channel: nothing here is mocked."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import slurm
from tests.channel import ChannelServer, ensure_channel, serve
from tests.conda_executable import conda_missing, lay_out
from tests.helpers import registry, tiny
from tests.slurm import Account, Cluster, Site, Tracking

TOP = Path(__file__).resolve().parents[2]
SMALL = "dependencies: [probe-prefix, probe-activate, probe-files]\nvariables: {GREETING: hello}\n"
PYTHON = "dependencies: [python, click]\n"


def unmeasured(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment in which the coverage of what is interrupted is not measured.

    An exception that a signal raises within its lock is never let out of that again.
    """
    return {k: v for k, v in environment.items() if not k.startswith(("COV_", "COVERAGE"))}


@dataclass
class Project:
    """A project directory, and `cnd` run in it as a user would."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, text: str, name: str = "environment.yml") -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def cnd(
        self, *arguments: str, status: int | None = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run cnd; a status other than the expected one fails the test (None: any)."""
        done = subprocess.run(
            [sys.executable, "-m", "condainer", *arguments],
            cwd=self.path,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=300,
        )
        assert "Traceback" not in done.stderr
        if status is not None:
            assert done.returncode == status, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def on_terminal(self, *arguments: str, **environment: str) -> tuple[int, bytes]:
        """Run cnd where a person sees it; return its status and all that it prints."""
        parent, child = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "condainer", *arguments],
            cwd=self.path,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=child,
            stderr=child,
        ) as running:
            os.close(child)
            said = b""
            # The end of a terminal is an error.
            with contextlib.suppress(OSError):
                while part := os.read(parent, 10_000):
                    said += part
        os.close(parent)
        return running.returncode, said

    def json(self, *arguments: str, **environment: str) -> Any:
        """Run cnd with --json and return what it prints."""
        return json.loads(self.cnd(*arguments, "--json", status=0, **environment).stdout)

    def bash(self, script: str, shell: str = "bash") -> subprocess.CompletedProcess[str]:
        """Run a shell script in the project directory, with `cnd` in PATH."""
        shims = self.path.parent / "shims"
        shims.mkdir(exist_ok=True)
        if not (shims / "cnd").exists():
            (shims / "cnd").symlink_to(Path(sys.executable).with_name("cnd"))
        return subprocess.run(
            [shell, "-c", script],
            cwd=self.path,
            env={**self.environment, "PATH": f"{shims}:/usr/local/bin:/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=300,
        )

    @property
    def cache(self) -> Path:
        return Path(self.environment["CONDAINER_CACHE"])

    @property
    def lockfile(self) -> Path:
        return next(self.path.glob("conda-*-*.lock"))


def build_at_once(projects: Sequence[Project]) -> list[Any]:
    """Build projects side by side and return what `cnd build --json` prints of each."""
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda p=project: results.append(p.json("build")))
        for project in projects
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture(scope="session")
def channel() -> Path:
    """The local channel; it is kept between runs."""
    return ensure_channel(TOP / ".channel")


@pytest.fixture(scope="module")
def licensed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A channel of packages with licenses, one of which no expression names, or without."""
    channel = tmp_path_factory.mktemp("licensed") / "channel"
    tiny.package(channel, "top", "1", depends=("low",), license="MIT")
    tiny.package(channel, "low", "3", license="AGPL-3.0-or-later")
    tiny.package(channel, "choice", "2", license="GPL-2.0-only OR Artistic-1.0-Perl")
    tiny.package(channel, "silent", "4")
    tiny.index(channel)
    return channel


@pytest.fixture
def server(channel: Path) -> Iterator[ChannelServer]:
    """The local channel on loopback, as a mirror of conda-forge."""
    with serve(channel.parent) as running:
        yield running


@pytest.fixture(scope="session")
def package_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Downloaded packages, shared by the workers of a run."""
    path = tmp_path_factory.getbasetemp().parent / "condainer-packages"
    path.mkdir(exist_ok=True)
    return path


@pytest.fixture(scope="session")
def zuul_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of a second registry, installed once for all workers of a run."""
    return registry.install_zuul(tmp_path_factory.getbasetemp().parent / "zuul-registry")


@pytest.fixture
def empty_packages(tmp_path: Path, package_cache: Path) -> Path:
    """A package cache without packages; Python is not compiled again for it."""
    path = tmp_path / "packages"
    path.mkdir()
    (package_cache / "compiled").mkdir(exist_ok=True)
    (path / "compiled").symlink_to(package_cache / "compiled")
    return path


@pytest.fixture
def make_project(tmp_path: Path, channel: Path, package_cache: Path) -> Iterator[Any]:
    """Make projects that use the local channel through its file URL; unmount them at the end."""
    projects: list[Project] = []

    def make(name: str = "project", text: str = SMALL, **environment: str) -> Project:
        path = tmp_path / name
        path.mkdir(parents=True)
        project = Project(
            path,
            {
                **os.environ,
                "CONDAINER_CACHE": str(tmp_path / "cache"),
                "CONDAINER_PACKAGE_CACHE": str(package_cache),
                "CONDAINER_MIRRORS": f"conda-forge={channel.as_uri()}",
                "CONDAINER_MOUNT_BASE": str(tmp_path / "m"),
                "CONDAINER_LINGER": "0",
                **environment,
            },
        )
        if text:
            project.write(text)
        projects.append(project)
        return project

    yield make
    for project in projects:
        base = project.path / project.environment.get("CONDAINER_MOUNT_BASE", "/tmp")
        if project.path.is_dir() and base.exists():
            project.cnd("umount", "--force", status=None)


@pytest.fixture
def project(make_project: Any) -> Project:
    """A small project without Python."""
    made: Project = make_project()
    return made


def needs(what: str) -> None:
    """Skip where something is missing, but not in continuous integration."""
    if os.environ.get("CI"):
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")


@pytest.fixture(scope="session")
def conda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real conda, outside of PATH."""
    if problem := conda_missing():
        needs(problem)
    return lay_out(tmp_path_factory.mktemp("conda") / "base")


@pytest.fixture
def base() -> Iterator[Path]:
    """A base directory for prefixes whose path is as short as in life."""
    path = Path(tempfile.mkdtemp(prefix="cnd-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def site(channel: Path) -> Iterator[Site]:
    """A directory in which every account finds `cnd` and an image."""
    missing = [tool for tool in ("useradd", "squashfuse_ll") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        needs(" and ".join(["root", *missing]))
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(slurm.site(channel))
        except LookupError as error:
            needs(str(error))
        yield made


@pytest.fixture
def named(site: Site) -> Iterator[str]:
    """The name that the image of the site has in the documents."""
    name = "climate/2026.1"
    environment = {**os.environ, **site.environment}
    subprocess.run([site.cnd, "-q", "tag", name], env=environment, check=True)
    yield name
    subprocess.run([site.cnd, "-q", "tag", "--delete", name], env=environment, check=True)


@pytest.fixture(scope="session")
def users(site: Site) -> Iterator[list[Account]]:
    """Two ordinary users."""
    with slurm.accounts(site.place, 2) as accounts:
        yield accounts


@pytest.fixture(scope="session")
def harsh(site: Site) -> Iterator[Cluster]:
    """A Slurm that kills also the daemons of a step when it ends."""
    if missing := slurm.missing_tools():
        needs(", ".join(missing))
    tracking = slurm.harshest()
    if tracking is not Tracking.CGROUP:
        warnings.warn(f"proctrack/cgroup is not tested: {slurm.cgroup_problem()}", stacklevel=1)
    with site.cluster(tracking) as running:
        yield running
