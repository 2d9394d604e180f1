"""`cnd status`: lock, address, image and mount point of a project."""

from __future__ import annotations

import click

from condainer.cli.call import Call
from condainer.cli.console import print_json, show
from condainer.cli.main import cli
from condainer.cli.options import JSON
from condainer.system.text import human_size, printable


@cli.command()
@JSON
@click.pass_obj
def status(call: Call, as_json: bool) -> None:
    """Show lock, address, image and mount point."""
    from condainer import project

    report = project.status(call.settings())
    if as_json:
        print_json(report)
        return
    width = max(len(name) for name in report)
    for name, value in report.items():
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if isinstance(value, dict):
            value = f"{value['with']}: {value['why']}"
        if name == "size" and value is not None:
            value = human_size(value)
        if name == "packages":
            value = f"{value} (`cnd clean` removes what can be made again)"
        show(f"{name:{width}}  {'-' if value is None else printable(str(value))}")
