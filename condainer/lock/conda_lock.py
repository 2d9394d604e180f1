"""conda-lock.yml as plain data: what conda-lock 1 to 4 wrote, read without importing it.

A file of a hundred thousand lines takes seconds and bounded memory. Aliases, which could expand to
any size, are refused.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from condainer.lock.explicit import MD5
from condainer.lock.locks import VCS, CondaPackage, Lock, PipPackage, git_url
from condainer.system.errors import LockfileError
from condainer.system.files import Read, read_bytes, reading
from condainer.system.yaml_file import nested

VERSION = "1"
MAX_BYTES = 64_000_000
# The parser in C recurses; no lockfile is nested more deeply than this.
MAX_DEPTH = 20
# A lock of a hundred thousand lines has a quarter of a million.
MAX_EVENTS = 2_000_000
REMEDY = "Restore the file from version control, or delete it and run `cnd lock`."
DIGEST = re.compile(r"[0-9a-fA-F]{32,64}")
# A line break would begin another line of the explicit lockfile.
UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]")


def read(path: Path, platform: str, partial: bool = False, read: Read = read_bytes) -> Lock:
    """Read a conda-lock.yml as the lock of one platform.

    Parameters: `partial` allows conda packages that have an md5 only. Raises LockfileError when
    it is damaged, has no packages for the platform, two of one name, or no sha256;
    FileNotFoundError.
    """
    content = content_of(path, read)
    chosen: dict[tuple[str, str], dict[str, Any]] = {}
    for p in _packages(content, path):
        if p["platform"] == platform and _wanted(p):
            first = chosen.setdefault((p["manager"], p["name"]), p)
            if (first["url"], first.get("hash")) != (p["url"], p.get("hash")):
                # A merge can leave both.
                raise LockfileError(
                    f"{path}: two packages {p['name']}: {first['url']} and {p['url']}", REMEDY
                )
    if not chosen:
        metadata = content.get("metadata")
        listed = metadata.get("platforms") if isinstance(metadata, dict) else None
        platforms = ", ".join(str(name) for name in listed or [])
        raise LockfileError(
            f"{path}: locks {platforms}, not {platform}",
            f"Lock for {platform} as well, or delete the file and run `cnd lock`.",
        )
    conda = [_conda(p, path, partial) for p in chosen.values() if p["manager"] == "conda"]
    pip = [_pip(p, path) for p in chosen.values() if p["manager"] == "pip"]
    return Lock(platform, tuple(p for p in conda if not p.name.startswith("__")), tuple(pip))


def content_of(path: Path, read: Read = read_bytes) -> dict[str, Any]:
    """Return what a conda-lock.yml holds, all of it as text; do not change it.

    Raises LockfileError when it is damaged or beyond all bounds, FileNotFoundError.
    """
    return _content(path, text_of(path, read))


def text_of(path: Path, read: Read, remedy: str = REMEDY) -> str:
    """Return the text of a lockfile; raises LockfileError for what is none, FileNotFoundError."""
    with reading(path, LockfileError, no_text=remedy):
        return read(path).decode("utf-8-sig")


# `cnd lock` looks at one file several times.
@functools.lru_cache(maxsize=1)
def _content(path: Path, text: str) -> dict[str, Any]:
    try:
        content = _plain(path, text)
    except (yaml.YAMLError, ValueError) as error:
        raise LockfileError(f"{path}: not a lockfile of conda-lock: {error}", REMEDY) from None
    if not isinstance(content, dict):
        raise LockfileError(f"{path}: not a lockfile of conda-lock: no `package:`", REMEDY)
    version = str(content.get("version"))[:40]
    if version != VERSION:
        raise LockfileError(
            f"{path}: version {version} of conda-lock's format is not known here",
            "Lock again with a conda-lock that writes version 1, or with `cnd lock`.",
        )
    if not isinstance(content.get("package"), list):
        raise LockfileError(f"{path}: not a lockfile of conda-lock: no `package:`", REMEDY)
    return content


def check_bounds(path: Path, text: str) -> None:
    """Refuse what would take more memory or a deeper stack than any lockfile.

    Raises LockfileError, with the line, and yaml.YAMLError.
    """
    for _ in _bounded(path, text):
        pass


def _bounded(path: Path, text: str) -> Iterator[Any]:
    """Yield the events of a YAML text; raises as check_bounds() does."""
    if len(text) > MAX_BYTES:
        raise LockfileError(f"{path}: larger than {MAX_BYTES} bytes", "Is it the right file?")
    for count, (depth, event) in enumerate(nested(text)):
        place = f"{path}:{event.start_mark.line + 1}"
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise LockfileError(f"{place}: a lockfile has no anchors, aliases and tags", REMEDY)
        if depth > MAX_DEPTH:
            raise LockfileError(f"{place}: too deeply nested", REMEDY)
        if count > MAX_EVENTS:
            raise LockfileError(f"{place}: more than {MAX_EVENTS} items", "Is it the right file?")
        yield event


def _plain(path: Path, text: str) -> Any:
    """Return what a YAML text holds, all scalars as text: a hash of digits only is no number.

    yaml.load() would take four times as long, and a stack. Raises as check_bounds() does.
    """
    documents: list[Any] = []
    # The collections that are open, and for each mapping of them the key that waits for its value.
    opened: list[Any] = [documents]
    keys: list[str | None] = [None]
    for event in _bounded(path, text):
        if isinstance(event, yaml.ScalarEvent):
            value: Any = event.value
        elif isinstance(event, yaml.CollectionStartEvent):
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
        else:
            if isinstance(event, yaml.CollectionEndEvent):
                opened.pop()
                keys.pop()
            continue
        into, key = opened[-1], keys[-1]
        if isinstance(into, list):
            into.append(value)
        elif key is not None:
            into[key], keys[-1] = value, None
        elif isinstance(value, str):
            keys[-1] = value
        else:
            place = f"{path}:{event.start_mark.line + 1}"
            raise LockfileError(f"{place}: not a lockfile of conda-lock: a key is no text", REMEDY)
        if not isinstance(value, str):
            opened.append(value)
            keys.append(None)
    if len(documents) > 1:
        raise LockfileError(f"{path}: not a lockfile of conda-lock: several documents", REMEDY)
    return documents[0] if documents else None


def _packages(content: dict[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    for number, package in enumerate(content["package"], 1):
        texts = ("manager", "name", "platform", "url")
        good = isinstance(package, dict) and all(isinstance(package.get(t), str) for t in texts)
        if not good or package["manager"] not in ("conda", "pip"):
            raise LockfileError(f"{path}: package {number} is not what conda-lock writes", REMEDY)
        if any(UNPRINTABLE.search(package[text]) for text in texts):
            raise LockfileError(
                f"{path}: package {number} has a blank or control character in its name or URL",
                REMEDY,
            )
        yield package


def _wanted(package: dict[str, Any]) -> bool:
    """Tell whether a package is in the category `main`, not in `dev` or an extra."""
    categories = package.get("categories") or [package.get("category", "main")]
    return "main" in categories


def _hashes(package: dict[str, Any]) -> dict[str, str]:
    hashes = package.get("hash")
    if not isinstance(hashes, dict):
        return {}
    return {k: v for k, v in hashes.items() if isinstance(v, str) and DIGEST.fullmatch(v)}


def _conda(package: dict[str, Any], path: Path, partial: bool) -> CondaPackage:
    hashes = _hashes(package)
    if partial and "sha256" not in hashes and MD5.fullmatch(hashes.get("md5", "")):
        return CondaPackage(package["url"], "", hashes["md5"].lower())
    return CondaPackage(package["url"], _sha256(package, hashes, path))


def _pip(package: dict[str, Any], path: Path) -> PipPackage:
    """Return a pip package; a commit of a git repository stands in the place of its sha256."""
    url = str(package["url"])
    if url.startswith(VCS):
        # Where it is none, the rules of the explicit lockfile say so.
        return PipPackage(package["name"], git_url(url) or url, "")
    digest = _sha256(package, _hashes(package), path)
    return PipPackage(package["name"], url.partition("#")[0], digest)


def _sha256(package: dict[str, Any], hashes: dict[str, str], path: Path) -> str:
    if "sha256" not in hashes:
        raise LockfileError(
            f"{path}: {package['name']} has no sha256, and an md5 proves nothing",
            "Lock again with `cnd lock`.",
        )
    return hashes["sha256"].lower()
