"""A conda channel of tiny packages for several platforms, and a package index of tiny wheels."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.server
import re
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.channel.package import Recipe, write_conda, write_file

PLATFORMS = ("linux-64", "linux-aarch64", "linux-ppc64le", "osx-arm64")


def package(
    channel: Path,
    name: str,
    version: str,
    depends: Sequence[str] = (),
    build: str = "0",
    subdir: str = "noarch",
    files: Sequence[tuple[str, str]] = (),
    license: str = "",
) -> None:
    """Write one package into the channel; `files` are paths with their texts."""
    tree = channel.parent / "trees" / subdir / f"{name}-{version}-{build}"
    tree.mkdir(parents=True)
    write_file(tree / "share" / name / "version.txt", f"{version} {build} {subdir}\n")
    for place, text in files:
        write_file(tree / place, text, 0o755 if place.startswith("bin/") else 0o644)
    generic = "generic" if subdir == "noarch" else None
    recipe = Recipe(name, version, build, tuple(depends), subdir, generic, license=license)
    write_conda(tree, recipe, channel)


def python_package(
    channel: Path, name: str, version: str, files: Sequence[tuple[str, str]]
) -> None:
    """Write a `noarch: python` package, whose files lie in `site-packages/`."""
    tree = channel.parent / "trees" / "python" / f"{name}-{version}"
    for place, text in files:
        write_file(tree / place, text)
    recipe = Recipe(name, version, "py_0", ("python",), noarch="python")
    write_conda(tree, recipe, channel)


def index(channel: Path) -> None:
    """Write the channel's repodata."""
    from rattler.index import index_fs

    asyncio.run(index_fs(channel, write_zst=False, write_shards=False))


def dist_info(
    name: str, version: str, requires: Sequence[str] = (), more: Sequence[str] = ()
) -> str:
    """Return the text of a METADATA file; `more` are further lines."""
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    lines += [f"{line}\n" for line in more]
    return "".join([*lines, *(f"Requires-Dist: {need}\n" for need in requires)])


def python(channel: Path, subdir: str, version: str = "3.12.4") -> None:
    """Write what looks like a python of a platform; it cannot run."""
    short = version.rpartition(".")[0]
    files = [(f"bin/python{short}", "not a program\n"), (f"lib/python{short}/os.py", "\n")]
    build = f"h0_0_cp{short.replace('.', '')}"
    package(channel, "python", version, (), build, subdir, files)


def wheel(
    directory: Path,
    name: str,
    version: str,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
    more: Sequence[str] = (),
) -> Path:
    """Write one wheel that holds a module of its name; `more` are lines of its METADATA."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    texts = {
        f"{name.replace('-', '_')}.py": f"version = {version!r}\n",
        f"{info}/METADATA": dist_info(name, version, requires, more),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    rows = []
    for inner, text in texts.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        rows.append(f"{inner},sha256={digest.decode()},{len(text.encode())}\n")
    texts[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"])
    path = directory / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in texts.items():
            archive.writestr(zipfile.ZipInfo(inner, (2024, 1, 1, 0, 0, 0)), text)
    return path


class _Index(http.server.SimpleHTTPRequestHandler):
    """A simple index of the wheels in a directory: `/simple/NAME/` and `/files/WHEEL`."""

    def do_GET(self) -> None:
        if self.path.startswith("/files/"):
            self.path = self.path.removeprefix("/files")
            super().do_GET()
            return
        name = self.path.removeprefix("/simple/").strip("/")
        links = []
        for path in sorted(Path(self.directory).glob("*.whl")):
            if re.sub(r"[-_.]+", "-", path.name.partition("-")[0]).lower() == name:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                links.append(f'<a href="/files/{path.name}#sha256={digest}">{path.name}</a>\n')
        body = "".join(["<!DOCTYPE html><html><body>\n", *links, "</body></html>\n"]).encode()
        self.send_response(200 if links else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep silent."""


@contextmanager
def serve_wheels(directory: Path) -> Iterator[str]:
    """Serve a directory of wheels as a package index on loopback; yield its URL."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Index, directory=str(directory))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
