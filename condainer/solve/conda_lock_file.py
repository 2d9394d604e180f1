"""conda-lock.yml, written: conda-lock's unified format, so that other tools can use our locks.

The text is what conda-lock's own writer makes of it, as a test confirms; but that takes longer to
import than a small environment to solve.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from condainer.inputs.inputs import Inputs
from condainer.lock import conda_lock
from condainer.lock.contents import pip_parts
from condainer.lock.locks import ABSENT, VCS, Lock, PipPackage, Solved
from condainer.system.errors import LockfileError
from condainer.system.files import Read, read_bytes
from condainer.system.urls import without_login

HEAD = "# Made by `cnd lock` in conda-lock's format. Do not edit it.\n"
NEEDED = ("platform", "manager", "name", "url", "hash")
# How the record of each package ends.
LAST = {"category": "main", "optional": False}
# In C where PyYAML was built with it.
Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
# What YAML writes as it is, unless it looks like a number; and lines that stay lines in a mapping:
# without escapes, and short or without a blank at which they could be broken.
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+/~%@=-]*(?::[A-Za-z0-9_.+/~%@=-]+)*")
PLAIN_LINE = re.compile(r"([ -\[\]-~]{1,78}|  [a-z]+: [!-\[\]-~]+)\n")


@dataclass(frozen=True)
class Solution:
    """What was solved for one platform, with what only conda-lock.yml records of it."""

    lock: Lock
    inputs: Inputs
    conda: tuple[Solved, ...]


@dataclass(frozen=True)
class Detail:
    """What an explicit lockfile does not say of a conda package; `depends` is None if unknown."""

    md5: str
    depends: tuple[str, ...] | None


def render(solutions: Sequence[Solution], existing: Mapping[str, Any]) -> str:
    """Return the text of a lockfile that `conda-lock install` accepts.

    Parameters: `existing` is what parse() returned of the file that it replaces, whose other
    platforms are kept: so machines of several platforms can lock one project in turn.
    """
    solved = {solution.lock.platform for solution in solutions}
    hashes = {k: v for k, v in existing_hashes(existing).items() if k not in solved}
    packages = [p for p in existing.get("package", ()) if p["platform"] in hashes]
    for solution in solutions:
        platform = solution.lock.platform
        hashes[platform] = solution.inputs.fingerprint()
        packages += [_conda(item, platform) for item in solution.conda]
        packages += [_pip(item, platform) for item in solution.lock.pip]
    content = {
        "version": 1,
        "metadata": {
            "content_hash": {name: hashes[name] for name in sorted(hashes)},
            "channels": [
                {"url": without_login(name), "used_env_vars": []}
                for name in _union(s.inputs.channels for s in solutions)
            ],
            "platforms": sorted(hashes),
            "sources": _union(
                [source.path for source in solution.inputs.sources if source.sha256 != ABSENT]
                for solution in solutions
            ),
        },
        "package": sorted(packages, key=lambda p: (p["manager"], p["name"], p["platform"])),
    }
    return _text(content)


def only(content: Mapping[str, Any], platforms: Sequence[str]) -> str:
    """Return the text of a lockfile with some of its platforms only."""
    hashes = existing_hashes(content)
    metadata = {
        **content["metadata"],
        "content_hash": {name: hashes[name] for name in sorted(platforms)},
        "platforms": sorted(platforms),
    }
    packages = [p for p in content["package"] if p["platform"] in platforms]
    return _text({**content, "metadata": metadata, "package": packages})


def _text(content: Mapping[str, Any]) -> str:
    *first, last = content
    if last != "package" or not content[last]:
        return HEAD + _yaml(dict(content))
    items = [_item(package) for package in content[last]]
    return "".join((HEAD, _yaml({key: content[key] for key in first}), "package:\n", *items))


def _yaml(content: Any) -> str:
    return str(yaml.dump(content, Dumper=Dumper, sort_keys=False))


def _item(package: Mapping[str, Any]) -> str:
    """Return what YAML makes of a list of one package, which takes it ten times as long."""
    lines = []
    for key, value in package.items():
        if not isinstance(value, dict):
            lines.append(f"  {key}: {_scalar(value)}\n")
        elif value:
            lines.append(f"  {key}:\n")
            lines += [f"    {_scalar(k)}: {_scalar(v)}\n" for k, v in value.items()]
        else:
            lines.append(f"  {key}: {{}}\n")
    if not all(PLAIN_LINE.fullmatch(line) for line in lines):
        # Only YAML knows where it breaks long texts, and what it escapes.
        return _yaml([dict(package)])
    return "- " + "".join(lines)[2:]


def _scalar(value: str | bool) -> str:
    """Return what YAML makes of a value by itself."""
    if isinstance(value, str) and PLAIN.fullmatch(value):
        resolvers = Dumper.yaml_implicit_resolvers.get(value[0], ())
        # A text that looks like a number has quotation marks.
        return f"'{value}'" if any(known.match(value) for _, known in resolvers) else value
    return _scalar_of_yaml(value)


# The same requirements come again and again.
@functools.lru_cache(maxsize=10_000)
def _scalar_of_yaml(value: str | bool) -> str:
    return _yaml(value).removesuffix("...\n").removesuffix("\n")


def parse(path: Path, read: Read = read_bytes) -> Mapping[str, Any]:
    """Return what a conda-lock.yml of ours holds, nothing if it is absent or damaged.

    `cnd lock` is the remedy for a damaged file.
    """
    try:
        if not read(path).startswith(HEAD.rstrip().encode()):
            return {}
        content = conda_lock.content_of(path, read)
        # All was read as text.
        packages = [{**p, "optional": p.get("optional") == "true"} for p in content["package"]]
        good = all(all(p[key] for key in NEEDED) for p in packages)
        lockfile = {**content, "version": 1, "package": packages}
        return lockfile if good and isinstance(existing_hashes(lockfile), dict) else {}
    except (OSError, LockfileError, TypeError, KeyError, AttributeError):
        return {}


def existing_hashes(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the fingerprint of the inputs that a file records for each of its platforms."""
    hashes = content["metadata"]["content_hash"] if content else {}
    return {str(platform): str(digest) for platform, digest in hashes.items()}


def details(path: Path, read: Read = read_bytes) -> dict[str, Detail]:
    """Return what a conda-lock.yml says of each conda package, by its URL; nothing if damaged."""
    try:
        content = conda_lock.content_of(path, read)
        return {p["url"]: _detail(p) for p in content["package"] if p["manager"] == "conda"}
    except (OSError, LockfileError, TypeError, KeyError, AttributeError):
        return {}


def _detail(package: Mapping[str, Any]) -> Detail:
    depends = package["dependencies"].items()
    specs = tuple(f"{name} {rest}".rstrip() for name, rest in depends)
    return Detail(package["hash"].get("md5") or "", specs)


def agrees(content: Mapping[str, Any], lock: Lock) -> bool:
    """Tell whether a file holds the same packages, from the same inputs, as an explicit lock."""
    if existing_hashes(content).get(lock.platform) != lock.inputs:
        return False
    theirs = {
        (p["url"], "" if p["url"].startswith(VCS) else p["hash"].get("sha256"))
        for p in content["package"]
        if p["platform"] == lock.platform
    }
    ours = {(package.url, package.sha256) for package in lock.conda}
    return theirs == ours | {(package.url, package.sha256) for package in lock.pip}


def _union(lists: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(item for items in lists for item in items))


def _conda(item: Solved, platform: str) -> dict[str, Any]:
    depends = (text.partition(" ") for text in item.depends)
    return {
        "name": item.name,
        "version": item.version,
        "manager": "conda",
        "platform": platform,
        "dependencies": {name: rest.strip() for name, _, rest in sorted(depends)},
        "url": item.package.url,
        "hash": {"md5": item.md5, "sha256": item.package.sha256},
        **LAST,
    }


def _pip(item: PipPackage, platform: str) -> dict[str, Any]:
    # As conda-lock has it: a commit for a hash, and a source that pip is given as it is. The
    # version of a commit is not known before it is built.
    version = f"0+git.{item.commit[:12]}" if item.is_vcs else pip_parts(item.filename)[1]
    source = {"source": {"type": "url", "url": item.url}} if item.is_vcs else {}
    return {
        "name": item.name,
        "version": version,
        "manager": "pip",
        "platform": platform,
        "dependencies": {},
        "url": item.url,
        "hash": {"sha256": item.commit if item.is_vcs else item.sha256},
        **source,
        **LAST,
    }
