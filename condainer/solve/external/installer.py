"""A Miniforge-like installer, run once into a private directory that its sha256 names.

An installation has its own path in its files, so it cannot be made aside and moved. Each run has a
path of its own, and a mark that is written last says which one is whole: an interrupted run leaves
no mark, and of several at once the first to finish is used by all.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from condainer.settings.config import user_cache
from condainer.solve.external.conda_exe import SAID, environment
from condainer.system import process
from condainer.system.errors import BuildError, StorageError, ToolError
from condainer.system.files import (
    is_private_directory,
    make_directory,
    open_regular,
    remove_tree,
    sha256_of,
    storage_error_told,
    storage_errors,
    sync_directory,
)
from condainer.system.private_directory import claimed_directory, read_claim, reclaim
from condainer.system.reporter import Reporter

COMPLETE = "complete"
# Paths of installations end in the first line of their scripts, which the kernel cuts at 127 bytes.
DIGITS = 32
# How long another process of this user is waited for that runs the installer, in seconds.
PATIENCE = 900.0


def found(script: Path) -> Path | None:
    """Return where an installer was run before, or None."""
    return _complete(_engines() / _identity(script))


def installed(script: Path, reporter: Reporter) -> Path:
    """Return the installation of an installer, which is run if that has not been done yet.

    Raises ToolError when it cannot be read, BuildError when it fails, StorageError when there is no
    private place for what it installs.
    """
    home = _engines() / _identity(script)
    present = _complete(home)
    if present is not None:
        return present
    with storage_errors(f"install {script} below {home}"):
        make_directory(home, 0o700)
        _demand_private(home)
        with _one_at_a_time(home):
            _clean(home)
            return _complete(home) or _install(script, home, reporter)


def _engines() -> Path:
    return user_cache() / "engines"


def _identity(script: Path) -> str:
    try:
        with open_regular(script) as stream:
            status = os.fstat(stream.fileno())
        return _digest(script, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise ToolError(
            f"{script} (`installer`) cannot be read: {error.strerror}",
            "CONDAINER_INSTALLER is the path of an installer like Miniforge's.",
        ) from None


@functools.cache
def _digest(script: Path, inode: int, size: int, changed: int) -> str:
    """Read a file, which has a hundred megabytes, once as long as it is the same one."""
    return sha256_of(script)[:DIGITS]


def _complete(home: Path) -> Path | None:
    """Return the whole installation, if it is still there."""
    name = _named(home)
    if not name:
        return None
    _demand_private(home)
    place = home / name
    return place if "/" not in name and (place / "bin").is_dir() else None


def _demand_private(home: Path) -> None:
    """Refuse a place in which others could put what we would run."""
    for path in (home, home.parent):
        if not is_private_directory(path):
            raise StorageError(
                f"{path} is not a directory that only you can write",
                f"`chmod go-w {path}`, or name another place with XDG_CACHE_HOME.",
            )


@contextlib.contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    """Spare the work that another process of this user is doing; nothing else rests on it."""
    from filelock import FileLock, Timeout

    lock = FileLock(home / "lock", timeout=PATIENCE, fallback_to_soft=False)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, NotImplementedError, Timeout):
            stack.enter_context(lock)
        yield


def _clean(home: Path) -> None:
    """Remove installations that were never finished and whose process has ended."""
    reclaim(home)
    working = {claim.purpose for path in home.iterdir() if (claim := read_claim(path))}
    working.add(_named(home))
    for path in home.iterdir():
        claimed = read_claim(path) is not None or path.name in working
        if not claimed and path.is_dir() and not path.is_symlink():
            remove_tree(path)
    if _complete(home) is None:
        # What it names was removed, by a purge for instance.
        (home / COMPLETE).unlink(missing_ok=True)


def _named(home: Path) -> str:
    try:
        return os.readlink(home / COMPLETE)
    except OSError:
        return ""


def _install(script: Path, home: Path, reporter: Reporter) -> Path:
    """Run the installer at a path of its own, and mark what it installed as whole."""
    reporter.step(f"Installing a conda with {script.name}")
    name = secrets.token_hex(3)
    place = home / name
    # The claim comes before the directory, so that no other process takes that for a forgotten one.
    with claimed_directory(home, name) as scratch:
        try:
            _run(script, place, scratch)
            sync_directory(place)
            with contextlib.suppress(FileExistsError):
                os.symlink(name, home / COMPLETE)
                sync_directory(home)
        finally:
            if _named(home) != name:
                remove_tree(place)
    finished = _complete(home)
    assert finished is not None
    return finished


def _run(script: Path, place: Path, scratch: Path) -> None:
    """Run a copy of the script, so that what is run is what was hashed."""
    copy = scratch / "installer.sh"
    shutil.copyfile(script, copy)
    if _identity(copy) != place.parent.name:
        raise ToolError(f"{script} has just changed", "Try again.")
    bash = process.find_tool("bash")
    if bash is None:
        raise ToolError("bash is needed to run an installer, and is not installed")
    variables = environment(Path(bash), scratch)
    command = [bash, str(copy), "-b", "-f", "-p", str(place)]
    try:
        process.run(command, env=variables, cwd=scratch)
    except process.CommandFailed as error:
        said = error.reason[-SAID:]
        raise storage_error_told(f"install {script} below {place}", said) or BuildError(
            f"{script} could not be run: {said}",
            "Is it one like Miniforge's, for this machine? Without CONDAINER_INSTALLER the "
            "embedded engine is used.",
        ) from None
    if not (place / "bin").is_dir():
        raise BuildError(
            f"{script} ran, but installed nothing into {place}",
            "CONDAINER_INSTALLER is the path of an installer like Miniforge's, which takes "
            "`-b -f -p DIRECTORY`.",
        )
