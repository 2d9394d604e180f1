"""What packages from source need to be built: found out and fetched beforehand.

A lock names an sdist, not the build tools that its pyproject.toml asks for. `cnd fetch` resolves
them as uv would during a build, and `builds/<key>.json` in the package cache keeps what was found.
"""

from __future__ import annotations

import json
import lzma
import re
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from condainer.inputs import toml_file
from condainer.lock.locks import Lock, PipPackage
from condainer.package_cache import archives
from condainer.package_cache.archives import File
from condainer.packages import downloads, git_repositories
from condainer.pypi import index_mirrors, wheels
from condainer.settings.config import Settings
from condainer.system import environments, process
from condainer.system.errors import CondainerError, NetworkError
from condainer.system.files import publish_text, read_text, storage_errors
from condainer.system.machine import this_platform
from condainer.system.process import CommandFailed
from condainer.system.reporter import Reporter

# What PEP 518 and uv take where nothing is said.
USUAL = ("setuptools>=40.8.0",)
LIMIT = 1 << 20
# What is raised where it cannot be found out: also for odd archives, and odd types in their TOML.
UNKNOWN = (
    CommandFailed,
    NetworkError,
    OSError,
    ValueError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    TypeError,
    AttributeError,
)
KEY = re.compile(r"[0-9a-f]{40,64}-[0-9.]{1,8}")
PLATFORMS = {"linux-64": "x86_64-manylinux_2_28", "linux-aarch64": "aarch64-manylinux_2_28"}


def key_of(package: PipPackage, python: str) -> str:
    """Return by what the record of a package is known: its bytes, and the Python it is for."""
    source = package.sha256 or re.sub(r"\W", "-", package.url.rpartition("@")[2])
    return f"{source}-{python}"


def path_of(key: str, settings: Settings) -> Path:
    """Return where the record of a package stands in the user's own package cache."""
    return archives.private_root(settings) / "builds" / f"{key}.json"


def python_of(lock: Lock) -> str:
    """Return the version of Python in a lock, like `3.12`."""
    names = [package.filename for package in lock.conda if package.name == "python"]
    return ".".join(names[0].split("-")[1].split(".")[:2]) if names else ""


def from_source(lock: Lock) -> list[PipPackage]:
    """Return the packages of a lock that are built."""
    return [package for package in lock.pip if not package.is_wheel]


def known(lock: Lock, settings: Settings) -> list[File]:
    """Return the build tools that were found out for the packages of a lock."""
    keys = [key_of(package, python_of(lock)) for package in from_source(lock)]
    files = [file for key in keys for file in read(key, settings) or ()]
    return list({file.sha256: file for file in files}.values())


def read(key: str, settings: Settings) -> list[File] | None:
    """Return the files that a record names; None without a usable one."""
    path = path_of(key, settings)
    try:
        files = parse(read_text(path))
    except OSError:
        return None
    archives.note_use(path)
    return files


def parse(text: str) -> list[File] | None:
    """Return the files that the text of a record names; None for what is no such text."""
    try:
        items = json.loads(text)
        return [File(i["url"], i["sha256"], i["filename"], (i["url"],)) for i in items]
    except (ValueError, KeyError, TypeError, RecursionError, CondainerError):
        return None


def write(key: str, text: str, settings: Settings) -> None:
    """Keep a record in the package cache; raises StorageError."""
    path = path_of(key, settings)
    with storage_errors(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        publish_text(path, text)


def fetch(lock: Lock, settings: Settings, reporter: Reporter) -> list[Path]:
    """Find out what the packages of a lock need to be built, and download it.

    It is of use without a network only, so what cannot be found out is a warning. Raises
    NetworkError or OfflineError when what was found out cannot be downloaded.
    """
    python = python_of(lock)
    sources = from_source(lock)
    if sources and not (python and lock.platform in (this_platform(), *PLATFORMS)):
        names = ", ".join(package.name for package in sources)
        why = f"for {lock.platform}" if python else "without a python in the lock"
        reporter.warn(f"What {names} needs to be built {why} cannot be found out here")
        sources = []
    for package in sources:
        key = key_of(package, python)
        if read(key, settings) is not None or settings.offline:
            continue
        try:
            files = _resolved(_requires(package, settings), python, lock.platform, settings)
        except UNKNOWN as error:
            reporter.warn(f"What {package.name} needs to be built was not found out: {error}")
            continue
        text = json.dumps(
            [{"url": f.url, "sha256": f.sha256, "filename": f.filename} for f in files], indent=1
        )
        write(key, f"{text}\n", settings)
    tools = known(lock, settings)
    return list(downloads.fetch(tools, settings, reporter, "Downloading build tools"))


def gathered(lock: Lock, directory: Path, settings: Settings) -> Path | None:
    """Put links to the build tools that are at hand into a new directory; None without any."""
    tools = downloads.find(known(lock, settings), settings)
    paths = [(file, path) for file, path in tools.items() if path is not None]
    if not paths:
        return None
    directory.mkdir()
    for file, path in paths:
        (directory / file.filename).symlink_to(path)
    return directory


def _requires(package: PipPackage, settings: Settings) -> list[str]:
    """Return what the pyproject.toml of a package asks for."""
    if package.is_vcs:
        text = git_repositories.read(package, "pyproject.toml", settings)
    else:
        path = archives.find(wheels.files_of([package], settings)[0], settings)
        text = _pyproject(path) if path else None
    system: Mapping[str, Any] = toml_file.loads(text).get("build-system", {}) if text else {}
    requires = system.get("requires", USUAL)
    if not isinstance(requires, (list, tuple)):
        raise ValueError("`requires` of its pyproject.toml is no list")
    return [str(item) for item in requires if "\n" not in str(item)]


def _pyproject(path: Path) -> str | None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if re.fullmatch(r"[^/]+/pyproject\.toml", name):
                    with archive.open(name) as stream:
                        return stream.read(LIMIT).decode()
        return None
    with tarfile.open(path) as archive:
        for member in archive:
            if re.fullmatch(r"(\./)?[^/]+/pyproject\.toml", member.name) and member.isfile():
                content = archive.extractfile(member)
                return content.read(LIMIT).decode() if content else None
    return None


def _resolved(
    requires: Sequence[str], python: str, platform: str, settings: Settings
) -> list[File]:
    """Return the files that uv would take to build, each with its hash."""
    if not requires:
        return []
    if any("://" in line for line in requires):
        git_repositories.limit_ssh()
    target = [] if platform == this_platform() else ["--python-platform", PLATFORMS[platform]]
    with tempfile.TemporaryDirectory(prefix="condainer-") as scratch:
        listed = Path(scratch, "requires.txt")
        listed.write_text("".join(f"{line}\n" for line in requires), encoding="utf-8")
        command = [wheels.find_uv(), "pip", "compile", "--format", "pylock.toml", "--quiet"]
        options = ["--python", sys.executable, "--python-version", python, "--no-config"]

        def compiled() -> str:
            variables = environments.resolving(Path(scratch))
            return process.run([*command, *options, *target, str(listed)], env=variables).stdout

        text = index_mirrors.asking_mirrors(settings, compiled)
    return [_file(entry) for entry in toml_file.loads(text).get("packages", [])]


def _file(entry: Mapping[str, Any]) -> File:
    for item in [*entry.get("wheels", []), entry.get("archive"), entry.get("sdist")]:
        if item and "sha256" in item.get("hashes", {}) and "url" in item:
            url = str(item["url"]).partition("#")[0]
            package = PipPackage(entry["name"], url, item["hashes"]["sha256"])
            return File(url, package.sha256, package.filename, (url,))
    raise ValueError(f"{entry.get('name')}: no URL with a sha256")
