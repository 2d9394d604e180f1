"""Lockfiles as pixi writes them."""

from __future__ import annotations

import re

from tests.helpers.projects import Project

WITH_PIP = "dependencies: [python, {pip: [six]}]\n"
HASH = "a" * 64
ELSEWHERE = "https://conda.anaconda.org/conda-forge/osx-arm64/other-1.0-0.conda"


def packages_of(project: Project) -> list[tuple[str, str, dict[str, str]]]:
    """Return kind, URL and hashes of each package in the explicit lockfile of a project."""
    text = project.lockfile.read_text()
    conda = re.findall(r"^(https?://\S+)#sha256:(\w+)$", text, re.MULTILINE)
    pip = re.findall(r"^# pip (\S+) @ (\S+)#sha256=(\w+)$", text, re.MULTILINE)
    found = [("conda", url, {"sha256": digest}) for url, digest in conda]
    for name, url, digest in pip:
        version = url.rpartition("/")[2].split("-")[1]
        found.append(("pypi", url, {"name": name, "version": f"'{version}'", "sha256": digest}))
    return found


def pixi_lock(
    packages: dict[str, list[tuple[str, str, dict[str, str]]]],
    version: int = 6,
    platform: str = "linux-64",
    head: str = "",
) -> str:
    """Return a lockfile as pixi writes it, with the packages of each environment."""
    lines = [f"version: {version}", *head.splitlines(), "environments:"]
    for name, items in packages.items():
        lines += [f"  {name}:", "    channels:"]
        lines += ["    - url: https://conda.anaconda.org/conda-forge/", "    packages:"]
        lines += ["      osx-arm64:", f"      - conda: {ELSEWHERE}", f"      {platform}:"]
        lines += [f"      - {kind}: {url}" for kind, url, _ in items]
    by_url = {item[1]: item for items in packages.values() for item in items}
    lines += ["packages:", f"- conda: {ELSEWHERE}", f"  sha256: {HASH}"]
    for kind, url, more in by_url.values():
        lines += [f"- {kind}: {url}", *(f"  {key}: {value}" for key, value in more.items())]
    return "\n".join(lines) + "\n"
