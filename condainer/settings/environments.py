"""Several environments in one project: what `environments:` of its condainer.yml says of each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Hashable, Mapping

from condainer.startup.find_project import DEFAULT, ENVIRONMENT
from condainer.system.errors import ConfigError
from condainer.system.text import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from condainer.settings.config import Settings
    from condainer.system.yaml_file import Document

    # What `environments:` holds: of each name the keys that are said of it.
    Environments = tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]

FIELD = "environments"
# Names are parts of file names, which may not differ in case only on every file system.
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
# What could be an address, as in `cnd diff`.
ADDRESS = re.compile(r"[0-9a-f]{4,32}")
# How the activation scripts for other shells end.
SHELLS = (".fish", ".csh")
# `--all` says that.
RESERVED = ("all",)
# The keys of one environment: they take the place of those beside `environments:`.
KEYS = (
    *("environment_yml", "requirements_txt", "environment", "virtual_packages"),
    *("address", "wrappers"),
)
# What several environments cannot have in common.
OWN = ("address", "wrappers")
_FORM = f"Write `{FIELD}:`, and below it `gpu: {{environment_yml: gpu.yml}}` for each."


def parsed(
    document: Document, typed: Callable[[tuple[Hashable, ...], Any], Any], known: Collection[str]
) -> Environments:
    """Return the environments that a condainer.yml declares, checked.

    Parameters: `typed` converts the value at a place of the document, `known` are the names of all
    configuration keys. Raises ConfigError with the line of what is wrong.
    """
    declared = document.value[FIELD]
    if not isinstance(declared, dict) or not declared:
        where = document.where(FIELD)
        raise ConfigError(f"{where}: `{FIELD}` must be a mapping of names to keys", _FORM)
    environments: dict[str, tuple[tuple[str, Any], ...]] = {}
    for name, keys in declared.items():
        where = document.where(FIELD, name)
        _check_name(name, where)
        if keys is not None and not isinstance(keys, dict):
            raise ConfigError(f"{where}: `{name}` must be a mapping of keys to values", _FORM)
        for key in keys or ():
            _check_key(str(key), document.where(FIELD, name, key), known)
        values = {k: v for k, v in (keys or {}).items() if v is not None}
        environments[name] = tuple((k, typed((FIELD, name, k), v)) for k, v in values.items())
    for key in OWN:
        if key in document.value:
            raise ConfigError(
                f"{document.where(key)}: `{key}` is of one environment, and there are several",
                f"Write it below its environment in `{FIELD}`.",
            )
    _check_wrappers(environments, document)
    return tuple(environments.items())


def _check_name(name: object, where: str) -> None:
    if not isinstance(name, str):
        raise ConfigError(f"{where}: the name of an environment must be a text", "Quote it.")
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: {name!r} is not a name for an environment",
            "Write small letters, digits, and any of . _ - between them.",
        )
    if name.endswith(SHELLS):
        raise ConfigError(
            f"{where}: `{name}` ends as the activation script of another environment does",
            "Choose another name for the environment.",
        )
    if name in RESERVED or ADDRESS.fullmatch(name):
        why = "says that all are meant" if name in RESERVED else "could be an address"
        raise ConfigError(f"{where}: `{name}` {why}", "Choose another name for the environment.")


def _check_key(key: str, where: str, known: Collection[str]) -> None:
    if key in KEYS:
        return
    if key in known:
        raise ConfigError(
            f"{where}: `{key}` is for all environments of a project",
            f"Write it beside `{FIELD}:`. One environment has {', '.join(KEYS)}.",
        )
    hint = did_you_mean(key, KEYS, f"An environment has {', '.join(KEYS)}.", 0.4)
    raise ConfigError(f"{where}: unknown key `{key}` of an environment", hint)


def _check_wrappers(
    environments: Mapping[str, tuple[tuple[str, Any], ...]], document: Document
) -> None:
    """Refuse environments that would write their wrappers over each other's."""
    owners: dict[Any, str] = {}
    for name, keys in environments.items():
        place = dict(keys).get("wrappers")
        if place is not None and owners.setdefault(place, name) != name:
            raise ConfigError(
                f"{document.where(FIELD, name, 'wrappers')}: `{owners[place]}` has its wrappers "
                "there, too",
                "Name another directory.",
            )


def chosen(declared: Environments, asked: str) -> str:
    """Return the name of the environment of a command, empty if none is chosen.

    Parameters: `asked` is what the command line or the variable names, perhaps nothing.
    """
    return asked or (DEFAULT if DEFAULT in dict(declared) or not declared else "")


def variant(settings: Settings) -> str:
    """Return what tells the files of the chosen environment from those of the others.

    That is nothing for `default`, and where there is one environment only. Raises ConfigError
    where none is chosen, or one that the project does not have: whatever is about the environment
    of a project asks for its files.
    """
    names = [name for name, _ in settings.environments]
    name = chosen(settings.environments, settings.asked)
    if name in names or (name == DEFAULT and not names):
        return "" if name == DEFAULT else name
    # The variable may have been set for another project.
    by_variable = os.environ.get(ENVIRONMENT) == name
    unset = f"`unset {ENVIRONMENT}`, which asks for it. " if by_variable else ""
    if not names:
        raise ConfigError(
            f"{settings.project} has no environment {name}",
            f"{unset}Declare it below `{FIELD}:` in condainer.yml. `--env NAME` takes an image by "
            "its name in a cache, `--set environment=NAME` an environment of a pixi.lock.",
        )
    has = f"{settings.project} has the environments {', '.join(names)}"
    if not name:
        raise ConfigError(
            f"{has}, and none of them is `{DEFAULT}`", f"Choose one: `-e {names[0]}`."
        )
    import difflib

    near = difflib.get_close_matches(name, names, 1)
    meant = f"Did you mean `-e {near[0]}`? " if near else ""
    raise ConfigError(
        f"{has}, but no {name}",
        f"{unset}{meant}`--env NAME` takes an image by its name in a cache.",
    )


def suffixed(name: str, settings: Settings) -> str:
    """Return the name of a project as that of an environment that has none of its own."""
    of = settings.environment_name
    return name if of in ("", DEFAULT) else f"{name}-{of}"


def name_in(directory: Path, settings: Settings) -> str:
    """Return the name of an environment that has none of its own: that of its directory."""
    # It need not be UTF-8, but a lockfile is.
    return os.fsencode(suffixed(directory.name, settings)).decode(errors="replace")


def name_by(stated: Any, settings: Settings) -> str:
    """Return the name that a manifest states; without one that can be, the project's."""
    if isinstance(stated, str) and stated.isprintable():
        return stated
    return name_in(settings.project, settings)
