"""A conda, mamba or micromamba: found, recognised, and kept away from the user's own."""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from condainer.network import silence
from condainer.network.client_settings import AUTHORITIES
from condainer.system import environments, process
from condainer.system.errors import ToolError
from condainer.system.process import CommandFailed

# The first releases with everything asked of them here: .conda packages, and the plan of a dry run.
OLDEST = {"conda": (4, 8), "mamba": (1, 0), "micromamba": (1, 0)}
# `conda 24.7.1`, `mamba 1.5.8`, or, of mamba 2 and micromamba, the bare number.
VERSION = re.compile(r"(?:(conda|mamba|micromamba)\s+)?v?(\d+(?:\.\d+)+\S*)")
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
# Enough of what an executable said to see what went wrong.
SAID = 4000
REMEDY = "Name a conda, mamba or micromamba with `conda_exe:`, or remove that line."

# The first that is set names the certificates.
CERTIFICATES = (*AUTHORITIES, "SSL_CERT_DIR")
OVERRIDES = "CONDA_OVERRIDE_"
# One meaning for both families of tools; what differs from one site to the next is settled here.
FIXED = {
    # What the embedded engine does, so that both choose the same packages.
    "CHANNEL_PRIORITY": "strict",
    "ADD_PIP_AS_PYTHON_DEPENDENCY": "false",
    "ALWAYS_YES": "true",
    "AUTO_UPDATE_CONDA": "false",
    "NOTIFY_OUTDATED_CONDA": "false",
    "NUMBER_CHANNEL_NOTICES": "0",
    "PIP_INTEROP_ENABLED": "false",
    "REGISTER_ENVS": "false",
    "REPORT_ERRORS": "false",
    "REMOTE_MAX_RETRIES": str(silence.TRIES - 1),
}


@dataclass(frozen=True)
class Executable:
    """An executable, by its path, that said to be conda, mamba or micromamba of some version."""

    path: Path
    name: str
    version: str


def find(named: str, tool_directory: Path | None) -> Path:
    """Return the path of the executable that a setting names, by its path or its name.

    Raises ToolError when there is none.
    """
    if "/" not in named:
        program = process.find_tool(named, tool_directory)
        if program is None:
            raise ToolError(
                f"{named} (`conda_exe`) was not found in PATH",
                "Write the path in full, or remove the line to use the embedded engine.",
            )
        return Path(program).absolute()
    path = Path(named)
    if not path.is_file():
        missing = "is not a file" if path.exists() else "does not exist"
        raise ToolError(f"{path} (`conda_exe`) {missing}", REMEDY)
    if shutil.which(str(path)) is None:
        raise ToolError(f"{path} (`conda_exe`) cannot be executed", f"`chmod +x {path}`")
    return path


@functools.cache
def recognise(path: Path) -> Executable:
    """Ask an executable what it is.

    Raises ToolError when it is none of conda, mamba and micromamba, or too old.
    """
    with tempfile.TemporaryDirectory(prefix="condainer-") as scratch:
        try:
            command = [str(path), "--version"]
            said = process.run(command, env=environment(path, Path(scratch)), cwd=Path(scratch))
        except CommandFailed as error:
            raise ToolError(
                f"{path} is not a working conda, mamba or micromamba: {error.message}", REMEDY
            ) from None
    lines = said.stdout.strip().splitlines() or [""]
    matched = VERSION.fullmatch(lines[0].strip())
    if matched is None:
        raise ToolError(
            f"{path} is not conda, mamba or micromamba: `{path.name} --version` says "
            f"{lines[0][:80]!r}",
            REMEDY,
        )
    name = matched[1] or ("mamba" if path.name == "mamba" else "micromamba")
    oldest = OLDEST[name]
    if numbers(matched[2]) < oldest:
        wanted = ".".join(str(part) for part in oldest)
        raise ToolError(f"{path} is {name} {matched[2]}, but {wanted} or newer is needed", REMEDY)
    return Executable(path, name, matched[2])


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with, for comparison."""
    matched = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in matched[0].split(".")) if matched else ()


def environment(
    path: Path, scratch: Path, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the environment in which an executable runs: nothing of an activation or a user.

    Its home is `scratch`: the user's configuration, package cache and list of environments are out
    of its sight, while a configuration of its own installation or of the machine stays in force.
    Parameters: `environ` is ours, of which proxies, certificates and the overrides of virtual
    packages are kept.
    """
    overrides = {name: environ[name] for name in environ if name.startswith(OVERRIDES)}
    kept = {**environments.network(environ), **overrides}
    authorities = next((kept[name] for name in CERTIFICATES if kept.get(name)), "")
    if authorities:
        # Neither reads SSL_CERT_FILE, and mamba's client no directory.
        readers = ["CONDA_SSL_VERIFY", "REQUESTS_CA_BUNDLE"]
        readers += [] if os.path.isdir(authorities) else ["MAMBA_SSL_VERIFY", "CURL_CA_BUNDLE"]
        kept = {**dict.fromkeys(readers, authorities), **kept}
    waits = dict.fromkeys(
        ("REMOTE_CONNECT_TIMEOUT_SECS", "REMOTE_READ_TIMEOUT_SECS"), silence.of_one_try()
    )
    fixed = {
        f"{tool}_{name}": value
        for tool in ("CONDA", "MAMBA")
        for name, value in {**FIXED, **waits}.items()
    }
    return {
        **kept,
        **fixed,
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "CONDA_PKGS_DIRS": str(scratch / "pkgs"),
        **environments.PLAIN,
        # Before the system's: an installation in a long path finds its python by this name.
        "PATH": f"{path.parent}:{SYSTEM_PATH}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
    }
