"""What a person sees: lines without a terminal, bars on one, nothing when quiet."""

from __future__ import annotations

import ast
import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from condainer.cli import console
from condainer.system.errors import CondainerError, InputError
from condainer.system.reporter import Reporter, Silent
from condainer.system.text import human_size


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def everything(reporter: Reporter) -> None:
    reporter.step("Downloading", "packages")
    reporter.progress(1, 3)
    reporter.progress(3, 3)
    reporter.note("a note")
    reporter.step("Compressing", "percent")
    reporter.progress(40, 100)
    reporter.warn("a warning")
    reporter.finish()
    reporter.finish()


def test_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    everything(console.reporter_for(False, stream))
    text = re.sub(r"\d+\.\d s", "0.0 s", stream.getvalue())
    assert text.splitlines() == [
        "Downloading ...",
        "a note",
        "Downloading: done (3 packages, 0.0 s)",
        "Compressing ...",
        "Warning: a warning",
        "Compressing: done (0.0 s)",
    ]


def test_the_amount_of_a_step_is_not_the_next_ones() -> None:
    stream = io.StringIO()
    reporter = console.reporter_for(False, stream)
    reporter.step("One", "files")
    reporter.progress(5)
    reporter.step("Two", "files")
    reporter.finish()
    assert re.search(r"Two: done \(\d+\.\d s\)", stream.getvalue())


def test_one_is_no_plural() -> None:
    stream = io.StringIO()
    reporter = console.reporter_for(False, stream)
    reporter.step("Linking", "packages")
    reporter.progress(1)
    reporter.finish()
    assert "Linking: done (1 package, " in stream.getvalue()


def test_messages_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    everything(console.reporter_for(False))
    out, err = capsys.readouterr()
    assert out == ""
    assert "Downloading" in err


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_nothing_when_quiet(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = console.reporter_for(True, stream)
    assert isinstance(reporter, Silent)
    everything(reporter)
    assert stream.getvalue() == ""
    assert capsys.readouterr() == ("", "")


def test_bars_are_for_terminals_only() -> None:
    assert isinstance(console.reporter_for(False, Terminal()), console.Bars)
    assert isinstance(console.reporter_for(False, io.StringIO()), console.Lines)


def test_bars_on_a_real_terminal() -> None:
    program = (
        "from condainer.cli import console\n"
        "from tests.cli.test_console import everything\n"
        "reporter = console.reporter_for(False)\n"
        "assert isinstance(reporter, console.Bars)\n"
        "everything(reporter)\n"
        "reporter.note('[bold]after[/bold] the end')\n"
        "reporter.step('Compiling', 'modules')\n"
        "reporter.progress(1234567, 2000000)\n"
        "reporter.finish()\n"
    )
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
            cwd=Path(__file__).parents[2],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 10_000):
                shown += piece
        except OSError:
            pass
    finally:
        os.close(ours)
    text = shown.decode()
    assert done.returncode == 0, text
    assert done.stdout == b""
    for wanted in ("a note", "Warning: a warning", "[bold]after[/bold] the end"):
        assert wanted in text
    assert re.search(r"Downloading {20,} +\d+\.\d s", text)
    assert re.search(r"Compressing {20,} +\d+\.\d s", text)
    assert "1234567/2000000 modules" in text
    assert text.index("Downloading") < text.index("Compressing") < text.index("after")


def test_an_error_has_its_remedy_below(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_error(InputError("x.yml:3: wrong", "Do it right."))
    assert capsys.readouterr() == ("", "cnd: x.yml:3: wrong\n     Do it right.\n")


def test_an_error_without_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_error(CondainerError("wrong"))
    assert capsys.readouterr().err == "cnd: wrong\n"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1234, "1.2 kB"),
        (148_100_000, "148.1 MB"),
        (2_500_000_000, "2.5 GB"),
        (3 * 10**12, "3.0 TB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert human_size(size) == text


HOSTILE = "\x1b]0;PWNED\x07\x1b[2J\x9b1m\r\u202e"


def test_nothing_that_others_wrote_steers_the_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console.show_error(InputError(f"{HOSTILE}\n\tmore", HOSTILE))
    console.say(HOSTILE)
    console.show(HOSTILE)
    for reporter in (console.Lines(sys.stderr), console.Bars()):
        reporter.warn(HOSTILE)
        reporter.note(HOSTILE)
        reporter.step(HOSTILE, "percent")
        reporter.finish()
    console.answer("as it is \x1b")
    said = capfd.readouterr()
    assert said.err.startswith("cnd: ?]0;PWNED??[2J?1m??\n\tmore\n     ?]0;PWNED?")
    out, _, machine = said.out.partition("\n")
    assert out.isprintable()
    assert machine == "as it is \x1b\n"
    assert all(char.isprintable() or char in "\n\t" for char in said.err)


def test_what_programs_read_is_harmless_on_a_terminal() -> None:
    program = "from condainer.cli import console; console.answer('a\\x1b[2J')"
    reading, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", program], stdout=terminal, check=True)
    os.close(terminal)
    assert os.read(reading, 100) == b"a?[2J\r\n"
    os.close(reading)


def test_what_was_done_before_an_error_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_answered", False)

    def fail_after(count: int) -> None:
        with console.reports(True) as done:
            done += range(count)
            raise InputError("wrong")

    for count in (0, 2):
        with pytest.raises(InputError):
            fail_after(count)
        assert capsys.readouterr().out == ("[0, 1]\n" if count else "")
    for as_json in (True, False):
        with console.reports(as_json):
            pass
        assert capsys.readouterr().out == ("[]\n" if as_json else "")


def test_a_step_has_no_markup(capfd: pytest.CaptureFixture[str]) -> None:
    program = (
        "from condainer.cli import console; bars = console.Bars()\n"
        "bars.step('[red]a :bug:[/red]')\n"
        "bars.note('[b]:bug:[/b]'); bars.close()"
    )
    reading, terminal = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", program],
        stderr=terminal,
        check=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(terminal)
    said = os.read(reading, 10_000)
    os.close(reading)
    assert b"[red]a :bug:[/red]" in said
    assert b"[b]:bug:[/b]" in said


# These are run by commands of ours, or hand on what a program of the image says.
NO_DOOR = (
    "build/compile_tree.py",
    "startup/command_environment.py",
    "system/namespace.py",
    "activate/run.py",
    "solve/pip/standin.py",
    "build/unshelve.py",
    "cli/console.py",
)


def test_text_for_people_has_one_door() -> None:
    other = []
    package = Path(console.__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        name = str(path.relative_to(package))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in calls:
            called = ast.unparse(call.func)
            prints = called in ("print", "click.echo", "click.secho") or called.endswith(
                ("stdout.write", "stderr.write")
            )
            text = ast.unparse(call) if prints else ""
            harmless = text.startswith("print(json.dumps(") or "plain." in text
            if prints and not harmless and name not in NO_DOOR:
                other.append(f"{name}: {text}")
    # What a stamp says was made harmless when it was written, and use() leaves out what is not.
    assert other == [
        "__main__.py: sys.stderr.write('cnd: interrupted\\n')",
        "startup/answer.py: sys.stdout.write(f\"{stamped['head']}{seconds}{stamped['tail']}\\n\")",
        "startup/answer.py: sys.stderr.write("
        "f\"{stamped['text']} in {seconds:.2f} s\\n{told}\\n\")",
    ]
