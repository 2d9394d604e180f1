"""An index of conda-forge's size, of packages that exist in it only: there is nothing to download.

Around packages with the names of real ones stand made-up ones, in three layers: libraries, which
others pin to a major version; modules built for each Python of their time; noarch packages. What
was built in a month has the dependencies of that month, and the newest versions fit together. The
same seed gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import zstandard

Record = dict[str, Any]
# The files of one package name, by their names.
Files = dict[str, Record]

# Raised when other bytes come out.
RULES = 1
# Written last, so that it comes and goes with what it describes.
DONE = "forge.key"
ROOTS = "roots.json"
MONTHS = 120
# 2017-01-01, in seconds; a month has 30 days here.
BEGIN, MONTH = 1_483_228_800, 2_592_000
# Of each minor version of Python, the months in which packages are built for it.
PYTHONS = {8: (10, 80), 9: (25, 100), 10: (40, 120), 11: (55, 120), 12: (70, 120), 13: (92, 120)}
# Of real packages, in the order in which they need each other; and what others are made of.
_NAMES = json.loads(Path(__file__).with_name("forge_names.json").read_text(encoding="utf-8"))
LIBRARIES, MODULES, PURE, WORDS = (
    _NAMES[kind] for kind in ("libraries", "modules", "pure", "words")
)
ABSENT_FIRST = frozenset(("libgcc", "libstdcxx"))
LICENSES = ("MIT", "BSD-3-Clause", "Apache-2.0", "GPL-3.0-or-later", "LGPL-2.1-or-later", "MPL-2.0")


@dataclass(frozen=True)
class Size:
    """How many records a channel has for each of its platforms, and without one."""

    platform: int = 450_000
    noarch: int = 150_000


FULL = Size()


@dataclass(frozen=True)
class Release:
    """A version, from the month in which it came out."""

    month: int
    version: tuple[int, int, int]

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class Package:
    """One name with its history; `needs` are packages, each needed from a month on."""

    name: str
    kind: str
    releases: tuple[Release, ...]
    needs: tuple[tuple[int, Package], ...] = field(default=(), repr=False)

    def at(self, month: int) -> Release | None:
        """Return the newest release of a month, None before the first."""
        found = None
        for release in self.releases:
            if release.month > month:
                break
            found = release
        return found


def ensure_forge(directory: Path, *platforms: str, size: Size = FULL, seed: str = "forge") -> Path:
    """Return a channel that has `repodata.json.zst` for each platform and noarch, made once.

    For the first platform and noarch, the records are also there one name a file (CEP 16). In
    `roots.json` stand names for an environment: noarch packages that need others.

    Args:
        directory: where the channel is kept; what is there of other content is replaced.
        platforms: its platforms, each of which gets the packages of `size`.
        size: how many records there are, to within those of one name.
        seed: what the names, versions and dependencies are drawn from.
    """
    key = f"{RULES} {platforms} {size} {seed}\n"
    done = directory / DONE
    if done.is_file() and done.read_text() == key:
        return directory
    shutil.rmtree(directory, ignore_errors=True)
    compiled, pure = _catalogue(size, seed)
    for subdir in (*platforms, "noarch"):
        (directory / subdir).mkdir(parents=True)
        packages = pure if subdir == "noarch" else compiled
        limit = size.noarch if subdir == "noarch" else size.platform
        files = _bounded(_files_of(packages, subdir, seed), limit)
        _write(directory / subdir, files, subdir, subdir in (platforms[0], "noarch"))
    # Not among the last, which need not have been written.
    names = [package.name for package in pure[len(PURE) + 40 : len(pure) // 2 : 17]]
    (directory / ROOTS).write_text(json.dumps(names) + "\n")
    done.write_text(key)
    return directory


def roots(channel: Path, count: int) -> list[str]:
    """Return names of packages of a channel to ask for in an environment."""
    return list(json.loads((channel / ROOTS).read_text())[:count])


def _catalogue(size: Size, seed: str) -> tuple[list[Package], list[Package]]:
    """Return the packages of a platform, and those of noarch."""
    draw = random.Random(seed)
    names = _names(draw)
    libraries: list[Package] = []
    for number in range(max(len(LIBRARIES), size.platform // 130)):
        name = LIBRARIES[number] if number < len(LIBRARIES) else f"lib{next(names)}"
        needs = _needs(draw, libraries, 0 if name in ABSENT_FIRST else draw.randint(1, 4))
        libraries.append(_package(draw, name, "library", needs, number < len(LIBRARIES)))
    modules: list[Package] = []
    pure: list[Package] = []
    count = max(len(MODULES), size.platform // 130)
    for number in range(max(len(PURE), size.noarch // 9)):
        known = number < len(PURE)
        name = PURE[number] if known else next(names)
        needs = _needs(draw, pure, draw.choice((0, 0, 1, 2, 3, 5, 8)))
        if number > 3:
            needs += _needs(draw, modules, draw.choice((0, 0, 1, 2)))
        pure.append(_package(draw, name, "pure", needs, known))
        # A module comes with every few noarch packages, so that each kind can need the other.
        while len(modules) < count and len(modules) * size.noarch // 9 <= number * count:
            known = len(modules) < len(MODULES)
            name = MODULES[len(modules)] if known else f"py{next(names)}"
            needs = _needs(draw, libraries, draw.randint(0, 3))
            needs += _needs(draw, modules, draw.choice((0, 1, 1, 2)))
            needs += _needs(draw, pure, draw.choice((0, 0, 1, 2)))
            modules.append(_package(draw, name, "module", needs, known))
    # What fills the index up to its size; nothing needs these.
    more = [
        _package(draw, f"r-{next(names)}", "library", _needs(draw, libraries, 2), False)
        for _ in range(size.platform // 60)
    ]
    rest = [
        _package(draw, next(names), "pure", _needs(draw, pure, 2), False)
        for _ in range(size.noarch // 10)
    ]
    return [*_pythons(libraries), *libraries, *modules, *more], [*_abis(), *pure, *rest]


def _names(draw: random.Random) -> Iterator[str]:
    """Yield names that are all different, and none of the known ones."""
    seen = {*LIBRARIES, *MODULES, *PURE}
    while True:
        words = draw.sample(WORDS, draw.choice((1, 2, 2, 2, 3)))
        name = draw.choice(("-", "-", "_", "")).join(words)
        if draw.random() < 0.1:
            name += str(draw.randint(2, 9))
        if name not in seen:
            seen.add(name)
            yield name


def _package(
    draw: random.Random,
    name: str,
    kind: str,
    needs: list[tuple[int, Package]],
    known: bool,
) -> Package:
    """Draw the history of a package; that of a known one begins with all others."""
    month = 0 if known else draw.randrange(0, 90)
    rest = MONTHS - month
    count = draw.randint(12, 30) if kind == "library" else draw.randint(4, 22)
    if kind == "pure":
        count = min(60, 1 + int(draw.expovariate(0.17)))
    months = sorted({month, *(month + draw.randrange(rest) for _ in range(count - 1))})
    version, releases = [draw.choice((0, 1)), draw.randrange(6), 0], []
    for at in months:
        releases.append(Release(at, (version[0], version[1], version[2])))
        part = draw.choices((0, 1, 2), (1, 8, 12))[0]
        version[part] += 1
        version[part + 1 :] = [0] * (2 - part)
    return Package(name, kind, tuple(releases), tuple({p.name: (m, p) for m, p in needs}.values()))


def _needs(draw: random.Random, among: Sequence[Package], count: int) -> list[tuple[int, Package]]:
    """Draw some packages; the first of them are needed by most, as in life."""
    if not among:
        return []
    picked = (among[int(len(among) * draw.random() ** 6)] for _ in range(count))
    return [(draw.choice((0, 0, 0, 60, 100)), package) for package in picked]


def _pythons(libraries: Sequence[Package]) -> list[Package]:
    needs = tuple((0, package) for package in libraries[:14])
    releases = [
        Release(month, (3, minor, (month - start) // 3))
        for minor, (start, end) in PYTHONS.items()
        for month in range(start, end, 3)
    ]
    # By minor version, each with a history of its own.
    return [
        Package("python", "python", tuple(r for r in releases if r.version[1] == minor), needs)
        for minor in PYTHONS
    ]


def _abis() -> list[Package]:
    return [
        Package("python_abi", "abi", (Release(start, (3, minor, 0)),))
        for minor, (start, _) in PYTHONS.items()
    ]


def _files_of(packages: Iterable[Package], subdir: str, seed: str) -> Iterator[tuple[str, Files]]:
    """Yield the records of each name."""
    files: Files = {}
    before = ""
    for package in packages:
        if package.name != before and files:
            yield before, files
            files = {}
        before = package.name
        draw = random.Random(f"{seed} {subdir} {package.name} {package.releases[0].text}")
        for record in _records(package, subdir, draw):
            files[f"{record['name']}-{record['version']}-{record['build']}.conda"] = record
    if files:
        yield before, files


def _bounded(found: Iterator[tuple[str, Files]], limit: int) -> Iterator[tuple[str, Files]]:
    """Stop when there are enough; what comes last is needed by nothing that came before."""
    count = 0
    for name, files in found:
        yield name, files
        count += len(files)
        if count >= limit:
            return


def _records(package: Package, subdir: str, draw: random.Random) -> Iterator[Record]:
    for number, release in enumerate(package.releases):
        end = next((later.month for later in package.releases[number + 1 :]), MONTHS)
        months = [release.month]
        if package.kind not in ("pure", "abi"):
            # Built again for what has moved since; the newest for what is newest.
            if draw.random() < 0.4:
                months.append((release.month + end) // 2)
            if number == len(package.releases) - 1:
                python = package.kind == "python"
                months.append((PYTHONS[release.version[1]][1] if python else MONTHS) - 1)
        for build, month in enumerate(dict.fromkeys(months)):
            yield from _built(package, release, build, month, subdir, draw)


def _built(
    package: Package, release: Release, build: int, month: int, subdir: str, draw: random.Random
) -> Iterator[Record]:
    """Yield what one build of a release gives: one record, or one for each Python."""
    system = {"linux": ["__glibc >=2.17,<3.0.a0"], "osx": ["__osx >=11.0"]}.get(
        subdir.partition("-")[0], []
    )
    minor = release.version[1]
    depends = [
        text
        for since, need in package.needs
        if since <= month and (text := _need(package, need, month))
    ]
    digest = f"{draw.getrandbits(28):07x}"
    if package.kind == "abi":
        text = f"3.{minor}"
        yield _record(
            package.name, text, f"8_cp3{minor}", 8, [], [f"python {text}.* *_cpython"],
            subdir, month, draw,
        )  # fmt: skip
    elif package.kind == "python":
        yield _record(
            "python", release.text, f"h{digest}_{build}_cpython", build,
            sorted([*depends, *system]), [f"python_abi 3.{minor}.* *_cp3{minor}"],
            subdir, month, draw,
        )  # fmt: skip
    elif package.kind == "pure":
        first = next((m for m, (_, end) in PYTHONS.items() if month < end), 8)
        yield _record(
            package.name, release.text, "pyhd8ed1ab_0", 0,
            [*depends, f"python >=3.{first}"], [], subdir, month, draw,
        )  # fmt: skip
    elif package.kind == "module":
        for python, (start, end) in PYTHONS.items():
            if start <= month < end:
                pins = [
                    f"python >=3.{python},<3.{python + 1}.0a0",
                    f"python_abi 3.{python}.* *_cp3{python}",
                ]
                yield _record(
                    package.name, release.text, f"py3{python}h{digest}_{build}", build,
                    sorted([*depends, *pins, *system]), [], subdir, month, draw,
                )  # fmt: skip
    else:
        yield _record(
            package.name, release.text, f"h{digest}_{build}", build,
            sorted([*depends, *system]), [], subdir, month, draw,
        )  # fmt: skip


def _need(package: Package, need: Package, month: int) -> str:
    """Return how a package built in a month depends on another; nothing before that is there."""
    at = need.at(month)
    if at is None:
        return ""
    major, minor, _ = at.version
    if need.kind == "library":
        return f"{need.name} >={at.text},<{major + 1}.0a0"
    # What takes the newest at the end takes it in all months, as most packages do.
    if major == need.releases[-1].version[0] and len(need.name) % 5 == 0:
        return f"{need.name} >={major}.{minor},<{major + 1}"
    return f"{need.name} >={major}.{max(0, minor - 1)}" if len(need.name) % 3 else need.name


def _record(
    name: str,
    version: str,
    build: str,
    build_number: int,
    depends: list[str],
    constrains: list[str],
    subdir: str,
    month: int,
    draw: random.Random,
) -> Record:
    digest = draw.randbytes(48).hex()
    record: Record = {
        "build": build,
        "build_number": build_number,
        "constrains": constrains,
        "depends": depends,
        "license": LICENSES[len(name) % len(LICENSES)],
        "md5": digest[:32],
        "name": name,
        "sha256": digest[32:],
        "size": draw.randrange(10_000, 9_000_000),
        "subdir": subdir,
        "timestamp": (BEGIN + month * MONTH + draw.randrange(MONTH)) * 1000,
        "version": version,
    }
    if subdir == "noarch" and name != "python_abi":
        record["noarch"] = "python"
    if not constrains:
        del record["constrains"]
    return record


def _write(directory: Path, found: Iterable[tuple[str, Files]], subdir: str, shards: bool) -> None:
    """Write the index of one directory of a channel."""
    compressor = zstandard.ZstdCompressor(level=6, threads=-1)
    encode = json.JSONEncoder(separators=(",", ":")).encode
    head = {"info": {"subdir": subdir}, "packages": {}, "removed": [], "repodata_version": 1}
    names: dict[str, bytes] = {}
    with (
        (directory / "repodata.json.zst").open("wb") as raw,
        compressor.stream_writer(raw) as stream,
    ):
        stream.write(encode(head)[:-1].encode() + b',"packages.conda":{')
        comma = ""
        for name, files in found:
            text = ",".join(f'"{file}":{encode(record)}' for file, record in files.items())
            stream.write(f"{comma}{text}".encode())
            comma = ","
            if shards:
                names[name] = _write_shard(directory, files)
        stream.write(b"}}\n")
    if shards:
        info = {"subdir": subdir, "base_url": "./", "shards_base_url": "./shards/"}
        index = msgpack.packb({"version": 1, "info": info, "shards": names})
        path = directory / "repodata_shards.msgpack.zst"
        path.write_bytes(zstandard.ZstdCompressor(level=6).compress(index))


def _write_shard(directory: Path, files: Files) -> bytes:
    """Write the records of one name; return the sha256 of the file, which is its name."""

    def raw(record: Record) -> Record:
        hashes = {key: bytes.fromhex(record[key]) for key in ("md5", "sha256")}
        return {**record, **hashes}

    content = {
        "packages": {},
        "packages.conda": {file: raw(record) for file, record in files.items()},
        "removed": [],
    }
    data = zstandard.ZstdCompressor(level=3).compress(msgpack.packb(content))
    digest = hashlib.sha256(data)
    place = directory / "shards"
    place.mkdir(exist_ok=True)
    (place / f"{digest.hexdigest()}.msgpack.zst").write_bytes(data)
    return digest.digest()
