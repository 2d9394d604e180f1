"""What images are called in a registry: the tag of an address, and that of a name."""

from __future__ import annotations

import re

from condainer.cache import names
from condainer.cache.leases import ADDRESS as ADDRESS
from condainer.oci.repository import TAG
from condainer.system.errors import ConfigError

# Where a registry does not list what refers to a manifest.
REFERRERS = re.compile(r"sha256-[0-9a-f]{64}")
# Tags have no slash. Names that are pushed do not have this otherwise.
SLASH = "__"


def of_name(name: str) -> str:
    """Return the tag of a name; raises ConfigError for a name that no tag can say."""
    tag = names.check(name).replace("/", SLASH)
    if SLASH in name or not TAG.fullmatch(tag) or REFERRERS.fullmatch(tag):
        raise ConfigError(
            f"The name {name} cannot be that of an image in a registry",
            f"Give it another one with `cnd tag`, without `+` and `{SLASH}`, and shorter than 128.",
        )
    return tag


def name_of(tag: str) -> str:
    """Return the name that a tag stands for; empty if it is none of ours."""
    name = "" if REFERRERS.fullmatch(tag) else tag.replace(SLASH, "/")
    return name if names.NAME.fullmatch(name) and not names.DIGITS.fullmatch(name) else ""
