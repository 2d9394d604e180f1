"""What conda packages provide to Python, kept from one lock to the next.

uv resolves against the metadata of what is installed. To link whole packages for that takes longer
than all else of a lock, and the few lines that matter are the same each time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from condainer.lock.locks import CondaPackage, Solved
from condainer.package_cache.archives import private_root
from condainer.settings.config import Settings
from condainer.system.files import publish_text

# The files that say what is installed; by their ends, the directories they lie in.
NAMES = ("METADATA", "PKG-INFO", "direct_url.json")
ENDS = (".dist-info", ".egg-info")
Files = Mapping[str, str]


def closure(name: str, solved: Sequence[Solved]) -> set[str]:
    """Return the names of a package and of all that it depends on."""
    depends = {item.name: {text.split()[0] for text in item.depends} for item in solved}
    names: set[str] = set()
    new = {name}
    while new := new & depends.keys() - names:
        names |= new
        new = set().union(*(depends[here] for here in new))
    return names


def site_packages(prefix: Path, platform: str, python: Solved) -> Path:
    """Return the directory in which a prefix has Python's packages."""
    if platform.startswith("win-"):
        return prefix / "Lib" / "site-packages"
    short = ".".join(python.version.split(".")[:2])
    directories = prefix.glob(f"lib/python{short}*/site-packages")
    return min(directories, default=prefix / "lib" / f"python{short}" / "site-packages")


def known(package: CondaPackage, settings: Settings) -> Files | None:
    """Return what a package provides, by paths below site-packages; None if it is not known."""
    try:
        files = json.loads(_place(package, settings).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    good = isinstance(files, dict) and all(
        isinstance(text, str) and _matters(PurePosixPath(path)) for path, text in files.items()
    )
    return files if good else None


def put(files: Files, site: Path) -> None:
    """Write what a package provides into a prefix in which it is not linked."""
    for path, text in files.items():
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def keep(packages: Sequence[CondaPackage], prefix: Path, site: Path, settings: Settings) -> None:
    """Note what packages provide that are linked in a prefix; it only spares work the next time."""
    for package in packages:
        stem = package.filename.removesuffix(".conda").removesuffix(".tar.bz2")
        try:
            record = json.loads((prefix / "conda-meta" / f"{stem}.json").read_text("utf-8"))
            paths = [prefix / path for path in record["files"]]
            below = [path.relative_to(site) for path in paths if path.is_relative_to(site)]
            files = {str(path): _head(site / path) for path in below if _matters(path)}
            target = _place(package, settings)
            target.parent.mkdir(parents=True, exist_ok=True)
            publish_text(target, json.dumps(files), durable=False)
        except (OSError, ValueError, KeyError):
            continue


def _place(package: CondaPackage, settings: Settings) -> Path:
    # No hash of the lock vouches for it, so it must be ours.
    directory = private_root(settings) / "metadata" / package.sha256[:2]
    return directory / f"{package.sha256}.json"


def _matters(path: PurePosixPath) -> bool:
    if len(path.parts) == 1:
        return path.suffix == ".egg-info"
    return len(path.parts) == 2 and path.parts[0].endswith(ENDS) and path.name in NAMES


def _head(path: Path) -> str:
    """Return the fields of a metadata file without the description, which is its largest part."""
    text = path.read_text(encoding="utf-8")
    return text.partition("\n\n")[0] + "\n" if path.suffix != ".json" else text
