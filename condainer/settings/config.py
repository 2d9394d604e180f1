"""The configuration keys, and the settings that they make, as one frozen value."""

from __future__ import annotations

import os
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path

from condainer.settings import environments
from condainer.settings.project_files import ProjectFiles
from condainer.startup.find_project import DEFAULT
from condainer.system.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from condainer.settings.environments import Environments
    from condainer.settings.policy import Rule

PROJECT_FILE = "condainer.yml"
# What the private directories of builds in the staging directory are called.
STAGE = "condainer-stage"
SITE_FILE = Path("/etc/condainer/condainer.yml")
WAYS = ("auto", "direct", "private", "kernel", "unpack")
COMPRESSORS = ("zstd", "gzip", "xz", "lz4", "lzo")
# Whose images are run; docs/explanation/security.md says what each protects from.
POLICIES = ("anyone", "group", "signed")
# Seconds without a byte after which no client of the network waits any longer.
SILENCE = 60.0
UNPACKED = ("auto", "keep", "remove")
# What the documentation says after the meaning of a personal key.
PERSONAL = " (user's or site's file only)"
# The same of one that has a variable, which the caller can set.
NOT_OF_PROJECT = " (not in a project's file)"


def key(
    default: Any, doc: str, variable: str = "", factory: Any = MISSING, personal: bool = False
) -> Any:
    """Declare a configuration key: its default, its meaning, its environment variable.

    A `personal` key is taken from the site's and the user's file only, and from its environment
    variable if it has one: the author of a project must not decide about it.
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
    command line or the variable names, empty for `default`; `pin` is the address that the project's
    own file says; `overrides` are the command line's.
    """

    project: Path
    named_caches: tuple[Path, ...] = ()
    web_caches: tuple[str, ...] = ()
    brought_caches: tuple[Path, ...] = ()
    own_programs: tuple[tuple[str, Any], ...] = ()
    files: ProjectFiles = field(default_factory=ProjectFiles)
    asked: str = ""
    pin: str | None = None
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
        False, "push what you build to the first of `registries`", "CONDAINER_PUSH", personal=True
    )
    pull_only: bool = key(
        False, "never build: take images from caches and registries", "CONDAINER_PULL_ONLY"
    )
    package_cache: Path = key(
        None, "downloaded packages", "CONDAINER_PACKAGE_CACHE", lambda: user_cache() / "packages"
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
        1_000_000, "how many files the package cache may have after a build", personal=True
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
        False, "take the lock as it is, whatever environment.yml says by now", "CONDAINER_FROZEN"
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
        False, "let Python see packages in ~/.local (no PYTHONNOUSERSITE)", "CONDAINER_USER_SITE"
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


# The configuration keys.
KEYS = {item.name: item for item in fields(Settings) if item.metadata}


def user_cache() -> Path:
    """Return the user's own cache directory."""
    return _user_directory("XDG_CACHE_HOME", ".cache") / "condainer"


def user_file() -> Path:
    """Return where the user's own configuration stands."""
    return _user_directory("XDG_CONFIG_HOME", ".config") / "condainer" / PROJECT_FILE


def _user_directory(variable: str, below_home: str) -> Path:
    named = os.environ.get(variable, "")
    # The XDG specification: ignore what is not absolute.
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
        default = "" if item.default in (MISSING, None, ()) else str(item.default)
        rows.append((item.name, default, item.metadata["variable"], item.metadata["doc"]))
    return rows
