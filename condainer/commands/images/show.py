"""`cnd show` and `cnd diff`: what images hold, and how they differ."""

from __future__ import annotations

import os
from pathlib import Path

import click

from condainer.cli import complete, tables
from condainer.cli.call import Call
from condainer.cli.console import SIGNS, print_json, show
from condainer.cli.main import cli
from condainer.cli.options import JSON


@cli.command("show")
@click.argument("what", metavar="[ADDRESS|FILE]", required=False, shell_complete=complete.subjects)
@JSON
@click.pass_obj
def show_image(call: Call, what: str | None, as_json: bool) -> None:
    """Show what an image holds, and who made it.

    Without an argument, the project's own image, or its lock while that is not built. ADDRESS may
    be shortened, or be one of several environments of the project. FILE is an image, an entry's
    directory, or a lockfile. Four and more hexadecimal digits are an address; write ./FILE for a
    file of such a name.
    """
    from condainer.images import show as subject

    shown = subject.subject_of(what, call.settings(), Path(os.curdir))
    if as_json:
        print_json(shown.report())
    else:
        show(*tables.subject(shown))


@cli.command("diff")
@click.argument("old", metavar="A", shell_complete=complete.subjects)
@click.argument("new", metavar="B", shell_complete=complete.subjects)
@JSON
@click.pass_obj
def diff_images(call: Call, old: str, new: str, as_json: bool) -> None:
    """Show what changes from one environment to another.

    A and B are environments of the project, addresses, images or lockfiles, as for `cnd show`. The
    exit status is 0 whether they differ or not.
    """
    from condainer.images import show as subject
    from condainer.lock import contents

    settings = call.settings()
    one, other = (subject.subject_of(text, settings, Path(os.curdir)) for text in (old, new))
    difference = contents.difference(one.contents, other.contents)
    if as_json:
        print_json(subject.difference_report(one, other, difference))
    elif difference.is_empty:
        call.say("No difference")
    else:
        for line in tables.changes(difference):
            show(line, colour=SIGNS[line[0]])
