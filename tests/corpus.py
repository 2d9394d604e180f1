"""What becomes of a directory of files that others wrote: `python -m tests.corpus DIR`.

For each environment file, requirements file and lockfile below the directory it prints what is read
from it, or why it is refused. Nothing is solved, fetched or written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from condainer.inputs.environment_yml import Inputs, read_inputs
from condainer.lock import conda_lock
from condainer.lock.explicit import checked, read_explicit
from condainer.lock.locks import Lock
from condainer.packages.by_url import wanted_of
from condainer.settings.config import Settings, load_settings
from condainer.solve.conda_solver import _match_spec
from condainer.system.errors import CondainerError

PLATFORMS = ("linux-64", "linux-aarch64", "linux-ppc64le", "osx-64", "osx-arm64", "win-64")
SUFFIXES = (".yml", ".yaml", ".lock", ".txt")


def main() -> int:
    """Print what becomes of each file; the status is 1 if one of them is refused."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--quiet", action="store_true", help="print the refusals only")
    arguments = parser.parse_args()
    paths = [p for p in sorted(arguments.directory.rglob("*")) if p.suffix in SUFFIXES]
    refused = 0
    for path in paths:
        try:
            lines = list(lines_of(path))
        except CondainerError as error:
            refused += 1
            print(f"{path.relative_to(arguments.directory)}: REFUSED: {error.message}")
            continue
        if not arguments.quiet:
            print(f"{path.relative_to(arguments.directory)}:")
            print("".join(f"    {line}\n" for line in lines), end="")
    print(f"{len(paths)} files, {refused} refused", file=sys.stderr)
    return 1 if refused else 0


def lines_of(path: Path) -> Iterator[str]:
    """Yield what is read from a file; raises CondainerError if it is refused."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines()
    if "@EXPLICIT" in lines:
        yield from _explicit(path, lines)
    elif path.suffix in (".yml", ".yaml") and any(row.startswith("package:") for row in lines):
        yield from _unified(path)
    else:
        yield from _inputs(path)


def _explicit(path: Path, lines: list[str]) -> Iterator[str]:
    headers = [row.partition("# platform: ")[2] for row in lines if row.startswith("# platform: ")]
    platform = headers[0] if headers else PLATFORMS[0]
    yield _summary(read_explicit(path, platform, partial=True))


def _unified(path: Path) -> Iterator[str]:
    found = 0
    problem: CondainerError | None = None
    for platform in PLATFORMS:
        try:
            lock = conda_lock.read(path, platform, partial=True)
        except CondainerError as error:
            problem = error
            continue
        found += 1
        yield _summary(lock if lock.is_partial else checked(lock, str(path)))
    if problem is not None and not found:
        raise problem


def _summary(lock: Lock) -> str:
    partial = sum(not package.sha256 for package in lock.conda)
    built = sum(not package.is_wheel for package in lock.pip)
    return (
        f"{lock.platform}: {len(lock.conda)} conda packages ({partial} by md5 only), "
        f"{len(lock.pip)} pip packages ({built} built from source)"
    )


def _inputs(path: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as empty:
        inputs = read_inputs(_settings(path, Path(empty)), PLATFORMS[0])
    yield f"channels: {', '.join(inputs.channels)}"
    for spec in inputs.specs:
        archive = wanted_of(spec, inputs.platform)
        yield f"conda: {_match_spec(spec) if archive is None else archive.url}"
    yield from _rest(inputs)


def _settings(path: Path, empty: Path) -> Settings:
    """Return the settings of a project that has this file only."""
    if path.suffix == ".txt":
        environment = empty / "environment.yml"
        environment.write_text("dependencies: [python]\n")
        return load_settings(empty, [f"requirements_txt={path.absolute()}"])
    return load_settings(
        empty,
        [f"environment_yml={path.absolute()}", f"requirements_txt={empty}/requirements.txt"],
    )


def _rest(inputs: Inputs) -> Iterator[str]:
    yield from (f"pip: {line.text}" for line in inputs.requirements)
    yield from (f"variable: {name}={value}" for name, value in inputs.variables)
    yield from (f"note: {note}" for note in inputs.notes)


if __name__ == "__main__":
    sys.exit(main())
