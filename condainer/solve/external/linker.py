"""Conda packages into a prefix by an external executable, through an explicit file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from condainer.packages import archive_paths, conda_packages, linked_files
from condainer.settings.config import Settings
from condainer.solve.external.conda_exe import SAID, Executable, environment
from condainer.solve.external.likeness import Differs, Linked, establish
from condainer.solve.external.package_contents import doubts, read_contents
from condainer.system import namespace, process
from condainer.system.errors import BuildError
from condainer.system.files import md5_of, remove_tree, storage_error_told
from condainer.system.reporter import Reporter

# Engines run the scripts of packages by the bash that they find first. Whether these run is decided
# elsewhere, and so is how.
NO_SCRIPTS = "#!/bin/sh\nexit 0\n"


def link(
    executable: Executable,
    archives: Sequence[Path],
    directory: Path,
    prefix: Path,
    scratch: Path,
    settings: Settings,
    reporter: Reporter,
) -> linked_files.Linked:
    """Link as Engine.link() has it, so that every byte is as the embedded engine would have it.

    Where that cannot be had, because engines differ in something that cannot be made equal, the
    embedded one links, with a warning.
    """
    asyncio.run(archive_paths.check(archives, scratch))
    contents = read_contents(archives)
    doubt = next(doubts(contents, prefix), None)
    if doubt is None:
        reporter.step(f"Linking conda packages with {executable.name}")
        place = scratch / "engine"
        place.mkdir()
        try:
            _install(executable, _explicit(archives, place), directory, prefix, place)
            establish(Linked(directory, prefix, place / "pkgs"), contents)
            linked_files.check(directory)
            order = conda_packages.ordered([content.record for content in contents])
            return linked_files.Linked(tuple(order))
        except Differs as difference:
            doubt = str(difference)
            _empty(directory)
        finally:
            # Also what is unpacked: a file with a second name elsewhere would be told by the image.
            remove_tree(place)
    reporter.warn(f"The embedded engine links instead of {executable.path}: {doubt}")
    return conda_packages.link(archives, directory, prefix, scratch, settings, reporter)


def _empty(directory: Path) -> None:
    """Remove what is in a directory, which may be one that something is bound to."""
    for path in directory.iterdir():
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink()


def _explicit(archives: Sequence[Path], place: Path) -> Path:
    """Write an explicit file of archives; their hash is the one that every release understands."""
    lines = ["@EXPLICIT"]
    for archive in archives:
        lines.append(f"{archive.as_uri()}#{md5_of(archive)}")
    path = place / "explicit.txt"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _install(
    executable: Executable, explicit: Path, directory: Path, prefix: Path, place: Path
) -> None:
    """Let the executable install an explicit file, which alone says what, into an empty prefix."""
    # An environment without packages: micromamba creates none where a directory is.
    (directory / "conda-meta").mkdir(parents=True)
    (directory / "conda-meta" / "history").touch()
    shims = place / "shims"
    shims.mkdir()
    (shims / "bash").write_text(NO_SCRIPTS, "ascii")
    (shims / "bash").chmod(0o755)
    variables = environment(executable.path, place)
    variables["PATH"] = f"{shims}:{variables['PATH']}"
    runner = namespace.command(directory, prefix) if directory != prefix else []
    options = ["--file", str(explicit), "--offline", "--yes"]
    command = [str(executable.path), "install", "--prefix", str(prefix), *options]
    try:
        process.run([*runner, *command], env=variables, cwd=place)
    except process.CommandFailed as error:
        doing = f"link conda packages into {directory}"
        said = error.reason[-SAID:]
        raise storage_error_told(doing, said) or BuildError(
            f"{executable.path} could not install the packages: {said}",
            "`cnd prereq` shows the engine in force; without `conda_exe:` it is the embedded one.",
        ) from None
