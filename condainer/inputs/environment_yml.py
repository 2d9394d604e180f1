"""environment.yml and the requirements files, as one frozen value."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from condainer.inputs import conda_specs, requirements
from condainer.inputs.conda_specs import Spec as Spec
from condainer.inputs.missing import no_environment_file
from condainer.lock.locks import NAME, Source, source_of
from condainer.settings.config import ENVIRONMENT_FILES, Settings
from condainer.system import yaml_file
from condainer.system.errors import InputError
from condainer.system.files import Read
from condainer.system.platforms import this_platform
from condainer.system.urls import NETRC, has_secret, has_user, without_user
from condainer.system.yaml_file import Document

DEFAULT_CHANNEL = "conda-forge"
KNOWN_KEYS = ("name", "channels", "dependencies", "variables", "platforms", "prefix", "category")
SYNONYMS = {"depends": "dependencies", "requirements": "dependencies"}
# conda-lock's platform selectors: a line that ends in one of these holds on these platforms only.
SELECTORS = {
    "linux": "linux-",
    "linux64": "linux-64",
    "unix": "",
    "osx": "osx-",
    "osx64": "osx-64",
    "arm64": "osx-arm64",
    "win": "win-",
    "win64": "win-64",
}
# conda replaces it by the value of the environment variable.
ENVIRONMENT = re.compile(r"\$(\w+|\{\w+\})")
SELECTOR = re.compile(r"#\s*\[\s*(?P<name>\w+)\s*\]\s*$")


@dataclass(frozen=True)
class Inputs:
    """What the user asked for, on one platform; `notes` say what is not done as it is written."""

    name: str
    platform: str
    platforms: tuple[str, ...]
    channels: tuple[str, ...]
    specs: tuple[Spec, ...]
    requirements: tuple[requirements.Line, ...]
    variables: tuple[tuple[str, str], ...]
    post_link_scripts: bool
    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()
    virtual_packages: tuple[tuple[str, str], ...] = ()

    def fingerprint(self) -> str:
        """Return the sha256 of what matters for the lock.

        Comments, ordering, spelling of blanks and the environment's name do not; the order of
        channels and of a requirement file's options does.
        """
        # A password that was changed gives the same packages, and its hash could be guessed from.
        options = [without_user(line.text) for line in self.requirements if line.is_option]
        wanted = [line for line in self.requirements if not line.is_option]
        meaning = {
            "channels": self.channels,
            "conda": sorted({_normalised(spec.text) for spec in self.specs}),
            "constraints": sorted({_normalised(line.text) for line in wanted if line.constraint}),
            "options": options,
            "pip": sorted({_normalised(line.text) for line in wanted if not line.constraint}),
            "platform": self.platform,
            "platforms": sorted(self.platforms),
            "post-link-scripts": self.post_link_scripts,
            "variables": sorted(self.variables),
        }
        if self.virtual_packages:
            # Only then, so that locks made before they could be chosen stay current.
            meaning["virtual-packages"] = self.virtual_packages
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def _normalised(spec: str) -> str:
    """Return a spec without insignificant blanks: `python >= 3.10` is `python>=3.10`."""
    text = re.sub(r"\s+", " ", without_user(spec.strip()))
    return re.sub(r"\s*([<>=!~,|])\s*", r"\1", text)


def read_inputs(settings: Settings, platform: str) -> Inputs:
    """Read the environment file and the requirements files of a project.

    Raises InputError with file and line of whatever cannot be locked.
    """
    path, files = settings.environment_yml, settings.files
    document = _load(path, platform, files.read)
    _check_keys(document)
    specs, pip = conda_specs.parsed(document)
    pip_lines, included = requirements.from_lines(pip, path.parent, files.read)
    found = [path, *included]
    if files.is_there(settings.requirements_txt):
        more, included = requirements.read(settings.requirements_txt, files.read)
        pip_lines += more
        found += [settings.requirements_txt, *included]
    else:
        # Its appearance makes the lock stale, so its absence is recorded.
        found.append(settings.requirements_txt)
    if not specs and not pip_lines:
        raise InputError(
            f"{document.where('dependencies')}: no dependencies",
            "Name at least one package, for example `- python=3.12`.",
        )
    if pip_lines and not any(conda_specs.is_python(spec.text) for spec in specs):
        where = specs[0].where if specs else document.where("dependencies")
        specs = (*specs, Spec("python", f"{where} (added because of the pip requirements)"))
    return Inputs(
        name=_name(document),
        platform=platform,
        platforms=_platforms(document, platform),
        channels=_channels(document),
        specs=specs,
        requirements=tuple(pip_lines),
        variables=_variables(document),
        post_link_scripts=settings.post_link_scripts,
        sources=tuple(
            source_of(item, settings.project, files.read) for item in dict.fromkeys(found)
        ),
        notes=(
            *_beside(settings),
            *_ignored(document),
            *(line.note for line in pip_lines if line.note),
        ),
        virtual_packages=settings.virtual_packages,
    )


def logins(settings: Settings) -> list[str]:
    """Return the lines of the project's requirements that say who logs in at which index.

    A lock does not hold them, so that they are asked for again where packages are downloaded.
    """
    try:
        lines = read_inputs(settings, this_platform()).requirements
    except (InputError, OSError):
        # The lock is what is built; its inputs need not be here.
        return []
    found = [line.text for line in lines if has_user(line.text) and "git+" not in line.text]
    return list(dict.fromkeys(requirements.login(text) for text in found))


def declared_platforms(settings: Settings, platform: str) -> tuple[str, ...]:
    """Return what `platforms:` of the environment file says on a platform, nothing by default."""
    document = _load(settings.environment_yml, platform, settings.files.read)
    return tuple(dict.fromkeys(item for item, _ in _strings(document, "platforms", "platforms")))


def _load(path: Path, platform: str, read: Read) -> Document:
    try:
        text = requirements.read_text(path, read)
    except FileNotFoundError:
        raise no_environment_file(path) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text", "Save the file as UTF-8.") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}",
            "`environment_yml:` in condainer.yml names another file.",
        ) from None
    kept = [line if _selected(line, platform) else "" for line in text.split("\n")]
    document = yaml_file.load(path, "\n".join(kept), InputError)
    if not isinstance(document.value, dict):
        raise InputError(
            f"{path}:1: not an environment file: must be a mapping with `dependencies:`",
            "`cnd init` in an empty directory writes an example.",
        )
    return document


def _selected(line: str, platform: str) -> bool:
    match = SELECTOR.search(line)
    if match is None or match["name"] not in SELECTORS:
        return True
    return platform.startswith(SELECTORS[match["name"]]) and (
        match["name"] != "unix" or not platform.startswith("win")
    )


def _check_keys(document: Document) -> None:
    """Refuse what looks like a misspelt key; other unknown ones are ignored, as conda does."""
    for key in document.value:
        if not isinstance(key, str) or key in KNOWN_KEYS:
            continue
        near = difflib.get_close_matches(key.lower(), KNOWN_KEYS, 1, 0.75)
        meant = near[0] if near else SYNONYMS.get(key)
        if meant:
            raise InputError(
                f"{document.where(key)}: unknown key `{key}`", f"Did you mean `{meant}`?"
            )


def _beside(settings: Settings) -> list[str]:
    """Return what is said where both of the usual environment files are there."""
    usual, other = (settings.project / name for name in ENVIRONMENT_FILES)
    both = settings.environment_yml == usual and settings.files.is_file(other)
    return [f"{other} is not read, because {usual.name} is there"] if both else []


def _ignored(document: Document) -> list[str]:
    """Return what is said of keys that have no meaning here."""
    unknown = [key for key in document.value if key not in KNOWN_KEYS]
    notes = [
        f"{document.where(key)}: `{key}` has no meaning here, and is ignored" for key in unknown
    ]
    category = document.value.get("category") or "main"
    if category != "main":
        notes.append(
            f"{document.where('category')}: `category: {category}` is ignored: all packages of the "
            "file are locked, in the category main"
        )
    return notes


def _name(document: Document) -> str:
    name = document.value.get("name")
    if name is None:
        # A directory's name need not be UTF-8, but a lockfile is.
        return os.fsencode(document.path.absolute().parent.name).decode(errors="replace")
    if not isinstance(name, (str, int, float)) or "\n" in str(name):
        raise InputError(
            f"{document.where('name')}: `name` must be a word, not {name!r}",
            "It is shown in the prompt, and has no other meaning.",
        )
    return document.texts[("name",)]


def _strings(document: Document, key: str, what: str) -> list[tuple[str, str]]:
    """Return the texts of a list with the place of each."""
    value = document.value.get(key)
    if value is None:
        return []
    if isinstance(value, str):
        return [(value, document.where(key))]
    if not isinstance(value, list):
        raise InputError(
            f"{document.where(key)}: `{key}` must be a list of {what}", conda_specs.LIST
        )
    items = []
    for index, item in enumerate(value):
        where = document.where(key, index)
        if not isinstance(item, str) or not item.strip():
            raise InputError(
                f"{where}: `{key}` must be a list of {what}, not {item!r}", conda_specs.LIST
            )
        items.append((item.strip(), where))
    return items


def _channels(document: Document) -> tuple[str, ...]:
    channels = [item for item, _ in _strings(document, "channels", "channel names or URLs")]
    # `nodefaults` says that no default channel is to be added, which we never do.
    wanted = [channel for channel in dict.fromkeys(channels) if channel != "nodefaults"]
    for channel, where in _strings(document, "channels", "channel names or URLs"):
        if has_secret(channel):
            raise InputError(
                f"{where}: user, password or token in the URL of a channel: {channel}", NETRC
            )
        if ENVIRONMENT.search(channel):
            raise InputError(
                f"{where}: what a variable of the environment holds cannot be locked: {channel}",
                "Write its value; `mirrors:` in condainer.yml names another place for a channel.",
            )
    return tuple(wanted) or (DEFAULT_CHANNEL,)


def _platforms(document: Document, platform: str) -> tuple[str, ...]:
    platforms = [item for item, _ in _strings(document, "platforms", "platforms")]
    return tuple(dict.fromkeys(platforms)) or (platform,)


def _variables(document: Document) -> tuple[tuple[str, str], ...]:
    value = document.value.get("variables")
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise InputError(
            f"{document.where('variables')}: `variables` must be a mapping of names to values",
            "Write each as `NAME: value` on a line of its own.",
        )
    variables = []
    for name, content in value.items():
        where = document.where("variables", name)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InputError(
                f"{where}: {name!r} is not the name of an environment variable",
                "A name has letters, digits and underscores, and does not begin with a digit.",
            )
        if content is None or isinstance(content, (list, dict)):
            raise InputError(
                f"{where}: the value of {name} must be a text or a number",
                'Write `""` for an empty value.',
            )
        text = document.texts["variables", name]
        if "\0" in text:
            raise InputError(
                f"{where}: the value of {name} must not contain a NUL character",
                "No environment variable can hold one.",
            )
        variables.append((name, text))
    return tuple(sorted(variables))
