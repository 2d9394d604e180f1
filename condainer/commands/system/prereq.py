"""`cnd prereq`: the tools that are needed."""

from __future__ import annotations

import click

from condainer.cli.call import Call
from condainer.cli.console import MARKS, print_json, show
from condainer.cli.main import cli
from condainer.cli.options import JSON


@cli.command()
@click.option("--install", is_flag=True, help="Install squashfs-tools and squashfuse for yourself.")
@JSON
@click.pass_obj
def prereq(call: Call, install: bool, as_json: bool) -> None:
    """Check the tools that are needed, and tell what they can do.

    With --install, squashfs-tools and squashfuse come from conda-forge, or its mirrors, into your
    own directory, where they are found from then on; no root is needed.
    """
    from condainer import install_tools, prereq

    settings = call.settings()
    if call.dry:
        steps = [install_tools.plan()] if install else []
        call.would(*steps, "look for the tools, and ask them what they can do", as_json=as_json)
        return
    for name, _ in call.building().own_programs:
        call.say(f"`{name}` of this project is for its builds, and not looked at here")
    installed = install_tools.install(settings, call.reporter()) if install else None
    checks = prereq.check(settings)
    if as_json:
        report = {check.name: check.report() for check in checks}
        print_json(report | ({"installed": installed.report()} if installed else {}))
    else:
        for check in checks:
            show(check.line(), colour=MARKS[check.mark])
    prereq.demand(checks)
    if told := prereq.instead(checks):
        call.say(told)
