"""`cnd` in a process forked from one that has imported all of it, for a quarter of the time.

Thousands of tests run it, and most of what each run costs is the importing.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import condainer
from condainer import __main__ as program
from condainer.system import files

# What an interpreter or a library reads when it starts, or measures from then on.
AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "OPENSSL_", "COV_", "COVERAGE")
# More than any environment and command line.
LONGEST = 1 << 22


def run(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run cnd with given words, and return what it said and ended with."""
    readers, writers = zip(os.pipe(), os.pipe(), strict=True)
    wait = start(arguments, cwd, environment, *writers)
    for writer in writers:
        os.close(writer)
    with ThreadPoolExecutor(2) as pool:
        said = [text.decode(errors="surrogateescape") for text in pool.map(_whole, readers)]
    return subprocess.CompletedProcess(["cnd", *arguments], wait(), *said)


def start(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], out: int, error: int
) -> Callable[[], int]:
    """Start cnd with given words and descriptors; return what waits for its status.

    It is a program of its own where its environment matters to the interpreter, or its coverage is
    measured.
    """
    if _at_start(environment) != _at_start(os.environ) or _is_measured():
        command = [sys.executable, "-m", "condainer", *arguments]
        nothing = subprocess.DEVNULL
        return subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=nothing, stdout=out, stderr=error
        ).wait
    text = json.dumps([arguments, str(cwd), dict(environment), files.umask()]).encode()
    link = socket.socket(socket.AF_UNIX)
    link.connect(_server()[0])
    socket.send_fds(link, [text], [out, error])
    link.shutdown(socket.SHUT_WR)

    def wait() -> int:
        with link:
            return os.waitstatus_to_exitcode(int(link.recv(16)))

    return wait


def _whole(reader: int) -> bytes:
    with open(reader, "rb") as stream:
        return stream.read()


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(AT_START)}


def _is_measured() -> bool:
    return any(name.startswith("COVERAGE_PROCESS") for name in os.environ)


@cache
def _server() -> tuple[bytes, subprocess.Popen[bytes]]:
    """Start the process that forks; return the name of its socket, and the process."""
    listener = socket.socket(socket.AF_UNIX)
    # The kernel finds a name, which is no file.
    listener.bind("")
    listener.listen(64)
    name = listener.getsockname()
    # It ends with this process, which alone can write into its standard input.
    server = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import serve; serve({listener.fileno()})"],
        stdin=subprocess.PIPE,
        pass_fds=[listener.fileno()],
    )
    listener.close()
    return name, server


def serve(number: int) -> None:
    """Fork a process for each connection to a socket, given its number, until stdin is closed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for module in pkgutil.walk_packages(condainer.__path__, "condainer."):
        importlib.import_module(module.name)
    importlib.import_module("rattler")
    gc.freeze()
    listener = socket.socket(fileno=number)
    while number in select.select([number, 0], [], [])[0]:
        link, _ = listener.accept()
        with link:
            if os.fork() == 0:
                _answer(link)
        # Those that have ended.
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _answer(link: socket.socket) -> None:
    """Become the parent of a command, and tell its status."""
    text, descriptors, _, _ = socket.recv_fds(link, LONGEST, 2)
    while more := link.recv(LONGEST):
        text += more
    child = os.fork()
    if child == 0:
        link.close()
        _become(*json.loads(text), *descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    link.sendall(str(os.waitpid(child, 0)[1]).encode())
    os._exit(0)


def _become(
    arguments: list[str],
    cwd: str,
    environment: dict[str, str],
    umask: int,
    out: int,
    error: int,
) -> None:
    """Be the program: as a new interpreter would find all that a process has."""
    null = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((null, out, error)):
        os.dup2(descriptor, number)
    os.closerange(3, 256)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.umask(umask)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [program.__file__, *arguments]
    program.entry()
