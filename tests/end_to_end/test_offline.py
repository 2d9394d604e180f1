"""Building where there is no network: what was fetched before is enough, and nobody is asked."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.channel import ChannelServer
from tests.helpers import flaky
from tests.helpers.flaky import Flaky
from tests.helpers.needed import needs
from tests.helpers.projects import SMALL, Project, unmeasured
from tests.helpers.waiting import until

PYTHON = "dependencies: [python]\n"


@pytest.fixture
def index(channel: Path) -> Iterator[Flaky]:
    """A package index on loopback with two pure wheels."""
    with flaky.serve() as running:
        wheels = channel.parent / "wheels"
        flaky.add_index(running, [*wheels.glob("mdurl-*.whl"), *wheels.glob("idna-*.whl")])
        yield running


def isolated(project: Project, *arguments: str, **environment: str) -> tuple[Any, str]:
    """Run cnd without a network, and return what it prints and the connections it tried."""
    missing = [tool for tool in ("unshare", "strace") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        needs(" and ".join(["root", *missing]))
    trace = project.path.parent / "trace"
    watched = ["strace", "-f", "--seccomp-bpf", "-e", "trace=connect,sendto", "-o", str(trace)]
    done = subprocess.run(
        ["unshare", "-n", *watched, sys.executable, "-m", "condainer", *arguments],
        cwd=project.path,
        env={**project.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    tried = "\n".join(re.findall(r".*\bAF_INET6?\b.*", trace.read_text(errors="replace")))
    return done, tried


def test_what_was_fetched_is_built_without_any_connection(
    make_project: Any, server: ChannelServer, index: Flaky, empty_packages: Path, tmp_path: Path
) -> None:
    project = make_project(
        text=PYTHON,
        CONDAINER_MIRRORS=f"conda-forge={server.url}/conda-forge",
        CONDAINER_PACKAGE_CACHE=str(empty_packages),
        UV_DEFAULT_INDEX=f"{index.url}/simple",
        UV_CACHE_DIR=str(tmp_path / "uv"),
    )
    project.write("mdurl\n", "requirements.txt")
    project.cnd("lock")
    refused, tried = isolated(project, "--offline", "build")
    assert refused.returncode == 6
    assert tried == ""
    assert "mdurl-0.1.2-py3-none-any.whl from http" in refused.stderr
    assert "cnd fetch" in refused.stderr

    fetched = project.json("fetch")
    assert fetched["downloaded"] >= 1
    names = {file["filename"] for file in fetched["files"]}
    assert "mdurl-0.1.2-py3-none-any.whl" in names
    assert project.json("fetch")["downloaded"] == 0
    shutil.rmtree(tmp_path / "uv")
    done, tried = isolated(project, "--offline", "build", "--json")
    assert done.returncode == 0, done.stderr
    assert tried == ""
    assert json.loads(done.stdout)["hit"] is False
    assert project.cnd("exec", "python", "-c", "import mdurl").stdout == ""


def test_a_connection_would_be_seen(project: Project, server: ChannelServer) -> None:
    # What the test above rests on.
    done, tried = isolated(
        project, "lock", CONDAINER_MIRRORS=f"conda-forge={server.url}/conda-forge"
    )
    assert done.returncode == 6
    assert "127.0.0.1" in tried


def test_everything_that_is_missing_is_named(
    make_project: Any, server: ChannelServer, tmp_path: Path
) -> None:
    packages = tmp_path / "packages"
    project = make_project(
        CONDAINER_MIRRORS=f"conda-forge={server.url}/conda-forge",
        CONDAINER_PACKAGE_CACHE=str(packages),
    )
    project.cnd("fetch")
    assert len(server.downloads) == 3
    for name in ("probe-files", "probe-prefix"):
        next((packages / "archives").rglob(f"{name}-*")).unlink()
    server.requests.clear()
    done = project.cnd("--offline", "build", status=6)
    assert "2 files are missing" in done.stderr
    assert "probe-files-1.0-0.conda from " in done.stderr
    assert "probe-prefix-1.0-0.conda from " in done.stderr
    assert "probe-activate" not in done.stderr
    assert "2 files are missing" in project.cnd("--offline", "fetch", status=6).stderr
    project.cnd("fetch", status=6, CONDAINER_OFFLINE="1")
    project.write("offline: true\n", "condainer.yml")
    project.cnd("fetch", status=6)
    (project.path / "condainer.yml").unlink()
    assert server.requests == []
    # A dry run names it, and touches nothing.
    assert sorted(step.split()[1] for step in project.json("-y", "fetch")["would"]) == [
        "probe-files-1.0-0.conda",
        "probe-prefix-1.0-0.conda",
    ]
    assert server.requests == []
    project.cnd("fetch")
    assert project.json("-y", "fetch")["would"] == [
        "download nothing: everything is in the package cache"
    ]
    project.cnd("--offline", "build")


def test_solving_without_a_network_takes_the_index_that_is_there(
    make_project: Any, server: ChannelServer, tmp_path: Path
) -> None:
    mirror = f"conda-forge={server.url}/conda-forge"
    project = make_project(
        text=SMALL, CONDAINER_MIRRORS=mirror, CONDAINER_PACKAGE_CACHE=str(tmp_path / "packages")
    )
    done, tried = isolated(project, "--offline", "lock")
    assert done.returncode == 6
    assert "the index of the channel" in done.stderr
    assert tried == ""
    project.cnd("lock")
    first = project.lockfile.read_bytes()
    project.lockfile.unlink()
    done, tried = isolated(project, "--offline", "lock", "--upgrade")
    assert done.returncode == 0, done.stderr
    assert tried == ""
    assert project.lockfile.read_bytes() == first


def test_the_lock_of_another_platform_is_fetched(make_project: Any, tmp_path: Path) -> None:
    project = make_project(CONDAINER_PACKAGE_CACHE=str(tmp_path / "packages"))
    project.cnd("lock")
    lines = project.lockfile.read_text().partition("@EXPLICIT")[2].split()
    noarch = [line for line in lines if "/noarch/" in line]
    project.write("\n".join(["@EXPLICIT", *noarch, ""]), "conda-linux-aarch64.lock")
    done = project.cnd("fetch", "--platform", "linux-ppc64le", status=8)
    assert "linux-ppc64le" in done.stderr
    fetched = project.json("fetch", "--platform", "linux-aarch64")
    assert fetched["platforms"] == ["linux-aarch64"]
    assert len(fetched["files"]) == len(noarch) > 0
    both = project.json("fetch", "--platform", "linux-aarch64", "--platform", "linux-64")
    assert len(both["files"]) == 3


def test_the_lock_of_another_platform_has_to_be_current(
    make_project: Any, channel: Path, tmp_path: Path
) -> None:
    project = make_project(CONDAINER_PACKAGE_CACHE=str(tmp_path / "packages"))
    project.cnd("lock")
    ours = project.lockfile.read_text()
    other = project.path / "conda-linux-aarch64.lock"
    (url,) = re.findall(r"https://\S+/noarch/probe-files\S+(?=#)", ours)
    md5 = hashlib.md5((channel / "noarch" / url.rpartition("/")[2]).read_bytes()).hexdigest()
    other.write_text(f"@EXPLICIT\n{url}#{md5}\n")
    fetch = ("fetch", "--platform", "linux-aarch64")
    assert "look up sha256s" in project.json("-y", *fetch)["would"][0]
    assert not (project.path / "condainer-linux-aarch64.lock").exists()
    assert [file["filename"] for file in project.json(*fetch)["files"]] == [url.rpartition("/")[2]]
    # What was found out is kept, and carried.
    completed = project.path / "condainer-linux-aarch64.lock"
    assert f"{url}#" in completed.read_text()
    bundled = project.json("bundle", *fetch[1:], str(tmp_path / "x.tar"))
    assert {other.name, completed.name} <= set(bundled["files"])
    completed.unlink()
    # One of ours, which conda-lock.yml would have to have, for other inputs than there are now.
    (project.path / "conda-lock.yml").unlink()
    lines = [line for line in ours.splitlines() if "/linux-64/" not in line]
    foreign = "\n".join([*lines, ""]).replace("platform: linux-64", "platform: linux-aarch64")
    count = foreign.count("#sha256:")
    other.write_text(re.sub(r"# packages: \d+", f"# packages: {count}", foreign))
    assert project.json(*fetch)["platforms"] == ["linux-aarch64"]
    project.write("dependencies: [probe-old]\n")
    for dry in ((), ("-y",)):
        done = project.cnd(*dry, *fetch, status=7)
        assert "stale" in done.stderr
        assert "cnd lock --platform linux-aarch64" in done.stderr


def test_a_lock_that_leads_to_this_machine_is_not_fetched(make_project: Any) -> None:
    project = make_project()
    project.cnd("lock")
    with flaky.serve() as server:
        # Otherwise the two lockfiles do not agree, and the lock is stale.
        (project.path / "conda-lock.yml").unlink()
        lines = project.lockfile.read_text()
        project.lockfile.write_text(re.sub(r"https://[^/]+/", f"{server.url}/", lines))
        done = project.cnd("fetch", status=8)
        assert "leads to this machine" in done.stderr
        assert not server.asked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_download_that_is_ended_leaves_nothing_bad(
    make_project: Any, channel: Path, tmp_path: Path, number: int
) -> None:
    with flaky.serve() as server:
        flaky.add_channel(server, channel)
        mirror = f"conda-forge={server.url}/{channel.name}"
        packages = tmp_path / "packages"
        project = make_project(CONDAINER_MIRRORS=mirror, CONDAINER_PACKAGE_CACHE=str(packages))
        project.cnd("lock")
        server.plan[:] = [flaky.silent] * 3
        fetching = subprocess.Popen(
            [sys.executable, "-m", "condainer", "fetch"],
            cwd=project.path,
            env=unmeasured(project.environment),
            stderr=subprocess.DEVNULL,
        )
        until(lambda: not server.plan)
        fetching.send_signal(number)
        # Otherwise it waits for the rest, which does not come.
        fetching.wait()
        assert not [path for path in packages.rglob("archives/**/*") if path.is_file()]
        if number != signal.SIGKILL:
            assert not list(packages.glob("download.*"))
        assert project.json("fetch")["downloaded"] == 3
        assert not list(packages.glob("download.*"))


@pytest.mark.parametrize("form", ["repodata.json.zst", "repodata.json"])
def test_a_web_page_in_the_place_of_an_index(
    make_project: Any, channel: Path, tmp_path: Path, form: str
) -> None:
    with flaky.serve() as server:
        page = b"<!DOCTYPE html><html>Log in</html>"
        server.files = {f"/conda-forge/{subdir}/{form}": page for subdir in ("linux-64", "noarch")}
        project = make_project(
            CONDAINER_MIRRORS=f"conda-forge={server.url}/conda-forge",
            CONDAINER_PACKAGE_CACHE=str(tmp_path / "packages"),
        )
        told = project.cnd("lock", status=6).stderr
        assert f"{server.url}/conda-forge cannot be read" in told
        assert "page of a login or of a proxy" in told


def test_a_private_index_with_a_login(
    make_project: Any, channel: Path, tmp_path: Path, isolated_user: Path
) -> None:
    with flaky.serve(login=("anna", "geheim")) as index:
        flaky.add_index(index, (channel.parent / "wheels").glob("idna-*.whl"))
        bare = f"{index.url}/simple"
        project = make_project(
            text=PYTHON,
            CONDAINER_PACKAGE_CACHE=str(tmp_path / "packages"),
            UV_DEFAULT_INDEX=bare.replace("//", "//anna:geheim@"),
            UV_CACHE_DIR=str(tmp_path / "uv"),
        )
        project.write("idna\n", "requirements.txt")
        shown = project.cnd("lock").stderr
        text = project.lockfile.read_text() + (project.path / "conda-lock.yml").read_text()
        assert "idna" in text
        assert "geheim" not in text + shown
        refused = project.cnd("fetch", status=6, UV_DEFAULT_INDEX=bare)
        assert "401" in refused.stderr
        netrc = isolated_user / ".netrc"
        netrc.write_text("machine 127.0.0.1 login anna password geheim\n")
        netrc.chmod(0o600)
        assert project.json("fetch", UV_DEFAULT_INDEX=bare)["downloaded"] == 1
