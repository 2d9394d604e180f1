"""What an export is made of, and what it is."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from condainer.lock.address import address_of
from condainer.lock.locks import CondaPackage, Lock
from condainer.settings.config import Settings
from condainer.solve.conda_lock_file import Detail

WIDTH = 96


@dataclass(frozen=True)
class Known:
    """The locks of a project, one for each platform, and what conda-lock.yml says beside them."""

    settings: Settings
    locks: tuple[Lock, ...]
    details: Mapping[str, Detail]

    @property
    def lock(self) -> Lock:
        """The lock, for a format that holds one platform."""
        return self.locks[0]

    @property
    def address(self) -> str:
        """The address of its image."""
        return address_of(self.lock, self.settings.mount_base_directory).digest

    def detail(self, package: CondaPackage) -> Detail:
        """Return what is known of a conda package."""
        return self.details.get(package.url) or Detail("", None)


@dataclass(frozen=True)
class Exported:
    """A text for another tool, and what its reader should know."""

    form: str
    platform: str
    text: str
    notes: tuple[str, ...]


def channels(lock: Lock) -> list[str]:
    """Return the URLs of the channels that the packages of a lock are from."""
    return list(dict.fromkeys(package.url.rsplit("/", 2)[0] for package in lock.conda))


def without_conda(lock: Lock) -> tuple[str, list[str]]:
    """Return what is said of a format that has the pip part only, and the first lines of one."""
    note = f"Left out are {len(lock.conda)} conda packages, which have to be there"
    names = ", ".join(" ".join(package.parts[:2]) for package in lock.conda)
    return note, [
        f"# From the lock of `cnd lock` for {lock.platform}.",
        *commented(f"{note}: {names}"),
    ]


def commented(text: str) -> list[str]:
    """Return a text as lines of comments."""
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="#   ")
