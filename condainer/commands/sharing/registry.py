"""`cnd push` and `cnd pull`: images in a registry."""

from __future__ import annotations

import click

from condainer.cli import complete, tables
from condainer.cli.call import Call
from condainer.cli.console import print_json, reports, show
from condainer.cli.main import cli
from condainer.cli.options import JSON, JSON_ARRAY
from condainer.system.text import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from condainer.cache.entries import Entry
    from condainer.lock.locks import Lock
    from condainer.oci.attachments import Attachment
    from condainer.settings.config import Settings


@cli.command("push")
@click.argument("what", metavar="[ADDRESS|NAME]...", nargs=-1, shell_complete=complete.images)
@click.option("--to", metavar="REGISTRY", help="oci://HOST/PATH; else the first of `registries`.")
@click.option("--sbom", "materials", is_flag=True, help="Attach what `cnd sbom` prints.")
@JSON_ARRAY
@click.pass_obj
def push(call: Call, what: tuple[str, ...], to: str | None, materials: bool, as_json: bool) -> None:
    """Send images to a registry, each under its address.

    Without an argument, the project's image. A name (`cnd tag`) leads to the image there, too,
    for its platform. Signatures go with it. What is there already is not sent.
    """
    from condainer import pipeline
    from condainer.cache import entries, names
    from condainer.oci import repository
    from condainer.registry import configured
    from condainer.registry.push import push

    settings = call.settings()
    if to is not None:
        repository.parse(to, "--to")
    if what:
        addresses = (names.address(text, settings) for text in what)
        given = [() if names.DIGITS.fullmatch(text) else (text,) for text in what]
        chosen = list(zip((entries.pinned(a, settings) for a in addresses), given, strict=True))
    else:
        chosen = [(pipeline.current_entry(call.using(frozen=True)), ())]
    if call.dry:
        place = to or next(iter(settings.registries), "no registry: none is named")
        steps = [f"push {entry.image} to {place}" for (entry, _), _ in chosen]
        call.would(*steps, as_json=as_json)
        return
    reporter = call.reporter()
    client = configured.chosen(to, settings, reporter)
    with reports(as_json) as done:
        for (entry, lock), names_of in chosen:
            attached = [_materials(entry, lock, settings)] if materials else []
            pushed = push(entry, names_of, client, settings, reporter, attached)
            done.append(pushed.report())
            sent = human_size(pushed.sent) if pushed.sent else "nothing, it is there"
            call.say(f"Pushed {entry.address} to {pushed.registry} (sent {sent})")


def _materials(entry: Entry, lock: Lock, settings: Settings) -> Attachment:
    from condainer.images import sbom
    from condainer.oci.attachments import Attachment

    content = sbom.render(entry, lock, settings).encode()
    return Attachment(sbom.MEDIA_TYPE, sbom.MEDIA_TYPE, "sbom.cdx.json", content)


@cli.command("pull")
@click.argument("what", metavar="[ADDRESS|NAME]", required=False)
@click.option("--list", "listing", is_flag=True, help="Show what the registries have.")
@JSON
@click.pass_obj
def pull(call: Call, what: str | None, listing: bool, as_json: bool) -> None:
    """Take an image from a registry into the cache.

    Without an argument, that of CONDAINER_ENV or of the project's lock. `registries` are asked in
    order. A name leads to the image for this platform, and is given to it in the cache.
    """
    from condainer.registry import pull

    settings = call.settings()
    if listing:
        offers = pull.listed(settings, call.reporter())
        if as_json:
            print_json([item.report() for item in offers])
        elif offers:
            rows = [["NAME OR ADDRESS", "REGISTRY"], *([i.tag, i.registry] for i in offers)]
            show(*tables.aligned(rows))
        else:
            call.say("No images there yet: `cnd push` sends one")
        return
    wanted = call.of_variable() or _of_lock(call) if what is None else what
    if call.dry:
        places = ", ".join(settings.registries) or "no registry: none is named"
        step = f"take {wanted} from {places} into {settings.cache_directory}"
        call.would(step, as_json=as_json)
        return
    done = pull.pull(wanted, settings, call.reporter())
    if as_json:
        print_json(done.report())
        return
    size = human_size(done.entry.manifest.size)
    verb = "Found" if done.present else "Pulled"
    call.say(f"{verb} {done.entry.image} ({size}) in {done.seconds:.2f} s")


def _of_lock(call: Call) -> str:
    """Return the address of the project's lock; raises NotBuiltError without one."""
    from condainer import pipeline

    settings = call.settings("frozen=true")
    return settings.address or pipeline.mount_of(settings).address
