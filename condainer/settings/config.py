"""Settings from the command line, the environment, and three files, as one frozen value."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from condainer.settings import environments
from condainer.settings.environments import Environments
from condainer.settings.input_files import environment_file, is_pylock, requirements_file
from condainer.settings.project_files import ProjectFiles
from condainer.startup.find_project import DEFAULT, ENVIRONMENT
from condainer.system import ownership, quantities
from condainer.system.errors import ConfigError
from condainer.system.quantities import MAX_SECONDS
from condainer.system.urls import NETRC, has_secret, has_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from condainer.settings.policy import Rule
    from condainer.system.yaml_file import Document

PROJECT_FILE = "condainer.yml"
# What the private directories of builds in the staging directory are called.
STAGE = "condainer-stage"
SITE_FILE = Path("/etc/condainer/condainer.yml")
WAYS = ("auto", "direct", "private", "kernel", "unpack")
COMPRESSORS = ("zstd", "gzip", "xz", "lz4", "lzo")
# Whether a copy of an image on the node is mounted; or else the directory for that.
STAGES = ("auto", "never", "always")
# Whose images are run; docs/explanation/security.md says what each protects from.
POLICIES = ("anyone", "group", "signed")
# Seconds without a byte after which no client of the network waits any longer.
SILENCE = 60.0
LEVELS = {"zstd": 22, "gzip": 9, "lzo": 9}

UNPACKED = ("auto", "keep", "remove")
CHOICES = {"compressor": COMPRESSORS, "mount": WAYS, "trust": POLICIES, "unpacked": UNPACKED}
# With these, what packages write the path of their environment into cannot be read.
NOT_IN_PREFIX = frozenset("'\"\\$`:")
# One of several places with colons between: a URL, which may have a port, or a path.
PLACE = re.compile(
    r"[a-z]+://(?:[^/:@]*(?::[^/@]*)?@)?(?:\[[^]]*\]|[^/:]*)(?::\d+(?=[/:]|$))?[^:]*|[^:]+",
    re.IGNORECASE,
)
URL = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
# Keys that are written as people write ages and sizes.
QUANTITIES = {
    "stage_max_size": quantities.size,
    "packages_max_size": quantities.size,
    "packages_older_than": quantities.age,
}
# What the documentation says after the meaning of a personal key.
PERSONAL = " (user's or site's file only)"
# The same of one that has a variable, which whoever starts us can set.
NOT_OF_PROJECT = " (not in a project's file)"
# Where a file names caches.
CACHES = ("cache_directory", "readonly_caches", "trusted_caches")
# What names programs that builds run.
RUN = ("tool_directory", "conda_exe", "installer")
# What has builds run something; nobody's bundle brings it into a project.
RUNNING = (*RUN, "post_link_scripts")

# What the original's configuration had, and what takes its place.
REPLACED = {
    "uuid": "the content address takes its place; `address:` selects another image",
    "installer_url": "the embedded engine needs no installer; the path of one that you have "
    "downloaded goes into `installer:` or CONDAINER_INSTALLER",
    "user_env_name": "`name:` of environment.yml is shown in the prompt",
    "non_conda_application": "only Conda environments have a content address",
    "multiuser_mountpoint": "several users can use one image without it",
}


def key(
    default: Any, doc: str, variable: str = "", factory: Any = MISSING, personal: bool = False
) -> Any:
    """Declare a configuration key: its default, its meaning, its environment variable.

    A `personal` key is taken from the site's and the user's file only, and from its environment
    variable if it has one: whoever else wrote a project or started us must not decide about it.
    """
    whose = (NOT_OF_PROJECT if variable else PERSONAL) * personal
    metadata = {"doc": doc + whose, "variable": variable, "personal": personal}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Everything that the user, the site or the project chose; paths are absolute.

    `named_caches` are those that the site's or the user's file names, by whatever key;
    `web_caches` the URLs among `readonly_caches`;
    `brought_caches` those that came with the project, whose own file alone names them, and
    `own_programs` what keys that name programs say without that file. `files` is what was read of
    the project's files, from which all others read them, too. `asked` is the environment that the
    command line or the variable names, empty for `default`; `overrides` are the command line's.
    """

    project: Path
    named_caches: tuple[Path, ...] = ()
    web_caches: tuple[str, ...] = ()
    brought_caches: tuple[Path, ...] = ()
    own_programs: tuple[tuple[str, Any], ...] = ()
    files: ProjectFiles = field(default_factory=ProjectFiles)
    asked: str = ""
    overrides: tuple[str, ...] = field(default=(), compare=False)
    environment_yml: Path = key(
        Path("environment.yml"),
        "the environment file; else environment.yaml, pixi.toml, conda.toml, pyproject.toml (pixi "
        "or uv) or pylock.toml, the first that exists",
    )
    requirements_txt: Path = key(
        Path("requirements.txt"),
        "the requirements file, or a pylock.toml, which comes first, if it exists",
    )
    environment: str | None = key(
        None,
        "which environment of pixi.lock, conda.lock or a manifest is built; by default `default`",
    )
    environments: Environments = key(
        (),
        "several environments of one project, a mapping of names to the keys of each: "
        + ", ".join(environments.KEYS)
        + "; the others are for all. `-e NAME` or CONDAINER_ENVIRONMENT chooses one",
    )
    mount_base_directory: Path = key(
        Path("/tmp"),
        "directory of the mount points, the same on every machine that shares images",
        "CONDAINER_MOUNT_BASE",
    )
    cache_directory: Path = key(
        None, "the cache of images; a group shares one", "CONDAINER_CACHE", lambda: user_cache()
    )
    readonly_caches: tuple[Path, ...] = key(
        (),
        "caches that are looked into first and never written; images are downloaded from what is "
        "an http or https URL, which a project's file cannot name",
        "CONDAINER_READONLY_CACHES",
    )
    registries: tuple[str, ...] = key(
        (),
        "registries that are asked for an image after the caches, as `oci://HOST/PATH`; the "
        "variable has blanks between them",
        "CONDAINER_REGISTRIES",
        personal=True,
    )
    push: bool = key(
        False,
        "push what you build to the first of `registries`",
        "CONDAINER_PUSH",
        personal=True,
    )
    pull_only: bool = key(
        False, "never build: take images from caches and registries", "CONDAINER_PULL_ONLY"
    )
    package_cache: Path = key(
        None,
        "downloaded packages",
        "CONDAINER_PACKAGE_CACHE",
        lambda: user_cache() / "packages",
    )
    unpacked: str = key(
        "auto",
        "unpacked packages after a build: `keep`, `remove`, or `auto`: removed if the package "
        "cache is in the home directory or on a server's file system",
        "CONDAINER_UNPACKED",
    )
    packages_max_size: str = key(
        "20G", "how large the package cache may be after a build", personal=True
    )
    packages_max_files: int = key(
        200_000, "how many files the package cache may have after a build", personal=True
    )
    packages_older_than: str = key(
        "90d", "how long the package cache keeps what no build uses", personal=True
    )
    readonly_package_caches: tuple[Path, ...] = key(
        (),
        "package caches that are looked into first and never written",
        "CONDAINER_READONLY_PACKAGE_CACHES",
    )
    staging_directory: Path = key(
        None,
        "where environments are put together before they are compressed; a local disk",
        "CONDAINER_STAGING",
        lambda: Path(os.environ.get("TMPDIR") or "/tmp").absolute(),
    )
    mirrors: tuple[tuple[str, tuple[str, ...]], ...] = key(
        (),
        "channel name or URL, `pypi`, index URL: the URLs that are asked in its place",
        "CONDAINER_MIRRORS",
    )
    offline: bool = key(
        False, "make no connection at all: refuse what is not there", "CONDAINER_OFFLINE"
    )
    virtual_packages: tuple[tuple[str, str], ...] = key(
        (), "virtual packages to lock for, in place of what is detected: `cuda`, `glibc`, …"
    )
    compressor: str = key("zstd", "one of " + ", ".join(COMPRESSORS), "CONDAINER_COMPRESSOR")
    compression_level: int = key(9, "1 (fast) to 22 (small) for zstd", "CONDAINER_LEVEL")
    processors: int = key(
        0,
        "processors used for a build; 0: all that a job or container may use",
        "CONDAINER_PROCESSORS",
    )
    tool_directory: Path | None = key(
        None,
        "where mksquashfs, squashfuse, … are looked for before PATH; a project's file says so for "
        "its builds only",
        "CONDAINER_TOOLS",
    )
    conda_exe: str | None = key(
        None,
        "conda, mamba or micromamba that solves in place of the embedded engine, by path "
        "or name; `embedded`: none",
        "CONDAINER_CONDA_EXE",
    )
    installer: Path | None = key(
        None,
        "a Miniforge-like installer, run once, whose conda or mamba does so",
        "CONDAINER_INSTALLER",
    )
    address: str | None = key(None, "pin: use this image of the cache instead of the lock's")
    wrappers: Path | None = key(
        None, "a directory in the project into which builds write what `cnd wrap` does"
    )
    post_link_scripts: bool = key(False, "run the post-link scripts of packages")
    locked: bool = key(False, "never solve: refuse a missing or stale lock", "CONDAINER_LOCKED")
    frozen: bool = key(
        False,
        "take the lock as it is, whatever environment.yml says by now",
        "CONDAINER_FROZEN",
    )
    mount: str = key("auto", "how to mount: one of " + ", ".join(WAYS), "CONDAINER_MOUNT")
    stage: str = key(
        "never",
        "mount a copy on this node: `auto` (of what a server's file system holds, where there is "
        "room), `always`, `never`, or the directory for copies",
        "CONDAINER_STAGE",
    )
    stage_max_size: str = key(
        "16G", "how large your copies on a node may be together", "CONDAINER_STAGE_MAX_SIZE"
    )
    user_site: bool = key(
        False,
        "let Python see packages in ~/.local (no PYTHONNOUSERSITE)",
        "CONDAINER_USER_SITE",
    )
    linger: float = key(
        2.0, "seconds a mount is kept after its last `cnd exec`", "CONDAINER_LINGER"
    )
    lock_timeout: float = key(
        3600.0, "seconds to wait for another builder of the same image", "CONDAINER_LOCK_TIMEOUT"
    )
    network_timeout: float = key(
        SILENCE,
        "seconds without a byte after which no server is waited for",
        "CONDAINER_NETWORK_TIMEOUT",
    )
    trust: str = key("group", "whose images are run: " + ", ".join(POLICIES), personal=True)
    allowed_signers: Path | None = key(
        None, "with `trust: signed`: who may sign, as ssh-keygen(1) has it", personal=True
    )
    signing_key: Path | None = key(
        None, "SSH key that signs what you build and import, private or public part", personal=True
    )
    trusted_caches: tuple[Path, ...] = key(
        (), "caches that are used although others own them or can write them", personal=True
    )
    policy: tuple[Rule, ...] = key(
        (),
        "`forbid_channels` and `forbid_licenses`, lists of patterns: what no environment may have; "
        "the user's file adds to the site's",
        personal=True,
    )

    def of_user(self) -> Settings:
        """Return the settings in which a project names no programs: it does so for builds only."""
        return replace(self, **dict(self.own_programs)) if self.own_programs else self

    def of_environment(self, name: str) -> Settings:
        """Return the settings for another environment of the project; raises as load_settings()."""
        return load_settings(self.project, self.overrides, files=self.files, environment=name)

    @property
    def environment_name(self) -> str:
        """The name of the environment, empty where the project declares none."""
        return environments.chosen(self.environments, self.asked)

    @property
    def title(self) -> str:
        """What messages call the environment: the project, and which one of several it is."""
        named = f" (environment {self.environment_name})" if self.environments else ""
        return f"{self.project}{named}"

    @property
    def option(self) -> str:
        """What commands that are recommended have behind their names, to choose the same."""
        name = self.environment_name
        return f" -e {name}" if name not in ("", DEFAULT) else ""

    @property
    def jobs(self) -> int:
        """How many processors a build uses."""
        # Only builds ask.
        from condainer.system import machine

        return self.processors or machine.processors()


KEYS = {item.name: item for item in fields(Settings)}


def user_cache() -> Path:
    """Return the user's own cache directory."""
    return _user_directory("XDG_CACHE_HOME", ".cache") / "condainer"


def user_file() -> Path:
    """Return where the user's own configuration stands."""
    return _user_directory("XDG_CONFIG_HOME", ".config") / "condainer" / PROJECT_FILE


def _user_directory(variable: str, below_home: str) -> Path:
    named = os.environ.get(variable, "")
    # The XDG specification: what is not absolute is to be ignored.
    if os.path.isabs(named):
        return Path(named)
    remedy = f"Set the environment variable HOME or {variable}."
    try:
        home = Path.home()
    except RuntimeError:
        raise ConfigError("You have no home directory", remedy) from None
    if not home.is_absolute():
        # It would be another one in each working directory.
        raise ConfigError(f"HOME={home}: not an absolute path", remedy)
    return home / below_home


def documented() -> list[tuple[str, str, str, str]]:
    """Return name, default, environment variable and meaning of every key, to document them."""
    rows = []
    for item in KEYS.values():
        if "doc" in item.metadata:
            default = "" if item.default in (MISSING, None, ()) else str(item.default)
            rows.append((item.name, default, item.metadata["variable"], item.metadata["doc"]))
    return rows


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
    personal = (SITE_FILE, user_file())
    for path in personal:
        found = _read_file(path, files, personal=True)
        named += found.pop("named_caches", ())
        if "policy" in found:
            found["policy"] = (*values.get("policy", ()), *found["policy"])
        values.update(found)
    of_user = dict(values)
    of_project = _read_file(project / PROJECT_FILE, files, project / PROJECT_FILE in personal)
    for name in ("named_caches", "policy"):
        # Of a project that is the user's directory, they are known already.
        of_project.pop(name, None)
    values.update(of_project)
    asked = environ.get(ENVIRONMENT, "") if environment is None else environment
    asked = "" if asked == DEFAULT else asked
    declared = values.get("environments", ())
    values.update(dict(declared).get(environments.chosen(declared, asked), ()))
    by_project = set(of_project)
    for item in KEYS.values():
        _refuse_variable(item.name, environ)
        variable = item.metadata.get("variable")
        if variable and environ.get(variable):
            where = f"the environment variable {variable}"
            values[item.name] = _from_text(item.name, environ[variable], where, Path())
            by_project.discard(item.name)
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"--set {override}: not of the form KEY=VALUE")
        _check_key(name, f"--set {override}")
        if name == environments.FIELD:
            raise _of_project_only(f"--set {override}")
        values[name] = _from_text(name, text, f"--set {override}", Path())
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
                "What it names would be run, and nobody signed that. " + _belongs(),
            )
    return settings


def _choose_inputs(values: dict[str, Any], project: Path, files: ProjectFiles) -> None:
    """Set which files a project is made from, where the configuration does not."""
    if "environment_yml" not in values:
        found = environment_file(project, files, values.get("environment") is not None)
        named = values.get("requirements_txt")
        # A pylock.<name>.toml alone, which only the configuration can choose.
        alone = named is not None and is_pylock(named) and not files.is_there(found)
        values["environment_yml"] = named if alone else found
    if "requirements_txt" not in values:
        chosen = values["environment_yml"]
        values["requirements_txt"] = requirements_file(project, chosen, files)


def project_pins(settings: Settings) -> bool:
    """Tell whether the project's own file names the address of an image."""
    path = settings.project / PROJECT_FILE
    if not settings.files.is_file(path):
        return False
    lines = settings.files.read_text(path, errors="replace").splitlines()
    return any(line.startswith(("address:", "address :")) for line in lines)


def _of_project_only(where: str) -> ConfigError:
    return ConfigError(
        f"{where}: `{environments.FIELD}` is not allowed here",
        f"Write it into the {PROJECT_FILE} of a project.",
    )


def _belongs() -> str:
    return f"Put it in {user_file()} or {SITE_FILE}."


def _refuse_variable(name: str, environ: Mapping[str, str]) -> None:
    variable = f"CONDAINER_{name.upper()}"
    if _is_personal(name) and environ.get(variable) and not KEYS[name].metadata["variable"]:
        raise ConfigError(f"{variable}: `{name}` is not allowed in the environment", _belongs())


def _is_personal(name: str) -> bool:
    item = KEYS.get(name)
    return item is not None and bool(item.metadata.get("personal"))


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
        typed = partial(_value, document=document)
        return environments.parsed(document, typed, known_keys())
    if name in ("address", "environment"):
        # As it is written: they can have digits only, and begin with 0.
        value = texts.get(place, value)
    if name == "virtual_packages" and isinstance(value, dict):
        # `12.10` is a version, and not the number 12.1.
        written = {part: texts.get((*place, part), value[part]) for part in value}
        value = {part: "" if value[part] is None else text for part, text in written.items()}
    return _typed(name, value, f"{document.where(*place)}: {name}", document.path.parent)


def _caches(values: Mapping[str, Any]) -> Iterator[Path]:
    for name in CACHES:
        found = values.get(name, ())
        found = (found,) if isinstance(found, Path) else found
        yield from (place for place in found if isinstance(place, Path))


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
    from condainer.settings import original

    if original.is_original(document):
        raise original.refusal(document, known_keys())
    problems = []
    for name in document.value:
        try:
            _check_key(str(name), document.where(name), personal)
        except ConfigError as error:
            problems.append(error)
    if problems:
        hints = dict.fromkeys(error.hint for error in problems)
        raise ConfigError("\n     ".join(e.message for e in problems), "\n     ".join(hints))


def known_keys() -> list[str]:
    """Return the names of all configuration keys."""
    return [item.name for item in KEYS.values() if "doc" in item.metadata]


def _check_key(name: str, where: str, personal: bool = False) -> None:
    known = known_keys()
    if name in known:
        if _is_personal(name) and not personal:
            raise ConfigError(f"{where}: `{name}` is not allowed here", _belongs())
        return
    if name in REPLACED:
        raise ConfigError(
            f"{where}: `{name}` is a key of the original Condainer: {REPLACED[name]}",
            "Remove the line.",
        )
    import difflib

    near = difflib.get_close_matches(name, known, 1, 0.4)
    hint = f"Did you mean `{near[0]}`?" if near else "Known keys: " + ", ".join(known) + "."
    raise ConfigError(f"{where}: unknown key `{name}`", hint)


def _from_text(name: str, text: str, where: str, base: Path) -> Any:
    """Convert the text of an environment variable or command line option."""
    if name in ("readonly_caches", "readonly_package_caches"):
        return _typed(name, PLACE.findall(text), where, base)
    if name == "registries":
        return _typed(name, text.split(), where, base)
    if name == "mirrors":
        mirrors: dict[str, list[str]] = {}
        for pair in text.split():
            channel, equals, url = pair.partition("=")
            if not equals or "://" not in url:
                raise ConfigError(f"{where}: {pair!r} is not of the form CHANNEL=URL")
            mirrors.setdefault(channel, []).append(url)
        return _typed(name, mirrors, where, base)
    if name == "virtual_packages":
        pairs = [pair.partition("=") for pair in text.split()]
        return _typed(name, {part: version for part, _, version in pairs}, where, base)
    kind = _kind(name)
    try:
        if kind == "bool":
            words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
            return words[text.lower()]
        return _typed(name, {"int": int, "float": float}.get(kind, str)(text), where, base)
    except (KeyError, ValueError):
        wanted = {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
        raise ConfigError(f"{where}: must be {wanted}, not {text!r}") from None


def _typed(name: str, value: Any, where: str, base: Path) -> Any:
    """Check the type of a value and convert it to what Settings holds."""
    kind = _kind(name)
    if name == "mount_base_directory":
        return _mount_base(value, where, base)
    if kind.startswith("Path"):
        return _path(value, where, base)
    if name in ("readonly_caches", "readonly_package_caches", "trusted_caches"):
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list):
            raise ConfigError(f"{where}: must be a list of directories")
        if name == "readonly_caches":
            return tuple(_place(item, where, base) for item in items)
        return tuple(_path(item, where, base) for item in items)
    if name == "registries":
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ConfigError(f"{where}: must be a list of registries", "Write oci://HOST/PATH.")
        return tuple(dict.fromkeys(items))
    if name == "mirrors":
        return _mirrors(value, where)
    if name == "virtual_packages":
        return _virtual_packages(value, where)
    if name == "policy":
        from condainer.settings import policy

        return policy.rules(value, where)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "float" and number and 0 <= value <= MAX_SECONDS:
        return float(value)
    if name in CHOICES and value in CHOICES[name]:
        return value
    if name == "stage":
        return _stage(value, where, base)
    if name in QUANTITIES:
        QUANTITIES[name](str(value), where)
        return str(value)
    if name == "address":
        return _address(value, where)
    if name == "environment":
        return _environment(value, where)
    if name == "conda_exe":
        path = _path(value, where, base)
        return str(path) if "/" in value else value
    wanted = {
        "bool": "true or false",
        "int": "a whole number from 0",
        "float": f"a number from 0 to {MAX_SECONDS:g}",
        "str": "one of " + ", ".join(CHOICES.get(name, ())),
    }[kind]
    raise ConfigError(f"{where}: must be {wanted}, not {value!r}")


def _kind(name: str) -> str:
    return str(KEYS[name].type)


def _place(value: Any, where: str, base: Path) -> Path | str:
    """Return a directory, or the URL of one on a server."""
    if not isinstance(value, str) or not URL.match(value):
        return _path(value, where, base)
    if has_user(value):
        raise ConfigError(f"{where}: user or password in the URL of a cache: {value}", NETRC)
    parts = urlsplit(value)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return _path(unquote(parts.path), where, base)
    odd = parts.query or parts.fragment or not value.isprintable()
    if parts.scheme not in ("https", "http") or not parts.hostname or odd:
        raise ConfigError(
            f"{where}: {value}: not the URL of a directory",
            "Write https://HOST/DIRECTORY, file:///DIRECTORY, or a path.",
        )
    return value.rstrip("/")


def _path(value: Any, where: str, base: Path) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ConfigError(f"{where}: must be a path, not {value!r}")
    if "\n" in value:
        raise ConfigError(f"{where}: a path with a line break cannot be used")
    try:
        expanded = Path(value).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{where}: {value}: {error}", "Write the path in full.") from None
    if not expanded.is_absolute():
        # Only what is relative needs a working directory, which may have been deleted.
        expanded = base.absolute() / expanded
    return Path(os.path.normpath(expanded))


def _mount_base(value: Any, where: str, base: Path) -> Path:
    path = _path(value, where, base)
    if odd := next((sign for sign in str(path) if sign in NOT_IN_PREFIX or sign < " "), ""):
        raise ConfigError(
            f"{where}: {str(path)!r}: {odd!r} cannot be in the path of an environment",
            "Scripts, PATH and Python modules of packages have that path in them, without quoting "
            "it. Choose another directory.",
        )
    return path


def _address(value: Any, where: str) -> str:
    text = str(value).lower()
    if not 4 <= len(text) <= 32 or set(text) - set("0123456789abcdef"):
        raise ConfigError(
            f"{where}: must be an address (4 to 32 hexadecimal digits), not {value!r}",
            "`cnd status` shows the address of a project; quote it if it has digits only.",
        )
    return text


def _stage(value: Any, where: str, base: Path) -> str:
    if value in STAGES:
        return str(value)
    # A word that is none of these is more likely a mistake than a directory.
    if not isinstance(value, str) or not value.startswith(("/", "~")):
        raise ConfigError(
            f"{where}: must be one of {', '.join(STAGES)}, or the whole path of a directory, "
            f"not {value!r}"
        )
    return str(_path(value, where, base))


def _environment(value: Any, where: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", value):
        raise ConfigError(f"{where}: must be the name of an environment, not {value!r}")
    return value


def _mirrors(value: Any, where: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: must be a mapping of channels to URLs")
    mirrors = []
    for channel, urls in value.items():
        items = [urls] if isinstance(urls, str) else urls
        if not isinstance(items, list) or not items:
            raise ConfigError(f"{where}: {channel}: must be a URL or a list of URLs")
        for url in items:
            if not isinstance(url, str) or not url.startswith(("http://", "https://", "file://")):
                raise ConfigError(f"{where}: {channel}: {url!r} is not an http or file URL")
            if has_secret(url):
                # The engine would write it into the package cache, beside the index.
                raise ConfigError(
                    f"{where}: {channel}: user, password or token in the URL of a mirror: {url}",
                    NETRC,
                )
        mirrors.append((str(channel), tuple(url.rstrip("/") for url in items)))
    return tuple(mirrors)


def _virtual_packages(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: must be a mapping of virtual packages to versions")
    from condainer.settings import virtual

    return tuple(sorted(virtual.checked(str(k), str(v), where) for k, v in value.items()))
