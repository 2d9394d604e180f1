"""Compile the Python modules of a staged prefix; the package cache has those met before.

Files with a fixed time need .pyc files that do not look at it.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from condainer import bytecode, process
from condainer.archives import private_root
from condainer.bytecode import Module, Pieces, Shelf
from condainer.config import Settings
from condainer.errors import BuildError, StorageError
from condainer.files import storage_error_told
from condainer.lock import Lock, pip_name
from condainer.process import CommandFailed
from condainer.report import Reporter

# Not imported: it runs under the interpreter of the environment.
COMPILER = Path(__file__).with_name("compile_tree.py")
# Not -I: it would ignore PYTHONHASHSEED, on which sets in the byte code of 3.10 depend. -S, because
# what a package lets Python do when it starts must not reach the byte code of other packages.
FLAGS = ("-s", "-S", "-B", "-X", "utf8")
LEAST_VERSION = (3, 7)
# Packages that are, or replace, the interpreter.
INTERPRETER = re.compile(r"(python|pypy.*|graalpy.*)$")


@dataclass(frozen=True)
class Prefix:
    """A prefix in the making: where it is, where it will be, and how its programs are run."""

    directory: Path
    final: Path
    scratch: Path
    runner: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Restored:
    """What a shelf of the package cache gave: sources that need no compiling, digests by path."""

    sources: tuple[str, ...]
    digests: Mapping[str, str]


def compile_all(
    prefix: Prefix, lock: Lock, settings: Settings, reporter: Reporter
) -> Mapping[str, str]:
    """Give every module its .pyc file, and return the sha256 of what was read and written, by path.

    Raises BuildError when compiling fails, StorageError when the disk does not take it, OSError.
    """
    libraries = libraries_of(prefix.directory)
    if not (prefix.directory / "bin" / "python").exists() or not libraries:
        return {}
    if _version(libraries[-1]) < LEAST_VERSION:
        reporter.warn("Python before 3.7 cannot load such .pyc files; modules are not compiled")
        return {}
    reporter.step("Compiling Python modules", "files")
    sources = list(_sources(prefix.directory, libraries))
    digests = {source: _sha256(prefix.directory, source) for source in sources}
    places = _places(lock, settings)
    with ThreadPoolExecutor(settings.jobs) as pool:
        found = list(pool.map(partial(_restored, prefix, digests), places.values()))
    restored = {source for one in found if one is not None for source in one.sources}
    rest = [source for source in sources if source not in restored]
    reporter.progress(len(restored), len(sources))
    _compile(prefix, rest, len(sources), settings, reporter)
    missing = [package for package, one in zip(places, found, strict=True) if one is None]
    if missing:
        _keep(prefix, digests, {package: places[package] for package in missing}, lock, reporter)
    return {**digests, **{k: v for one in found if one is not None for k, v in one.digests.items()}}


def libraries_of(directory: Path) -> list[Path]:
    """Return the directories of an environment that hold its Python modules."""
    found = (path for path in directory.glob("lib/python3.*") if path.is_dir())
    # conda-forge's python comes with a second name for its library: a link.
    return sorted(path for path in found if not path.is_symlink())


def _version(library: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", library.name))


def _sources(directory: Path, libraries: Sequence[Path]) -> Iterator[str]:
    """Yield the paths of all .py files relative to the prefix, sorted; links are left out."""
    for library in libraries:
        for root, folders, names in os.walk(library):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            base = os.path.relpath(root, directory)
            for name in sorted(names):
                if name.endswith(".py") and not os.path.islink(os.path.join(root, name)):
                    yield os.path.join(base, name)


def _sha256(directory: Path, name: str) -> str:
    with open(os.path.join(directory, name), "rb", buffering=0) as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def _places(lock: Lock, settings: Settings) -> dict[str, Path]:
    """Return the shelf of every package, by the package's sha256.

    None where something that is not a package has a say: a post-link script.
    """
    interpreters = [p.sha256 for p in lock.conda if INTERPRETER.match(p.name)]
    if not interpreters or lock.post_link_scripts:
        return {}
    compiler = hashlib.sha256(" ".join([*FLAGS, *sorted(interpreters)]).encode())
    compiler.update(COMPILER.read_bytes())
    packages = [p.sha256 for p in lock.conda] + [p.sha256 for p in lock.pip if p.is_wheel]
    name = compiler.hexdigest()
    return {
        sha256: bytecode.place(private_root(settings), sha256, name)
        for sha256 in packages
        if sha256
    }


def _restored(prefix: Prefix, digests: Mapping[str, str], place: Path) -> Restored | None:
    """Write the .pyc files of a shelf whose sources are those in the prefix; None without a shelf.

    What another package, or pip, put in the place of a source is compiled.
    """
    shelf = bytecode.read(place)
    if shelf is None:
        return None
    sources, written = [], {}
    for module in shelf.modules:
        if digests.get(module.source) != module.sha256:
            continue
        if module.code is None:
            if _compiled(prefix.directory, module.source):
                # Somebody else's, and stale: it goes when compiling fails again.
                continue
        else:
            code = bytecode.for_prefix(module, shelf.prefix, str(prefix.final))
            if code is None:
                continue
            _write(os.path.join(prefix.directory, module.target), code)
            sha256 = hashlib.sha256()
            for piece in code:
                sha256.update(piece)
            written[module.target] = sha256.hexdigest()
        sources.append(module.source)
    return Restored(tuple(sources), written)


def _write(path: str, content: Pieces) -> None:
    """Write a new file, also in place of one that is a hard link into the package cache."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o644)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, flags, 0o644)
    except FileExistsError:
        os.unlink(path)
        descriptor = os.open(path, flags, 0o644)
    try:
        if os.writev(descriptor, content) != sum(map(len, content)):
            # What does not take a module whole is a disk without space.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)


def _compile(
    prefix: Prefix, sources: Sequence[str], total: int, settings: Settings, reporter: Reporter
) -> None:
    """Compile under the interpreter of the environment; it sees the prefix where it will be."""
    if not sources:
        return
    before = total - len(sources)

    def on_line(line: str) -> None:
        reporter.progress(before + int(line.partition(" ")[0]), total)

    (prefix.scratch / "compile_tree.py").write_bytes(COMPILER.read_bytes())
    listed = prefix.scratch / "sources"
    listed.write_bytes(b"".join(os.fsencode(prefix.final / name) + b"\0" for name in sources))
    command = [str(prefix.final / "bin" / "python"), *FLAGS]
    arguments = [str(prefix.scratch / "compile_tree.py"), str(settings.jobs), str(listed)]
    try:
        process.run([*prefix.runner, *command, *arguments], env=prefix.environment, on_line=on_line)
    except CommandFailed as error:
        doing = f"compile Python modules in {prefix.directory}"
        raise storage_error_told(doing, error.reason) or BuildError(
            f"Compiling the Python modules failed: {error.reason}"
        ) from None


def _keep(
    prefix: Prefix,
    digests: Mapping[str, str],
    places: Mapping[str, Path],
    lock: Lock,
    reporter: Reporter,
) -> None:
    """Put what was compiled of packages on their shelves; a cache that cannot be written stays."""
    try:
        for sha256, sources in _packages(prefix.directory, lock):
            if sha256 in places:
                modules = (_module(prefix, source, digests) for source in sources)
                kept = tuple(module for module in modules if module is not None)
                bytecode.write(places[sha256], Shelf(str(prefix.final), kept))
    except (OSError, StorageError) as error:
        reporter.warn(f"Compiled modules cannot be kept in the package cache: {error}")


def _packages(directory: Path, lock: Lock) -> Iterator[tuple[str, list[str]]]:
    """Yield the sha256 of every package, and the paths of its .py files below the prefix."""
    by_file = {package.filename: package.sha256 for package in lock.conda}
    for path in directory.glob("conda-meta/*.json"):
        record = json.loads(path.read_text("utf-8"))
        if record["fn"] in by_file:
            yield by_file[record["fn"]], [n for n in record["files"] if n.endswith(".py")]
    wheels = {_distribution(p.filename): p.sha256 for p in lock.pip if p.is_wheel and p.sha256}
    for path in directory.glob("lib/python3.*/site-packages/*.dist-info/RECORD"):
        name = _distribution(path.parent.name.removesuffix(".dist-info"))
        if name in wheels:
            base = path.parent.parent.relative_to(directory)
            with path.open(newline="", encoding="utf-8") as stream:
                names = [row[0] for row in csv.reader(stream) if row and row[0].endswith(".py")]
            yield wheels[name], [os.path.normpath(base / name) for name in names]


def _distribution(name: str) -> tuple[str, str]:
    """Return the normalised name, and the version, of a wheel or a .dist-info directory."""
    project, version = name.split("-")[:2]
    return pip_name(project), version


def _module(prefix: Prefix, source: str, digests: Mapping[str, str]) -> Module | None:
    """Return a module as it is kept, or None where that is not possible."""
    if source not in digests:
        return None
    compiled = _compiled(prefix.directory, source)
    if len(compiled) > 1:
        return None
    target = compiled[0] if compiled else ""
    code = (prefix.directory / target).read_bytes() if compiled else None
    return bytecode.kept(source, digests[source], target, code, str(prefix.final))


def _compiled(directory: Path, source: str) -> list[str]:
    """Return the .pyc files of a source, of whatever interpreter."""
    folder, name = os.path.split(source)
    cache = os.path.join(folder, "__pycache__")
    try:
        names = os.listdir(directory / cache)
    except FileNotFoundError:
        return []
    stem = name.removesuffix("py")
    return [
        os.path.join(cache, n)
        for n in names
        if n.startswith(stem) and n.endswith(".pyc") and n.count(".") == stem.count(".") + 1
    ]
