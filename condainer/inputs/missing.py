"""What is said where a project has no environment file: what it has instead, and what to do."""

from __future__ import annotations

from pathlib import Path

from condainer.lock.lock_paths import MAKERS
from condainer.settings.input_files import ENVIRONMENT_FILES, PYLOCK, REQUIREMENTS, is_pylock
from condainer.system.errors import InputError

_COMPLETE = f"\nwrites {REQUIREMENTS}; `cnd init` then writes an environment.yml that has Python."
# What other tools begin a project with, and what makes an environment of it; the first that is
# there is the one to go by.
REMEDIES = {
    REQUIREMENTS: "Its packages need a Python. Write an environment.yml with the two lines\n"
    f"dependencies:\n- python\nor let `cnd init` do it: {REQUIREMENTS} is read beside it.",
    **{
        name: f"{name} is used as it is where no other lockfile comes first: delete conda-*.lock "
        f"and conda-lock.yml. `{maker}` changes it."
        for name, maker in MAKERS.items()
    },
    "conda-lock.yml": "It was made from an environment file: put that back.",
    "uv.lock": "It is read with the pyproject.toml that it was made from: put that back, with its "
    "`[project]`.",
    "poetry.lock": f"`poetry export -o {REQUIREMENTS}` (poetry-plugin-export){_COMPLETE}",
    "Pipfile": f"`pipenv requirements > {REQUIREMENTS}`{_COMPLETE}",
    "Pipfile.lock": f"`pipenv requirements > {REQUIREMENTS}`{_COMPLETE}",
    "pyproject.toml": "`uv lock` writes uv.lock, by which its packages and a Python from conda are "
    f"installed; or `uv pip compile pyproject.toml -o {REQUIREMENTS}`{_COMPLETE}",
}


def no_environment_file(path: Path) -> InputError:
    """Return the error that says that there is no environment file, and what is there instead."""
    instead = ""
    hint = "`cnd init` writes an example; `environment_yml:` in condainer.yml names another file."
    other = path.with_suffix(".yml" if path.suffix == ".yaml" else ".yaml")
    there = [name for name in REMEDIES if (path.parent / name).is_file()]
    named = sorted(item.name for item in path.parent.glob("pylock.*.toml") if is_pylock(item))
    if other.is_file():
        instead = f", but {other} is there"
        hint = f"Rename it, or write `environment_yml: {other.name}` into condainer.yml."
    elif (found := named or there) and path.name in ENVIRONMENT_FILES:
        instead = f", but {' and '.join(found)} {'are' if len(found) > 1 else 'is'} there"
        chosen = f"`requirements_txt: {found[0]}` in condainer.yml chooses it"
        hint = f"{chosen}; {PYLOCK} needs no word." if named else REMEDIES[found[0]]
    return InputError(f"{path}: there is no environment file{instead}", hint)
