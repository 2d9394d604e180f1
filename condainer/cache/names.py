"""Names of images in a cache, one small file each: `names/<NAME>` or `names/<NAME>@<VERSION>`.

Members of a group write them for each other. A name leads to an address, whose image is checked as
always. Only its owner can move a name.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer.cache import entries, publish, trust
from condainer.cache.entries import UNREADABLE
from condainer.cache.leases import ADDRESS
from condainer.lock.address import DIGITS as WHOLE
from condainer.settings.config import Settings
from condainer.system.errors import ConfigError, NotBuiltError, StorageError
from condainer.system.files import publish_text, read_small, storage_errors, turn, user_name

PART = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}"
NAME = re.compile(rf"{PART}(/{PART})?")
# As for a pin in condainer.yml: fewer digits are rather a word than an address.
LEAST_DIGITS = 4
DIGITS = re.compile(rf"[0-9a-fA-F]{{{LEAST_DIGITS},{WHOLE}}}")
# How many earlier addresses of a name are kept, and what its file may hold at most, in bytes.
KEPT, LIMIT = 50, 65_536
SHOWN = "`cnd tag --list` shows all."


@dataclass(frozen=True)
class Past:
    """An address that a name led to, and until when, as manifests write times."""

    address: str
    until: str


@dataclass(frozen=True)
class Name:
    """A name in a cache: the address that it leads to, its owner, and what it led to before."""

    name: str
    root: Path
    address: str
    user: int
    since: str
    before: tuple[Past, ...] = ()

    def report(self) -> dict[str, Any]:
        """Return what `cnd tag --json` prints of it."""
        return {
            "name": self.name,
            "cache": str(self.root),
            "address": self.address,
            "owner": user_name(self.user),
            "since": self.since,
            "before": [vars(past) for past in self.before],
        }


def check(text: str) -> str:
    """Return a name that can be given; raises ConfigError for what cannot be one."""
    if NAME.fullmatch(text) is None:
        raise ConfigError(
            f"{text!r} is not a name",
            "Write NAME or NAME/VERSION, of letters, digits and any of . _ + -",
        )
    if DIGITS.fullmatch(text):
        raise ConfigError(f"{text} could be an address", "Choose a name with another letter in it.")
    return text


def address(text: str, settings: Settings) -> str:
    """Return an address, perhaps shortened, that a text is, or that a name leads to.

    Raises as find().
    """
    return text.lower() if DIGITS.fullmatch(text) else find(text, settings).address


def path_of(root: Path, name: str) -> Path:
    """Return where a name stands in a cache."""
    return root / publish.NAMES / name.replace("/", "@")


def read(root: Path, name: str) -> Name | None:
    """Return a name of a cache, or None if there is no such name or its file is not valid."""
    with suppress(OSError, *UNREADABLE):
        text, status = read_small(path_of(root, name), LIMIT)
        content = json.loads(text)
        before = tuple(Past(past["address"], str(past["until"])) for past in content["before"])
        addresses = (content["address"], *(past.address for past in before))
        if all(ADDRESS.fullmatch(address) for address in addresses):
            return Name(
                name, root, content["address"], status.st_uid, str(content["since"]), before
            )
    return None


def read_all(root: Path) -> Iterator[Name]:
    """Yield the names of a cache in order."""
    files: list[str] = []
    with suppress(OSError):
        files = sorted(os.listdir(root / publish.NAMES))
    for file in files:
        name = file.replace("@", "/")
        given = read(root, name) if NAME.fullmatch(name) else None
        if given is not None:
            yield given


def find(text: str, settings: Settings) -> Name:
    """Return a name from the first cache that has it.

    Raises NotBuiltError that tells of near names, TrustError for a cache that is not trusted.
    """
    roots = entries.roots(settings)
    for root in roots if NAME.fullmatch(text) else ():
        name = read(root, text)
        if name is not None:
            trust.check_cache(root, settings)
            return name
    import difflib

    near = difflib.get_close_matches(text, [name.name for root in roots for name in read_all(root)])
    hint = f"Did you mean {', '.join(dict.fromkeys(near))}?" if near else SHOWN
    if text in dict(settings.environments):
        own = f"It is an environment of {settings.project}"
        hint = f"{own}: `-e {text}`, in place of `--env {text}`."
    problem = f"No image has the name {text} in {', '.join(str(root) for root in roots)}"
    raise NotBuiltError(problem, hint)


def give(name: str, address: str, settings: Settings) -> Name:
    """Let a name of the writable cache lead to an address, and return it.

    Raises ConfigError for what is no name, StorageError for another user's name.
    """
    _own(check(name), settings)
    root = settings.cache_directory
    first = next((r for r in entries.roots(settings) if r != root and read(r, name)), None)
    if first is not None:
        raise ConfigError(
            f"{first}, which is looked into first, has the name {name} already",
            "Choose another name, or have it moved there.",
        )
    with storage_errors(f"name an image in {root}"):
        publish.prepare(root)
        with turn(root / publish.NAMES):
            return _give(name, address, settings)


def _give(name: str, address: str, settings: Settings) -> Name:
    old = _own(name, settings)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    before: tuple[Past, ...] = ()
    if old is not None:
        if old.address == address:
            return old
        before = (Past(old.address, now), *old.before)[:KEPT]
    content = {"address": address, "since": now, "before": [vars(past) for past in before]}
    root = settings.cache_directory
    publish_text(path_of(root, name), json.dumps(content) + "\n", 0o444, follow=False)
    return Name(name, root, address, os.geteuid(), now, before)


def take_away(name: str, settings: Settings) -> Name:
    """Delete a name of the writable cache, and return what it was; raises as give()."""
    root = settings.cache_directory
    old = _own(check(name), settings)
    if old is None:
        raise NotBuiltError(f"{root} has no name {name}", SHOWN)
    with storage_errors(f"delete a name in {root}"):
        path_of(root, name).unlink()
    return old


def _own(name: str, settings: Settings) -> Name | None:
    """Return a name of the writable cache if it is ours to move, None if there is none."""
    root = settings.cache_directory
    trust.check_cache(root, settings)
    with storage_errors(f"read the names of {root}"):
        try:
            owner = path_of(root, name).lstat().st_uid
        except FileNotFoundError:
            return None
    if not entries.is_ours(owner):
        raise StorageError(
            f"The name {name} in {root} belongs to {user_name(owner)}",
            f"Ask {user_name(owner)}, or choose another name.",
        )
    return read(root, name)
