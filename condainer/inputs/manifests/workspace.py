"""Manifests of pixi and conda-workspaces: one environment of a workspace, as inputs of ours.

What decides which packages an environment has is translated, or refused with its place; what does
not, such as tasks, is named. A key that is not known could be of either kind, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from condainer.inputs import conda_specs, requirements, toml_file
from condainer.inputs.conda_specs import Spec
from condainer.inputs.environment_yml import DEFAULT_CHANNEL, check_channel
from condainer.inputs.inputs import Inputs
from condainer.inputs.manifests import pyproject, workspace_items
from condainer.inputs.manifests.workspace_items import SOLVED_ELSEWHERE
from condainer.inputs.manifests.workspace_platforms import (
    Platform,
    chosen,
    declared,
    fits,
    virtual_packages,
)
from condainer.inputs.missing import no_environment_file
from condainer.inputs.toml_file import Toml
from condainer.lock.lock_paths import DEFAULT
from condainer.lock.locks import pip_name, source_of
from condainer.settings.config import Settings
from condainer.settings.environments import name_by
from condainer.settings.input_files import TOOLS
from condainer.system.errors import InputError

# The later win: pixi installs all three, and takes a name from the last that has it.
CONDA = ("dependencies", "host-dependencies", "build-dependencies")
PYPI = "pypi-dependencies"
OPTIONS = "pypi-options"
# What a feature has, or a target of one, that no image is made from.
ASIDE = ("activation", "tasks")
# The only values that mean what is done here.
FIXED = {"channel-priority": "strict", "solve-strategy": "highest"}
OF_TARGET = (*CONDA, PYPI, *ASIDE)
OF_FEATURE = (*OF_TARGET, OPTIONS, "target", "channels", "platforms", "system-requirements", *FIXED)
# What a workspace says about itself, and of how packages are built or archives packed.
ABOUT = (
    *("name", "version", "authors", "description", "license", "license-file", "readme", "homepage"),
    *("repository", "documentation", "requires-pixi", "preview", "build-variants", "archive"),
    *("build-variants-files", "conda-pypi-map", "s3-options", "target", "dependencies"),
)
OF_ENVIRONMENT = ("features", "solve-group", "no-default-feature")
OF_WORKSPACE = (*ABOUT, "channels", "platforms", OPTIONS, *FIXED)
# Where a manifest of its own has what a table of pyproject.toml has otherwise.
OF_ROOT = ("workspace", "project", "feature", "environments", "package", "tool", "$schema")
TOLD = (*ASIDE, "package")
# What the name of a family of platforms is, or begins with.
SYSTEMS = ("linux", "osx", "macos", "unix", "win", "emscripten", "wasi", "freebsd", "zos")


# The keys that lead to a table of a manifest; to its root, for the feature `default`.
Keys = tuple[str, ...]


@dataclass(frozen=True)
class Workspace:
    """A manifest: the keys of its own part of the file, and what its table is called there."""

    document: Toml
    keys: Keys
    kind: str

    @cached_property
    def platforms(self) -> list[Platform]:
        """The platforms that it declares; raises InputError."""
        return declared(self.table(self.kind), self.where(self.kind, "platforms"))

    def table(self, *keys: str) -> Mapping[str, Any]:
        """Return a table of the manifest, an empty one where there is none; raises InputError."""
        return self.document.table(*self.keys, *keys)

    def where(self, *keys: str) -> str:
        """Return the place of a key of the manifest."""
        return self.document.where(*self.keys, *keys)


def load(settings: Settings) -> Toml:
    """Return the TOML file that a project is made from; raises InputError."""
    path = settings.environment_yml
    try:
        return toml_file.load(path, settings.files.read)
    except FileNotFoundError:
        raise no_environment_file(path) from None


def is_one(document: Toml) -> bool:
    """Tell whether a file describes a workspace."""
    return _place_of(document) is not None


def platforms(document: Toml, settings: Settings) -> tuple[str, ...]:
    """Return the platforms of the environment that is chosen."""
    workspace = _workspace(document)
    features = _features(workspace, settings.environment or DEFAULT)
    subdirs = dict.fromkeys(item.subdir for item in workspace.platforms)
    return tuple(s for s in subdirs if _of_platform(workspace, features, s))


def read(document: Toml, settings: Settings, platform: str) -> Inputs:
    """Read one environment of a workspace, for one platform, as inputs.

    Raises InputError with the place of what changes which packages it has and cannot be done here.
    """
    workspace = _workspace(document)
    name = settings.environment or DEFAULT
    features = _features(workspace, name)
    for feature in features:
        _check(feature, workspace)
    here = _of_platform(workspace, features, platform)
    if not here:
        offered = ", ".join(platforms(document, settings)) or "none"
        raise InputError(
            f"{workspace.where(workspace.kind, 'platforms')}: environment `{name}` is for "
            f"{offered}, not for {platform}",
            f"Add {platform} to the `platforms` of the workspace and of its features.",
        )
    required = [(*keys, "system-requirements") for keys in features]
    tables = [(workspace.table(*keys), workspace.where(*keys)) for keys in required]
    wanted = dict(virtual_packages(tables, here))
    specs, lines, notes = _packages(workspace, features, here)
    names = {key for keys in features for key, value in workspace.table(*keys).items() if value}
    aside = [key for key in TOLD if key in names]
    if aside:
        notes.append(
            f"{document.path}: {' and '.join(aside)} mean nothing for an image, and are left out"
        )
    beside = settings.requirements_txt
    if settings.files.is_file(beside):
        notes.append(f"{beside} is not read, because {document.path.name} is there")
    if any(line.is_wanted for line in lines):
        specs = list(conda_specs.with_python(tuple(specs), str(document.path), ""))
    if not specs:
        raise InputError(
            f"{document.path}: environment `{name}` has no dependencies for {platform}",
            "Name at least one package below `[dependencies]`.",
        )
    channels = _channels(workspace, features)
    return Inputs(
        name=_name(workspace, settings),
        platform=platform,
        platforms=platforms(document, settings),
        channels=tuple(channels) or (DEFAULT_CHANNEL,),
        specs=tuple(specs),
        requirements=tuple(lines),
        post_link_scripts=settings.post_link_scripts,
        sources=(source_of(document.path, settings.project, settings.files.read),),
        notes=tuple(dict.fromkeys((*notes, *(line.note for line in lines if line.note)))),
        virtual_packages=tuple({**wanted, **dict(settings.virtual_packages)}.items()),
        environment=name,
        places=tuple(channels.items()),
    )


def _place_of(document: Toml) -> tuple[Keys, str] | None:
    """Return the keys that lead to the manifest in a file, and to the workspace in it."""
    ways: tuple[Keys, ...] = (*(("tool", name) for name in TOOLS), ())
    for keys in ways:
        for kind in ("workspace", "project"):
            table = document.at(*keys, kind)
            # A package's own `[project]` has neither.
            ours = kind == "workspace" or keys or {"channels", "platforms"} & {*(table or {})}
            if isinstance(table, dict) and ours:
                return keys, kind
    return None


def _workspace(document: Toml) -> Workspace:
    place = _place_of(document)
    assert place is not None
    workspace = Workspace(document, *place)
    _known(OF_WORKSPACE, workspace, workspace.kind)
    _known((*OF_ROOT, *OF_FEATURE), workspace)
    _check_fixed(workspace, workspace.kind)
    return workspace


def _features(workspace: Workspace, name: str) -> list[Keys]:
    """Return the features of an environment, the default one last, as pixi has their channels."""
    environments = workspace.table("environments")
    entry = environments.get(name, [] if name == DEFAULT else None)
    if entry is None:
        known = ", ".join(sorted({DEFAULT, *environments}))
        raise InputError(
            f"{workspace.where('environments')}: there is no environment `{name}`",
            f"It has {known}: `environment:` in condainer.yml chooses one.",
        )
    where = workspace.where("environments", name)
    table = {"features": entry} if isinstance(entry, list) else entry
    names = table.get("features", []) if isinstance(table, dict) else None
    if not isinstance(names, list) or not all(isinstance(item, str) for item in names):
        raise InputError(f"{where}: not a list of features", f'Write `{name} = ["feature"]`.')
    if table is entry:
        _known(OF_ENVIRONMENT, workspace, "environments", name)
    features = [_feature(workspace, item, where) for item in names if item != DEFAULT]
    return features if table.get("no-default-feature") else [*features, ()]


def _feature(workspace: Workspace, name: str, where: str) -> Keys:
    features = workspace.table("feature")
    if name in features or (
        workspace.keys and pip_name(name) in pyproject.groups(workspace.document)
    ):
        return "feature", name
    known = ", ".join(sorted(features)) or "none"
    raise InputError(f"{where}: there is no feature `{name}`", f"The file has {known}.")


def _check(feature: Keys, workspace: Workspace) -> None:
    """Refuse what a feature says that cannot be done here."""
    if feature:
        _known(OF_FEATURE, workspace, *feature)
    _check_fixed(workspace, *feature)
    for name in workspace.table(*feature, "target"):
        keys = (*feature, "target", name)
        system = "*" in name or name.partition("-")[0] in SYSTEMS
        if not (system or any(fits(name, [platform]) for platform in workspace.platforms)):
            raise InputError(
                f"{workspace.where(*keys)}: there is no platform `{name}`",
                "Write one of the `platforms` of the workspace, or `linux`, `osx`, `unix`, `win`.",
            )
        _known(OF_TARGET, workspace, *keys)


def _check_fixed(workspace: Workspace, *keys: str) -> None:
    table = workspace.table(*keys)
    for key, value in FIXED.items():
        if table.get(key, value) != value:
            raise InputError(
                f"{workspace.where(*keys, key)}: `{key} = {table[key]!r}` is not possible here, "
                f"only {value!r}",
                SOLVED_ELSEWHERE,
            )


def _known(known: Sequence[str], workspace: Workspace, *keys: str) -> None:
    for key, value in workspace.table(*keys).items():
        if key not in known and value not in ({}, [], None):
            raise InputError(
                f"{workspace.where(*keys, key)}: `{key}` is not possible here, or not known",
                SOLVED_ELSEWHERE,
            )


def _of_platform(workspace: Workspace, features: Sequence[Keys], subdir: str) -> list[Platform]:
    """Return the platforms of an environment that stand for a subdir; none if it has none."""
    named = []
    for feature in features:
        stated = workspace.table(*feature).get("platforms") if feature else None
        where = workspace.where(*feature, "platforms")
        listed = [] if stated is None else toml_file.items(stated, "platforms", where)
        named.append(None if stated is None else [str(item) for item in listed])
    return chosen(workspace.platforms, named, subdir, workspace.where(workspace.kind, "platforms"))


def _packages(
    workspace: Workspace, features: Sequence[Keys], here: Sequence[Platform]
) -> tuple[list[Spec], list[requirements.Line], list[str]]:
    """Return what an environment asks of conda and of pip, and what is said about it."""
    pool = workspace.table(workspace.kind, "dependencies")
    base = workspace.document.path.parent
    specs: list[Spec] = []
    lines: list[tuple[str, str]] = []
    notes: list[str] = []
    for feature in features:
        merged: dict[str, tuple[Any, str]] = {}
        for kind in CONDA:
            merged |= _merged(workspace, feature, here, kind)
        specs += [
            workspace_items.spec(name, entry, where, base, pool)
            for name, (entry, where) in merged.items()
        ]
        if workspace.keys:
            lines += pyproject.of_feature(workspace.document, *feature[1:])
            if not feature and "python" not in merged:
                specs += pyproject.python(workspace.document)
        for name, (entry, where) in _merged(workspace, feature, here, PYPI).items():
            if workspace.keys and workspace_items.is_project_itself(entry, base):
                notes.append(
                    f"{where}: {name}, the project itself, is not in the image; what it depends on "
                    "is"
                )
                lines += pyproject.of_extras(workspace.document, entry.get("extras", []), where)
            else:
                lines.append((workspace_items.requirement(name, entry, where), where))
    stated: list[tuple[str, str]] = []
    for keys in ((workspace.kind,), *features):
        entries = workspace.table(*keys, OPTIONS)
        places = {key: workspace.where(*keys, OPTIONS, key) for key in entries}
        stated += workspace_items.options(entries, places)
    wanted = list(dict.fromkeys((*_overruled(stated), *lines)))
    return specs, requirements.from_lines(wanted, base)[0], notes


def _overruled(options: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield options, of those with one value the last: a feature's overrule the workspace's."""
    last = {text.partition(" ")[0]: text for text, _ in options}
    for text, where in options:
        name = text.partition(" ")[0]
        if name != "--index-url" or last[name] == text:
            yield text, where


def _merged(
    workspace: Workspace, feature: Keys, here: Sequence[Platform], kind: str
) -> dict[str, tuple[Any, str]]:
    """Return the entries of a table of dependencies with those of the targets that fit.

    The later target wins, whichever is nearer: pixi has it so.
    """
    targets = [name for name in workspace.table(*feature, "target") if fits(name, here)]
    merged: dict[str, tuple[Any, str]] = {}
    for keys in (feature, *((*feature, "target", name) for name in targets)):
        for name, entry in workspace.table(*keys, kind).items():
            merged[name.lower()] = entry, workspace.where(*keys, kind, name)
    return merged


def _channels(workspace: Workspace, features: Sequence[Keys]) -> dict[str, str]:
    """Return the channels in their order, and where each is named."""
    ranked: list[tuple[int, str, str]] = []
    for feature in features:
        own = feature and "channels" in workspace.table(*feature)
        keys = feature if own else (workspace.kind,)
        where = workspace.where(*keys, "channels")
        stated = workspace.table(*keys).get("channels", [])
        for item in toml_file.items(stated, "channels", where):
            channel = item.get("channel") if isinstance(item, dict) else item
            priority = item.get("priority", 0) if isinstance(item, dict) else 0
            if not isinstance(channel, str) or not isinstance(priority, int):
                raise InputError(
                    f"{where}: not a channel: {item!r}", "Write its name or URL in quotation marks."
                )
            check_channel(channel, where)
            ranked.append((-priority, channel, where))
    places: dict[str, str] = {}
    # Sorting is stable, as pixi's is.
    for _, channel, where in sorted(ranked, key=lambda item: item[0]):
        places.setdefault(channel, where)
    return places


def _name(workspace: Workspace, settings: Settings) -> str:
    of_project = workspace.document.at("project", "name") if workspace.keys else None
    return name_by(workspace.table(workspace.kind).get("name", of_project), settings)
