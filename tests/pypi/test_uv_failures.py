"""What the real uv cannot do says whose fault it is, with the exit code of that kind."""

from __future__ import annotations

import hashlib
import http.server
import resource
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from condainer.inputs import requirements
from condainer.inputs.inputs import Inputs
from condainer.pypi import wheels
from condainer.system.errors import (
    BuildError,
    CondainerError,
    ConfigError,
    InputError,
    IntegrityError,
    NetworkError,
    SolveError,
    StorageError,
    ToolError,
)
from condainer.system.machine import this_platform
from condainer.system.reporter import Silent
from tests.helpers import tiny


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment, to be copied."""
    made = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    return made


@pytest.fixture
def prefix(tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with a Python, and beside it `links` with a wheel of `thing`."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    (tmp_path / "links").mkdir()
    tiny.wheel(tmp_path / "links", "thing", "1.0")
    return shutil.copytree(empty, tmp_path / "venv", symlinks=True)


def failure(prefix: Path, text: str = "--no-index\n-f links\nthing") -> CondainerError:
    """Return the error of resolving requirements."""
    path = prefix.parent / "requirements.txt"
    path.write_text(text)
    lines, _ = requirements.read(path)
    inputs = Inputs("", this_platform(), (), (), (), tuple(lines), (), False, ())
    scratch = prefix.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    with pytest.raises(CondainerError) as caught:
        wheels.resolve(inputs, prefix, scratch, Silent())
    return caught.value


@contextmanager
def serving(status: int, certificate: Path | None = None) -> Iterator[str]:
    """Serve that status for everything on loopback, and give the URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_CONNECT(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_requirement_that_nothing_satisfies(prefix: Path) -> None:
    error = failure(prefix, "--no-index\n-f links\nthing>1")
    assert type(error) is SolveError
    assert "requirements.txt:3" in error.message
    assert "Change the requirement" in error.hint


def test_a_cache_that_cannot_be_used(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = prefix.parent / "file"
    file.touch()
    for place in (file, file / "below", Path("/proc/nothing"), Path("/sys/nothing")):
        monkeypatch.setenv("UV_CACHE_DIR", str(place))
        error = failure(prefix)
        assert type(error) is StorageError
        assert f"({place})" in error.message
        assert "UV_CACHE_DIR" in error.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UV_HTTP_TIMEOUT", "soon"),
        ("UV_CONCURRENT_DOWNLOADS", "0"),
        ("UV_KEYRING_PROVIDER", "pocket"),
        ("UV_NO_CACHE", "perhaps"),
    ],
)
def test_a_variable_that_is_wrong(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    error = failure(prefix)
    assert type(error) is ConfigError
    assert name in error.message
    assert name in error.hint


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\necho libc.so.6: no >&2\nexit 127\n",
        "#!/bin/sh\nkill -9 $$\n",
        "#!/bin/sh\necho words\n",
        "#!/nonexistent/python\n",
        "\x7fELF",
    ],
)
def test_a_python_that_does_not_start(prefix: Path, text: str) -> None:
    for path in prefix.glob("bin/python*"):
        path.unlink()
    program = prefix / "bin" / "python"
    program.write_text(text)
    program.chmod(0o755)
    error = failure(prefix)
    assert type(error) is BuildError
    assert "does not start" in error.message
    assert str(program) in error.message


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses(prefix: Path, status: int) -> None:
    with serving(status) as url:
        error = failure(prefix, f"--index-url {url}/simple\nthing")
        assert type(error) is NetworkError
        assert "netrc" in error.hint
        wheel = f"thing @ {url}/thing-1.0-py3-none-any.whl"
        assert type(failure(prefix, wheel)) is NetworkError


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_fails(prefix: Path, status: int) -> None:
    with serving(status) as url:
        # A number in its address is no answer of the server.
        error = failure(prefix, f"--index-url {url}/404/simple\nthing")
    assert type(error) is NetworkError
    assert "--index-url" in error.hint


def test_what_is_not_on_a_server(prefix: Path) -> None:
    with serving(404) as url:
        error = failure(prefix, f"thing @ {url}/thing-1.0-py3-none-any.whl")
    assert type(error) is InputError
    assert "requirements.txt:1" in error.message


@pytest.mark.parametrize("url", ["http://index.invalid", "http://127.0.0.1:9"])
def test_a_server_that_is_not_there(prefix: Path, url: str) -> None:
    error = failure(prefix, f"--index-url {url}/simple\nthing")
    assert type(error) is NetworkError
    assert "Check the network" in error.hint


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses(prefix: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(status) as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        error = failure(prefix, "--index-url https://index.invalid/simple\nthing")
    assert type(error) is NetworkError
    assert "HTTPS_PROXY" in error.hint


def test_a_certificate_that_is_unknown(prefix: Path) -> None:
    pem = prefix.parent / "pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *name]
    files = ["-keyout", str(pem), "-out", f"{pem}.crt"]
    subprocess.run([*made, *files], check=True, capture_output=True)
    with pem.open("a") as both:
        both.write(Path(f"{pem}.crt").read_text())
    with serving(200, pem) as url:
        error = failure(prefix, f"--index-url {url}/simple\nthing")
    assert type(error) is NetworkError
    assert "SSL_CERT_FILE" in error.hint


def test_a_hash_that_does_not_fit(prefix: Path) -> None:
    (path,) = (prefix.parent / "links").iterdir()
    wrong = hashlib.sha256(b"").hexdigest()
    line = f"thing @ {path.as_uri()}{wheels.HASHED}{wrong}"
    with pytest.raises(IntegrityError):
        wheels.install([line], prefix, prefix.parent, [], Silent())


def test_without_git(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    error = failure(prefix, "thing @ git+https://127.0.0.1:9/thing.git")
    assert type(error) is ToolError


def test_a_git_server_that_is_not_there(prefix: Path) -> None:
    error = failure(prefix, "thing @ git+https://127.0.0.1:9/thing.git")
    assert type(error) is NetworkError


def test_a_git_server_that_asks_who_is_there(prefix: Path) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="private"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        error = failure(prefix, f"thing @ git+http://127.0.0.1:{server.server_port}/thing.git")
        server.shutdown()
        thread.join()
    assert type(error) is NetworkError
    assert "netrc" in error.hint


def test_uv_itself(prefix: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Enough for our files, but not for those of uv, which is ended by a signal.
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        error = failure(prefix)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert type(error) is BuildError
    assert "SIGXFSZ" in error.message


def test_only_the_requirements_that_the_resolver_names_are_blamed(prefix: Path) -> None:
    error = failure(prefix, "--no-index\n-f links\nthing\nnothing-else")
    assert "requirements.txt:4)" in error.message
    assert "requirements.txt:3" not in error.message
