"""^C and SIGTERM: the end comes at once, also while a server says nothing, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from condainer.settings.config import SILENCE
from tests.helpers import flaky
from tests.helpers.flaky import Flaky
from tests.helpers.projects import PYTHON, Project, fresh, unmeasured
from tests.helpers.waiting import until

MANY = 50


@pytest.fixture
def server(channel: Path) -> Iterator[Flaky]:
    """A channel and an index of packages, a registry, a cache and a repository of git."""
    with flaky.serve() as running:
        flaky.add_channel(running, channel)
        flaky.add_index(running, (channel.parent / "wheels").glob("idna-*.whl"))
        running.files["/thing.git/info/refs?service=git-upload-pack"] = b"0" * 3000
        running.files["/v2/images/manifests/name"] = b"0" * 3000
        yield running


def index(project: Project, server: Flaky) -> list[str]:
    project.environment["CONDAINER_MIRRORS"] = f"conda-forge={server.url}/conda-forge"
    return ["lock"]


def packages(project: Project, server: Flaky) -> list[str]:
    project.cnd(*index(project, server))
    return ["build"]


def package_index(project: Project, server: Flaky) -> list[str]:
    project.write(PYTHON)
    project.write("idna\n", "requirements.txt")
    project.environment["UV_DEFAULT_INDEX"] = f"{server.url}/simple"
    return ["lock"]


def repository(project: Project, server: Flaky) -> list[str]:
    project.write(PYTHON)
    project.write(f"thing @ git+{server.url}/thing.git\n", "requirements.txt")
    return ["lock"]


def registry(project: Project, server: Flaky) -> list[str]:
    place = server.url.removeprefix("http://")
    project.environment["CONDAINER_REGISTRIES"] = f"oci+http://{place}/images"
    return ["pull", "name"]


def cache(project: Project, server: Flaky) -> list[str]:
    project.cnd("lock")
    address = project.json("status")["address"]
    server.files[f"/cache/images/{address[:2]}/{address}/manifest.json"] = b"0" * 3000
    project.environment["CONDAINER_READONLY_CACHES"] = f"{server.url}/cache"
    return ["build"]


def left(project: Project, tmp_path: Path) -> list[str]:
    """Return private directories and processes."""
    found = [str(path) for path in tmp_path.rglob(f"*.{os.uname().nodename}.*")]
    for path in Path("/proc").glob("[0-9]*"):
        try:
            ours = os.fsencode(project.path) in (path / "environ").read_bytes()
            ours = ours or str(project.path) in os.readlink(path / "cwd")
        except OSError:
            continue
        if ours:
            found.append((path / "cmdline").read_text())
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=("INT", "TERM")
)
@pytest.mark.parametrize(
    "at", [index, packages, package_index, repository, registry, cache], ids=lambda at: at.__name__
)
def test_a_silent_server_does_not_hold_what_is_ended(
    make_project: Any,
    server: Flaky,
    channel: Path,
    tmp_path: Path,
    isolated_user: Path,
    at: Callable[[Project, Flaky], list[str]],
    number: int,
    status: int,
) -> None:
    project = fresh(make_project, tmp_path, CONDAINER_MIRRORS=f"conda-forge={channel.as_uri()}")
    project.environment["CONDAINER_STAGING"] = str(tmp_path / "staging")
    words = at(project, server)
    server.plan[:] = [flaky.silent] * MANY
    with subprocess.Popen(
        [sys.executable, "-m", "condainer", *words],
        cwd=project.path,
        env=unmeasured(project.environment),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        until(lambda: len(server.plan) < MANY or child.poll() is not None)
        begun = time.monotonic()
        os.killpg(child.pid, number)
        told = child.communicate()[1]
    took = time.monotonic() - begun
    assert child.returncode == status, told
    assert took < SILENCE / 2
    assert "Traceback" not in told
    # What was killed may take a moment.
    until(lambda: not left(project, tmp_path), "something is left")


# A thread waits for what does not come; ^C is there when the command line is read.
PROGRAM = """
import sys, threading, time
from condainer import __main__ as program
from condainer.startup import answer

class Strike:
    def __set_name__(self, owner, name):
        raise KeyboardInterrupt

def importing(words):
    type("Owner", (), {"strike": Strike()})

def cleaning_up(words):
    try:
        raise KeyboardInterrupt
    finally:
        raise OSError(5, "Input/output error")

def telling(words):
    program._failed = lambda error, arguments: importing(words)
    raise OSError(5, "Input/output error")

def failing(words):
    program._failed = lambda error, arguments: 1 / 0
    raise OSError(5, "Input/output error")

def ending(words):
    program._interrupted = lambda: importing(words)
    raise KeyboardInterrupt

threading.Thread(target=time.sleep, args=(3600,)).start()
answer.parsed = globals()[sys.argv.pop()]
program.entry()
"""


@pytest.mark.parametrize("at", ["importing", "cleaning_up", "telling", "ending"])
def test_an_interruption_counts_whenever_it_comes(at: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, at], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert "bug" not in done.stderr
    assert "Traceback" not in done.stderr


def test_what_fails_while_an_error_is_told_is_no_interruption() -> None:
    argv = [sys.executable, "-c", PROGRAM, "failing"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
