"""Link conda archives into a prefix: `benchmarks.link PACKAGE_CACHE PREFIX ARCHIVE...`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path


async def link(cache: Path, prefix: Path, archives: list[str]) -> None:
    """Link as conda does: hard links where possible, unpacked packages taken as they are."""
    import rattler
    from rattler.package_cache import ValidationMode

    records = [await rattler.RepoDataRecord.from_package_archive(path) for path in archives]
    await rattler.install(
        records,
        target_prefix=prefix,
        package_cache=rattler.PackageCache.new_layered(
            [cache / "unpacked"], validation_mode=ValidationMode.skip()
        ),
        installed_packages=[],
        execute_link_scripts=False,
        show_progress=False,
    )


if __name__ == "__main__":
    asyncio.run(link(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
