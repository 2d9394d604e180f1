"""Real projects against the real local channel: nothing here is mocked."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import slurm
from tests.channel import ChannelServer, ensure_channel, serve
from tests.conda_executable import conda_missing, lay_out
from tests.helpers import registry, tiny
from tests.helpers.accounts import accounts, group
from tests.helpers.members import Member
from tests.helpers.needed import needs
from tests.helpers.projects import SMALL, TOP, Project
from tests.slurm import Account, Cluster, Site, Tracking


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
                # At the default of 9, a Python takes twice as long to build.
                **({"CONDAINER_LEVEL": "1"} if "python" in text else {}),
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
        # A mount that has gone leaves its lock files only.
        if project.path.is_dir() and any(base.glob("condainer-*")):
            project.cnd("umount", "--force", status=None)


@pytest.fixture
def project(make_project: Any) -> Project:
    """A small project without Python."""
    made: Project = make_project()
    return made


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


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account can reach."""
    path = Path(tempfile.mkdtemp(prefix="condainer-group-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def members(place: Path, channel: Path) -> Iterator[tuple[Member, Member]]:
    """Two accounts of one group, made for the test, with umasks 077 and 022."""
    tools = [tool for tool in ("useradd", "groupadd", "setpriv") if shutil.which(tool) is None]
    if tools or os.getuid() != 0:
        needs("root, useradd, groupadd and setpriv")
    cache = place / "cache"
    cache.mkdir()
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "CONDAINER_CACHE": str(cache),
        "CONDAINER_MIRRORS": f"conda-forge={channel.as_uri()}",
        "CONDAINER_STAGING": "/tmp",
        "CONDAINER_LINGER": "0",
    }
    with group() as name, accounts(place, 2, name) as made:
        shutil.chown(cache, group=name)
        cache.chmod(0o3775)
        first, second = made
        yield (
            Member(first.name, first.home, 0o077, environment),
            Member(second.name, second.home, 0o022, environment),
        )
