"""What stands for the Python of another platform, so that uv resolves for it without running it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from condainer.lock.locks import Solved
from condainer.settings.virtual import Virtual
from condainer.solve.pip import standin
from condainer.solve.pip.conda_metadata import site_packages
from condainer.system.errors import InputError

# What Python calls the processor there, and what uv calls it where that differs.
MACHINES = {
    "linux-32": "i686",
    "linux-64": "x86_64",
    "osx-64": "x86_64",
    "win-32": "x86",
    "win-64": "AMD64",
    "win-arm64": "ARM64",
}
ARCHITECTURES = {"x86": "i686", "AMD64": "x86_64", "ARM64": "aarch64", "arm64": "aarch64"}
SYSTEMS = {
    "linux": ("posix", "Linux", "linux"),
    "osx": ("posix", "Darwin", "darwin"),
    "win": ("nt", "Windows", "win32"),
}


def put_interpreter(
    prefix: Path, platform: str, python: Solved, virtual_packages: tuple[Virtual, ...]
) -> None:
    """Put a stand-in at `bin/python` of a prefix in which packages of a platform are linked.

    Raises InputError for what cannot be resolved from here.
    """
    if "pypy" in python.build or "graalpy" in python.build:
        raise InputError(
            f"pip requirements for {platform} cannot be resolved here with {python.build}",
            f"Lock on a {platform} machine, or without `pip:`.",
        )
    versions = {package.name: package.version for package in virtual_packages}
    answer = _answer(prefix, platform, python, versions)
    told = prefix / "bin" / ".python.json"
    program = prefix / "bin" / "python"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.unlink(missing_ok=True)
    told.write_text(json.dumps(answer), encoding="utf-8")
    command = [sys.executable, "-I", "-B", str(Path(standin.__file__)), str(told)]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)


def _answer(
    prefix: Path, platform: str, python: Solved, versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the Python of that platform would answer otherwise than ours."""
    system = platform.partition("-")[0]
    machine = machine_of(platform)
    site = str(site_packages(prefix, platform, python))
    program = str(prefix / "bin" / "python")
    return {
        "markers": markers(platform, python.version, versions),
        **dict.fromkeys(("sys_base_prefix", "sys_base_exec_prefix", "sys_prefix"), str(prefix)),
        **dict.fromkeys(("sys_base_executable", "sys_executable"), program),
        "sys_path": [site],
        "site_packages": [site],
        "stdlib": str(Path(site).parent),
        "scheme": {
            "platlib": site,
            "purelib": site,
            "include": str(prefix / "include"),
            "scripts": str(prefix / "bin"),
            "data": str(prefix),
        },
        "os": operating_system(platform, versions),
        "arch": ARCHITECTURES.get(machine, machine),
        "manylinux_compatible": system == "linux",
        "gil_disabled": python.build.endswith("t"),
        "pointer_size": "32" if machine in ("i686", "x86", "armv6l", "armv7l") else "64",
    }


def markers(platform: str, python: str, versions: Mapping[str, str]) -> dict[str, str]:
    """Return what the markers of requirements are compared with on a platform.

    Parameters: `python` is the version of Python there, `versions` are those of virtual packages,
    by name.
    """
    system = platform.partition("-")[0]
    os_name, platform_system, sys_platform = SYSTEMS[system]
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": os_name,
        "platform_machine": machine_of(platform),
        "platform_python_implementation": "CPython",
        "platform_release": versions.get("__linux", ""),
        "platform_system": platform_system,
        "platform_version": "",
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": sys_platform,
    }


def machine_of(platform: str) -> str:
    """Return what Python calls the processor of a platform."""
    return MACHINES.get(platform, platform.partition("-")[2])


def operating_system(platform: str, versions: Mapping[str, str]) -> dict[str, Any]:
    """Return name and version of a platform's system, as uv and the tags of wheels have it.

    Parameters: `versions` are those of its virtual packages. Raises InputError where it has none.
    """
    system = platform.partition("-")[0]
    if system == "win":
        return {"name": "windows"}
    name, package = ("manylinux", "__glibc") if system == "linux" else ("macos", "__osx")
    parts = versions.get(package, "").split(".")
    if not parts[0].isdigit() or (len(parts) > 1 and not parts[1].isdigit()):
        raise InputError(
            f"pip requirements for {platform} cannot be resolved without {package}",
            f"Say which version it has: `virtual_packages: {{{package.strip('_')}: …}}`.",
        )
    return {"name": name, "major": int(parts[0]), "minor": int((*parts, "0")[1])}
