"""The terminal pictures of the README, from a real session: `python -m demo.pictures` (as root).

Two users of one group build the same environment. They, their homes and the group's cache exist in
a mount namespace of this process only, so that no path of this machine gets into a picture.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from demo.__main__ import BIN, TOP, local_or_public_channel

PICTURES = TOP / "docs/pictures"
WIDTH = 100
INSIDE = "CONDAINER_PICTURES_INSIDE"
TEAM = 61000
# The interpreter may stand in a directory that is closed to other accounts.
SEARCH = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
LIGHT = TerminalTheme(
    (255, 255, 255),
    (36, 41, 47),
    [
        (36, 41, 47),
        (207, 34, 46),
        (17, 99, 41),
        (125, 78, 0),
        (9, 105, 218),
        (130, 80, 223),
        (27, 124, 131),
        (110, 119, 129),
    ],
)
DARK = TerminalTheme(
    (13, 17, 23),
    (201, 209, 217),
    [
        (72, 79, 88),
        (255, 123, 114),
        (63, 185, 80),
        (210, 153, 34),
        (88, 166, 255),
        (188, 140, 255),
        (57, 197, 207),
        (177, 186, 196),
    ],
)
# rich's own format loads a font from the network.
FRAME = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
    font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
    font-size: {char_height}px;
    line-height: {line_height}px;
}}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


@dataclass(frozen=True)
class User:
    """A member of the group with a project, and what colour the prompt has."""

    name: str
    number: int
    project: str
    environment: str
    colour: str

    @property
    def home(self) -> Path:
        return Path("/srv/home") / self.name


ALICE = User(
    "alice",
    61001,
    "climate",
    "name: climate\ndependencies:\n- python=3.11\n- numpy\n- pandas>=2\n",
    "green",
)
BOB = User(
    "bob",
    61002,
    "paper",
    "name: paper\ndependencies: [pandas>=2, numpy, python=3.11]\n",
    "magenta",
)
SESSION = (
    (ALICE, "cat environment.yml"),
    (ALICE, "cnd build"),
    (ALICE, "cnd build"),
    (BOB, "cat environment.yml"),
    (BOB, "cnd build"),
    (BOB, "cnd exec -- python -c 'import sys; print(sys.prefix)'"),
)


def main() -> int:
    """Run the session in a namespace of its own, and write its pictures."""
    if INSIDE in os.environ:
        _inside(os.environ[INSIDE])
        return 0
    if os.geteuid() != 0:
        print("pictures: two users can only be made by root", file=sys.stderr)
        return 1
    with local_or_public_channel() as mirrors:
        within = ("unshare", "--mount", "--propagation", "private")
        again = (sys.executable, "-m", "demo.pictures")
        return subprocess.run([*within, *again], env={**os.environ, INSIDE: mirrors}).returncode


def _inside(mirrors: str) -> None:
    for directory in ("/srv", "/tmp"):
        _root("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
    Path("/tmp").chmod(0o1777)
    lines = {"passwd": "", "group": f"team:x:{TEAM}:alice,bob\n"}
    for user in (ALICE, BOB):
        project = user.home / user.project
        _root("install", "-d", "-o", str(user.number), str(user.home), str(project))
        (project / "environment.yml").write_text(user.environment)
        lines["passwd"] += f"{user.name}:x:{user.number}:{TEAM}::{user.home}:/bin/bash\n"
    for name, more in lines.items():
        copy = Path("/srv") / name
        copy.write_text(Path("/etc", name).read_text() + more)
        _root("mount", "--bind", str(copy), f"/etc/{name}")
    _root(str(BIN / "cnd"), "-q", "share", "/srv/team", "--group", "team")
    shown = Text()
    for user, command in SESSION:
        shown.append(f"{user.name}:~/{user.project}$ ", f"bold {user.colour}")
        shown.append(f"{command}\n", "bold")
        shown.append_text(Text.from_ansi(_screen(_run(user, command, mirrors))))
        shown.append("\n\n")
    shown.rstrip()
    PICTURES.mkdir(exist_ok=True)
    for name, theme in (("light", LIGHT), ("dark", DARK)):
        console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
        console.print(shown)
        text = console.export_svg(
            title="one build, then hits", theme=theme, code_format=FRAME, unique_id="session"
        )
        (PICTURES / f"session-{name}.svg").write_text(text, encoding="utf-8")


def _root(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _run(user: User, command: str, mirrors: str) -> str:
    """Return what a command writes to a terminal."""
    environment = {
        "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(user.home),
        "USER": user.name,
        "TERM": "xterm-256color",
        "COLUMNS": str(WIDTH),
        "LANG": "C.UTF-8",
        "CONDAINER_CACHE": "/srv/team",
        "CONDAINER_LINGER": "0",
        "CONDAINER_MIRRORS": mirrors,
    }
    become = ("setpriv", f"--reuid={user.number}", f"--regid={TEAM}", f"--groups={TEAM}", *SEARCH)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*become, "bash", "-c", command],
        cwd=user.home / user.project,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as child:
        os.close(theirs)
        said = b"".join(_read(ours))
    os.close(ours)
    if child.returncode != 0:
        raise subprocess.CalledProcessError(child.returncode, command, said.decode())
    return said.decode()


def _read(descriptor: int) -> Sequence[bytes]:
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:
            # The last one who could write has gone.
            return pieces
        if not piece:
            return pieces
        pieces.append(piece)


def _screen(said: str) -> str:
    """Return what is left on the screen of what was said: bars are written over each other."""
    lines: list[str] = []
    for line in re.sub(r"\x1b\[\?25[lh]", "", said).replace("\r\n", "\n").split("\n"):
        while (up := line.find("\x1b[1A")) >= 0:
            line = line[up + 4 :]
            lines.pop()
        lines.append(line.rpartition("\x1b[2K")[2].rpartition("\r")[2])
    return "\n".join(lines).rstrip("\n")


if __name__ == "__main__":
    sys.exit(main())
