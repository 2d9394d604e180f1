"""`cnd clean`: what can be made again removed."""

from __future__ import annotations

from pathlib import Path

import click

from condainer.cli import tables
from condainer.cli.call import Call
from condainer.cli.console import print_json
from condainer.cli.main import cli
from condainer.cli.options import JSON
from condainer.settings.load import load_settings
from condainer.system.text import counted, human_size


@cli.command("clean")
@click.option("--packages", is_flag=True, help="Remove downloaded packages, too.")
@click.option("--images", is_flag=True, help="Remove the images that no project names, too.")
@click.option("--all", "everything", is_flag=True, help="Remove both.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, as `cnd -y clean` does.")
@JSON
@click.pass_obj
def clean(
    call: Call, packages: bool, images: bool, everything: bool, dry_run: bool, as_json: bool
) -> None:
    """Remove what builds leave behind, all of which can be made again.

    Without an option: unpacked packages, uv's files, what killed builds left, and unpacked or
    staged copies of images that are not in use. With --images, as
    `cnd gc --older-than 0d --grace 0d`: images that are in use, or were lately, stay.
    """
    from condainer.mount import mount_work, node_copies, unmount
    from condainer.network.client_settings import NOWHERE
    from condainer.package_cache import clean as package_cache
    from condainer.upkeep import collection, policy

    settings = call.settings()
    dry = call.dry or dry_run
    # The author of a project does not decide what is removed.
    own = load_settings(Path(NOWHERE), call.overrides)
    wish = mount_work.wish_of(settings)
    unpacked, staged = unmount.unused_copies(settings), node_copies.unused(wish)
    copies = [package_cache.measured(path) for path in (*unpacked, *staged)]
    items = package_cache.removable(own, packages or everything)
    collected = None
    if images or everything:
        # First, because a cache may refuse it: nothing else is gone then.
        unneeded = policy.policy_of({"older_than": "0d", "grace": "0d"})
        collected = collection.collect(settings, unneeded, dry)
    if not dry:
        package_cache.remove(items, own)
        unmount.remove_copies(unpacked, settings)
        for path in staged:
            node_copies.remove(path)
    items += copies
    if as_json:
        report = {"dry_run": dry, "removed": [item.report() for item in items]}
        print_json(report | ({"images": collected.report()} if collected else {}))
        return
    verb = "Would remove" if dry else "Removed"
    for item in items:
        call.say(f"{verb} {item.path}: {counted(item.files, 'files')}, {human_size(item.size)}")
    files, size = sum(item.files for item in items), sum(item.size for item in items)
    call.say(f"{verb} {counted(files, 'files')}, {human_size(size)}")
    if collected:
        call.say(*tables.collection(collected))
