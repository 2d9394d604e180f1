"""Servers that say nothing at some point: every client gives up, and says who it was."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from condainer.network import silence
from tests.helpers import flaky
from tests.helpers.projects import PYTHON, Project, fresh

pytestmark = pytest.mark.long

# Seconds. What clients are told to wait; what a busy machine may take until they have ended, which
# is less than uv, and conda, would wait by themselves.
LIMIT = 2
PATIENCE, WITH_CONDA = 100, 200
# How often a server writes that is slow, but not silent.
PIECES = 24


def trickling(handler: flaky.Handler, content: bytes) -> None:
    """Send the body in pieces, which takes longer than clients wait for a byte."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    size = -(-len(content) // PIECES)
    for start in range(0, len(content), size):
        handler.wfile.write(content[start : start + size])
        handler.wfile.flush()
        time.sleep(2 * LIMIT / PIECES)


STALLS = {
    "before the answer": flaky.stalling(0, headers=False),
    "after the headers": flaky.stalling(0),
    "after a third": flaky.silent,
}


@contextmanager
def mute(greeting: bytes = b"") -> Iterator[str]:
    """Accept connections and say nothing, not even of TLS, after a greeting; yields host:port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def accept() -> None:
            try:
                while True:
                    held.append(server.accept()[0])
                    held[-1].sendall(greeting)
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for connection in held:
                connection.close()


def project_at(make_project: Any, tmp_path: Path, url: str) -> Project:
    limit = str(LIMIT)
    made = fresh(make_project, tmp_path, CONDAINER_NETWORK_TIMEOUT=limit)
    made.environment["CONDAINER_MIRRORS"] = f"conda-forge={url}/conda-forge"
    return made


def ends(project: Project, command: str, patience: float = PATIENCE) -> None:
    start = time.monotonic()
    done = project.cnd(command, status=6)
    assert time.monotonic() - start < patience
    assert "127.0.0.1" in done.stderr


def index_stalls(
    make_project: Any, channel: Path, tmp_path: Path, stall: str, **environment: str
) -> None:
    with flaky.serve() as server:
        flaky.add_channel(server, channel)
        server.plan[:] = [STALLS[stall]] * 50
        project = project_at(make_project, tmp_path, server.url)
        project.environment |= environment
        ends(project, "lock", WITH_CONDA if environment else PATIENCE)
        assert len(server.plan) < 50


@pytest.mark.parametrize("stall", STALLS)
def test_the_index_of_a_channel(
    make_project: Any, channel: Path, tmp_path: Path, isolated_user: Path, stall: str
) -> None:
    index_stalls(make_project, channel, tmp_path, stall)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_index_at_a_server_that_only_accepts(
    make_project: Any, tmp_path: Path, isolated_user: Path, scheme: str
) -> None:
    with mute() as place:
        ends(project_at(make_project, tmp_path, f"{scheme}://{place}"), "lock")


@pytest.mark.parametrize("stall", STALLS)
def test_the_index_for_an_engine(
    make_project: Any, channel: Path, tmp_path: Path, conda: Path, stall: str
) -> None:
    index_stalls(make_project, channel, tmp_path, stall, CONDAINER_CONDA_EXE=str(conda))


def test_the_index_behind_a_redirect(
    make_project: Any, channel: Path, tmp_path: Path, isolated_user: Path
) -> None:
    with flaky.serve() as server, mute() as place:
        flaky.add_channel(server, channel)
        server.plan[:] = [flaky.redirect(f"http://{place}/index")] * 50
        ends(project_at(make_project, tmp_path, server.url), "lock")


def test_a_slow_index_is_waited_for(
    make_project: Any, channel: Path, tmp_path: Path, isolated_user: Path
) -> None:
    with flaky.serve() as server:
        flaky.add_channel(server, channel)
        server.plan[:] = [trickling] * 2
        done = project_at(make_project, tmp_path, server.url).cnd("lock")
        assert server.plan == []
        # Which host, how much, how fast.
        assert "127.0.0.1: " in done.stderr
        assert "B/s" in done.stderr


@pytest.mark.parametrize("stall", STALLS)
def test_packages(
    make_project: Any, channel: Path, tmp_path: Path, isolated_user: Path, stall: str
) -> None:
    with flaky.serve() as server:
        flaky.add_channel(server, channel)
        project = project_at(make_project, tmp_path, server.url)
        project.cnd("lock")
        server.plan[:] = [STALLS[stall]] * 50
        ends(project, "fetch")


def with_pip(make_project: Any, tmp_path: Path, requirement: str, index: str) -> Project:
    """Make a project whose conda part comes from the disk, and that has one pip requirement."""
    made: Project = make_project("project", PYTHON, CONDAINER_NETWORK_TIMEOUT=str(LIMIT))
    made.write(f"{requirement}\n", "requirements.txt")
    made.environment.pop("UV_HTTP_RETRIES", None)
    made.environment |= {"UV_CACHE_DIR": str(tmp_path / "uv"), "UV_DEFAULT_INDEX": index}
    return made


@pytest.mark.parametrize("stall", STALLS)
def test_git(make_project: Any, tmp_path: Path, stall: str) -> None:
    with flaky.serve() as server:
        server.files["/thing.git/info/refs?service=git-upload-pack"] = b"0" * 3000
        server.plan[:] = [STALLS[stall]] * 50
        required = f"thing @ git+{server.url}/thing.git"
        ends(with_pip(make_project, tmp_path, required, server.url), "lock")
        assert len(server.plan) < 50


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"], ids=["no", "first"])
def test_git_by_ssh(
    make_project: Any, tmp_path: Path, isolated_user: Path, greeting: bytes
) -> None:
    with mute(greeting) as place:
        required = f"thing @ git+ssh://git@{place}/thing.git"
        project = with_pip(make_project, tmp_path, required, "http://127.0.0.1:9")
        ends(project, "lock")
        # Who says how ssh is called is heard.
        called = tmp_path / "called"
        (isolated_user / ".gitconfig").write_text(f"[core]\nsshCommand = touch {called} && false\n")
        project.cnd("lock", status=None)
        assert called.exists()


@pytest.mark.parametrize("stall", STALLS)
def test_a_package_index(make_project: Any, channel: Path, tmp_path: Path, stall: str) -> None:
    with flaky.serve() as server:
        flaky.add_index(server, (channel.parent / "wheels").glob("idna-*.whl"))
        server.plan[:] = [STALLS[stall]] * 50
        project = with_pip(make_project, tmp_path, "idna", f"{server.url}/simple")
        ends(project, "lock")
        # As often as it may take up the limit between them.
        assert len(server.asked) == silence.TRIES


def test_a_package_index_that_fails_at_first(
    make_project: Any, channel: Path, tmp_path: Path
) -> None:
    with flaky.serve() as server:
        flaky.add_index(server, (channel.parent / "wheels").glob("idna-*.whl"))
        server.plan[:] = [flaky.status(503), flaky.hang_up, flaky.status(503)]
        project = with_pip(make_project, tmp_path, "idna", f"{server.url}/simple")
        project.cnd("lock")
        assert server.plan == []


@pytest.mark.parametrize("stall", STALLS)
def test_wheels(
    make_project: Any, channel: Path, tmp_path: Path, empty_packages: Path, stall: str
) -> None:
    with flaky.serve() as server:
        flaky.add_index(server, (channel.parent / "wheels").glob("idna-*.whl"))
        project = with_pip(make_project, tmp_path, "idna", f"{server.url}/simple")
        # The wheel is in the cache of all tests already.
        project.environment["CONDAINER_PACKAGE_CACHE"] = str(empty_packages)
        project.cnd("lock")
        # What uv has of the wheel already would do; how often it tries again, is tested above.
        project.environment |= {"UV_CACHE_DIR": str(tmp_path / "wheels"), "UV_HTTP_RETRIES": "0"}
        server.plan[:] = [STALLS[stall]] * 50
        ends(project, "build")
