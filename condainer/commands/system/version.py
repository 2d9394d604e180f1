"""`cnd version`: the version of Condainer."""

from __future__ import annotations

from condainer.cli.console import print_json, show
from condainer.cli.main import cli
from condainer.cli.options import JSON


@cli.command()
@JSON
def version(as_json: bool) -> None:
    """Print the version."""
    from condainer import project

    versions = project.versions()
    if as_json:
        print_json(versions)
    else:
        show(f"condainer {versions['condainer']}")
