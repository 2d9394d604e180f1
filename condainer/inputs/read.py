"""The inputs of a project, read from whichever file it is made from."""

from __future__ import annotations

from condainer.inputs import environment_yml, requirements
from condainer.inputs.inputs import Inputs
from condainer.inputs.manifests import only_pip, workspace
from condainer.settings.config import Settings
from condainer.system.errors import InputError
from condainer.system.machine import this_platform
from condainer.system.urls import has_user


def read_inputs(settings: Settings, platform: str) -> Inputs:
    """Read the environment file, or what stands in its place, and the requirements of a project.

    Raises InputError with file and line of whatever cannot be locked.
    """
    if not is_toml(settings):
        return environment_yml.read(settings, platform)
    document = workspace.load(settings)
    if workspace.is_one(document):
        return workspace.read(document, settings, platform)
    return only_pip.read(document, settings, platform)


def declared_platforms(settings: Settings, platform: str) -> tuple[str, ...]:
    """Return the platforms that a project names; nothing if it names none."""
    if not is_toml(settings):
        return environment_yml.platforms(settings, platform)
    document = workspace.load(settings)
    return workspace.platforms(document, settings) if workspace.is_one(document) else ()


def is_toml(settings: Settings) -> bool:
    """Tell whether a project is made from a manifest or lockfile of another tool."""
    return settings.environment_yml.suffix == ".toml"


def logins(settings: Settings) -> list[str]:
    """Return the lines of the project's requirements that say who logs in at which index.

    A lock does not hold them, so that they are asked for again where packages are downloaded.
    """
    try:
        lines = read_inputs(settings, this_platform()).requirements
    except (InputError, OSError):
        # The lock is what is built; its inputs need not be here.
        return []
    texts = [line.text for line in lines if has_user(line.text) and "git+" not in line.text]
    return list(dict.fromkeys(requirements.login(text) for text in texts))
