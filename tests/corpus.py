"""What becomes of a directory of files that others wrote: `python -m tests.corpus DIR`.

For each environment file, requirements file, manifest and lockfile below the directory it prints
what is read from it, or why it is refused. Nothing is solved, fetched or written.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from packaging.specifiers import SpecifierSet

from condainer.inputs import toml_file
from condainer.inputs.inputs import Inputs
from condainer.inputs.manifests import workspace
from condainer.inputs.read import declared_platforms, read_inputs
from condainer.lock import conda_lock, rattler_lock
from condainer.lock.explicit import checked, read_explicit
from condainer.lock.locks import CondaPackage, Lock, Solved
from condainer.packages.by_url import wanted_of
from condainer.settings.config import Settings
from condainer.settings.input_files import OTHERS, PYPROJECT, TOOLS, UV_LOCK
from condainer.settings.load import load_settings
from condainer.solve.conda_solver import match_specs
from condainer.solve.pip import locked
from condainer.system.errors import CondainerError
from condainer.system.files import read_bytes
from condainer.system.reporter import Silent

PLATFORMS = ("linux-64", "linux-aarch64", "linux-ppc64le", "osx-64", "osx-arm64", "win-64")
SUFFIXES = (".yml", ".yaml", ".lock", ".txt", ".toml")
# Pythons for which a lock of pip packages is read; the first that it allows is taken.
PYTHONS = ("3.12.0", "3.13.0", "3.11.0", "3.14.0", "3.10.0", "3.9.0", "3.8.0")
ENVIRONMENTS = re.compile(r"^environments:$", re.MULTILINE)


def main() -> int:
    """Print what becomes of each file; the status is 1 if one of them is refused."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--quiet", action="store_true", help="print the refusals only")
    arguments = parser.parse_args()
    paths = [p for p in sorted(arguments.directory.rglob("*")) if p.suffix in SUFFIXES]
    paths = [p for p in paths if p.suffix != ".toml" or is_read(p)]
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
    if path.suffix == ".toml":
        yield from _manifest(path)
    elif path.name == UV_LOCK:
        yield from _pip_lock(path.with_name(PYPROJECT))
    elif "@EXPLICIT" in lines:
        yield from _explicit(path, lines)
    elif path.suffix == ".lock" and ENVIRONMENTS.search(text):
        yield from _environments(path, text)
    elif path.suffix in (".yml", ".yaml") and any(row.startswith("package:") for row in lines):
        yield from _unified(path)
    else:
        yield from _inputs(path)


def _explicit(path: Path, lines: list[str]) -> Iterator[str]:
    headers = [row.partition("# platform: ")[2] for row in lines if row.startswith("# platform: ")]
    platform = headers[0] if headers else PLATFORMS[0]
    yield _summary(read_explicit(path, platform, partial=True))


def _environments(path: Path, text: str) -> Iterator[str]:
    """Yield what each environment of a pixi.lock or conda.lock has for each platform."""
    problems: list[CondainerError] = []
    found = 0
    for name, environment in rattler_lock.parsed(path, text).environments():
        for subdir in sorted({str(platform.subdir) for platform in environment.platforms()}):
            try:
                lock = rattler_lock.read(path, subdir, name, partial=True)
                whole = lock if lock.is_partial else checked(lock, str(path))
            except CondainerError as error:
                problems.append(error)
                yield f"{name}: {subdir}: refused: {error.message}"
                continue
            found += 1
            yield f"{name}: {_summary(whole)}"
    if problems and not found:
        raise problems[0]


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


def is_read(path: Path) -> bool:
    """Tell whether a TOML file is one that a project can be made from."""
    try:
        document = toml_file.load(path, read_bytes)
    except CondainerError:
        return path.name in OTHERS
    return workspace.is_one(document) or "lock-version" in document.value


def _manifest(path: Path) -> Iterator[str]:
    """Yield what each environment of a workspace asks for, or a lock of pip packages has."""
    document = toml_file.load(path, read_bytes)
    if not workspace.is_one(document):
        yield from _pip_lock(path)
        return
    problems: list[CondainerError] = []
    tables = [document.at(*keys, "environments") for keys in ((), *(("tool", t) for t in TOOLS))]
    names = list(dict.fromkeys(("default", *next(filter(None, tables), ()))))
    for name in names:
        try:
            settings = load_settings(
                path.parent, [f"environment_yml={path}", f"environment={name}"]
            )
            for platform in declared_platforms(settings, PLATFORMS[0])[:1]:
                inputs = read_inputs(settings, platform)
                yield f"environment: {name}: {', '.join(inputs.platforms)}"
                yield from _asked(inputs)
        except CondainerError as error:
            problems.append(error)
            yield f"{name}: refused: {error.message}"
    if len(problems) == len(names):
        raise problems[0]


def _pip_lock(path: Path) -> Iterator[str]:
    """Yield how many packages a lock of pip packages has for the first Python that it allows."""
    settings = load_settings(path.parent, [f"environment_yml={path}"])
    inputs = read_inputs(settings, PLATFORMS[0])
    assert inputs.pip_lock is not None
    yield from _asked(inputs)
    text = inputs.pip_lock.text
    if inputs.pip_lock.is_of_uv:
        text = locked.exported(inputs.pip_lock, settings, Silent())
    document = toml_file.parsed(inputs.pip_lock.path, text)
    allowed = SpecifierSet(inputs.pip_lock.requires_python)
    version = next((item for item in PYTHONS if item in allowed), PYTHONS[0])
    python = Solved(CondaPackage("", ""), "python", version, "0_cpython", "", ())
    found = locked.chosen(document, python, inputs)
    yield f"Python {version}: {_summary(Lock(inputs.platform, (), found))}"


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
    yield from _asked(inputs)


def _asked(inputs: Inputs) -> Iterator[str]:
    yield f"channels: {', '.join(inputs.channels)}"
    for spec in inputs.specs:
        archive = wanted_of(spec, inputs.platform)
        yield f"conda: {match_specs([spec])[0] if archive is None else archive.url}"
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
