"""`cnd init`: a new project."""

from __future__ import annotations

import click

from condainer.cli.call import Call
from condainer.cli.main import cli


@cli.command()
@click.option(
    "--convert", is_flag=True, help="Make a project of the original Condainer one of ours."
)
@click.pass_obj
def init(call: Call, convert: bool) -> None:
    """Begin a project: write its configuration.

    Writes a commented condainer.yml, an example environment.yml, or one for requirements.txt, and
    into .gitignore the scripts that builds make. Nothing that exists is overwritten, except, with
    --convert, the original's condainer.yml, which is copied to condainer.yml.original.
    """
    from condainer import beginning

    done = {
        "write": "Wrote {}",
        "extend": "Added to {}",
        "keep": "{} already exists; unchanged",
        "use": "{} is there, and is what `cnd build` makes the image from",
        "lack": "{} was made from an environment file, which is not there: put that back",
        "choose": "{} is there: name it as `requirements_txt` in condainer.yml to build from it",
        "remove": "Removed {}; the next build writes a new one",
        "convert": "{} is of the original Condainer; unchanged. `cnd init --convert` converts it",
    }
    begin = beginning.conversion if convert else beginning.changes
    for change in begin(call.directory):
        if call.dry:
            call.would(f"{change.verb} {change.path}")
        else:
            change.write()
            call.say(done[change.verb].format(change.path))
