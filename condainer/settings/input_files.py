"""Which file says what a project is made from, where its configuration names none."""

from __future__ import annotations

import re
from pathlib import Path

from condainer.settings.project_files import ProjectFiles

# What an environment file is called; the first that is there is read.
ENVIRONMENT_FILES = ("environment.yml", "environment.yaml")
REQUIREMENTS = "requirements.txt"
PYPROJECT = "pyproject.toml"
UV_LOCK = "uv.lock"
PYLOCK = "pylock.toml"
# The manifests of pixi and of conda-workspaces, and what they write.
WORKSPACES = ("pixi.toml", "conda.toml")
WORKSPACE_LOCKS = ("pixi.lock", "conda.lock")
# What each of the tools calls its part of a pyproject.toml.
TOOLS = ("pixi", "conda")
# Files that can stand in the place of an environment file, in the order in which they are taken.
OTHERS = (*WORKSPACES, PYPROJECT, PYLOCK)
# PEP 751: `pylock.toml`, or `pylock.<name>.toml` without a dot in the name.
PYLOCKS = re.compile(r"pylock(\.[^./]+)?\.toml")
_WORKSPACE = re.compile(rf"^[ \t]*\[+[ \t]*tool[ \t]*\.[ \t]*({'|'.join(TOOLS)})[ \t]*[.\]]", re.M)
_PROJECT = re.compile(r"^[ \t]*\[[ \t]*project[ \t]*\]", re.M)


def environment_file(project: Path, files: ProjectFiles, chooses: bool) -> Path:
    """Return the file that a project is made from: environment.yml, if none is there.

    Parameters: `chooses` tells whether an environment of a workspace was chosen, which no
    environment file has.
    """
    usual, other = (project / name for name in ENVIRONMENT_FILES)
    chosen = usual if files.is_there(usual) else other if files.is_file(other) else None
    locked = any(files.is_file(project / name) for name in WORKSPACE_LOCKS)
    if chosen is None or (chooses and not locked):
        names = (*WORKSPACES, PYPROJECT) if chooses and chosen is not None else OTHERS
        fitting = (project / name for name in names if _fits(project / name, files, chooses))
        chosen = next(fitting, chosen)
    return chosen or usual


def requirements_file(project: Path, environment: Path, files: ProjectFiles) -> Path:
    """Return what names the packages of pip beside an environment file: a pylock.toml is first."""
    locked = project / PYLOCK
    if environment.suffix != ".toml" and files.is_file(locked):
        return locked
    return project / REQUIREMENTS


def is_pylock(path: Path) -> bool:
    """Tell whether a file has a name of PEP 751."""
    return PYLOCKS.fullmatch(path.name) is not None


def candidates(project: Path, chosen: Path, files: ProjectFiles) -> list[Path]:
    """Return the files by which it is decided that a project is made from the chosen one."""
    if chosen.suffix != ".toml" and files.is_there(chosen):
        names = [*ENVIRONMENT_FILES, PYLOCK]
    else:
        names = [*ENVIRONMENT_FILES, *OTHERS]
        if chosen.parent == project and chosen.name in names:
            # Before all that come after it, it would be taken again.
            names = names[: names.index(chosen.name) + 1] if chosen.suffix == ".toml" else names
        names.append(UV_LOCK)
    return [project / name for name in names]


def _fits(path: Path, files: ProjectFiles, chooses: bool) -> bool:
    if path.name != PYPROJECT or not files.is_file(path):
        return files.is_file(path)
    text = _text(path, files)
    if _WORKSPACE.search(text):
        return True
    locked = files.is_file(path.parent / UV_LOCK)
    return not chooses and locked and _PROJECT.search(text) is not None


def _text(path: Path, files: ProjectFiles) -> str:
    try:
        return files.read_text(path, "utf-8-sig", "replace").replace("\r\n", "\n")
    except OSError:
        return ""
