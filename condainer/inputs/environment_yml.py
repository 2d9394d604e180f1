"""environment.yml and the requirements files beside it."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from condainer.inputs import conda_specs, pip_locks, requirements
from condainer.inputs.inputs import Inputs
from condainer.inputs.missing import no_environment_file
from condainer.inputs.pip_locks import PipLock
from condainer.lock.locks import NAME, source_of
from condainer.settings.config import Settings
from condainer.settings.environments import name_in
from condainer.settings.input_files import ENVIRONMENT_FILES
from condainer.system import yaml_file
from condainer.system.errors import InputError
from condainer.system.files import Read, reading
from condainer.system.urls import NETRC, has_secret
from condainer.system.yaml_file import Document

DEFAULT_CHANNEL = "conda-forge"
KNOWN_KEYS = ("name", "channels", "dependencies", "variables", "platforms", "prefix", "category")
# conda-lock's word for the indexes of the packages below `pip:`.
INDEXES = "pip-repositories"
SYNONYMS = {"depends": "dependencies", "requirements": "dependencies"}
# Keys that decide where code comes from: what looks like one of them is not only noted.
SOURCES = ("channels", INDEXES)
# The selectors of platforms: a line whose comment has that of another one in brackets is not there.
# https://conda.github.io/conda-lock/src_environment_yml/
SELECTORS = {
    *("linux", "osx", "win", "unix", "linux64", "osx64", "win64", "linux32", "win32"),
    *("aarch64", "arm64", "armv6l", "armv7l", "ppc64le", "riscv64", "s390x"),
}
# Words of conda-build's selectors. What else stands in brackets is rather a remark.
WORDS = {*SELECTORS, "win-arm64", "x86", "x86_64", "and", "or", "not"}
# conda replaces it by the value of the environment variable.
ENVIRONMENT = re.compile(r"\$(\w+|\{\w+\})")
# As conda-lock and conda-build find it: with text around, but without parentheses behind.
SELECTOR = re.compile(r".+?\s*#.*\[(?P<condition>[^\[\]]+)\][^()]*$")


def read(settings: Settings, platform: str) -> Inputs:
    """Read the environment file and the requirements files of a project.

    Raises InputError with file and line of whatever cannot be locked.
    """
    path, files = settings.environment_yml, settings.files
    document = _load(path, platform, files.read)
    ignored = _ignored(document)
    specs, pip = conda_specs.parsed(document, platform)
    pip_lines, included = requirements.from_lines(pip, path.parent, files.read)
    files_read = [path, *included]
    more, pip_lock, read = _beside_it(settings)
    pip_lines += more
    files_read += read
    variables = _variables(document)
    wants_python = pip_lock or any(line.is_wanted for line in pip_lines)
    if not (specs or wants_python or variables):
        misspelt = [str(key) for key in document.value if _near(str(key)) == "dependencies"]
        raise InputError(
            f"{document.where('dependencies')}: no dependencies",
            f"Did you mean `dependencies` by `{misspelt[0]}`?"
            if misspelt and "dependencies" not in document.value
            else "Name at least one package, for example `- python=3.12`.",
        )
    pip_lines = [*_indexes(document), *pip_lines]
    if wants_python:
        where = specs[0].where if specs else document.where("dependencies")
        specs = conda_specs.with_python(specs, where, pip_lock.requires_python if pip_lock else "")
    if not specs:
        where = document.where("variables")
        ignored.append(f"{where}: the environment has variables only, and no package")
    return Inputs(
        name=_name(document, settings),
        platform=platform,
        platforms=_platforms(document) or (platform,),
        channels=_channels(document),
        specs=specs,
        requirements=tuple(pip_lines),
        variables=variables,
        post_link_scripts=settings.post_link_scripts,
        sources=tuple(
            source_of(item, settings.project, files.read) for item in dict.fromkeys(files_read)
        ),
        notes=(
            *_beside(settings),
            *pip_locks.notes(pip_lock, settings),
            *ignored,
            *_never_selected(path, files.read),
            *(line.note for line in pip_lines if line.note),
        ),
        virtual_packages=settings.virtual_packages,
        pip_lock=pip_lock,
        places=tuple(_strings(document, "channels", "channel names or URLs")),
    )


def _beside_it(settings: Settings) -> tuple[list[requirements.Line], PipLock | None, list[Path]]:
    """Return the requirements, or the lock, of the pip packages, and the files that were read."""
    path, files = settings.requirements_txt, settings.files
    if pip_locks.is_one(path):
        lock = pip_locks.read(path, files.read)
        return [], lock, [path, *pip_locks.others(path)]
    if not files.is_there(path):
        # Its appearance makes the lock stale, so its absence is recorded.
        return [], None, [path]
    lines, included = requirements.read(path, files.read)
    return lines, None, [path, *included]


def platforms(settings: Settings, platform: str) -> tuple[str, ...]:
    """Return what `platforms:` of the environment file says on a platform, nothing by default."""
    return _platforms(_load(settings.environment_yml, platform, settings.files.read))


def _load(path: Path, platform: str, read: Read) -> Document:
    another = "`environment_yml:` in condainer.yml names another file."
    try:
        with reading(path, InputError, another):
            text = requirements.read_text(path, read)
    except FileNotFoundError:
        raise no_environment_file(path) from None
    kept = [line if _selected(line, platform) else "" for line in text.split("\n")]
    document = yaml_file.load(path, "\n".join(kept), InputError)
    if not isinstance(document.value, dict):
        raise InputError(
            f"{path}:1: not an environment file: must be a mapping with `dependencies:`",
            "`cnd init` in an empty directory writes an example.",
        )
    return document


def _condition(line: str) -> str:
    """Return the selector of a line; empty if it has none."""
    match = None if line.lstrip().startswith("#") else SELECTOR.match(line)
    if match is None or not {*re.split(r"[\s()]+", match["condition"].strip())} <= WORDS:
        return ""
    return str(match["condition"])


def _selected(line: str, platform: str) -> bool:
    condition = _condition(line)
    system, _, machine = platform.partition("-")
    unix = () if system == "win" else ("unix",)
    return not condition or condition in (system, machine, f"{system}{machine}", *unix)


def _never_selected(path: Path, read: Read) -> list[str]:
    """Return what is said of lines whose selectors are those of no platform."""
    lines = enumerate(requirements.read_text(path, read).split("\n"), 1)
    return [
        f"{path}:{number}: the selector [{condition}] is none of conda-lock's: the line is left out"
        for number, line in lines
        if (condition := _condition(line)) and condition not in SELECTORS
    ]


def _near(key: str) -> str:
    """Return the known key that another one resembles; empty if it resembles none."""
    near = difflib.get_close_matches(key.lower(), (*KNOWN_KEYS, INDEXES), 1, 0.75)
    return near[0] if near else SYNONYMS.get(key, "")


def _beside(settings: Settings) -> list[str]:
    """Return what is said where both of the usual environment files are there."""
    usual, other = (settings.project / name for name in ENVIRONMENT_FILES)
    both = settings.environment_yml == usual and settings.files.is_file(other)
    return [f"{other} is not read, because {usual.name} is there"] if both else []


def _ignored(document: Document) -> list[str]:
    """Return what is said of keys that have no meaning here.

    Raises InputError for what looks like a misspelt key by which code would come from elsewhere.
    """
    notes = []
    for key in document.value:
        if key in (*KNOWN_KEYS, INDEXES):
            continue
        where, near = document.where(key), _near(str(key))
        if near in SOURCES:
            raise InputError(f"{where}: unknown key `{key}`", f"Did you mean `{near}`?")
        meant = f"; did you mean `{near}`?" if near else ""
        notes.append(f"{where}: `{key}` has no meaning here, and is ignored{meant}")
    category = document.value.get("category") or "main"
    if category != "main":
        notes.append(
            f"{document.where('category')}: `category: {category}` is ignored: all packages of the "
            "file are locked, in the category main"
        )
    return notes


def _indexes(document: Document) -> list[requirements.Line]:
    """Return what conda-lock's key says as the options of a requirements file.

    uv takes a package from an additional index if that has it, and from no other one.
    """
    items = [
        (f"--extra-index-url {url}", where)
        for url, where in _strings(document, INDEXES, "URLs of package indexes")
    ]
    return requirements.from_lines(items, document.path.parent)[0]


def _name(document: Document, settings: Settings) -> str:
    name = document.value.get("name")
    if name is None:
        return name_in(document.path.absolute().parent, settings)
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
    stated = _strings(document, "channels", "channel names or URLs")
    for channel, where in stated:
        check_channel(channel, where)
    # `nodefaults` asks to add no default channel, which we never do.
    wanted = dict.fromkeys(channel for channel, _ in stated if channel != "nodefaults")
    return tuple(wanted) or (DEFAULT_CHANNEL,)


def check_channel(channel: str, where: str) -> None:
    """Raise InputError, with its place, for a channel that no lock can name."""
    if has_secret(channel):
        raise InputError(
            f"{where}: user, password or token in the URL of a channel: {channel}", NETRC
        )
    if ENVIRONMENT.search(channel):
        raise InputError(
            f"{where}: what a variable of the environment holds cannot be locked: {channel}",
            "Write its value; `mirrors:` in condainer.yml names another place for a channel.",
        )


def _platforms(document: Document) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item for item, _ in _strings(document, "platforms", "platforms")))


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
