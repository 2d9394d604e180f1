"""`cnd mount` and `cnd umount`: an image at its prefix."""

from __future__ import annotations

import click

from condainer.cli.call import Call
from condainer.cli.console import answer
from condainer.cli.main import cli
from condainer.cli.options import VERIFY, named_image


@cli.command("mount")
@click.option("-p", "--print", "show", is_flag=True, help="Print the mount point to stdout.")
@named_image
@VERIFY
@click.option("--all-users", is_flag=True, help="Mount it for everybody; for root.")
@click.option("--shell", type=int, metavar="PID", help="For this shell; print its claim's file.")
@click.option("--warn", is_flag=True, hidden=True)
@click.pass_obj
def mount_image(
    call: Call, show: bool, verify: bool, all_users: bool, shell: int | None, warn: bool
) -> None:
    """Mount the image, until `cnd umount`.

    With --all-users, the kernel mounts it where all users of this machine see it: for a prolog,
    or a shared login node.
    """
    from condainer import pipeline, project
    from condainer.activate import run

    settings = call.using(*["mount=kernel"] * all_users)
    if call.dry:
        plan = project.use_plan(settings)
        if plan.entry is not None:
            run.wanted(plan.entry, settings, verify)
        call.would(*plan.steps, f"mount {plan.image} at {plan.prefix}")
        if show:
            answer(plan.prefix)
        return
    entry, _ = pipeline.current_entry(settings)
    if (shell is not None or warn) and not call.names_image:
        call.warn_if_behind(entry)
    if warn:
        # A shell asks in which the image is active already.
        return
    claim = run.mount(entry, settings, call.reporter(), verify, shell)
    if claim is not None:
        # What `deactivate` deletes.
        answer(str(claim))
    call.say(f"Mounted {entry.image} at {entry.prefix}")
    if show:
        answer(str(entry.prefix))


@cli.command("umount")
@click.option("--force", is_flag=True, help="Unmount even while it is in use.")
@click.option("--all", "everything", is_flag=True, help="Unmount all of yours on this machine.")
@named_image
@click.pass_obj
def unmount_image(call: Call, force: bool, everything: bool) -> None:
    """Unmount the image.

    Refuses while processes use it, and names them.
    """
    from condainer import pipeline, project
    from condainer.mount import unmount

    settings = call.settings() if everything else call.using()
    if everything:
        if call.dry:
            call.would("unmount every image of yours on this machine")
            return
        cleared = unmount.unmount_all(settings, force)
        call.say(*unmount.lines(cleared))
        unmount.demand(cleared)
        return
    if call.dry:
        call.would(project.unmount_plan(settings))
        return
    image = pipeline.mount_of(settings)
    if unmount.unmount(image, force=force, tool_directory=settings.tool_directory):
        call.say(f"Unmounted {image.prefix}")
    else:
        call.say(f"{image.prefix} is not mounted")
