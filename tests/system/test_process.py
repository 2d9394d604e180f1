"""Subprocesses: what they write, how they fail, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from condainer.startup import launch
from condainer.system import environments, process
from condainer.system.errors import ToolError
from condainer.system.process import CommandFailed
from tests.helpers.waiting import until


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, *arguments]


def test_a_command_that_is_given_up_while_it_complains(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    # The thread that reads the messages meets a closed pipe in one of five.
    for _ in range(60):
        with pytest.raises(process.TooMuch):
            process.run(["sh", "-c", "yes >&2 & exec yes"], limit=10)
    assert not raised


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_command_writes_is_returned() -> None:
    done = process.run(["sh", "-c", "echo out; echo err >&2"])
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_arguments_arrive_unchanged() -> None:
    arguments = ["a b", "-rf", "", "'\"$HOME`", "line\nbreak", "für", "*"]
    program = "import sys; print(sys.argv[1:])"
    assert process.run(python(program, *arguments)).stdout == f"{arguments}\n"


def test_the_environment_is_replaced() -> None:
    assert process.run(["/usr/bin/env"], env={"A": "x y"}).stdout == "A=x y\n"


def test_nothing_but_the_path_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MARKER", "LD_LIBRARY_PATH", "FORCE_COLOR", "SOURCE_DATE_EPOCH", "LC_ALL"):
        monkeypatch.setenv(name, "")
    found = dict(line.split("=", 1) for line in process.run(["env"]).stdout.splitlines())
    assert found == {"PATH": os.environ["PATH"], **environments.PLAIN}


def test_the_working_directory(tmp_path: Path) -> None:
    directory = tmp_path / "with blank"
    directory.mkdir()
    assert process.run(["pwd"], cwd=directory).stdout == f"{directory}\n"


def test_standard_input_is_empty() -> None:
    assert process.run(["cat"]).stdout == ""


def test_orphans_end_with_their_command(tmp_path: Path) -> None:
    notes = (tmp_path / "first", tmp_path / "second")
    script = (
        'sh -c \'echo $$ > "$0"; exec sleep 3600\' "$0" & while [ ! -s "$0" ]; do sleep 0.01; done'
    )
    # Without that, the pipes would stay open for the hour.
    process.run(["sh", "-c", script, str(notes[0])])
    process.run(["sh", "-c", script, str(notes[1])], on_line=lambda line: None)
    # Killed, they close the pipes a moment before they end.
    until(lambda: not any(alive(int(note.read_text())) for note in notes))


def test_orphans_that_hold_no_pipe_end_too(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    script = 'sleep 3600 >&- 2>&- & echo $! >> "$0"'
    for _ in range(20):
        process.run(["sh", "-c", script, str(note)])
    until(lambda: not any(alive(int(pid)) for pid in note.read_text().split()))


def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert process.run(["printf", r"a\377b"]).stdout == "a\ufffdb"


def test_descriptors_are_passed_on() -> None:
    reading, writing = os.pipe()
    try:
        program = "import os, sys; os.write(int(sys.argv[1]), b'passed')"
        process.run(python(program, str(writing)), pass_fds=[writing])
        assert os.read(reading, 100) == b"passed"
    finally:
        os.close(reading)
        os.close(writing)


def test_a_failure_shows_command_status_and_stderr() -> None:
    with pytest.raises(CommandFailed) as caught:
        process.run(["sh", "-c", "echo out; echo 'what is wrong' >&2; exit 3", "a b"])
    error = caught.value
    assert error.status == 3
    assert error.argv[-1] == "a b"
    assert error.stderr == "what is wrong\n"
    assert error.message.startswith("`sh -c ")
    assert "'a b'` failed with status 3:\nwhat is wrong" in error.message


def test_a_failure_that_tells_it_on_stdout() -> None:
    with pytest.raises(CommandFailed, match="only here"):
        process.run(["sh", "-c", "echo only here; exit 1"])


def test_a_silent_failure() -> None:
    with pytest.raises(CommandFailed, match="`false` failed with status 1"):
        process.run(["false"])


def test_a_signal() -> None:
    with pytest.raises(CommandFailed, match="was ended by SIGKILL") as caught:
        process.run(["sh", "-c", "kill -9 $$"])
    assert caught.value.status == -9
    assert "memory" in caught.value.reason


def test_endless_messages_are_cut_to_their_end() -> None:
    program = "import sys; sys.stderr.write('x' * 1_000_000 + 'the end'); sys.exit(1)"
    for on_line in (None, lambda line: None):
        with pytest.raises(CommandFailed) as caught:
            process.run(python(program), on_line=on_line)
        assert caught.value.stderr.endswith("the end")
        assert len(caught.value.stderr) <= process.STDERR_LIMIT


@pytest.mark.parametrize("name", ["no-such-command-here", "{absent}/command", "./no such"])
def test_a_missing_command(name: str, tmp_path: Path) -> None:
    name = name.format(absent=tmp_path / "absent")
    with pytest.raises(ToolError) as caught:
        process.run([name, "x"])
    assert name in caught.value.message
    assert caught.value.exit_code == 10


def test_a_file_that_is_no_command(tmp_path: Path) -> None:
    path = tmp_path / "tool"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o644)
    with pytest.raises(ToolError, match="Permission denied"):
        process.run([str(path)])


def test_a_missing_working_directory(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="gone"):
        process.run(["true"], cwd=tmp_path / "gone")


def test_lines_come_one_by_one_while_the_command_runs() -> None:
    # The command waits for the answer to its first line, which therefore must arrive at once.
    reading, writing = os.pipe()
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if len(lines) == 1:
            os.write(writing, b"x")

    program = (
        "import os, sys; print('first', flush=True); os.read(int(sys.argv[1]), 1); "
        "print('1%\\r2%\\r', end=''); print('last')"
    )
    try:
        done = process.run(python(program, str(reading)), on_line=on_line, pass_fds=[reading])
    finally:
        os.close(reading)
        os.close(writing)
    assert lines == ["first", "1%", "2%", "last"]
    assert done.stdout == ""


def test_much_output_on_both_streams_does_not_block() -> None:
    program = "import sys\nfor i in range(20000): print('o' * 50); print('e' * 50, file=sys.stderr)"
    lines: list[str] = []
    done = process.run(python(program), on_line=lines.append)
    assert len(lines) == 20_000
    assert done.stderr.endswith("e\n")


def test_a_failure_while_lines_are_read_shows_stderr() -> None:
    with pytest.raises(CommandFailed, match="what is wrong"):
        process.run(
            ["sh", "-c", "echo x; echo what is wrong >&2; exit 1"], on_line=lambda line: None
        )


@pytest.mark.parametrize("on_line", ["None", "print"])
def test_an_interruption_ends_the_command(tmp_path: Path, on_line: str) -> None:
    note = tmp_path / "pid"
    program = (
        "import sys; from condainer.system import process\n"
        "def begun(*given):\n    print('begun', flush=True)\n    return communicate(*given)\n"
        "communicate, process._communicate = process._communicate, begun\n"
        "script = 'echo $$ > $0.new; mv $0.new $0; exec sleep 3600'\n"
        f"try: process.run(['sh', '-c', script, sys.argv[1]], on_line={on_line})\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    with subprocess.Popen(python(program, str(note)), stdout=subprocess.PIPE, text=True) as child:
        until(note.exists)
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        child.send_signal(signal.SIGINT)
        assert child.communicate()[0] == "interrupted\n"
    assert not alive(int(note.read_text()))


def test_another_interruption_ends_a_command_that_does_not_care(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    program = (
        "import sys; from condainer.system import process\n"
        "process.GRACE = 3600.0\n"
        "script = 'trap \"echo > $0.asked\" TERM; echo $$ > $0.new; mv $0.new $0; '\n"
        "script += 'while :; do sleep 0.05; done'\n"
        "try: process.run(['sh', '-c', script, sys.argv[1]])\n"
        "except KeyboardInterrupt: print('interrupted')\n"
    )
    with subprocess.Popen(python(program, str(note)), stdout=subprocess.PIPE, text=True) as child:
        until(note.exists)
        child.send_signal(signal.SIGINT)
        until((tmp_path / "pid.asked").exists)
        child.send_signal(signal.SIGINT)
        assert child.communicate()[0] == "interrupted\n"
    # Nobody has waited for it.
    until(lambda: not alive(int(note.read_text())))


def test_an_error_of_the_reader_ends_the_command(tmp_path: Path) -> None:
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        raise RuntimeError("the reader failed")

    # Asked to end, not killed at once.
    script = "trap 'echo asked > \"$0\"; exit' TERM; echo $$; while :; do sleep 0.05; done"
    with pytest.raises(RuntimeError, match="the reader failed"):
        process.run(["sh", "-c", script, str(tmp_path / "note")], on_line=on_line)
    assert (tmp_path / "note").read_text() == "asked\n"
    assert not alive(pids[0])


def test_tools_are_looked_for_in_the_directory_before_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, path = tmp_path / "own tools", tmp_path / "bin"
    for directory, names in ((own, ["one"]), (path, ["one", "two"])):
        directory.mkdir()
        for name in names:
            (directory / name).write_text("#!/bin/sh\n")
            (directory / name).chmod(0o755)
    (own / "two").write_text("not executable")
    monkeypatch.setenv("PATH", str(path))
    assert process.find_tool("one") == str(path / "one")
    assert process.find_tool("one", own) == str(own / "one")
    assert process.find_tool("two", own) == str(path / "two")
    assert process.find_tool("three", own) is None
    assert process.find_tool("one", tmp_path / "gone") == str(path / "one")


def test_our_own_modules_run_from_anywhere(tmp_path: Path) -> None:
    # Neither the working directory nor a variable puts other code in the place of ours.
    for name in ("condainer.py", "json.py", "runpy.py"):
        (tmp_path / name).write_text("raise SystemExit('not this one')")
    command = launch.module_command("condainer.build.compile_tree")
    with pytest.raises(CommandFailed) as caught:
        process.run(
            [*command, "--help", "x", "y", "z"], env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path
        )
    assert "not this one" not in caught.value.stderr
    assert "compile_tree" in caught.value.stderr


def test_a_daemon_outlives_us_and_is_nobodys_child(tmp_path: Path) -> None:
    note = tmp_path / "note"
    reading, writing = os.pipe()
    program = (
        "import os, sys\n"
        "kept = int(sys.argv[1])\n"
        "os.write(kept, b'kept')\n"
        "with open(sys.argv[2] + '.new', 'w') as note:\n"
        "    print(os.getpid(), os.getsid(0), os.getcwd(), os.environ.get('A'), file=note)\n"
        "    print(sorted(os.listdir('/proc/self/fd')), file=note)\n"
        "    print([os.readlink(f'/proc/self/fd/{n}') for n in range(3)], file=note)\n"
        "os.rename(sys.argv[2] + '.new', sys.argv[2])\n"
    )
    other = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(other, True)
    try:
        child = launch.start_daemon(
            python(program, str(writing), str(note)), {"A": "x"}, pass_fds=[writing]
        )
        assert os.waitpid(child, 0)[1] == 0
        until(note.exists)
        assert os.read(reading, 10) == b"kept"
        assert os.get_inheritable(writing) is False
    finally:
        for descriptor in (reading, writing, other):
            os.close(descriptor)
    first, descriptors, standard = note.read_text().splitlines()
    pid, session, directory, value = first.split()
    assert int(session) != os.getsid(0)
    assert pid != session
    assert (directory, value) == ("/", "x")
    assert f"'{writing}'" in descriptors
    assert f"'{other}'" not in descriptors
    assert standard == str(["/dev/null"] * 3)
    with pytest.raises(ChildProcessError):
        os.waitpid(int(pid), os.WNOHANG)


def test_a_daemon_that_cannot_start_does_no_harm(tmp_path: Path) -> None:
    pid = os.getpid()
    os.waitpid(launch.start_daemon([str(tmp_path / "gone")], {}), 0)
    assert os.getpid() == pid


def test_a_descriptor_can_be_the_input(tmp_path: Path) -> None:
    (tmp_path / "input").write_text("read me")
    with (tmp_path / "input").open("rb") as stream:
        assert process.run(["cat"], stdin=stream.fileno()).stdout == "read me"


def test_a_command_that_may_ask_stays_in_our_session_and_ends_with_us() -> None:
    script = "import os; print(os.getsid(0), os.getpgrp())"
    said = process.run([sys.executable, "-c", script], terminal=True).stdout.split()
    assert said == [str(os.getsid(0)), str(os.getpgrp())]
    said = process.run([sys.executable, "-c", script]).stdout.split()
    assert said != [str(os.getsid(0)), str(os.getpgrp())]


def test_an_interruption_ends_a_command_that_may_ask(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        (tmp_path / "pid").write_text(line)
        raise KeyboardInterrupt

    script = "echo $$; exec sleep 3600"
    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", script], terminal=True, on_line=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_is_ignored_stays_ignored() -> None:
    code = "from condainer.startup import launch; launch.end_cleanly(); import os, signal; "
    code += "os.kill(os.getpid(), signal.SIGHUP); print('still here')"
    for ignored in (True, False):
        argv = ["sh", "-c", 'trap "" HUP; exec "$@"' if ignored else 'exec "$@"', "sh"]
        done = subprocess.run(
            [*argv, sys.executable, "-c", code],
            capture_output=True,
            text=True,
            # The tests themselves may have been started by nohup.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        assert done.stdout == ("still here\n" if ignored else "")
        assert done.returncode == (0 if ignored else 129)
