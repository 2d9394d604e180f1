"""What is said where a project has no environment file: what it has instead, and what to do."""

from __future__ import annotations

from pathlib import Path

from condainer.settings.config import ENVIRONMENT_FILES
from condainer.system.errors import InputError

REQUIREMENTS = "requirements.txt"
_COMPLETE = f"\nwrites {REQUIREMENTS}; `cnd init` then writes an environment.yml that has Python."
# What other tools begin a project with, and what makes an environment of it; the first that is
# there is the one to go by.
REMEDIES = {
    REQUIREMENTS: "Its packages need a Python. Write an environment.yml with the two lines\n"
    f"dependencies:\n- python\nor let `cnd init` do it: {REQUIREMENTS} is read beside it.",
    "pixi.toml": "`pixi workspace export conda-environment environment.yml` writes one; to keep "
    "what pixi.lock has, see pixi.lock in docs/locking.md.",
    "pixi.lock": "`pixi workspace export conda-explicit-spec .` writes lockfiles; rename that of "
    "this platform to conda-linux-64.lock (or linux-aarch64, …), and it is used as it is.",
    "conda-lock.yml": "It was made from an environment file: put that back.",
    "uv.lock": f"`uv export --no-emit-project -o {REQUIREMENTS}`{_COMPLETE}",
    "poetry.lock": f"`poetry export -o {REQUIREMENTS}` (poetry-plugin-export){_COMPLETE}",
    "Pipfile": f"`pipenv requirements > {REQUIREMENTS}`{_COMPLETE}",
    "Pipfile.lock": f"`pipenv requirements > {REQUIREMENTS}`{_COMPLETE}",
    "pyproject.toml": f"`uv pip compile pyproject.toml -o {REQUIREMENTS}`{_COMPLETE}",
}


def no_environment_file(path: Path) -> InputError:
    """Return the error that says that there is no environment file, and what is there instead."""
    instead = ""
    hint = "`cnd init` writes an example; `environment_yml:` in condainer.yml names another file."
    other = path.with_suffix(".yml" if path.suffix == ".yaml" else ".yaml")
    there = [name for name in REMEDIES if (path.parent / name).is_file()]
    if other.is_file():
        instead = f", but {other} is there"
        hint = f"Rename it, or write `environment_yml: {other.name}` into condainer.yml."
    elif there and path.name in ENVIRONMENT_FILES:
        instead = f", but {' and '.join(there)} {'are' if len(there) > 1 else 'is'} there"
        hint = REMEDIES[there[0]]
    return InputError(f"{path}: there is no environment file{instead}", hint)
