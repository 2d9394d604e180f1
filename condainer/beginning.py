"""What `cnd init` writes into a project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from condainer.activate.scripts import SCRIPTS
from condainer.lock.explicit import is_ours, is_taken_over
from condainer.lock.lock_paths import CONDA_LOCK, RATTLER_LOCKS, lockfile_name
from condainer.settings import original
from condainer.settings.config import KEYS, PERSONAL, PROJECT_FILE, documented
from condainer.settings.input_files import (
    ENVIRONMENT_FILES,
    REQUIREMENTS,
    environment_file,
    is_pylock,
)
from condainer.settings.load import load_settings
from condainer.settings.project_files import ProjectFiles
from condainer.system import yaml_file
from condainer.system.errors import ConfigError, LockfileError
from condainer.system.files import publish_text, read_text, storage_errors, writing
from condainer.system.machine import this_platform
from condainer.system.yaml_file import Document

EXAMPLE = """\
# An example: replace it with your own environment, then run `cnd build`.
name: example
channels:
  - conda-forge
dependencies:
  - python=3.12
  - pip
"""
FOR_REQUIREMENTS = f"""\
# The Python for {REQUIREMENTS}, which is read as well: name its version here (`python=3.12`), and
# the packages that should come from conda-forge.
channels:
  - conda-forge
dependencies:
  - python
"""
HEAD = """\
# Configuration of Condainer for this project. Every key has a default: uncomment a line to
# change it. docs/reference/configuration.md explains them all.
"""
IGNORE = ".gitignore"
# The scripts of environments with a name.
OTHERS = "activate-*"
# What the original wrote, by how it begins: a build leaves alone what is not ours.
THEIR_SCRIPTS = {
    "activate": "# usage: source activate\n",
    "deactivate": "# usage: source deactivate\n",
}
WHY_IGNORED = "# `cnd build` writes these scripts for this machine. Commit the lockfiles.\n"


@dataclass(frozen=True)
class Change:
    """What becomes of a file: it gets a text, if there is one, and what `verb` says otherwise."""

    path: Path
    text: str = ""
    verb: str = "write"

    def write(self) -> None:
        """Write the file; raises StorageError when that cannot be done."""
        if self.text:
            with writing(self.path):
                mode = self.path.stat().st_mode & 0o777 if self.path.exists() else None
                publish_text(self.path, self.text, mode)
        elif self.verb == "remove":
            with storage_errors(f"remove {self.path}"):
                self.path.unlink()


def changes(directory: Path) -> Iterator[Change]:
    """Yield what `cnd init` does in a directory: nothing that exists is overwritten.

    Raises StorageError for a .gitignore that cannot be read.
    """
    configuration = _new(directory / PROJECT_FILE, _template())
    theirs = _originals(configuration.path) is not None
    yield Change(configuration.path, "", "convert") if theirs else configuration
    yield _environment(directory)
    yield _ignoring(directory / IGNORE)


def _environment(directory: Path) -> Change:
    """Return what becomes of the environment file, which not every project needs."""
    file = environment_file(directory, ProjectFiles(), chooses=False)
    usual, other = (directory / name for name in ENVIRONMENT_FILES)
    if file in (usual, other) and not os.path.lexists(file):
        if locks := _locks(directory):
            return Change(locks[0], "", "use" if _is_enough(locks[0], directory) else "lack")
        if named := sorted(p for p in directory.glob("pylock.*.toml") if is_pylock(p)):
            return Change(named[0], "", "choose")
        requirements = (directory / REQUIREMENTS).is_file()
        return _new(file, FOR_REQUIREMENTS if requirements else EXAMPLE)
    return Change(file, "", "keep" if file in (usual, other) else "use")


def conversion(directory: Path) -> Iterator[Change]:
    """Yield what makes a project of the original Condainer one of ours; a copy is kept.

    Raises ConfigError where there is none, or a copy already.
    """
    path = directory / PROJECT_FILE
    copy = path.with_name(f"{PROJECT_FILE}.original")
    document = _originals(path)
    if document is None:
        raise ConfigError(f"{path}: not a configuration of the original Condainer")
    if os.path.lexists(copy):
        raise ConfigError(f"{copy} is there already", "Move it away.")
    yield Change(copy, read_text(path, errors="surrogateescape"))
    taken = original.kept(document, KEYS)
    text = yaml.safe_dump(taken, sort_keys=False, allow_unicode=True) if taken else ""
    yield Change(path, f"{_template()}\n# From the original Condainer.\n{text}")
    for name, beginning in THEIR_SCRIPTS.items():
        script = directory / name
        if script.is_file() and read_text(script, errors="replace").startswith(beginning):
            yield Change(script, "", "remove")
    yield _ignoring(directory / IGNORE)


def _originals(path: Path) -> Document | None:
    """Return the configuration of the original Condainer, None for any other file."""
    if not path.is_file():
        return None
    with storage_errors(f"read {path}"):
        document = yaml_file.load(path, read_text(path, "utf-8-sig", "replace"), ConfigError)
    return document if original.is_original(document) else None


def _new(path: Path, text: str) -> Change:
    return Change(path, "", "keep") if os.path.lexists(path) else Change(path, text)


def _locks(directory: Path) -> list[Path]:
    """Return the lockfiles that are there, which are used as they are; no example knows of them."""
    names = (lockfile_name(this_platform()), CONDA_LOCK, *RATTLER_LOCKS)
    return [directory / name for name in names if os.path.lexists(directory / name)]


def _is_enough(lock: Path, directory: Path) -> bool:
    """Tell whether a lockfile is used as it is; ours is compared with what it was made from."""
    # What cannot be read, or is configured wrongly, is told by the build.
    with suppress(LockfileError, ConfigError):
        read = ProjectFiles().read
        if is_ours(lock, read) and not is_taken_over(read(lock)):
            return load_settings(directory).environment_yml.is_file()
    return True


def _ignoring(path: Path) -> Change:
    """Let git ignore the scripts that a build makes, whether there is a repository yet or not."""
    there = ""
    if os.path.lexists(path):
        with storage_errors(f"read {path}"):
            there = read_text(path, errors="surrogateescape")
    named = {line.strip().removeprefix("/") for line in there.splitlines()}
    missing = "".join(f"/{name}\n" for name in (*SCRIPTS, OTHERS) if name not in named)
    if not missing:
        return Change(path, "", "keep")
    end = "" if there.endswith("\n") or not there else "\n"
    return Change(path, f"{there}{end}{WHY_IGNORED}{missing}", "extend" if there else "write")


def _template() -> str:
    lines = [HEAD]
    for name, default, variable, doc in documented():
        if doc.endswith(PERSONAL):
            # Not for a project to decide.
            continue
        also = f" (also {variable})" if variable else ""
        lines.append(f"# {doc}{also}\n# {name}: {default}\n")
    return "\n".join(lines)
