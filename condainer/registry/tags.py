"""The tags of images in a registry: of an address, and of a name."""

from __future__ import annotations

import re

from condainer.cache import names
from condainer.cache.leases import ADDRESS as ADDRESS
from condainer.oci.repository import TAG
from condainer.system.errors import ConfigError

# The tags of indexes in registries that do not list referrers.
REFERRERS = re.compile(r"sha256-[0-9a-f]{64}")
# The slash of a name in its tag; a pushed name must not have it itself.
SLASH = "__"


def of_name(name: str) -> str:
    """Return the tag of a name; raises ConfigError for a name without a tag."""
    tag = names.check(name).replace("/", SLASH)
    if SLASH in name or not TAG.fullmatch(tag) or REFERRERS.fullmatch(tag):
        raise ConfigError(
            f"The name {name} cannot be that of an image in a registry",
            f"Give it another one with `cnd tag`, without `+` and `{SLASH}`, and shorter than 128.",
        )
    return tag


def name_of(tag: str) -> str:
    """Return the name of a tag; empty if the tag is none of ours."""
    name = "" if REFERRERS.fullmatch(tag) else tag.replace(SLASH, "/")
    return name if names.NAME.fullmatch(name) and not names.DIGITS.fullmatch(name) else ""
