"""Compile the Python modules of a staged prefix; the package cache has those met before.

Files with a fixed time need .pyc files that do not look at it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from condainer.build import bytecode_shelf, own_sources
from condainer.build.bytecode_shelf import Module
from condainer.build.prepared import Prepared
from condainer.lock.locks import Lock
from condainer.package_cache.archives import private_root
from condainer.packages.linked_files import Vouched
from condainer.settings.config import Settings
from condainer.system import process
from condainer.system.errors import BuildError, StorageError
from condainer.system.files import remove_tree, storage_error_told
from condainer.system.process import CommandFailed
from condainer.system.reporter import Reporter

# Not imported: it runs under the interpreter of the environment.
COMPILER = Path(__file__).with_name("compile_tree.py")
# Not -I: it would ignore PYTHONHASHSEED, on which sets in the byte code of 3.10 depend. -S, because
# what a package lets Python do when it starts must not reach the byte code of other packages.
FLAGS = ("-s", "-S", "-B", "-X", "utf8")
LEAST_VERSION = (3, 7)
# Packages that are, or replace, the interpreter.
INTERPRETER = re.compile(r"(python|pypy.*|graalpy.*)$")


@dataclass(frozen=True)
class Stage:
    """A private directory that becomes the root of an image, whose place is `prefix`.

    `runner` begins the command line of anything that has to see the directory at the prefix.
    `digests` are sha256 of files below the directory, as far as they are known already, and `size`
    is how many bytes its files have.
    """

    directory: Path
    prefix: Path
    scratch: Path
    runner: tuple[str, ...]
    digests: Mapping[str, str] = field(default_factory=dict)
    size: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Variables that are the same for every builder, so that they cannot show."""
        return {
            "HOME": str(self.scratch),
            "TMPDIR": str(self.scratch),
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            # Byte code must not depend on the hash seed of the process that compiled it.
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
        }

    def discard(self) -> None:
        """Delete what was staged ahead of time; what is left of it goes with the context."""
        for item in self.directory.iterdir():
            remove_tree(item) if item.is_dir() else item.unlink()


def compile_all(
    stage: Stage,
    lock: Lock,
    ready: Prepared,
    vouched: Mapping[str, Vouched],
    settings: Settings,
    reporter: Reporter,
) -> Mapping[str, str]:
    """Give every module its .pyc file, and return the sha256 of what was read and written, by path.

    Parameters: `ready` is what shelves of the package cache have, `vouched` what is known of linked
    files. Raises BuildError when compiling fails, StorageError when the disk does not take it,
    OSError.
    """
    libraries = libraries_of(stage.directory)
    if not (stage.directory / "bin" / "python").exists() or not libraries:
        return {}
    version = tuple(int(part) for part in re.findall(r"\d+", libraries[-1].name))
    if version < LEAST_VERSION:
        reporter.warn("Python before 3.7 cannot load such .pyc files; modules are not compiled")
        return {}
    reporter.step("Compiling Python modules", "files")
    digests = {
        source: vouched[source].sha256
        if source in vouched and vouched[source].is_of(status)
        else _sha256(stage.directory, source)
        for source, status in _sources(stage.directory, libraries)
    }
    ready.wait(reporter)
    shelves = ready.put(stage.directory, digests, lambda s: bool(_ByteCode(stage.directory).of(s)))
    restored = {source for one in shelves if one is not None for source in one.sources}
    rest = [source for source in digests if source not in restored]
    reporter.progress(len(restored), len(digests))
    _compile(stage, rest, len(digests), settings, reporter)
    if ready.places and (rest or None in shelves):
        places = ready.places
        missing = {package for package, one in zip(places, shelves, strict=True) if one is None}
        _keep(stage, digests, rest, places, missing, lock, reporter)
    return {
        **digests,
        **{k: v for one in shelves if one is not None for k, v in one.digests.items()},
    }


def libraries_of(directory: Path) -> list[Path]:
    """Return the directories of an environment that hold its Python modules."""
    directories = (path for path in directory.glob("lib/python3.*") if path.is_dir())
    # conda-forge's python comes with a second name for its library: a link.
    return sorted(path for path in directories if not path.is_symlink())


def _sources(directory: Path, libraries: Sequence[Path]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the paths of all .py files relative to the prefix, sorted; links are left out."""
    waiting = [(str(place), os.path.relpath(place, directory)) for place in reversed(libraries)]
    while waiting:
        place, base = waiting.pop()
        entries = _entries(place)
        for entry in entries:
            if entry.name.endswith(".py") and not entry.is_dir(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield f"{base}/{entry.name}", status
        folders = (e.name for e in reversed(entries) if e.is_dir(follow_symlinks=False))
        waiting += [(f"{place}/{n}", f"{base}/{n}") for n in folders if n != "__pycache__"]


def _entries(place: str) -> list[os.DirEntry[str]]:
    # A directory that a package made unreadable has no modules for its users either.
    with contextlib.suppress(PermissionError), os.scandir(place) as entries:
        return sorted(entries, key=lambda entry: entry.name)
    return []


def _sha256(directory: Path, name: str) -> str:
    with open(os.path.join(directory, name), "rb", buffering=0) as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def places_of(lock: Lock, settings: Settings) -> dict[str, Path]:
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
        sha256: bytecode_shelf.place(private_root(settings), sha256, name)
        for sha256 in packages
        if sha256
    }


def _compile(
    stage: Stage, sources: Sequence[str], total: int, settings: Settings, reporter: Reporter
) -> None:
    """Compile under the interpreter of the environment; it sees the prefix where it will be."""
    if not sources:
        return
    before = total - len(sources)

    def on_line(line: str) -> None:
        reporter.progress(before + int(line.partition(" ")[0]), total)

    (stage.scratch / "compile_tree.py").write_bytes(COMPILER.read_bytes())
    listed = stage.scratch / "sources"
    listed.write_bytes(b"".join(os.fsencode(stage.prefix / name) + b"\0" for name in sources))
    command = [str(stage.prefix / "bin" / "python"), *FLAGS]
    arguments = [str(stage.scratch / "compile_tree.py"), str(settings.jobs), str(listed)]
    try:
        process.run([*stage.runner, *command, *arguments], env=stage.environment, on_line=on_line)
    except CommandFailed as error:
        doing = f"compile Python modules in {stage.directory}"
        raise storage_error_told(doing, error.reason) or BuildError(
            f"Compiling the Python modules failed: {error.reason}"
        ) from None


def _keep(
    stage: Stage,
    digests: Mapping[str, str],
    compiled: Collection[str],
    places: Mapping[str, Path],
    missing: Collection[str],
    lock: Lock,
    reporter: Reporter,
) -> None:
    """Put what was compiled of packages on their shelves; a cache that cannot be written stays."""
    fresh = frozenset(compiled)
    codes = _ByteCode(stage.directory)
    try:
        if not missing and all(_module(stage, s, digests, codes) is None for s in compiled):
            # Such as a module that holds the prefix: it is compiled in each build.
            return
        for sha256, sources in own_sources.of_packages(stage.directory, lock, digests):
            if sha256 in places:
                modules = (_module(stage, s, digests, codes) for s in sources if s in fresh)
                new = [module for module in modules if module is not None]
                if new or sha256 in missing:
                    bytecode_shelf.add(places[sha256], new, str(stage.prefix))
    except (OSError, StorageError) as error:
        reporter.warn(f"Compiled modules cannot be kept in the package cache: {error}")


def _module(
    stage: Stage, source: str, digests: Mapping[str, str], compiled: _ByteCode
) -> Module | None:
    """Return a module as it is kept, or None where that is not possible."""
    if source not in digests:
        return None
    targets = compiled.of(source)
    if len(targets) > 1:
        return None
    target = targets[0] if targets else ""
    code = (stage.directory / target).read_bytes() if targets else None
    return bytecode_shelf.kept(source, digests[source], target, code, str(stage.prefix))


class _ByteCode:
    """The .pyc files of sources, of whatever interpreter.

    A directory is read once for all sources in it that are asked for one after the other.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._cache = ""
        self._names: dict[str, list[str]] = {}

    def of(self, source: str) -> list[str]:
        folder, name = os.path.split(source)
        cache = os.path.join(folder, "__pycache__")
        if cache != self._cache:
            self._cache, self._names = cache, {}
            with contextlib.suppress(FileNotFoundError):
                for path in os.listdir(self._directory / cache):
                    # Behind the module's name stands that of the interpreter.
                    module, *rest = path.rsplit(".", 2)
                    if rest[1:] == ["pyc"]:
                        self._names.setdefault(module, []).append(os.path.join(cache, path))
        return self._names.get(name.removesuffix(".py"), [])
