"""A lock as a requirements file, as an explicit file, and as an environment.yml."""

from __future__ import annotations

from condainer.lock.explicit import pip_line
from condainer.lock.lock_paths import CONDA_LOCK
from condainer.lock.locks import CondaPackage
from condainer.solve.formats.exported import Exported, Known, commented, without_conda


def requirements(known: Known) -> Exported:
    """The pip part, each by its URL and hash, for `pip install --require-hashes -r`."""
    lock = known.lock
    left_out, lines = without_conda(lock)
    notes = [left_out]
    vcs = [package.name for package in lock.pip if not package.sha256]
    if vcs:
        note = (
            f"{', '.join(vcs)}: from version control, which has no hash: `pip install "
            "--require-hashes` refuses it; install it by itself, without that option"
        )
        notes.append(note)
        lines += commented(note)
    for package in lock.pip:
        known_hash = f" --hash=sha256:{package.sha256}" if package.sha256 else ""
        lines.append(f"{package.name} @ {package.url}{known_hash}")
    return Exported("requirements", lock.platform, "\n".join(lines) + "\n", tuple(notes))


def explicit(known: Known) -> Exported:
    """What `conda create --file` and `micromamba create -f` take.

    Not every conda reads the sha256 of our own lockfile; all of them read an md5.
    """
    lock = known.lock
    lines = [f"# platform: {lock.platform}", "@EXPLICIT"]
    notes = []
    for package in lock.conda:
        lines.append(f"{package.url}#{known.detail(package).md5 or f'sha256:{package.sha256}'}")
    if not all(known.detail(package).md5 for package in lock.conda):
        notes.append(f"{CONDA_LOCK} does not have the md5 of all packages, which older conda needs")
    if lock.pip:
        lines += [pip_line(package) for package in lock.pip]
        notes.append("pip packages are in comments, which conda-lock reads and conda does not")
    return Exported("explicit", lock.platform, "\n".join(lines) + "\n", tuple(notes))


def environment(known: Known) -> Exported:
    """An environment.yml with every package pinned to version and build."""
    import yaml

    lock = known.lock
    first = next(iter(known.channels), "")
    dependencies: list[object] = [_pinned(package, first) for package in lock.conda]
    if lock.pip:
        lines = [pip_line(package).removeprefix("# pip ") for package in lock.pip]
        dependencies.append({"pip": lines})
    content = {
        "name": lock.name,
        "channels": [*known.channels, "nodefaults"],
        "dependencies": dependencies,
        **({"variables": dict(lock.variables)} if lock.variables else {}),
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    head = f"# From the lock of `cnd lock` for {lock.platform}: a solver is still asked.\n"
    note = "Versions and builds are pinned, hashes of conda packages are not in this format"
    return Exported("environment", lock.platform, head + text, (note,))


def _pinned(package: CondaPackage, first: str) -> str:
    """Return the spec of a package, with its channel unless that is the first one.

    A solver takes the package of an earlier channel, if there is one of this name.
    """
    channel, pinned = package.url.rsplit("/", 2)[0], "=".join(package.parts)
    return pinned if channel == first else f"{channel}::{pinned}"
