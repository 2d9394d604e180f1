"""Virtual packages: what a platform offers beside packages, and what the user says instead."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from condainer.system.errors import ConfigError
from condainer.system.machine import this_platform

# What can be said, as in conda's CONDA_OVERRIDE_* variables, and for which platforms it holds.
NAMES = {
    "cuda": ("linux-", "win-"),
    "cuda_arch": ("linux-", "win-"),
    "glibc": ("linux-",),
    "linux": ("linux-",),
    "osx": ("osx-",),
    "archspec": ("",),
}
VERSION = re.compile(r"[0-9][0-9A-Za-z._]*")
# What each of the others is given by, what that is called, and how it is written.
OTHERS = {
    "archspec": (re.compile(r"[A-Za-z0-9_]+"), "name", "Write it as `archspec: x86_64_v3`."),
    # CEP 46: the lowest of all devices, without the letter of a subarchitecture.
    "cuda_arch": (
        re.compile(r"[0-9]+\.[0-9]+(=[0-9A-Za-z._]+)?"),
        "compute capability",
        'Write the lowest of the machine\'s GPUs, as `cuda_arch: "8.0"`.',
    ),
}
# What a machine of another platform is taken to offer, as conda-lock has it; but no CUDA, which
# solvers would then prefer on machines without a GPU.
LINUX = "5.10"
GLIBC = "2.28"
OSX = "11.0"
ARCHITECTURES = {"64": "x86_64", "32": "x86"}


@dataclass(frozen=True)
class Virtual:
    """A virtual package."""

    name: str
    version: str
    build: str = "0"


def checked(name: str, version: str, where: str) -> tuple[str, str]:
    """Return what a configuration says of a virtual package; an empty version means: absent.

    Raises ConfigError, beginning with `where`, for an unknown name or what is no version.
    """
    name, version = name.removeprefix("__"), version.strip()
    if name not in NAMES:
        raise ConfigError(
            f"{where}: `{name}` is not a virtual package that can be chosen",
            f"Those are {', '.join(NAMES)}.",
        )
    hint = f'Write it as `{name}: "12.4"`, or `{name}: ""` if there is none.'
    pattern, what, hint = OTHERS.get(name, (VERSION, "version", hint))
    if version and not pattern.fullmatch(version):
        raise ConfigError(f"{where}: {version!r} is not a {what}", hint)
    return name, version


def overrides(
    configured: tuple[tuple[str, str], ...], environ: Mapping[str, str], platform: str
) -> tuple[tuple[str, str], ...]:
    """Return the virtual packages that the user chose for a platform, sorted.

    A variable CONDA_OVERRIDE_* wins over the configuration. What names a processor
    (`archspec`) holds for the platform of this machine only. Raises ConfigError.
    """
    chosen = dict(configured)
    for name in NAMES:
        variable = f"CONDA_OVERRIDE_{name.upper()}"
        if variable in environ:
            where = f"the environment variable {variable}"
            chosen[name] = checked(name, environ[variable], where)[1]
    return tuple(
        (name, version)
        for name, version in sorted(chosen.items())
        if platform.startswith(NAMES[name]) and (name != "archspec" or platform == this_platform())
    )


def virtual_packages(platform: str, chosen: tuple[tuple[str, str], ...]) -> tuple[Virtual, ...]:
    """Return the virtual packages of a platform: detected if it is ours, else usual ones.

    Without `__cuda` there is no `__cuda_arch`, as CEP 46 has it.
    Parameters: `chosen` is what overrides() returned for it.
    """
    offered = _detected() if platform == this_platform() else _usual(platform)
    packages = {package.name: package for package in offered}
    for name, version in chosen:
        packages.pop(f"__{name}", None)
        if version:
            packages[f"__{name}"] = _chosen(name, version)
    if "__cuda" not in packages:
        packages.pop("__cuda_arch", None)
    return tuple(packages[name] for name in sorted(packages))


def in_force(configured: tuple[tuple[str, str], ...], platform: str) -> tuple[Virtual, ...]:
    """Return the virtual packages to solve with for a platform; raises ConfigError."""
    return virtual_packages(platform, overrides(configured, os.environ, platform))


def _chosen(name: str, version: str) -> Virtual:
    if name == "archspec":
        return Virtual("__archspec", "1", version)
    version, _, build = version.partition("=")
    return Virtual(f"__{name}", version, build or "0")


def _detected() -> list[Virtual]:
    import rattler

    detected = [package.into_generic() for package in rattler.VirtualPackage.detect()]
    return [Virtual(str(p.name.normalized), str(p.version), str(p.build_string)) for p in detected]


def _usual(platform: str) -> list[Virtual]:
    system, _, machine = platform.partition("-")
    packages = [Virtual("__archspec", "1", ARCHITECTURES.get(machine, machine))]
    if system == "win":
        return [*packages, Virtual("__win", "0")]
    packages.append(Virtual("__unix", "0"))
    if system == "linux":
        packages += [Virtual("__linux", LINUX), Virtual("__glibc", GLIBC)]
    if system == "osx":
        packages.append(Virtual("__osx", OSX))
    return packages
