"""A project that has a lock of pip packages only: all but these is a Python from conda."""

from __future__ import annotations

from condainer.inputs import conda_specs, pip_locks
from condainer.inputs.environment_yml import DEFAULT_CHANNEL
from condainer.inputs.inputs import Inputs
from condainer.inputs.toml_file import Toml
from condainer.lock.locks import source_of
from condainer.settings.config import Settings
from condainer.settings.environments import name_by
from condainer.settings.input_files import PYPROJECT, UV_LOCK, is_pylock
from condainer.system.errors import InputError


def read(document: Toml, settings: Settings, platform: str) -> Inputs:
    """Return the inputs of a project that has a lock of pip packages only."""
    path, files = document.path, settings.files
    if settings.environment is not None:
        raise InputError(
            f"{path} has no environments, of which `environment: {settings.environment}` could "
            "choose one",
            "Remove the key.",
        )
    if path.name == PYPROJECT:
        path = path.with_name(UV_LOCK)
        found = isinstance(document.at("project"), dict) and files.is_file(path)
    else:
        found = is_pylock(path) or document.at("lock-version") is not None
    if not found:
        raise InputError(
            f"{document.path}: no workspace of pixi or conda, and no lock of pip packages",
            "`environment_yml:` in condainer.yml names the file that a project is made from.",
        )
    lock = pip_locks.read(path, files.read)
    return Inputs(
        name=name_by(document.at("project", "name"), settings),
        platform=platform,
        platforms=(platform,),
        channels=(DEFAULT_CHANNEL,),
        specs=conda_specs.with_python((), str(path), lock.requires_python),
        post_link_scripts=settings.post_link_scripts,
        sources=tuple(
            source_of(item, settings.project, files.read)
            for item in dict.fromkeys((document.path, path))
        ),
        notes=tuple(pip_locks.notes(lock, settings)),
        virtual_packages=settings.virtual_packages,
        pip_lock=lock,
    )
