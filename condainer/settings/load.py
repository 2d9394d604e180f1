"""Settings in force: from the command line, the environment, and three files."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from condainer.settings import config, environments, original
from condainer.settings.config import KEYS, PROJECT_FILE, Settings, user_file
from condainer.settings.input_files import environment_file, is_pylock, requirements_file
from condainer.settings.original import REPLACED
from condainer.settings.project_files import ProjectFiles
from condainer.settings.values import from_text, typed
from condainer.startup.find_project import DEFAULT, ENVIRONMENT
from condainer.system import ownership
from condainer.system.errors import ConfigError
from condainer.system.text import did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from condainer.system.yaml_file import Document

LEVELS = {"zstd": 22, "gzip": 9, "lzo": 9}
# Where a file names caches.
CACHES = ("cache_directory", "readonly_caches", "trusted_caches")
# What names programs that builds run.
RUN = ("tool_directory", "conda_exe", "installer")
# Keys by which builds run something; no bundle brings them into a project.
RUNNING = (*RUN, "post_link_scripts")


def load_settings(
    project: Path,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    files: ProjectFiles | None = None,
    environment: str | None = None,
) -> Settings:
    """Return the settings in force for a project directory.

    Parameters: `overrides` are `key=value` texts of the command line. Later ones of this list
    win: default, site file, user file, condainer.yml, what that says of the environment,
    environment variable, command line. `files` is what was read before, `environment` the name of
    one of several, empty for `default`; None: what CONDAINER_ENVIRONMENT says.
    Raises ConfigError with the place of what is wrong.
    """
    environ = os.environ if environ is None else environ
    files = ProjectFiles() if files is None else files
    project = project.absolute()
    values: dict[str, Any] = {}
    named: list[Path] = []
    personal = (config.SITE_FILE, user_file())
    for path in personal:
        of_file = _read_file(path, files, personal=True)
        named += of_file.pop("named_caches", ())
        if "policy" in of_file:
            of_file["policy"] = (*values.get("policy", ()), *of_file["policy"])
        values.update(of_file)
    of_user = dict(values)
    of_project = _read_file(project / PROJECT_FILE, files, project / PROJECT_FILE in personal)
    for name in ("named_caches", "policy"):
        # Of a project that is the user's directory, they are known already.
        of_project.pop(name, None)
    values.update(of_project)
    asked = environ.get(ENVIRONMENT, "") if environment is None else environment
    asked = "" if asked == DEFAULT else asked
    declared = values.get("environments", ())
    of_chosen = dict(dict(declared).get(environments.chosen(declared, asked), ()))
    values.update(of_chosen)
    by_project = set(of_project)
    for name, value in (*_of_variables(environ), *_of_command_line(overrides)):
        values[name] = value
        by_project.discard(name)
    _choose_inputs(values, project, files)
    caches = _caches({name: of_project[name] for name in by_project})
    web_caches = _urls(values)
    if "readonly_caches" in values:
        there = values["readonly_caches"]
        values["readonly_caches"] = tuple(place for place in there if isinstance(place, Path))
    settings = Settings(
        project=project,
        web_caches=web_caches,
        named_caches=tuple(dict.fromkeys(named)),
        files=files,
        asked=asked,
        pin={**of_project, **of_chosen}.get("address"),
        overrides=tuple(overrides),
        brought_caches=tuple(c for c in caches if c not in named and _came_with(c, project)),
        own_programs=tuple((name, of_user.get(name)) for name in RUN if name in by_project),
        **values,
    )
    _check_level(settings)
    for name in RUN:
        if settings.trust == "signed" and name in of_project:
            raise ConfigError(
                f"{project / PROJECT_FILE}: `{name}` is not allowed in a project where only "
                "signed images are trusted",
                "What it names would be run, and is not signed. " + _belongs(),
            )
    return settings


def _of_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Yield the keys that environment variables set, with their values."""
    for name, item in KEYS.items():
        variable, usual = item.metadata["variable"], f"CONDAINER_{name.upper()}"
        if variable and environ.get(variable):
            where = f"the environment variable {variable}"
            yield name, from_text(name, environ[variable], where, Path())
        elif not variable and _is_personal(name) and environ.get(usual):
            raise ConfigError(f"{usual}: `{name}` is not allowed in the environment", _belongs())


def _of_command_line(overrides: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield the keys that `--set` sets, with their values."""
    for override in overrides:
        where = f"--set {override}"
        name, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"{where}: not of the form KEY=VALUE")
        _check_key(name, where)
        if name == environments.FIELD:
            raise _of_project_only(where)
        yield name, from_text(name, text, where, Path())


def of_environment(settings: Settings, name: str) -> Settings:
    """Return the settings for another environment of a project; raises as load_settings()."""
    return load_settings(
        settings.project, settings.overrides, files=settings.files, environment=name
    )


def _choose_inputs(values: dict[str, Any], project: Path, files: ProjectFiles) -> None:
    """Set which files a project is made from, where the configuration does not."""
    if "environment_yml" not in values:
        usual = environment_file(project, files, values.get("environment") is not None)
        named = values.get("requirements_txt")
        # A pylock.<name>.toml alone, which only the configuration can choose.
        alone = named is not None and is_pylock(named) and not files.is_there(usual)
        values["environment_yml"] = named if alone else usual
    if "requirements_txt" not in values:
        chosen = values["environment_yml"]
        values["requirements_txt"] = requirements_file(project, chosen, files)


def _of_project_only(where: str) -> ConfigError:
    return ConfigError(
        f"{where}: `{environments.FIELD}` is not allowed here",
        f"Write it into the {PROJECT_FILE} of a project.",
    )


def _belongs() -> str:
    return f"Put it in {user_file()} or {config.SITE_FILE}."


def _is_personal(name: str) -> bool:
    return name in KEYS and KEYS[name].metadata["personal"]


def _check_level(settings: Settings) -> None:
    highest = LEVELS.get(settings.compressor)
    default = KEYS["compression_level"].default
    if highest is None and settings.compression_level != default:
        raise ConfigError(f"compression_level: {settings.compressor} has no levels")
    if highest is not None and not 1 <= settings.compression_level <= highest:
        raise ConfigError(
            f"compression_level: {settings.compression_level} is not between 1 and {highest} "
            f"({settings.compressor})"
        )


def _read_file(path: Path, files: ProjectFiles, personal: bool = False) -> dict[str, Any]:
    """Return the values in a file, checked and converted.

    A `personal` one, the user's or the site's, may have all keys, and `named_caches` with them.
    """
    try:
        text = files.read_text(path, "utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text", "Save the file as UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    seen = files.seen(path)
    guarded = seen is not None and seen.status is not None and ownership.is_guarded(seen.status)
    # Without a file there is no need of YAML.
    from condainer.system import yaml_file

    document = yaml_file.load(path, text, ConfigError)
    if document.value is None:
        return {}
    if not isinstance(document.value, dict):
        raise ConfigError(
            f"{path}:1: must be a mapping of keys to values",
            "Write each as `key: value` on a line of its own.",
        )
    _check_keys(document, personal)
    values: dict[str, Any] = {}
    for name, value in document.value.items():
        where = document.where(name)
        if _is_personal(str(name)) and not guarded:
            raise ConfigError(
                f"{where}: `{name}` is not allowed in a file that others can write or own",
                f"`chmod go-w {path}`; it must belong to you or to root.",
            )
        if value is not None:
            if personal and name == environments.FIELD:
                raise _of_project_only(where)
            values[str(name)] = _value((name,), value, document)
        if not personal and (urls := _urls(values)):
            raise ConfigError(f"{where}: {name}: {urls[0]} is not allowed here", _belongs())
    if personal and guarded:
        values["named_caches"] = tuple(_caches(values))
    return values


def _value(place: tuple[Hashable, ...], value: Any, document: Document) -> Any:
    """Return what a file says of a key, checked and converted; `place` leads there."""
    name, texts = str(place[-1]), document.texts
    if name == environments.FIELD:
        return environments.parsed(document, partial(_value, document=document), KEYS)
    if name in ("address", "environment"):
        # As it is written: they can have digits only, and begin with 0.
        value = texts.get(place, value)
    if name == "virtual_packages" and isinstance(value, dict):
        # `12.10` is a version, and not the number 12.1.
        written = {part: texts.get((*place, part), value[part]) for part in value}
        value = {part: "" if value[part] is None else text for part, text in written.items()}
    return typed(name, value, f"{document.where(*place)}: {name}", document.path.parent)


def _caches(values: Mapping[str, Any]) -> Iterator[Path]:
    for name in CACHES:
        value = values.get(name, ())
        value = (value,) if isinstance(value, Path) else value
        yield from (place for place in value if isinstance(place, Path))


def _urls(values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(place for place in values.get("readonly_caches", ()) if isinstance(place, str))


def _came_with(cache: Path, project: Path) -> bool:
    """Tell whether a directory is part of a project, or of the repository that this is in."""
    above = (project, *project.parents)
    top = next((place for place in above if os.path.lexists(place / ".git")), project)
    real = Path(os.path.realpath(cache))
    return any(place.is_relative_to(top) for place in (cache, real))


def _check_keys(document: Document, personal: bool) -> None:
    """Refuse a file with keys that are none of ours; all of them are told at once."""
    if original.is_original(document):
        raise original.refusal(document, KEYS)
    problems = []
    for name in document.value:
        try:
            _check_key(str(name), document.where(name), personal)
        except ConfigError as error:
            problems.append(error)
    if problems:
        hints = dict.fromkeys(error.hint for error in problems)
        raise ConfigError("\n     ".join(e.message for e in problems), "\n     ".join(hints))


def _check_key(name: str, where: str, personal: bool = False) -> None:
    if name in KEYS:
        if _is_personal(name) and not personal:
            raise ConfigError(f"{where}: `{name}` is not allowed here", _belongs())
        return
    if name in REPLACED:
        raise ConfigError(
            f"{where}: `{name}` is a key of the original Condainer: {REPLACED[name]}",
            "Remove the line.",
        )
    hint = did_you_mean(name, KEYS, f"Known keys: {', '.join(KEYS)}.", 0.4)
    raise ConfigError(f"{where}: unknown key `{name}`", hint)
