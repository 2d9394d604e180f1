"""Run a command in the image of a stamp; what is unusual is left to the long way.

It does what run.command() and shell.environment() do, and imports next to nothing.
"""

import os

from condainer.startup import attach, command_environment, launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: "Sequence[str]", stamped: dict[str, str], quiet: bool) -> None:
    """Replace this process by a command in the image that a stamp names.

    Returns if the long way is needed. Raises CommandNotStarted.
    """
    claim = _claim(stamped)
    if claim is None:
        return
    said: list[str] = []
    try:
        before, scripts = _environment(stamped), command_environment.scripts_of(stamped["prefix"])
        environment = command_environment.after_scripts(scripts, before, said.append)
    except ValueError:
        environment = None
    if environment is None:
        os.close(claim)
        return
    for text in said:
        command_environment.tell(text)
    os.set_inheritable(claim, True)
    image = stamped["prefix"], stamped["address"]
    warn = None if quiet else lambda text: command_environment.tell(f"Warning: {text}")
    launch.execute(argv, environment, image, warn)


def _claim(stamped: dict[str, str]) -> int | None:
    """Claim the mount of an image, which is made if need be; None for the long way."""
    if attach.is_mounted(stamped):
        return attach.claim_mounted(stamped)
    if attach.wants_its_own(stamped["mount"]):
        return attach.claim_private(stamped)
    from condainer.startup import mount

    return mount.claim_new(stamped)


def _environment(stamped: dict[str, str]) -> dict[str, str]:
    """Return the environment of a command, before the image's own scripts."""
    variables, table = {}, []
    for key, text in stamped.items():
        kind, _, name = key.partition(" ")
        if kind == "variable":
            variables[name] = text
        elif kind == "default":
            value, below, *unless = text.split("\n")
            table.append((name, value, below, unless))
    named, address = stamped["name"], stamped["address"]
    place = _stand_ins(stamped)
    return command_environment.environment(
        stamped["prefix"], variables, os.environ, named, address, table, place
    )


def _stand_ins(stamped: dict[str, str]) -> str:
    """Return the stand-ins of an image's commands; empty where nothing of ours can hold them."""
    base, _, name = stamped["prefix"].rpartition("/")
    try:
        return f"{attach.directory_of(base)}/{name}{command_environment.STAND_INS}"
    except OSError:
        # What root has mounted needs no directory of ours.
        return ""
