"""A lock in the formats of other tools."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from condainer.lock.explicit import lockfile_path
from condainer.lock.locks import Lock, PipPackage
from condainer.settings.config import Settings
from condainer.solve import conda_lock_file
from condainer.solve.lock_state import CONDA_LOCK
from condainer.solve.relock import check, demand, wanted_platforms
from condainer.system.errors import InputError, LockfileError
from condainer.system.files import publish_text, storage_errors
from condainer.system.platforms import this_platform

WIDTH = 96


@dataclass(frozen=True)
class Exported:
    """A text for another tool, and what its reader should know."""

    form: str
    platform: str
    text: str
    notes: tuple[str, ...]


def export(settings: Settings, form: str, platforms: Sequence[str]) -> Exported:
    """Return the lock of a project in another format; nothing is solved.

    Parameters: `form` is one of FORMS; `platforms` are those of a conda-lock.yml, for the others
    at most one, by default this machine's. Raises StaleLockError unless the lock is current.
    """
    named = platforms if platforms or form == "conda-lock" else [this_platform()]
    chosen = wanted_platforms(settings, named)
    states = check(settings, chosen)
    demand(states, settings)
    if form == "conda-lock":
        return _conda_lock(settings, platforms)
    if len(chosen) > 1:
        raise InputError(
            f"The format `{form}` holds one platform, not {', '.join(chosen)}",
            "Export each by itself, or `--export conda-lock`.",
        )
    lock = states[0][1].lock
    assert lock is not None
    return FORMS[form](
        lock, conda_lock_file.md5s(settings.project / CONDA_LOCK, settings.files.read)
    )


def save(exported: Exported, path: Path, settings: Settings) -> None:
    """Write an exported lock into a file.

    Raises InputError for a file that the lock is made from, StorageError if it cannot be written.
    """
    inputs = (settings.environment_yml, settings.requirements_txt, settings.project / CONDA_LOCK)
    ours = (*inputs, lockfile_path(settings.project, exported.platform or this_platform()))
    if os.path.realpath(path) in [os.path.realpath(item) for item in ours]:
        raise InputError(
            f"{path} is an input or a lockfile of the project itself", "Name another file."
        )
    with storage_errors(f"write {path}"):
        publish_text(path, exported.text)


def report(exported: Exported, path: Path | None) -> dict[str, Any]:
    """Return what `cnd lock --export --json` prints."""
    return {**asdict(exported), "output": str(path) if path else None}


def _requirements(lock: Lock, md5s: Mapping[str, str]) -> Exported:
    """The pip part, each by its URL and hash, for `pip install --require-hashes -r`."""
    conda = ", ".join(
        f"{name} {version}" for name, version, _ in (package.parts for package in lock.conda)
    )
    left_out = f"Left out are {len(lock.conda)} conda packages, which have to be there: {conda}"
    lines = [f"# From the lock of `cnd lock` for {lock.platform}."]
    lines += textwrap.wrap(left_out, WIDTH, initial_indent="# ", subsequent_indent="#   ")
    notes = [left_out.partition(":")[0]]
    vcs = [package.name for package in lock.pip if not package.sha256]
    if vcs:
        note = (
            f"{', '.join(vcs)}: from version control, which has no hash: `pip install "
            "--require-hashes` refuses it; install it by itself, without that option"
        )
        notes.append(note)
        lines += textwrap.wrap(note, WIDTH, initial_indent="# ", subsequent_indent="#   ")
    lines += [_requirement(package) for package in lock.pip]
    return Exported("requirements", lock.platform, "\n".join(lines) + "\n", tuple(notes))


def _requirement(package: PipPackage) -> str:
    known = f" --hash=sha256:{package.sha256}" if package.sha256 else ""
    return f"{package.name} @ {package.url}{known}"


def _explicit(lock: Lock, md5s: Mapping[str, str]) -> Exported:
    """What `conda create --file` and `micromamba create -f` take.

    Not every conda reads the sha256 of our own lockfile; all of them read an md5.
    """
    lines = [f"# platform: {lock.platform}", "@EXPLICIT"]
    notes = []
    for package in lock.conda:
        lines.append(f"{package.url}#{md5s.get(package.url) or f'sha256:{package.sha256}'}")
    if any(package.url not in md5s for package in lock.conda):
        notes.append(f"{CONDA_LOCK} does not have the md5 of all packages, which older conda needs")
    if lock.pip:
        lines += [f"# pip {_with_fragment(package)}" for package in lock.pip]
        notes.append("pip packages are in comments, which conda-lock reads and conda does not")
    return Exported("explicit", lock.platform, "\n".join(lines) + "\n", tuple(notes))


def _with_fragment(package: PipPackage) -> str:
    known = f"#sha256={package.sha256}" if package.sha256 else ""
    return f"{package.name} @ {package.url}{known}"


def _environment(lock: Lock, md5s: Mapping[str, str]) -> Exported:
    """An environment.yml with every package pinned to version and build."""
    import yaml

    channels = dict.fromkeys(package.url.rsplit("/", 2)[0] for package in lock.conda)
    dependencies: list[object] = ["=".join(p.parts) for p in lock.conda]
    if lock.pip:
        dependencies.append({"pip": [_with_fragment(package) for package in lock.pip]})
    content = {
        "name": lock.name,
        "channels": [*channels, "nodefaults"],
        "dependencies": dependencies,
        **({"variables": dict(lock.variables)} if lock.variables else {}),
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    head = f"# From the lock of `cnd lock` for {lock.platform}: a solver is still asked.\n"
    note = "Versions and builds are pinned, hashes of conda packages are not in this format"
    return Exported("environment", lock.platform, head + text, (note,))


def _conda_lock(settings: Settings, platforms: Sequence[str]) -> Exported:
    path = settings.project / CONDA_LOCK
    if not settings.files.is_file(path):
        raise LockfileError(
            f"{path}: there is none",
            "`cnd lock` writes it, unless a channel gives no md5 of its packages; an explicit "
            "lockfile of another tool cannot be exported to it.",
        )
    content = conda_lock_file.parse(path, settings.files.read)
    if not platforms or not content:
        return Exported("conda-lock", "", settings.files.read_text(path), ())
    return Exported("conda-lock", "", conda_lock_file.only(content, platforms), ())


FORMS: dict[str, Callable[[Lock, Mapping[str, str]], Exported]] = {
    "requirements": _requirements,
    "explicit": _explicit,
    "environment": _environment,
}
