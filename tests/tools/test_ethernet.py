"""The network of the benchmarks: it has its rate, leads nowhere else, and goes again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.ethernet import SERVER, Ethernet, ethernet
from tests.helpers.needed import needs_program, needs_root

PURPOSE = "to make namespaces of networks"
MEGABYTES = 8
SEND = f"""
import socket
with socket.create_server(("{SERVER}", 0)) as server:
    print(server.getsockname()[1], flush=True)
    connection = server.accept()[0]
    connection.sendall(bytes({MEGABYTES} << 20))
    connection.close()
"""
RECEIVE = """
import socket, sys, time
size, start = 0, time.monotonic()
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as connection:
    while block := connection.recv(1 << 20):
        size += len(block)
print(size, time.monotonic() - start)
"""


@pytest.fixture
def network() -> Iterator[Ethernet]:
    needs_root(PURPOSE)
    for program in ("ip", "tc"):
        needs_program(program)
    with ethernet() as made:
        yield made


def namespaces() -> set[str]:
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True)
    return {line.split()[0] for line in listed.stdout.splitlines()}


def test_it_lets_through_what_it_is_told_to(network: Ethernet) -> None:
    network.limit(1000)
    network.limit(200)
    argv = [*network.inside(network.server), sys.executable, "-c", SEND]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        client = [*network.inside(network.client), sys.executable, "-c", RECEIVE, SERVER, port]
        got = subprocess.run(client, check=True, capture_output=True, text=True).stdout
    size, seconds = got.split()
    assert int(size) == MEGABYTES << 20
    # The first megabyte may go at once.
    assert float(seconds) > (MEGABYTES - 1 << 20) * 8 / 200e6


def test_it_goes_also_after_a_failure() -> None:
    needs_root(PURPOSE)
    needs_program("ip")
    with ethernet() as made:
        names = {made.server, made.client}
        assert names <= namespaces()
    with pytest.raises(RuntimeError, match="qdisc replace"), ethernet() as made:
        made.limit(0)
    assert not {*names, made.server, made.client} & namespaces()


def test_it_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(RuntimeError, match="needs root"), ethernet():
        pass
