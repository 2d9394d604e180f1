"""What an export is made of, and what it is."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from condainer.inputs.read import read_inputs
from condainer.lock.address import address_of
from condainer.lock.locks import CondaPackage, Lock
from condainer.packages.channels import channel_of, expanded
from condainer.settings.config import Settings
from condainer.solve.conda_lock_file import Detail
from condainer.system.errors import CondainerError

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

    @property
    def channels(self) -> list[str]:
        """The URLs of the channels that packages are from, in the order of the inputs.

        In another order, a solver does not find all of them again.
        """
        locks = sorted(self.locks, key=lambda lock: lock.platform)
        used = dict.fromkeys(p.url.rsplit("/", 2)[0] for lock in locks for p in lock.conda)
        asked: list[str] = []
        # A lock that another tool wrote need not have inputs.
        with suppress(CondainerError):
            names = expanded(read_inputs(self.settings, locks[0].platform).channels)
            asked = [channel_of(name, self.settings).url for name in names]
        return [url for url in dict.fromkeys((*asked, *used)) if url in used]

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


def without_conda(lock: Lock) -> tuple[str, list[str]]:
    """Return what is said of a format that has the pip part only, and the first lines of one."""
    note = f"Without {len(lock.conda)} conda packages, which have to be installed before"
    names = ", ".join(" ".join(package.parts[:2]) for package in lock.conda)
    return note, [
        f"# From the lock of `cnd lock` for {lock.platform}.",
        *commented(f"{note}: {names}"),
    ]


def commented(text: str) -> list[str]:
    """Return a text as lines of comments."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent="# ",
        subsequent_indent="#   ",
        # Names of packages have them.
        break_on_hyphens=False,
    )
