"""`cnd cache`: an image, or the files that a profile names, read before they are used."""

from __future__ import annotations

import click

from condainer import pipeline, project
from condainer.activate import run
from condainer.activate.run import Use
from condainer.cli.call import Call
from condainer.cli.main import cli
from condainer.images import profile
from condainer.mount.mounts import Image
from condainer.settings.config import Settings
from condainer.system.text import counted, human_rate, human_size


@cli.command("cache")
@click.option(
    "--record", is_flag=True, help="Write down in condainer.profile what was read so far."
)
@click.option("--all", "everything", is_flag=True, help="Read all, whatever a profile says.")
@click.pass_obj
def warm(call: Call, record: bool, everything: bool) -> None:
    """Read the image into the page cache.

    A first run from it is then as fast as later ones. Where the project has a profile,
    condainer.profile, only the files that it names are read. --record writes one: what has been
    read since the image was mounted.
    """
    settings = call.settings()
    if call.dry:
        _plan(call, settings, record, everything)
        return
    entry, lock = pipeline.current_entry(settings)
    if record:
        path, count = profile.record(Image.of(entry), settings.project)
        call.say(f"Wrote {path} ({counted(count, 'files')})")
        return
    names = None if everything else profile.read(settings.project)
    if names is None:
        seconds = project.read_into_page_cache(entry.image, call.reporter())
        size, rate = entry.manifest.size, human_rate(entry.manifest.size, seconds)
        call.say(f"Read {entry.image} ({human_size(size)}, {rate})")
        return
    use = Use(entry, lock, settings, call.reporter())
    run.claim(use)
    loaded = profile.load(entry.prefix, names, use.reporter)
    rate = human_rate(loaded.size, loaded.seconds)
    missing = f"; {loaded.missing} are not in it" if loaded.missing else ""
    told = f"({human_size(loaded.size)}, {rate}){missing}"
    call.say(f"Read {counted(loaded.files, 'files')} of {entry.image} {told}")


def _plan(call: Call, settings: Settings, record: bool, everything: bool) -> None:
    plan = project.use_plan(settings)
    names = None if everything else profile.read(settings.project)
    if record:
        last = f"write {settings.project / profile.FILE}"
    elif names is not None:
        last = f"mount {plan.image} and read {counted(len(names), 'files')} of it"
    else:
        size = f" ({human_size(plan.entry.manifest.size)})" if plan.entry else ""
        last = f"read {plan.image}{size} into the page cache"
    call.would(*plan.steps, last)
