"""`cnd cache`: an image, or the files that a profile names, read before they are used."""

from __future__ import annotations

from collections.abc import Sequence

import click

from condainer import pipeline, project
from condainer.activate import run
from condainer.activate.run import Use
from condainer.cache.entries import Entry
from condainer.cli.call import Call
from condainer.cli.main import cli
from condainer.images import profile
from condainer.mount.mounts import Image
from condainer.settings.config import Settings
from condainer.system.text import human_rate, human_size


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
        _record(call, entry)
        return
    names = None if everything else profile.read(settings.project)
    if names is None:
        _read_all(call, entry)
    else:
        _read_files(call, Use(entry, lock, settings, call.reporter()), names)


def _plan(call: Call, settings: Settings, record: bool, everything: bool) -> None:
    plan = project.use_plan(settings)
    names = None if everything else profile.read(settings.project)
    if record:
        last = f"write {settings.project / profile.FILE}"
    elif names is not None:
        last = f"mount {plan.image} and read {len(names)} files of it"
    else:
        size = f" ({human_size(plan.entry.manifest.size)})" if plan.entry else ""
        last = f"read {plan.image}{size} into the page cache"
    call.would(*plan.steps, last)


def _record(call: Call, entry: Entry) -> None:
    directory = call.settings().project
    path, count = profile.record(Image.of(entry), directory)
    call.say(f"Wrote {path} ({count} files)")


def _read_all(call: Call, entry: Entry) -> None:
    seconds = project.read_into_page_cache(entry.image, call.reporter())
    rate = human_rate(entry.manifest.size, seconds)
    call.say(f"Read {entry.image} ({human_size(entry.manifest.size)}, {rate})")


def _read_files(call: Call, use: Use, names: Sequence[str]) -> None:
    run.claim(use)
    loaded = profile.load(use.entry.prefix, names, use.reporter)
    size, rate = human_size(loaded.size), human_rate(loaded.size, loaded.seconds)
    missing = f"; {loaded.missing} are not in it" if loaded.missing else ""
    call.say(f"Read {loaded.files} files of {use.entry.image} ({size}, {rate}){missing}")
