"""Proxies, private authorities and mirrors, each a real one on loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import flaky
from tests.helpers.projects import Project, fresh

RESOLVE = """
import sys
from pathlib import Path
from condainer.system import environments, process
from condainer.network import client_settings
from condainer.pypi import wheels
from condainer.settings.load import load_settings
from condainer.system.reporter import Silent
client_settings.prepare(load_settings(Path.cwd()), Silent())
Path("in.txt").write_text("idna\\n")
command = wheels._uv("pip", "compile", "--no-deps", "--quiet", "in.txt")
print(process.run(command, env=environments.resolving(Path.cwd())).stdout)
"""


def test_proxy_and_authority_of_the_site_reach_every_client(
    make_project: Any, channel: Path, tmp_path: Path, isolated_user: Path
) -> None:
    authority, certificate = flaky.certificates(tmp_path / "tls", "site.invalid", "127.0.0.1")
    plain = make_project("plain").json("lock")
    with flaky.serve(certificate=certificate) as server, flaky.proxy(server) as proxy:
        flaky.add_channel(server, channel)
        flaky.add_index(server, (channel.parent / "wheels").glob("idna-*.whl"))
        rc = isolated_user / ".condarc"
        project = fresh(make_project, tmp_path, UV_DEFAULT_INDEX="https://site.invalid/simple")
        rc.write_text(
            f"channel_alias: https://site.invalid\nproxy_servers:\n  https: {proxy.url}\n"
            f"ssl_verify: {authority}\n"
        )
        locked = project.json("lock")
        project.cnd("fetch")
        # The address does not depend on the host, and the lock says where it was.
        assert locked["address"] == plain["address"]
        assert "https://site.invalid/conda-forge/" in project.lockfile.read_text()
        done = subprocess.run(
            [sys.executable, "-c", RESOLVE],
            cwd=project.path,
            env=project.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "idna==" in done.stdout
        assert set(proxy.asked) == {"site.invalid:443"}
        asked = [request.path for request in server.asked]
        assert sum(path.endswith(".conda") for path in asked) == 3


def test_a_plain_proxy(
    make_project: Any, channel: Path, tmp_path: Path, isolated_user: Path
) -> None:
    with flaky.serve() as server, flaky.proxy(server) as proxy:
        flaky.add_channel(server, channel)
        (isolated_user / ".condarc").write_text(
            f"channel_alias: http://site.invalid\nproxy_servers: {{http: '{proxy.url}'}}\n"
            "ssl_verify: false\n"
        )
        done = fresh(make_project, tmp_path).cnd("fetch")
        assert done.stderr.count("`ssl_verify` is ignored") == 1
        assert any(path.startswith("http://site.invalid/") for path in proxy.asked)


@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_of_the_user_stays(
    make_project: Any, channel: Path, tmp_path: Path, isolated_user: Path, variable: str
) -> None:
    with flaky.serve() as server, flaky.proxy(server) as proxy:
        flaky.add_channel(server, channel)
        (isolated_user / ".condarc").write_text(
            "channel_alias: http://site.invalid\nproxy_servers: {http: 'http://127.0.0.1:9'}\n"
        )
        fresh(make_project, tmp_path, **{variable: proxy.url}).cnd("fetch")
        assert any(path.startswith("http://site.invalid/") for path in proxy.asked)


def test_a_hit_reads_no_condarc(make_project: Any, isolated_user: Path) -> None:
    project = make_project()
    project.cnd("build")
    os.mkfifo(isolated_user / ".condarc")
    (isolated_user / ".condarc").unlink()
    (isolated_user / ".condarc").write_text("offline: true\n")
    assert "is ignored" not in project.cnd("build").stderr
    assert "is ignored" in project.cnd("lock", "--upgrade").stderr


@pytest.mark.parametrize("status", [503, 404])
def test_the_next_mirror_of_a_channel_is_asked(
    make_project: Any, channel: Path, tmp_path: Path, isolated_user: Path, status: int
) -> None:
    with flaky.serve() as good, flaky.serve() as bad:
        flaky.add_channel(good, channel)
        flaky.add_channel(bad, channel, "nothing")
        if status == 503:
            bad.files.clear()
        (isolated_user / ".condarc").write_text(
            f"mirrored_channels:\n  conda-forge: [{bad.url}/conda-forge, {good.url}/conda-forge]\n"
        )
        project = fresh(make_project, tmp_path)
        assert project.json("fetch")["downloaded"] == 3
        assert "127.0.0.1" not in project.lockfile.read_text()


# Package indexes

INDEX = "https://index.invalid/ours/simple"


def with_python(make_project: Any, tmp_path: Path, name: str, **environment: str) -> Project:
    """Make a project whose conda part comes from the disk, and that has one pip requirement."""
    uv = {"UV_CACHE_DIR": str(tmp_path / f"uv of {name}"), "UV_HTTP_RETRIES": "0"}
    made: Project = make_project(name, "dependencies: [python]\n", **uv, **environment)
    made.write("idna\n", "requirements.txt")
    return made


def test_mirrors_of_an_index_are_not_seen_in_the_lock(
    make_project: Any, channel: Path, tmp_path: Path
) -> None:
    wheels = [*(channel.parent / "wheels").glob("idna-*.whl")]
    with flaky.serve() as first, flaky.serve() as second:
        flaky.add_index(first, wheels, "/mirror")
        # As some mirrors do it: files in places of their own.
        flaky.add_index(second, wheels)
        page = second.files["/simple/idna/"].decode()
        second.files["/elsewhere/" + wheels[0].name] = wheels[0].read_bytes()
        second.files["/simple/idna/"] = re.sub(r'href="[^"#]*/', 'href="/elsewhere/', page).encode()
        texts = []
        own = f"conda-forge={channel.as_uri()}"
        for number, mirrors in enumerate(
            (
                f"{own} pypi=http://127.0.0.1:9/simple pypi={first.url}/mirror/simple",
                f"{own} pypi={second.url}/simple",
            )
        ):
            project = with_python(
                make_project, tmp_path, f"project{number}", CONDAINER_MIRRORS=mirrors
            )
            project.cnd("lock")
            line = project.lockfile.read_text().splitlines()[-1]
            assert re.search(r"idna @ https://\S+/packages/\w\w/\w\w/\w{60}/idna-\S+\.whl#", line)
            assert "127.0.0.1" not in project.lockfile.read_text()
            texts.append(line)
            fetched = project.json("fetch", CONDAINER_PACKAGE_CACHE=str(tmp_path / str(number)))
            assert "idna" in str(fetched["files"])
        assert len(set(texts)) == 1


@pytest.mark.parametrize("user", ["", "${NAME}:${WORD}@", "anna@"])
def test_a_mirror_of_a_named_index_and_one_on_disk(
    make_project: Any, channel: Path, tmp_path: Path, user: str
) -> None:
    site = tmp_path / "mirror"
    with flaky.serve() as memory:
        flaky.add_index(memory, (channel.parent / "wheels").glob("idna-*.whl"))
        for path, content in memory.files.items():
            place = site / path.strip("/") / "index.html" if path.endswith("/") else site / path[1:]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    (tmp_path / "condainer.yml").write_text("")
    project = with_python(make_project, tmp_path, "project")
    project.environment.pop("CONDAINER_MIRRORS")
    project.write(
        f"mirrors:\n  conda-forge: {channel.as_uri()}\n  {INDEX}: {site.as_uri()}/simple\n",
        "condainer.yml",
    )
    index = INDEX.replace("//", f"//{user}")
    project.write(f"--index-url {index}/\nidna\n", "requirements.txt")
    project.cnd("lock")
    assert "idna @ https://index.invalid/ours/packages/" in project.lockfile.read_text()
    # Files on this machine's disk are no connection.
    project.cnd("--offline", "fetch", CONDAINER_PACKAGE_CACHE=str(tmp_path / "packages"))


def test_a_channel_of_a_spec_is_the_alias_one(
    make_project: Any, channel: Path, tmp_path: Path, isolated_user: Path
) -> None:
    with flaky.serve() as server:
        flaky.add_channel(server, channel)
        (isolated_user / ".condarc").write_text(f"channel_alias: {server.url}\n")
        project = fresh(make_project, tmp_path)
        project.write("dependencies: ['conda-forge::probe-prefix', probe-files=1.*]\n")
        project.cnd("lock")
        assert f"{server.url}/conda-forge/linux-64/probe-prefix" in project.lockfile.read_text()
        # With a mirror for what the name stands for here.
        mirror = f"conda-forge={channel.as_uri()}"
        project.cnd("lock", CONDAINER_MIRRORS=mirror)
        assert f"{server.url}/conda-forge/linux-64/probe-prefix" in project.lockfile.read_text()


@pytest.mark.parametrize(
    "answer", [flaky.status(503), flaky.hang_up, flaky.drop(100)], ids=["503", "closed", "cut off"]
)
def test_the_index_of_a_channel_is_asked_again(
    make_project: Any, channel: Path, tmp_path: Path, isolated_user: Path, answer: flaky.Answer
) -> None:
    with flaky.serve() as server:
        flaky.add_channel(server, channel)
        (isolated_user / ".condarc").write_text(
            f"mirrored_channels: {{conda-forge: [{server.url}/conda-forge]}}\n"
        )
        server.plan[:] = [answer, answer]
        fresh(make_project, tmp_path).cnd("lock")
        assert server.plan == []
