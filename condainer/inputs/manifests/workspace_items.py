"""Single dependencies of pixi's manifests, as conda specs and as requirements."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condainer.inputs import conda_specs, toml_file
from condainer.inputs.conda_specs import Spec
from condainer.inputs.requirements import REMEDY
from condainer.system.errors import InputError
from condainer.system.urls import NETRC, has_secret

SOLVED_ELSEWHERE = (
    "Leave it out, or let the tool whose manifest it is solve: `pixi lock` writes pixi.lock and "
    "`conda workspace lock` conda.lock, which are used as they are."
)
# The keys of a conda dependency, and what a MatchSpec calls them.
FIELDS = {
    **{key: key for key in ("version", "build", "subdir", "md5", "sha256", "license", "channel")},
    "build-number": "build_number",
    "build_number": "build_number",
    "file-name": "fn",
    "fn": "fn",
}
OF_PYPI = (
    *("version", "extras", "git", "branch", "tag", "rev", "url", "subdirectory"),
    *("editable", "env-markers"),
)
SOURCE = ("path", "git", "branch", "tag", "rev", "subdirectory")
NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")
# What pip calls each option of pixi that it has, too.
SAME = {"first-index": "", "if-necessary-or-explicit": "", "allow": "--pre"}
MODES = ("index-strategy", "prerelease-mode")


def spec(name: str, entry: Any, where: str, base: Path, pool: Mapping[str, Any]) -> Spec:
    """Return a conda dependency as a MatchSpec.

    Parameters: `base` is the directory of the manifest, `pool` what the workspace offers to be
    inherited. Raises InputError, with its place, for what is built from source, or not valid.
    """
    if not NAME.fullmatch(name):
        raise InputError(f"{where}: {name!r} is not the name of a package", "Correct the name.")
    if isinstance(entry, dict) and "workspace" in entry:
        entry = _inherited(name, entry, where, pool)
    if isinstance(entry, str):
        entry = {"version": entry}
    if not isinstance(entry, dict):
        raise InputError(
            f"{where}: a dependency must be a text or a table, not {entry!r}",
            f'Write `{name} = ">=1.2"`.',
        )
    if "url" in entry or str(entry.get("path")).endswith((".conda", ".tar.bz2")):
        return Spec(_archive(name, entry, where, base), where)
    if source := [key for key in SOURCE if key in entry]:
        raise InputError(
            f"{where}: {name} is built from source (`{source[0]}`)",
            "Build the package, put it on a channel, and name its version here.",
        )
    if other := [key for key in entry if key not in FIELDS]:
        raise InputError(
            f"{where}: `{other[0]}` of {name} is not possible here, or not known", SOLVED_ELSEWHERE
        )
    return Spec(_match_spec(name, entry, where), where)


def requirement(name: str, entry: Any, where: str) -> str:
    """Return a dependency on PyPI as a line of a requirements file.

    Raises InputError, with its place, for a directory, or what is not valid.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    if isinstance(entry, str):
        entry = {"version": entry}
    if not isinstance(entry, dict) or not NAME.fullmatch(name):
        raise InputError(
            f"{where}: not a dependency on PyPI: {name} = {entry!r}", f'Write `{name} = ">=1.2"`.'
        )
    if "path" in entry:
        raise InputError(f"{where}: {name} stands in a local directory or file", REMEDY)
    if other := [key for key in entry if key not in OF_PYPI]:
        raise InputError(
            f"{where}: `{other[0]}` of {name} is not possible here, or not known", SOLVED_ELSEWHERE
        )
    extras = ",".join(str(e) for e in toml_file.items(entry.get("extras", []), "extras", where))
    head = f"{name}[{extras}]" if extras else name
    marker = f" ; {entry['env-markers']}" if entry.get("env-markers") else ""
    inside = f"#subdirectory={entry['subdirectory']}" if entry.get("subdirectory") else ""
    if "git" in entry:
        url = str(entry["git"])
        reference = next((str(entry[k]) for k in ("rev", "tag", "branch") if k in entry), "")
        at = f"@{reference}" if reference else ""
        return f"{head} @ git+{url.removeprefix('git+')}{at}{inside}{marker}"
    if "url" in entry:
        return f"{head} @ {entry['url']}{inside}{marker}"
    version = str(entry.get("version", "*")).strip()
    version = "" if version == "*" else version
    try:
        SpecifierSet(version)
    except InvalidSpecifier:
        raise InputError(
            f"{where}: {version!r} is not a version specifier of PyPI",
            f'Write `{name} = "==1.2"`, `">=1,<2"` or `"*"`.',
        ) from None
    return f"{head}{version}{marker}"


def is_project_itself(entry: Any, base: Path) -> bool:
    """Tell whether a dependency on PyPI is the project in whose manifest it stands."""
    path = entry.get("path") if isinstance(entry, dict) else None
    if not isinstance(path, str):
        return False
    return os.path.normpath(base / path) == os.path.normpath(base)


def options(table: Mapping[str, Any], places: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return `pypi-options` as options of a requirements file, with their places.

    Parameters: `places` are those of the keys. Raises InputError for what pip has no option for.
    """
    of_pip: list[tuple[str, str]] = []
    for key, value in table.items():
        where = places[key]
        texts = _options(key, value)
        if texts is None:
            raise InputError(
                f"{where}: `{key}` with {value!r} is not possible here, or not known",
                SOLVED_ELSEWHERE,
            )
        of_pip += [(text, where) for text in texts]
    return of_pip


def _options(key: str, value: Any) -> list[str] | None:
    """Return an option as pip has it, several if need be; None for what pip has not."""
    if value in ([], False):
        return []
    if key == "index-url" and isinstance(value, str):
        return [f"--index-url {value}"]
    if key == "extra-index-urls" and _are_texts(value):
        return [f"--extra-index-url {item}" for item in value]
    if key == "find-links" and isinstance(value, list):
        places = [item.get("url", item.get("path")) for item in value if isinstance(item, dict)]
        return [f"--find-links {p}" for p in places] if len(places) == len(value) else None
    if key in ("no-build", "no-binary") and (value is True or _are_texts(value)):
        option = "--only-binary" if key == "no-build" else "--no-binary"
        return [f"{option} {item}" for item in ([":all:"] if value is True else value)]
    if key in MODES and isinstance(value, str) and value in SAME:
        return [SAME[value]] if SAME[value] else []
    return None


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _inherited(name: str, entry: Mapping[str, Any], where: str, pool: Mapping[str, Any]) -> Any:
    if entry["workspace"] is not True or name not in pool:
        raise InputError(
            f"{where}: {name} is not among the `dependencies` of the workspace",
            f'Write its version here: `{name} = ">=1.2"`.',
        )
    offered = pool[name]
    offered = {"version": offered} if isinstance(offered, str) else offered
    own = {key: value for key, value in entry.items() if key != "workspace"}
    return {**offered, **own} if isinstance(offered, dict) else offered


def _archive(name: str, entry: Mapping[str, Any], where: str, base: Path) -> str:
    """Return the URL of a package's archive, with the hash that it must have."""
    if "url" in entry:
        url = str(entry["url"])
    else:
        url = Path(os.path.normpath(base.absolute() / Path(entry["path"]).expanduser())).as_uri()
    if has_secret(url):
        raise InputError(f"{where}: a URL with user, password or token: {url}", NETRC)
    if not conda_specs.PACKAGE_URL.match(url):
        raise InputError(
            f"{where}: not the URL of a conda package: {url}",
            "Its name ends in .conda or .tar.bz2; what is built from source cannot be locked.",
        )
    digest = entry.get("sha256", entry.get("md5"))
    return f"{url}#{digest}" if digest else url


def _match_spec(name: str, entry: Mapping[str, Any], where: str) -> str:
    fields = {FIELDS[key]: str(value).strip() for key, value in entry.items()}
    channel = fields.pop("channel", "")
    if fields.get("version") in ("", "*"):
        del fields["version"]
    for value in (channel, *fields.values()):
        if has_secret(value):
            raise InputError(f"{where}: a URL with user, password or token: {value}", NETRC)
        if set(value) & set("'\"[]\n"):
            raise InputError(f"{where}: {value!r} cannot stand in a spec", "Correct it.")
    inner = ",".join(f"{key}='{value}'" for key, value in fields.items())
    head = f"{channel}::{name}" if channel else name
    return f"{head}[{inner}]" if inner else head
