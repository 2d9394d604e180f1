"""pixi.lock and conda.lock, which pixi and conda write in one format, read by rattler."""

from __future__ import annotations

import functools
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from condainer.lock.conda_lock import UNPRINTABLE, check_bounds, text_of
from condainer.lock.lock_paths import DEFAULT, MAKERS, lockfile_name
from condainer.lock.locks import VCS, CondaPackage, Lock, PipPackage, git_url
from condainer.system.errors import CondainerError, LockfileError
from condainer.system.files import Read, read_bytes, storage_errors
from condainer.system.machine import this_platform
from condainer.system.text import printable, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rattler.lock import Environment, LockedPackage, LockFile, LockPlatform

BUILT = (
    "Build the package, put it on a channel, and lock it from there: an image is made of packages."
)
LOCAL = (
    "An image cannot change with a directory: build a wheel, put it on an index, and lock it from "
    "there; or choose an environment without it (`environment:` in condainer.yml)."
)


def read(
    path: Path,
    platform: str,
    environment: str = DEFAULT,
    partial: bool = False,
    read: Read = read_bytes,
) -> Lock:
    """Read one environment of a pixi.lock or conda.lock as the lock of one platform.

    Parameters: `partial` allows conda packages that have an md5 only, or no hash. Raises
    LockfileError, with the line, when it is damaged, does not lock that, or has what no image can
    be made from; FileNotFoundError.
    """
    text = text_of(path, read, f"Run `{_maker(path)}`.")
    content = parsed(path, text)
    packages = _packages(content, path, platform, environment)
    reader = _Reader(path, text, partial)
    locked = [reader.package(package) for package in packages]
    conda = tuple(package for package in locked if isinstance(package, CondaPackage))
    pip = tuple(package for package in locked if isinstance(package, PipPackage))
    return Lock(platform, conda, pip, environment=environment)


def _maker(path: Path) -> str:
    return MAKERS.get(path.name, "pixi lock")


def _tool(path: Path) -> str:
    return _maker(path).partition(" ")[0]


# `cnd build` looks at one file several times.
@functools.lru_cache(maxsize=1)
def parsed(path: Path, text: str) -> LockFile:
    """Return what the text of a pixi.lock or conda.lock holds; raises LockfileError."""
    from rattler.lock import LockFile

    if re.search("^@EXPLICIT$", text, re.MULTILINE):
        raise LockfileError(
            f"{path}: an explicit lockfile, not one of {_tool(path)}",
            f"Rename it to {lockfile_name(this_platform())}, and it is used as it is.",
        )
    try:
        # rattler's parser takes time that grows with the square of the depth.
        check_bounds(path, text)
        with storage_errors("write a temporary file"), tempfile.NamedTemporaryFile() as copy:
            # It reads files only, and must see these bytes even if the file changes meanwhile.
            copy.write(_as_rattler_has_it(path, text).encode())
            copy.flush()
            return LockFile.from_path(Path(copy.name))
    except CondainerError:
        raise
    except Exception as error:
        # rattler has no common class of its errors.
        raise LockfileError(
            f"{path}: not a lockfile of {_tool(path)}: {reason(error)}",
            f"Restore the file from version control, or run `{_maker(path)}`.",
        ) from None


def _as_rattler_has_it(path: Path, text: str) -> str:
    """Return a text with the version that rattler knows its format by.

    conda-workspaces (conda_workspaces/lockfile.py) calls rattler's version 6 its own version 1.
    """
    if path.name == "conda.lock":
        return re.sub(r"^version: *1 *$", "version: 6", text, count=1, flags=re.MULTILINE)
    return text


def _packages(
    content: LockFile, path: Path, platform: str, environment: str
) -> list[LockedPackage]:
    chosen = content.environment(environment)
    if chosen is None:
        names = ", ".join(sorted(name for name, _ in content.environments()))
        raise LockfileError(
            f"{path}: has no environment `{environment}`",
            f"It has {names or 'none'}: `environment:` in condainer.yml chooses one.",
        )
    return chosen.packages(_platform(chosen, path, platform, environment)) or []


def _platform(chosen: Environment, path: Path, platform: str, environment: str) -> LockPlatform:
    """Return a platform of a subdir: since version 7, several can have one, and other names."""
    platforms = chosen.platforms()
    fitting = [item for item in platforms if str(item.subdir) == platform]
    named = [item for item in fitting if item.name == platform]
    if len(named or fitting) == 1:
        return (named or fitting)[0]
    names = ", ".join(sorted(item.name for item in fitting or platforms))
    if fitting:
        raise LockfileError(
            f"{path}: environment `{environment}` has several platforms for {platform}: {names}",
            f"Name one of them {platform}, or give each an environment of its own.",
        )
    raise LockfileError(
        f"{path}: environment `{environment}` locks {names or 'nothing'}, not {platform}",
        f"Add {platform} to the `platforms` of the workspace, and run `{_maker(path)}`.",
    )


@dataclass(frozen=True)
class _Reader:
    """Turns packages of rattler into ours."""

    path: Path
    text: str
    partial: bool

    def package(self, package: LockedPackage) -> CondaPackage | PipPackage:
        from rattler.lock import CondaLockedBinaryPackage, PypiLockedPackage

        where = package.location
        if where.startswith("/"):
            # So rattler gives what is a file URL in the lockfile.
            where = Path(where).as_uri()
        if UNPRINTABLE.search(where) or UNPRINTABLE.search(package.name):
            raise self._error(package, "has a blank or control character in its name or URL")
        if isinstance(package, PypiLockedPackage):
            return self._pip(package, where)
        if not isinstance(package, CondaLockedBinaryPackage):
            raise self._error(package, f"is built from source: {where}", BUILT)
        if "://" not in where:
            raise self._error(package, f"stands in a local file: {where}", BUILT)
        sha256, md5 = _hashes(package)
        if not sha256 and not self.partial:
            raise self._error(package, "has no sha256, and an md5 proves nothing")
        return CondaPackage(where, sha256, "" if sha256 else md5)

    def _pip(self, package: LockedPackage, where: str) -> PipPackage:
        if where.startswith(VCS):
            url = _commit(where)
            if url is None:
                raise self._error(package, f"is no commit of 40 hexadecimal digits: {where}")
            return PipPackage(package.name, url, "")
        if "://" not in where:
            raise self._error(package, f"stands in a local directory or file: {where}", LOCAL)
        sha256, _ = _hashes(package)
        if not sha256:
            raise self._error(package, f"has no sha256: {where}")
        return PipPackage(package.name, where.partition("#")[0], sha256)

    def _error(self, package: LockedPackage, problem: str, remedy: str = "") -> LockfileError:
        lines = enumerate(self.text.splitlines(), 1)
        end = package.location
        number = next((n for n, line in lines if line.rstrip("\"' ").endswith(end)), 0)
        place = f"{self.path}:{number}" if number else str(self.path)
        return LockfileError(
            f"{place}: {printable(package.name)} {problem}",
            remedy or f"Lock again with `{_maker(self.path)}`.",
        )


def _hashes(package: LockedPackage) -> tuple[str, str]:
    """Return sha256 and md5 of a package, each empty if it has none."""
    # Where it has neither, py-rattler 0.28 has no hashes to ask.
    digests = [getattr(package.hashes, kind, None) for kind in ("sha256", "md5")]
    sha256, md5 = (digest.hex() if digest else "" for digest in digests)
    return sha256, md5


def _commit(location: str) -> str | None:
    """Return the URL of a commit as we write it, or None.

    pixi keeps what was asked for in the query, and the commit in the fragment:
    `git+https://HOST/REPOSITORY?tag=v1&subdirectory=DIRECTORY#COMMIT`.
    """
    rest, _, commit = location.partition("#")
    url, _, query = rest.partition("?")
    if not commit:
        return git_url(location)
    directory = parse_qs(query).get("subdirectory", [""])[0]
    return git_url(f"{url}@{commit}" + (f"#subdirectory={directory}" if directory else ""))
