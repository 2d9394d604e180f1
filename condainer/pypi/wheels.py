"""The PyPI side, by uv: resolve against the conda part, install by hash or by commit."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from condainer.inputs import toml_file
from condainer.inputs.inputs import Inputs
from condainer.inputs.read import logins
from condainer.inputs.requirements import Line
from condainer.lock.contents import pip_parts
from condainer.lock.locks import VCS, PipPackage, is_named, pip_name
from condainer.network import credentials
from condainer.package_cache.archives import File
from condainer.packages import downloads, git_repositories
from condainer.pypi import index_mirrors, uv_failures, uv_options
from condainer.settings.config import Settings
from condainer.system import environments, process
from condainer.system.errors import (
    BuildError,
    InputError,
    OfflineError,
    SolveError,
    ToolError,
)
from condainer.system.files import storage_error_told
from condainer.system.process import CommandFailed
from condainer.system.reporter import Reporter
from condainer.system.urls import NETRC, without_user

# Between the file of a requirement and its hash.
HASHED = " --hash=sha256:"


@dataclass(frozen=True)
class Resolved:
    """What pip packages an environment gets beyond what its conda packages provide.

    `replaced` names conda packages that a requirement forces to another version.
    """

    packages: tuple[PipPackage, ...]
    replaced: tuple[str, ...]


def resolve(
    inputs: Inputs,
    prefix: Path,
    scratch: Path,
    reporter: Reporter,
    held: Sequence[PipPackage] = (),
    foreign: bool = False,
    program: Path | None = None,
) -> Resolved:
    """Resolve the requirements against the conda packages that are linked in `prefix`.

    The conda packages' own metadata tells uv what they provide. Parameters: `scratch` is a private
    directory for uv's files; `held` are packages of an older lock, which stay at their versions
    where that is possible; with `foreign`, the interpreter stands for one that cannot run here, so
    nothing is built; `program` is the interpreter where `prefix` has none. Raises SolveError if no
    packages satisfy the requirements, InputError for one that is wrong, NetworkError when the index
    cannot be reached.
    """
    for line in inputs.requirements:
        if name := credentials.unset(line.text):
            raise InputError(
                f"{line.where}: the environment variable {name} is not set: {line.text}",
                f"`export {name}=…`. {NETRC}",
            )
    if any("://" in line.text for line in inputs.requirements if not line.is_option):
        # A repository, or an archive whose own requirements name one.
        git_repositories.limit_ssh()
    lines, arguments = uv_options.spelled(inputs.requirements)
    inputs = replace(inputs, requirements=lines)
    wanted = _write(
        scratch / "requirements.txt",
        [line.text for line in inputs.requirements if not line.constraint],
    )
    arguments += ["--python", str(program or prefix / "bin" / "python"), "--no-progress"]
    arguments += ["--no-build"] if foreign else []
    shown = [*arguments, *(["--prefix", str(prefix)] if program else [])]
    held_back = _pins(held, inputs, prefix)
    reporter.step("Resolving pip requirements")
    try:
        changes = _changes(wanted, inputs, shown, scratch, held_back)
        # What comes from a git repository has no version before it is built.
        added = {c["name"]: c.get("version") for c in changes if c["action"] == "installed"}
        removed = tuple(sorted(c["name"] for c in changes if c["action"] == "uninstalled"))
        if not added:
            return Resolved((), removed)
        pins = _write(scratch / "pins.txt", _pin_lines(inputs.requirements, added))
        locked = process.run(
            [
                *_uv("pip", "compile", "--no-deps", "--format", "pylock.toml", "--quiet"),
                *arguments,
                str(pins),
            ],
            env=environments.resolving(scratch, _named(inputs)),
        )
    except CommandFailed as error:
        raise _explained(error, inputs.requirements, wanted) from None
    reporter.finish()
    packages = [_package(entry) for entry in toml_file.loads(locked.stdout).get("packages", [])]
    chosen = [package for package in packages if package.name in added]
    _check_hashes(chosen, inputs.requirements)
    local = [package.filename for package in chosen if package.url.startswith("file:")]
    if local:
        reporter.warn(
            f"{', '.join(local)} can be installed only on machines that have the directory of "
            "--find-links"
        )
    warn_of_sources(chosen, reporter)
    lost = sorted(set(added) - {package.name for package in chosen})
    if lost:
        raise InputError(f"No URL with a sha256 could be found for {', '.join(lost)}")
    return Resolved(tuple(sorted(chosen, key=lambda package: package.name)), removed)


def warn_of_sources(packages: Sequence[PipPackage], reporter: Reporter) -> None:
    """Name the packages that each build compiles from their source."""
    built = [package.filename for package in packages if not package.is_wheel]
    if built:
        reporter.warn(
            f"Built from source during each build: {', '.join(built)}: there is no wheel that "
            "fits, and the bytes depend on the build tools of the day"
        )


def _changes(
    wanted: Path,
    inputs: Inputs,
    arguments: Sequence[str],
    scratch: Path,
    pins: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return what uv would install and remove; pins that stand in the way are let go."""
    constraints = [line.text for line in inputs.requirements if line.constraint]
    while True:
        lines = [*constraints, *(f"{name}=={version}" for name, version in pins.items())]
        limits = ["--constraints", str(_write(scratch / "constraints.txt", lines))]
        try:
            report = process.run(
                [
                    *_uv("pip", "install", "--dry-run", "--output-format", "json"),
                    *arguments,
                    *("--break-system-packages", "--requirements", str(wanted)),
                    *(limits if lines else ()),
                ],
                env=environments.resolving(scratch, _named(inputs)),
            )
            return list(json.loads(report.stdout)["changes"])
        except CommandFailed as error:
            if not pins or uv_failures.not_of_a_requirement(error):
                raise
            words = set(re.findall(r"[a-z0-9][a-z0-9.-]*[a-z0-9]|[a-z0-9]", error.stderr.lower()))
            kept = {name: version for name, version in pins.items() if name not in words}
            # Where it does not show which pin it was, none can stay.
            pins = kept if len(kept) < len(pins) else {}


def _named(inputs: Inputs) -> list[str]:
    return credentials.variables(line.text for line in inputs.requirements)


def _pins(held: Sequence[PipPackage], inputs: Inputs, prefix: Path) -> dict[str, str]:
    """Return the versions to keep of what an older lock had from the index.

    What the conda packages provide by now, and what has a URL of its own, is not pinned.
    """
    directories = prefix.glob("[Ll]ib/**/site-packages/*.dist-info")
    provided = {pip_name(path.name.partition("-")[0]) for path in directories}
    direct = {name_of_url(line.text) for line in inputs.requirements if "://" in line.text}
    return {
        name: pip_parts(package.filename)[1]
        for package in held
        if (name := pip_name(package.name)) not in provided | direct
        and not package.url.startswith(("git+", "file:"))
    }


def fetch(
    packages: Sequence[PipPackage], settings: Settings, reporter: Reporter
) -> tuple[str, ...]:
    """Return the requirements by which uv installs packages from the package cache alone.

    What is missing is downloaded. Raises what downloads.fetch() and git_repositories.fetch() do.
    """
    commits = [package for package in packages if package.is_vcs]
    others = [package for package in packages if not package.is_vcs]
    files = files_of(others, settings)
    paths = downloads.fetch(files, settings, reporter, "Downloading pip packages")
    urls = git_repositories.fetch(commits, settings, reporter)
    return (
        *(
            f"{package.name} @ {path.as_uri()}{HASHED}{package.sha256}"
            for package, path in zip(others, paths, strict=True)
        ),
        *(f"{package.name} @ {url}" for package, url in zip(commits, urls, strict=True)),
    )


def files_of(packages: Sequence[PipPackage], settings: Settings) -> list[File]:
    """Return wheels and sdists, at their index's mirrors if there are any, with who logs in."""
    known = logins(settings) if packages else []
    return [
        File(
            package.url,
            package.sha256,
            package.filename,
            tuple(
                credentials.logged_in(url, known) for url in index_mirrors.places(package, settings)
            ),
        )
        for package in packages
    ]


def install(
    requirements: Sequence[str],
    prefix: Path,
    scratch: Path,
    runner: Sequence[str],
    reporter: Reporter,
    logins: Sequence[str] = (),
    tools: Path | None = None,
) -> None:
    """Install pip packages, each from its file and by sha256, into a staged prefix.

    Those from a git repository are built from their commit. Parameters: `requirements` is what
    fetch() gave; `runner` is the beginning of the command line that lets the staged prefix appear
    at `prefix`; for what is built from source, `logins` are lines of a requirements file that say
    who logs in where, and `tools` is a directory of wheels. Raises IntegrityError when a file has
    another hash than the lock says.
    """
    reporter.step("Installing pip packages")
    hashed = [line for line in requirements if HASHED in line]
    commits = [line for line in requirements if HASHED not in line]
    command = [
        *runner,
        *_uv("pip", "install", "--python", str(prefix / "bin" / "python")),
        *("--no-deps", "--link-mode", "copy", "--no-progress"),
        *("--no-compile-bytecode", "--break-system-packages"),
        *(["--find-links", str(tools)] if tools else []),
    ]
    variables = environments.installing(scratch, credentials.variables(logins))
    try:
        if hashed:
            listed = _write(scratch / "locked.txt", [*logins, *hashed])
            local = all(line.partition(HASHED)[0].endswith(".whl") for line in hashed)
            options = ["--require-hashes", *(["--offline"] if local else [])]
            process.run([*command, *options, "--requirements", str(listed)], env=variables)
        if commits:
            # After the others: uv asks for the hash of everything in one call, or of nothing.
            listed = _write(scratch / "commits.txt", [*logins, *commits])
            process.run([*command, "--requirements", str(listed)], env=variables)
    except CommandFailed as error:
        if "network was disabled" in error.stderr:
            raise OfflineError(
                "Nothing may be downloaded (`offline`), and what is needed to build packages from "
                f"source is not at hand:\n{error.stderr.strip()}",
                "Run `cnd fetch` where there is a network and the same package cache, or take "
                "versions that have wheels.",
            ) from None
        full = storage_error_told(f"install pip packages in {scratch}", error.reason)
        raise (
            uv_failures.not_of_a_requirement(error)
            or full
            or BuildError(f"Installing the pip packages failed: {error.reason}")
        ) from None


def find_uv() -> str:
    """Return the path of the uv executable that came with this installation, or on PATH."""
    beside = process.find_tool("uv", Path(sys.executable).parent)
    if beside:
        return beside
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise ToolError("uv is not installed", "`pip install uv`") from None


def _uv(*arguments: str) -> list[str]:
    # A uv.toml or pyproject.toml near the working directory must not change what is locked.
    return [find_uv(), *arguments, "--no-config"]


def _write(path: Path, lines: Sequence[str]) -> Path:
    """Write a file that only its owner can read: options of an index can hold a password."""
    path.unlink(missing_ok=True)
    with open(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as f:
        f.writelines(f"{line}\n" for line in lines)
    return path


def _pin_lines(lines: Sequence[Line], added: Mapping[str, str | None]) -> list[str]:
    """Return the options, the direct URLs as they are, and the exact version of everything else."""
    direct = [line.text for line in lines if "://" in line.text and not line.is_option]
    by_url = {name_of_url(text) for text in direct}
    return [
        *(line.text for line in lines if line.is_option),
        *direct,
        *(f"{name}=={added[name]}" for name in added if added[name] and name not in by_url),
    ]


def _check_hashes(chosen: Sequence[PipPackage], lines: Sequence[Line]) -> None:
    """Compare what was chosen with the hashes that requirements or constraints allow."""
    for line in lines:
        allowed = re.findall(r"(?:--hash[= ]sha256:|#sha256=)([0-9a-fA-F]{64})", line.text)
        name_of = name_of_url if "://" in line.text else _requirement_name
        named = [package for package in chosen if package.name == name_of(line.text)]
        for package in named if allowed else ():
            if package.sha256 in [digest.lower() for digest in allowed]:
                continue
            if _is_for_others(line.text, package):
                continue
            raise InputError(
                f"{line.where}: {package.filename} has the sha256 {package.sha256}, which is none "
                "of the hashes given there",
                "Do not use it before the difference is explained; a list of hashes must hold "
                "the one of the file for this platform.",
            )


def _is_for_others(requirement: str, chosen: PipPackage) -> bool:
    """Tell whether a line has a marker that does not hold here: what was chosen does not meet it.

    Files for several platforms or interpreters have a line for each, with hashes of its own.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        read = Requirement(requirement.partition(" --hash")[0])
    except InvalidRequirement:
        return False
    version = pip_parts(chosen.filename)[1]
    return read.marker is not None and not read.specifier.contains(version, prereleases=True)


def name_of_url(requirement: str) -> str:
    """Return the normalised name of a `name @ URL` requirement, or of what a URL alone leads to."""
    egg = re.search(r"[#&]egg=([\w.-]+)", requirement)
    name, at, _ = f"{egg[1]}@".partition("@") if egg else requirement.partition("@")
    if not at or "://" in name:
        named = PipPackage("", requirement.split()[0], "")
        repository = named.filename.partition("@")[0].removesuffix(".git")
        name = repository if named.is_vcs else pip_parts(named.filename)[0]
    return pip_name(name.partition("[")[0].strip())


def _package(entry: Mapping[str, Any]) -> PipPackage:
    """Return the one file, or the commit, that uv chose of a package in pylock.toml."""
    if "vcs" in entry:
        return _commit(entry["name"], entry["vcs"])
    files = [*entry.get("wheels", []), entry.get("archive"), entry.get("sdist")]
    for item in files:
        if item and "sha256" in item.get("hashes", {}) and "url" in item:
            url = without_user(str(item["url"]).partition("#")[0])
            return PipPackage(entry["name"], url, item["hashes"]["sha256"])
    raise InputError(
        f"{entry['name']}: the package index gives no URL with a sha256, so it cannot be locked",
        "Use an index that does, or a direct URL to a wheel.",
    )


def _commit(name: str, entry: Mapping[str, Any]) -> PipPackage:
    directory = os.path.normpath(entry.get("subdirectory") or ".")
    inside = "" if directory == "." else f"#subdirectory={quote(directory)}"
    url = without_user(str(entry["url"]).removeprefix(VCS))
    return PipPackage(name, f"{VCS}{url}@{entry['commit-id'].lower()}{inside}", "")


def _explained(error: CommandFailed, lines: Sequence[Line], wanted: Path) -> Exception:
    """Return the error of a failed resolution, with the places of the requirements it names."""
    text = re.sub(r"^\s*error:\s*", "", error.reason)
    text = "\n".join(row for row in text.splitlines() if not row.startswith("Using Python"))
    if fault := uv_failures.not_of_a_requirement(error):
        return fault
    for number, line in enumerate([line for line in lines if not line.constraint], 1):
        text = text.replace(f"{wanted}:{number}:", f"{line.where}:")
        text = text.replace(f"`{wanted}` at position", f"`{line.where}` at position")
    named = [line for line in lines if is_named(_requirement_name(line.text), text)]
    places = ", ".join(line.where for line in named) or ", ".join(
        dict.fromkeys(line.where.rpartition(":")[0] for line in lines)
    )
    # uv breaks lines between any two words.
    unsatisfiable = "no solution found" in " ".join(text.lower().split())
    return (SolveError if unsatisfiable else InputError)(
        f"The pip requirements cannot be resolved ({places}):\n{text}",
        "Change the requirement, or the conda packages that it has to fit.",
    )


def _requirement_name(text: str) -> str:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)
    return pip_name(match[0]) if match else "\0"
