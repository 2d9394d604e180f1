"""Real registries on loopback for the tests: Debian's docker-registry, and zuul-registry of PyPI.

The second shares no code with the first, and reads the specification in its own way: it wants a
token for everything, keeps blobs for all repositories together, and neither resumes downloads and
uploads nor cancels these.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from tests.helpers.needed import needs_program

TOOLS = Path(__file__).resolve().parents[2] / "tools"
ZUUL_PINS = TOOLS / "zuul-registry-pins.txt"
MAKES = ("docker-registry", pytest.param("zuul-registry", marks=pytest.mark.long))
USER, PASSWORD = "reader", "correct horse"
# Of that password, as `htpasswd -B` writes it.
HTPASSWD = f"{USER}:$2b$04$VZFgFeuRZpLlq6u.9U5NG.gvaaLNvNOdoD8MjWgoD2/wJB93xNgQW\n"
LISTENING = re.compile(r"(?:listening on |Serving on http://)([\d.]+:\d+)")


@dataclass(frozen=True)
class Registry:
    """A running registry: its host and port, the directory of its files, and what it has said."""

    authority: str
    storage: Path
    log: Path


@contextmanager
def serve(
    directory: Path,
    login: bool = False,
    certificate: tuple[Path, Path] | None = None,
    token: str = "",
    address: str = "127.0.0.1",
    before: Sequence[str] = (),
) -> Iterator[Registry]:
    """Serve on this machine.

    Parameters: with `login`, USER and PASSWORD are wanted; `certificate` and its key make it a
    registry with TLS; `token` are lines of its configuration that say who gives tokens; `before`
    are words before the command, which lead to where the `address` is.
    """
    directory.mkdir(parents=True, exist_ok=True)
    storage = directory / "storage"
    lines = [
        "version: 0.1",
        "log: {accesslog: {disabled: true}, level: info}",
        f"storage: {{filesystem: {{rootdirectory: {storage}}}, delete: {{enabled: true}}}}",
        "http:",
        f"  addr: {address}:0",
    ]
    if certificate is not None:
        lines.append(f"  tls: {{certificate: {certificate[0]}, key: {certificate[1]}}}")
    if login:
        (directory / "htpasswd").write_text(HTPASSWD)
        lines.append(f"auth: {{htpasswd: {{realm: tests, path: {directory / 'htpasswd'}}}}}")
    if token:
        lines.append(f"auth: {{token: {token}}}")
    configuration = directory / "config.yml"
    configuration.write_text("\n".join([*lines, ""]))
    program = needs_program("docker-registry")
    with _run(storage, *before, program, "serve", str(configuration)) as running:
        yield running


@contextmanager
def serve_zuul(directory: Path, program: Path) -> Iterator[Registry]:
    """Serve on loopback: everybody may pull; who pushes is USER with PASSWORD.

    Parameters: `program` is what install_zuul() returned.
    """
    storage = directory / "storage"
    storage.mkdir(parents=True)
    # Its configuration says where it has tokens. No other test listens at this process's address.
    address = f"127.1.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    with socket.create_server((address, 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "address": address,
        "port": port,
        "public-url": f"http://{address}:{port}",
        "secret": "tests",
        "storage": {"driver": "filesystem", "root": str(storage)},
        "users": [{"name": USER, "pass": PASSWORD, "access": "write"}],
    }
    configuration = directory / "config.yml"
    configuration.write_text(json.dumps({"registry": settings}))
    with _run(storage, str(program), "-c", str(configuration)) as running:
        yield running


def install_zuul(directory: Path) -> Path:
    """Return the program of zuul-registry, in a virtual environment that the workers share.

    Parameters: `directory` is made for it, unless it has it.
    """
    venv, stamp, pins = directory / "venv", directory / "pins.txt", ZUUL_PINS.read_text()
    directory.mkdir(exist_ok=True)
    with FileLock(directory / "lock"):
        if not (stamp.exists() and stamp.read_text() == pins):
            _uv("venv", "--clear", "--python", sys.executable, venv)
            # One package is compiled, by a pinned setuptools.
            chosen = ("--build-constraints", TOOLS / "pins.txt", "-r", ZUUL_PINS)
            _uv("pip", "install", "--python", venv / "bin/python", "--require-hashes", *chosen)
            stamp.write_text(pins)
    return venv / "bin/zuul-registry"


def _uv(*words: str | Path) -> None:
    subprocess.run([Path(sys.executable).with_name("uv"), "--quiet", *words], check=True)


@contextmanager
def _run(storage: Path, *command: str) -> Iterator[Registry]:
    """Run a registry that says where it listens; its log is beside the directory of its files."""
    log = storage.with_name("log")
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            # docker-registry sends traces of its own otherwise, where a collector is named.
            env={"PATH": os.defpath, "HOME": str(log.parent), "OTEL_TRACES_EXPORTER": "none"},
        ) as server,
    ):
        try:
            yield Registry(_authority(server, log), storage, log)
        finally:
            server.terminate()


def _authority(server: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until it says where it listens."""
    while server.poll() is None:
        if match := LISTENING.search(log.read_text()):
            return match[1]
        try:
            server.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"{server.args!r} does not run: {log.read_text()}")


def log_in(authority: str, user: str = USER, password: str = PASSWORD, **more: str) -> Path:
    """Note a login for a registry in the home directory, beside those that are noted there."""
    path = Path.home() / ".docker" / "config.json"
    path.parent.mkdir(exist_ok=True)
    content = json.loads(path.read_text()) if path.exists() else {"auths": {}}
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    content["auths"][authority] = {"auth": auth, **more}
    path.write_text(json.dumps(content))
    return path
