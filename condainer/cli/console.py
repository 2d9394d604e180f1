"""What a person sees: messages, and of a long command bars on a terminal, or plain lines.

All text for people goes through here, since others may have written parts of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager, suppress

from condainer.system.errors import CondainerError
from condainer.system.reporter import Reporter, Silent
from condainer.system.text import counted, harmless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, TextIO

    from rich.progress import Progress, TaskID

# As the escape sequences of terminals have it; the first for what is wrong.
BOLD_RED, RED, GREEN, YELLOW, BOLD = "1;31", "31", "32", "33", "1"
# The colour of a line of a comparison, by its sign.
SIGNS = {"-": RED, "+": GREEN, "~": YELLOW}
# And that of what is needed.
MARKS = {"ok": "", "missing": RED, "no": YELLOW}
# Whether a command with `--json` has printed its answer.
_answered = False
# Answers that are kept instead of printed, while several become one.
_gathered: list[Any] | None = None


def reporter_for(quiet: bool, stream: TextIO | None = None) -> Reporter:
    """Return the reporter that fits the terminal; messages go to stderr."""
    stream = sys.stderr if stream is None else stream
    if quiet:
        return Silent()
    return Bars() if _takes_signs(stream) else Lines(stream)


def say(text: str, stream: TextIO | None = None, colour: str = "") -> None:
    """Print a message for people; on stderr, unless it is for another stream."""
    stream = sys.stderr if stream is None else stream
    print(_coloured(harmless(text), colour, stream), file=stream, flush=True)


def show(*lines: str, colour: str = "") -> None:
    """Print for people, on stdout, what they asked for."""
    for line in lines:
        say(line, sys.stdout, colour)


def answer(text: str) -> None:
    """Print on stdout what programs read: unchanged, unless stdout is a terminal."""
    print(harmless(text) if sys.stdout.isatty() else text)


def _coloured(text: str, colour: str, stream: TextIO) -> str:
    """Return a text in a colour where a person sees it; see https://no-color.org."""
    wanted = colour and _takes_signs(stream) and not os.environ.get("NO_COLOR")
    return f"\033[{colour}m{text}\033[0m" if wanted else text


def _takes_signs(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal that is known to do more than show characters."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def print_json(content: Any) -> None:
    """Print the one JSON value of a command with `--json`."""
    global _answered
    if _gathered is not None:
        _gathered.append(content)
        return
    print(json.dumps(content))
    _answered = True


@contextmanager
def gathered() -> Iterator[list[Any]]:
    """Keep the JSON values that would be printed, and give them to the caller instead."""
    global _gathered
    _gathered = []
    try:
        yield _gathered
    finally:
        _gathered = None


@contextmanager
def reports(as_json: bool) -> Iterator[list[Any]]:
    """Give a list for what is done one after another, and print it as the JSON array of a command.

    An error ends the list; before anything was done, it is an object of its own.
    """
    done: list[Any] = []
    try:
        yield done
    except BaseException:
        if as_json and done:
            print_json(done)
        raise
    if as_json:
        print_json(done)


def show_error(error: CondainerError, arguments: Sequence[str] = ()) -> None:
    """Print what is wrong and what to do about it on stderr, and for `--json` on stdout.

    Parameters: `arguments` are those of the command line.
    """
    text = harmless(error.message + (f"\n     {error.hint}" if error.hint else ""))
    print(_coloured("cnd:", BOLD_RED, sys.stderr), text, file=sys.stderr, flush=True)
    answer_failure(error.message, error.hint, error.exit_code, arguments)


def answer_failure(message: str, hint: str, exit_code: int, arguments: Sequence[str]) -> None:
    """Print what went wrong as the JSON object of a command with `--json`.

    Parameters: `arguments` are those of the command line.
    """
    # The command has already answered what it learned before the error.
    if "--json" in arguments and not _answered:
        # The disk behind stdout may be full, which is the error then.
        with suppress(OSError):
            print_json({"error": message, "hint": hint, "exit_code": exit_code})


class Lines(Reporter):
    """One line when a step begins and one when it is done."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.title = ""
        self.unit = ""
        self.amount = ""
        self.start = 0.0

    def step(self, title: str, unit: str = "") -> None:
        self.finish()
        self.title, self.unit, self.amount = title, unit, ""
        self.start = time.monotonic()
        say(f"{title} ...", self.stream)

    def progress(self, done: float, total: float | None = None) -> None:
        if self.unit and self.unit != "percent":
            self.amount = f"{counted(done, self.unit)}, "

    def receiving(self, text: str) -> None:
        self.amount = f"{text}, "

    def note(self, message: str) -> None:
        super().note(message)
        say(message, self.stream)

    def finish(self) -> None:
        if self.title:
            seconds = time.monotonic() - self.start
            say(f"{self.title}: done ({self.amount}{seconds:.1f} s)", self.stream)
        self.close()

    def close(self) -> None:
        self.title = ""


class Bars(Reporter):
    """A bar for the current step, and a line with its time when it is done."""

    def __init__(self) -> None:
        self.bars: Progress | None = None
        self.task: TaskID | None = None
        self.title = ""
        self.start = 0.0

    def step(self, title: str, unit: str = "") -> None:
        self.finish()
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True, highlight=False)
        counted = "{task.percentage:>3.0f} %" if unit == "percent" else "{task.fields[count]}"
        self.bars = Progress(
            TextColumn("{task.description:32}", markup=False),
            # What is counted needs about 30 columns.
            BarColumn(max(4, min(24, console.width - 72))),
            TextColumn(counted),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self.task = self.bars.add_task(harmless(title), total=None, count="")
        self.bars.start()
        self.title, self.start, self.unit = title, time.monotonic(), unit

    def progress(self, done: float, total: float | None = None) -> None:
        if self.bars is not None and self.task is not None:
            of = f"/{total:.0f}" if total else ""
            count = f"{done:.0f}{of} {self.unit}"
            self.bars.update(self.task, completed=done, total=total, count=count)

    def receiving(self, text: str) -> None:
        if self.bars is not None and self.task is not None:
            self.bars.update(self.task, count=text)

    def note(self, message: str) -> None:
        super().note(message)
        if self.bars is not None:
            self.bars.console.print(harmless(message), markup=False, emoji=False, soft_wrap=True)
        else:
            say(message)

    def finish(self) -> None:
        if self.bars is not None:
            self.close()
            seconds = time.monotonic() - self.start
            say(f"{self.title:32} {seconds:6.1f} s")

    def close(self) -> None:
        if self.bars is not None:
            self.bars.stop()
            self.bars = None
