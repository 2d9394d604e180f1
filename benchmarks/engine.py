"""The solver without anything around it: `python engine.py URL CACHE PROJECT PLATFORM...`.

A program of its own, which needs rattler only: it reads the specs of an environment.yml that is
written one spec a line, and prints how many packages there are for each platform.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import rattler
from rattler.package import BuildString

VIRTUAL = {"__unix": "0", "__linux": "6.1", "__glibc": "2.36", "__osx": "14.0"}


async def solve(url: str, cache: Path, project: Path, platforms: list[str]) -> None:
    """Solve for each of the platforms, with one reader of the channel."""
    lines = (project / "environment.yml").read_text(encoding="utf-8").splitlines()
    specs = [rattler.MatchSpec(line[4:]) for line in lines if line.startswith("  - ")]
    kept = rattler.SourceConfig(cache_action="force-cache-only")
    gateway = rattler.Gateway(
        cache_dir=cache,
        client=rattler.Client.default_client(),
        per_channel_config={url: kept} if "OFFLINE" in os.environ else None,
    )
    for platform in platforms:
        found = await rattler.solve(
            sources=[rattler.Channel(url)],
            specs=specs,
            gateway=gateway,
            platforms=[platform, "noarch"],  # type: ignore[list-item]
            virtual_packages=[
                rattler.GenericVirtualPackage(
                    rattler.PackageName(name), rattler.Version(version), BuildString("0")
                )
                for name, version in VIRTUAL.items()
            ],
        )
        print(platform, len(found))


if __name__ == "__main__":
    asyncio.run(solve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]))
