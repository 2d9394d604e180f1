"""The platforms of a workspace, and the virtual packages that it says they have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from condainer.settings import virtual
from condainer.system.errors import ConfigError, InputError

# What pixi calls virtual packages in a table of a platform.
NAMES = {"macos": "osx", "osx": "osx", "libc": "glibc"}
# They say what a platform is, which is known.
PLAIN = ("windows", "win", "unix")


@dataclass(frozen=True)
class Platform:
    """A platform by the name that a workspace gives it, its subdir, and what is said of it."""

    name: str
    subdir: str
    virtual: tuple[tuple[str, str], ...] = ()


def declared(table: Mapping[str, Any], where: str) -> list[Platform]:
    """Return the platforms of a workspace; raises InputError."""
    items = table.get("platforms", [])
    if not isinstance(items, list) or not items:
        raise InputError(
            f"{where}: `platforms` must be a list", 'Write `platforms = ["linux-64"]`.'
        )
    return [_platform(item, where) for item in items]


def _platform(item: Any, where: str) -> Platform:
    if isinstance(item, str):
        return Platform(item, item)
    subdir = item.get("platform", item.get("name")) if isinstance(item, dict) else None
    if not isinstance(subdir, str):
        raise InputError(f"{where}: not a platform: {item!r}", "Write its name, as `linux-64`.")
    rest = {key: value for key, value in item.items() if key not in ("name", "platform")}
    return Platform(str(item.get("name", subdir)), subdir, tuple(_virtual(rest, where)))


def chosen(
    known: Sequence[Platform],
    named: Sequence[Sequence[str] | None],
    subdir: str,
    where: str,
) -> list[Platform]:
    """Return those platforms of a subdir that an environment has: one, as a rule.

    Parameters: `named` are the platforms of each feature, by name or subdir, None for those of the
    workspace. Where features name different ones, each says something of the environment. Raises
    InputError where it cannot be known which one is meant.
    """
    fitting = [item for item in known if item.subdir == subdir]
    sets = [
        [item for item in fitting if names is None or {item.name, item.subdir} & {*names}]
        for names in named
    ]
    if not fitting or not all(sets):
        return []
    common = [item for item in fitting if all(item in of_feature for of_feature in sets)]
    same = [item for item in common if item.name == subdir]
    if len(same or common) == 1:
        return same or common
    if common:
        raise InputError(
            f"{where}: several platforms for {subdir}: {', '.join(i.name for i in common)}",
            f"Name one of them {subdir}, or bind one to a feature of the environment.",
        )
    return [
        item
        for item in fitting
        if any(item in of_feature and of_feature != fitting for of_feature in sets)
    ]


def fits(selector: str, here: Sequence[Platform]) -> bool:
    """Tell whether a target is for platforms of one subdir: its family, it, or a name with `*`."""
    subdir, names = here[0].subdir, {item.name for item in here}
    system = subdir.partition("-")[0]
    family = {system} if system == "win" else {system, "unix"}
    family |= {"macos"} if system == "osx" else set()
    return selector in family | {subdir} | names or (
        "*" in selector and any(fnmatchcase(name, selector) for name in names)
    )


def virtual_packages(
    required: Iterable[tuple[Mapping[str, Any], str]], here: Sequence[Platform]
) -> Iterator[tuple[str, str]]:
    """Yield the virtual packages with which an environment is solved, each once.

    Of several versions the highest holds, as in pixi. Parameters: `required` are the tables of
    system requirements, each with its place. Raises InputError for one that is not known.
    """
    versions: dict[str, str] = {}
    stated = [item for platform in here for item in platform.virtual]
    stated += [item for table, where in required for item in _virtual(table, where)]
    for name, version in stated:
        if name not in versions or _key(version) > _key(versions[name]):
            versions[name] = version
    yield from sorted(versions.items())


def _virtual(table: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        bare = key.removeprefix("__")
        if bare in PLAIN:
            continue
        version = value
        if bare == "libc" and isinstance(value, dict):
            if value.get("family", "glibc") != "glibc":
                raise InputError(
                    f"{where}: libc of the family {value.get('family')!r} is not known here",
                    "Only glibc is.",
                )
            version = value.get("version")
        if isinstance(version, bool) or not isinstance(version, (str, int, float)):
            raise InputError(
                f"{where}: the version of {key} must be a text, not {version!r}",
                f'Write it as `{key} = "12"`.',
            )
        try:
            yield virtual.checked(NAMES.get(bare, bare), str(version), where)
        except ConfigError as error:
            raise InputError(error.message, error.hint) from None


def _key(version: str) -> tuple[tuple[int, str], ...]:
    parts = re.findall(r"\d+|[^\d.]+", version)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
