"""The PyPI side, by uv: resolve against the conda part, install by hash."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condainer import downloads, indexes, process, repositories
from condainer.archives import File
from condainer.config import Settings
from condainer.errors import (
    BuildError,
    InputError,
    IntegrityError,
    NetworkError,
    OfflineError,
    ToolError,
)
from condainer.files import storage_error_told
from condainer.inputs import Inputs
from condainer.lock import PipPackage
from condainer.process import CommandFailed
from condainer.report import Reporter
from condainer.requirements import Line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Seconds; a flaky mirror answers late rather than never.
HTTP_TIMEOUT = "60"


@dataclass(frozen=True)
class Resolved:
    """What pip packages an environment gets beyond what its conda packages provide.

    `replaced` names conda packages that a requirement forces to another version.
    """

    packages: tuple[PipPackage, ...]
    replaced: tuple[str, ...]


def resolve(inputs: Inputs, prefix: Path, scratch: Path, reporter: Reporter) -> Resolved:
    """Resolve the requirements against the conda packages that are linked in `prefix`.

    The conda packages' own metadata tells uv what they provide. Parameters: `scratch` is a private
    directory for uv's files. Raises InputError for a requirement that is wrong or does not exist,
    NetworkError when the index cannot be reached.
    """
    reporter.step("Resolving pip requirements")
    wanted = _write(scratch / "requirements.txt", _requirement_lines(inputs.requirements))
    constraints = _constraint_lines(inputs.requirements)
    limits = ["--constraints", str(_write(scratch / "constraints.txt", constraints))]
    limits = limits if constraints else []
    arguments = ["--python", str(prefix / "bin" / "python"), "--no-progress"]
    try:
        report = process.run(
            [
                *_uv("pip", "install", "--dry-run", "--output-format", "json"),
                *arguments,
                *("--break-system-packages", "--requirements", str(wanted), *limits),
            ],
            env=_environment(scratch),
        )
        changes = json.loads(report.stdout)["changes"]
        added = {c["name"]: c["version"] for c in changes if c["action"] == "installed"}
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
            env=_environment(scratch),
        )
    except CommandFailed as error:
        raise _explained(error, inputs.requirements, wanted) from None
    packages = [_package(entry) for entry in tomllib.loads(locked.stdout).get("packages", [])]
    chosen = [package for package in packages if package.name in added]
    _check_hashes(chosen, inputs.requirements)
    local = [package.filename for package in chosen if package.url.startswith("file:")]
    if local:
        reporter.warn(
            f"{', '.join(local)} can be installed only on machines that have the directory of "
            "--find-links"
        )
    built = [package.filename for package in chosen if not package.is_wheel]
    if built:
        reporter.warn(
            f"No wheel fits for {', '.join(built)}: built from source during each build, whose "
            "bytes then depend on the build tools of the day"
        )
    lost = sorted(set(added) - {package.name for package in chosen})
    if lost:
        raise InputError(f"No URL with a sha256 could be found for {', '.join(lost)}")
    return Resolved(tuple(sorted(chosen, key=lambda package: package.name)), removed)


def fetch(
    packages: Sequence[PipPackage], settings: Settings, reporter: Reporter
) -> dict[PipPackage, str]:
    """Return the local URL of each package, downloading what no package cache has.

    Raises what downloads.fetch() and repositories.fetch() do.
    """
    own = [package for package in packages if repositories.is_repository(package)]
    others = [package for package in packages if package not in own]
    files = [file_of(package, settings) for package in others]
    paths = downloads.fetch(files, settings, reporter, "Downloading pip packages")
    urls = dict(zip(own, repositories.fetch(own, settings, reporter), strict=True))
    return urls | {p: path.as_uri() for p, path in zip(others, paths, strict=True)}


def file_of(package: PipPackage, settings: Settings) -> File:
    """Return the wheel or sdist of a package: at its index's mirrors if there are any."""
    places = indexes.places(package, settings)
    return File(package.url, package.sha256, package.filename, places)


def install(
    sources: Mapping[PipPackage, str],
    prefix: Path,
    scratch: Path,
    runner: Sequence[str],
    reporter: Reporter,
    tools: Path | None = None,
) -> None:
    """Install pip packages, each from its file and by sha256, into a staged prefix.

    Parameters: `sources` are the packages with their local URLs; a repository's commit takes the
    place of the sha256. `runner` is the beginning of the command line that lets the staged prefix
    appear at `prefix`; `tools` is a directory of wheels for building from source. Raises
    IntegrityError when a file has another hash than the lock says.
    """
    reporter.step("Installing pip packages")
    lines = {package: f"{package.name} @ {url}" for package, url in sources.items()}
    hashed = [f"{line} --hash=sha256:{p.sha256}" for p, line in lines.items() if p.sha256]
    commits = [line for p, line in lines.items() if not p.sha256]
    local = ["--offline"] if all(package.is_wheel for package in sources) else []
    command = [
        *runner,
        *_uv("pip", "install", "--python", str(prefix / "bin" / "python")),
        *("--no-deps", "--link-mode", "copy", "--no-progress"),
        *("--no-compile-bytecode", "--break-system-packages"),
        *(["--find-links", str(tools)] if tools else []),
    ]
    try:
        for options, chosen in ((["--require-hashes", *local], hashed), ([], commits)):
            if chosen:
                listed = _write(scratch / "locked.txt", chosen)
                arguments = [*options, "--requirements", str(listed)]
                process.run([*command, *arguments], env=_environment(scratch))
    except CommandFailed as error:
        if "network was disabled" in error.stderr:
            raise OfflineError(
                "Nothing may be downloaded (`offline`), and what is needed to build packages from "
                f"source is not at hand:\n{error.stderr.strip()}",
                "Run `cnd fetch` where there is a network and the same package cache, or take "
                "versions that have wheels.",
            ) from None
        if "hash mismatch" in error.stderr.lower():
            raise IntegrityError(
                f"A pip package does not have the hash of the lock:\n{error.stderr.strip()}",
                "Do not use it before the difference is explained; `cnd lock` locks anew.",
            ) from None
        if _is_network(error.stderr):
            raise _network_error(error) from None
        full = storage_error_told(f"install pip packages in {scratch}", error.reason)
        raise full or BuildError(f"Installing the pip packages failed: {error.reason}") from None


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


def _environment(scratch: Path) -> Mapping[str, str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONUSERBASE")
    }
    return {
        "UV_HTTP_TIMEOUT": HTTP_TIMEOUT,
        **environment,
        # Compiled files that uv's look at the interpreter would leave behind differ from ours.
        "PYTHONDONTWRITEBYTECODE": "1",
        # Where uv leaves its lock files.
        "TMPDIR": str(scratch),
    }


def _write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _requirement_lines(lines: Sequence[Line]) -> list[str]:
    return [line.text for line in lines if not line.constraint]


def _constraint_lines(lines: Sequence[Line]) -> list[str]:
    return [line.text for line in lines if line.constraint]


def _pin_lines(lines: Sequence[Line], added: Mapping[str, str]) -> list[str]:
    """Return the options, the direct URLs as they are, and the exact version of everything else."""
    direct = [line.text for line in lines if "://" in line.text and not line.is_option]
    by_url = {_name_of_url(text) for text in direct}
    return [
        *(line.text for line in lines if line.is_option),
        *direct,
        *(f"{name}=={version}" for name, version in added.items() if name not in by_url),
    ]


def _check_hashes(chosen: Sequence[PipPackage], lines: Sequence[Line]) -> None:
    """Compare what was chosen with the hashes that requirements or constraints allow."""
    for line in lines:
        allowed = re.findall(r"(?:--hash[= ]sha256:|#sha256=)([0-9a-fA-F]{64})", line.text)
        named = [package for package in chosen if package.name == _required_name(line.text)]
        for package in named if allowed else ():
            if package.sha256 in [digest.lower() for digest in allowed]:
                continue
            raise InputError(
                f"{line.where}: {package.filename} has the sha256 {package.sha256}, which is none "
                "of the hashes given there",
                "Do not use it before the difference is explained; a list of hashes must hold "
                "the one of the file for this platform.",
            )


def _required_name(requirement: str) -> str:
    """Return the normalised name of the distribution that a line is about."""
    if "://" in requirement:
        return _name_of_url(requirement)
    return _requirement_name(requirement)


def _name_of_url(requirement: str) -> str:
    """Return the normalised name of a `name @ URL` requirement or of the wheel that a URL names."""
    name, at, _ = requirement.partition("@")
    if not at or "://" in name:
        name = requirement.partition("#")[0].rpartition("/")[2].partition("-")[0]
    return re.sub(r"[-_.]+", "-", name.partition("[")[0].strip()).lower()


def _package(entry: Mapping[str, Any]) -> PipPackage:
    """Return the one file that uv chose of a package in pylock.toml."""
    files = [*entry.get("wheels", []), entry.get("archive"), entry.get("sdist")]
    for item in files:
        if item and "sha256" in item.get("hashes", {}) and "url" in item:
            url = str(item["url"]).partition("#")[0]
            return PipPackage(entry["name"], url, item["hashes"]["sha256"])
    raise InputError(
        f"{entry['name']}: the package index gives no URL with a sha256, so it cannot be locked",
        "Use an index that does, or a direct URL to a wheel.",
    )


def _explained(error: CommandFailed, lines: Sequence[Line], wanted: Path) -> Exception:
    """Return the error of a failed resolution, with the places of the requirements it names."""
    text = re.sub(r"^\s*error:\s*", "", error.reason)
    text = "\n".join(row for row in text.splitlines() if not row.startswith("Using Python"))
    if _is_network(text):
        return _network_error(error)
    for number, line in enumerate([line for line in lines if not line.constraint], 1):
        text = text.replace(f"{wanted}:{number}:", f"{line.where}:")
        text = text.replace(f"`{wanted}` at position", f"`{line.where}` at position")
    named = [line for line in lines if _requirement_name(line.text) in text.lower()]
    places = ", ".join(line.where for line in named) or ", ".join(
        dict.fromkeys(line.where.rpartition(":")[0] for line in lines)
    )
    return InputError(
        f"The pip requirements cannot be resolved ({places}):\n{text}",
        "Change the requirement, or the conda packages that it has to fit.",
    )


def _requirement_name(text: str) -> str:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else "\0"


def _is_network(text: str) -> bool:
    signs = ("failed to fetch", "dns error", "error sending request", "connection refused")
    return any(sign in text.lower() for sign in signs) and "404" not in text


def _network_error(error: CommandFailed) -> NetworkError:
    return NetworkError(
        f"The package index cannot be reached:\n{error.stderr.strip()}",
        "Check the network and the index (`--index-url`, UV_DEFAULT_INDEX, UV_INDEX).",
    )
