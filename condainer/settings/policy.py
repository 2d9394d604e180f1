"""What the site or the user forbids, as rules that know where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from condainer.system.errors import ConfigError

CHANNELS, LICENSES = "forbid_channels", "forbid_licenses"
KINDS = (CHANNELS, LICENSES)


@dataclass(frozen=True)
class Rule:
    """A pattern of what is forbidden; `kind` is one of KINDS, `where` the place of the key."""

    kind: str
    pattern: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.pattern}"


def rules(value: Any, where: str) -> tuple[Rule, ...]:
    """Return the rules of a configuration file; raises ConfigError if it is not valid.

    Parameters: `where` is the place of the key, as errors name it.
    """
    if not isinstance(value, dict):
        raise ConfigError(
            f"{where}: must be a mapping of keys to lists", f"Known keys: {', '.join(KINDS)}."
        )
    listed = []
    for kind, patterns in value.items():
        if kind not in KINDS:
            raise ConfigError(f"{where}: unknown key `{kind}`", f"Known keys: {', '.join(KINDS)}.")
        items = [patterns] if isinstance(patterns, str) else patterns
        if not isinstance(items, list) or not all(isinstance(i, str) and i.strip() for i in items):
            raise ConfigError(
                f"{where}: {kind}: must be a list of names or patterns, not {patterns!r}",
                "Quote what begins with `*`.",
            )
        listed += [Rule(kind, item.strip(), where) for item in items]
    return tuple(listed)
