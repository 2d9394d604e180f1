"""A lock as pixi.lock and as conda.lock, with the environment `default`.

This is version 6 of rattler's format, which all that read a later one read, too. It is not written
by rattler, which could not say the hashes of PyPI packages: py-rattler's `add_pypi_package` takes
none.
"""

from __future__ import annotations

from typing import Any

import yaml

from condainer.lock.contents import pip_parts
from condainer.lock.lock_paths import DEFAULT
from condainer.lock.locks import CondaPackage, PipPackage, pip_name
from condainer.solve.conda_lock_file import Dumper
from condainer.solve.formats.exported import Exported, Known

HEAD = "# Made by `cnd lock --export`. Do not edit it.\n"
PIXI, CONDA = 6, 1


def pixi(known: Known) -> Exported:
    """What pixi and rattler read as pixi.lock."""
    return _exported("pixi", PIXI, known)


def conda(known: Known) -> Exported:
    """What `conda workspace` (conda-workspaces) reads as conda.lock."""
    return _exported("conda", CONDA, known)


def _exported(form: str, version: int, known: Known) -> Exported:
    locks = sorted(known.locks, key=lambda lock: lock.platform)
    packages: dict[str, dict[str, Any]] = {}
    used = {}
    for lock in locks:
        conda = [_conda(package, known) for package in lock.conda]
        pip = [_pip(package) for package in lock.pip]
        packages |= {next(iter(item.values())): item for item in (*conda, *pip)}
        used[lock.platform] = [dict([next(iter(item.items()))]) for item in (*conda, *pip)]
    content = {
        "version": version,
        "environments": {
            DEFAULT: {
                "channels": [{"url": f"{url}/"} for url in known.channels],
                "packages": used,
            }
        },
        "packages": list(packages.values()),
    }
    text = yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
    notes = []
    if any(known.detail(p).depends is None for lock in locks for p in lock.conda):
        notes.append("What the conda packages depend on is not known, and left out")
    if any(lock.variables for lock in locks):
        notes.append("Variables are not in this format")
    platform = locks[0].platform if len(locks) == 1 else ""
    return Exported(form, platform, HEAD + text, tuple(notes))


def _conda(package: CondaPackage, known: Known) -> dict[str, Any]:
    detail = known.detail(package)
    md5 = {"md5": detail.md5} if detail.md5 else {}
    depends = {"depends": list(detail.depends)} if detail.depends else {}
    return {"conda": package.url, "sha256": package.sha256, **md5, **depends}


def _pip(package: PipPackage) -> dict[str, Any]:
    name = pip_name(package.name)
    if package.is_vcs:
        url = package.url.partition("#")[0].removesuffix(f"@{package.commit}")
        directory = f"&subdirectory={package.subdirectory}" if package.subdirectory else ""
        place = f"{url}?rev={package.commit}{directory}#{package.commit}"
        # Its version is not known before it is built; conda-lock has this one.
        return {"pypi": place, "name": name, "version": f"0+git.{package.commit[:12]}"}
    # A URL need not tell it.
    version = pip_parts(package.filename)[1] or "0+unknown"
    return {"pypi": package.url, "name": name, "version": version, "sha256": package.sha256}
