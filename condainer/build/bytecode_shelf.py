"""Compiled modules of packages, kept in the package cache, one file a package.

Byte code is a pure function of source, interpreter and the path that is written into it. The path
stands in it once, behind its length: so what was compiled for one prefix is that for another, to
the byte, when path and length are replaced. Modules in which the prefix stands elsewhere, too, are
not kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import xxhash

from condainer.system.files import published_file

FORMAT = b"condainer-compiled 3\n"
# Bytes of XXH3-128: only we write there, so it need not detect more than damage.
DIGEST = 16
# Byte code in parts, one after the other: megabytes are not copied to change a few bytes.
Pieces = tuple[bytes | memoryview, ...]
# marshal's short strings, interned or not, without the flag that others refer to them.
SHORT = frozenset(b"zZ")
REFERENCED = 0x80
# What the one byte of a short string's length can say.
LONGEST = 255


@dataclass(frozen=True)
class Module:
    """A module of a package: where its source and byte code belong, relative to the prefix.

    `sha256` is the source's. `code` is None for a source that is not valid Python; `at` is where
    the prefix begins in it.
    """

    source: str
    sha256: str
    target: str
    code: bytes | memoryview | None
    at: int = 0


@dataclass(frozen=True)
class Shelf:
    """The kept modules of one package for one interpreter, compiled for `prefix`."""

    prefix: str
    modules: tuple[Module, ...]


def place(package_cache: Path, package: str, compiler: str) -> Path:
    """Return where the modules of a package are kept.

    Parameters: `package` is the sha256 of its archive, `compiler` stands for all that compiles.
    """
    key = hashlib.sha256(f"{package} {compiler}\n".encode() + FORMAT).hexdigest()
    return package_cache / "compiled" / key[:2] / key


def kept(source: str, sha256: str, target: str, code: bytes | None, prefix: str) -> Module | None:
    """Return a module as it is kept, or None if its path cannot be replaced later."""
    if code is None:
        return Module(source, sha256, target, None)
    path = os.fsencode(f"{prefix}/{source}")
    at = code.find(path)
    if at < 2 or code.count(os.fsencode(prefix)) != 1 or len(path) > LONGEST:
        return None
    if code[at - 2] & ~REFERENCED not in SHORT or code[at - 1] != len(path):
        return None
    return Module(source, sha256, target, code, at)


def for_prefix(module: Module, old: str, new: str) -> Pieces | None:
    """Return the byte code of a kept module for another prefix, or None if its path is too long.

    A path that is not ASCII is written in another way.
    """
    assert module.code is not None
    length = len(os.fsencode(f"{new}/{module.source}"))
    if length > LONGEST or not new.isascii():
        return None
    rest = module.at + len(os.fsencode(old))
    code = memoryview(module.code)
    return code[: module.at - 1], bytes([length]) + new.encode(), code[rest:]


def write(path: Path, shelf: Shelf) -> None:
    """Keep modules; the file appears whole, and ends with the digest of all before.

    Behind the format comes a line of JSON, then the byte code of all modules. By the digest,
    readers notice what a crash has damaged, so nobody waits for the disk. Raises OSError when it
    cannot be written.
    """
    rows = [
        [m.source, m.sha256, m.target, -1 if m.code is None else len(m.code), m.at]
        for m in shelf.modules
    ]
    index = json.dumps({"prefix": shelf.prefix, "modules": rows}).encode()
    codes = (module.code for module in shelf.modules if module.code is not None)
    total = xxhash.xxh3_128()
    path.parent.mkdir(parents=True, exist_ok=True)
    with published_file(path, 0o644, durable=False) as stream:
        for piece in (FORMAT, index, b"\n", *codes):
            total.update(piece)
            stream.write(piece)
        stream.write(total.digest())


def add(path: Path, new: Sequence[Module], prefix: str) -> None:
    """Keep modules compiled for `prefix` beside what is kept of the package from other builds.

    A build in which pip replaced modules of a package leaves them out: the next one adds them.
    Raises OSError when that is not possible.
    """
    shelf = read(path)
    if shelf is None:
        write(path, Shelf(prefix, tuple(new)))
        return
    old = {module.source: module.sha256 for module in shelf.modules}
    if all(old.get(module.source) == module.sha256 for module in new):
        return
    moved = (_moved(module, shelf.prefix, prefix) for module in shelf.modules)
    both = {module.source: module for module in [*moved, *new] if module is not None}
    write(path, Shelf(prefix, tuple(both.values())))


def read(path: Path) -> Shelf | None:
    """Return the kept modules of a package, or None if there are none that are undamaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    body = memoryview(content)[:-DIGEST]
    if not content.startswith(FORMAT) or xxhash.xxh3_128_digest(body) != content[-DIGEST:]:
        return None
    # It is what we wrote, to the byte; so it is taken at its word.
    end = content.index(b"\n", len(FORMAT))
    index = json.loads(content[len(FORMAT) : end])
    codes, modules = body[end + 1 :], []
    for source, sha256, target, size, at in index["modules"]:
        code = None if size < 0 else codes[:size]
        codes = codes[max(size, 0) :]
        modules.append(Module(source, sha256, target, code, at))
    return Shelf(index["prefix"], tuple(modules))


def _moved(module: Module, old: str, new: str) -> Module | None:
    """Return a kept module as it is kept for another prefix, or None if its path is too long."""
    if module.code is None or old == new:
        return module
    code = for_prefix(module, old, new)
    return None if code is None else replace(module, code=b"".join(code))
