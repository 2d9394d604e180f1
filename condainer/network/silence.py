"""An end to waiting for silent servers, for libraries without such a limit of their own."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from condainer.settings.config import SILENCE
from condainer.system.errors import NetworkError
from condainer.system.reporter import Reporter
from condainer.system.text import human_rate, human_size

T = TypeVar("T")

# Seconds between two looks, and the share of them above which this process is computing.
TICK = 0.25
BUSY = 0.1
# The offset of tcpi_bytes_received in struct tcp_info of linux/tcp.h.
RECEIVED = 128

# How often uv, conda and mamba ask a server that fails or is silent.
TRIES = 4

# client_settings.prepare() sets it.
_limit = SILENCE


def set_limit(seconds: float) -> None:
    """Let all clients wait for so many seconds, but at least for one."""
    global _limit
    _limit = max(seconds, 1.0)


def limit() -> float:
    """Return the seconds without a byte after which a wait ends."""
    return _limit


def of_one_try() -> str:
    """Return the whole seconds that a client waits in each of TRIES tries."""
    return f"{max(_limit / TRIES, 1.0):.0f}"


async def watched(work: Awaitable[T], urls: Sequence[str], reporter: Reporter) -> T:
    """Await work that downloads and computes, and report what comes.

    rattler's own timeout is for a whole request, and so would cut off slow servers. Parameters:
    `urls` are those that it asks. Raises NetworkError after `limit()` seconds in which connections
    are open, no byte comes, and this process does not compute.
    """
    # Imported here, because most callers need only the limit.
    import asyncio

    task = asyncio.ensure_future(work)
    known = {number: size for number, _, size in _connections()}
    total = shown = 0
    host = ""
    begun = since = time.monotonic()
    used = time.process_time()
    try:
        while True:
            await asyncio.wait({task}, timeout=TICK)
            if task.done():
                return task.result()
            now, computed = time.monotonic(), time.process_time()
            connections = _connections()
            for number, peer, size in connections:
                if size > known.get(number, 0):
                    total += size - known.get(number, 0)
                    host, since = peer, now
                known[number] = size
            if not connections or computed - used > BUSY * TICK:
                since = now
            used = computed
            if now - since >= limit():
                raise _silent(urls, sorted({peer for _, peer, _ in connections if peer}))
            if total > shown:
                rate = human_rate(total, now - begun)
                reporter.receiving(f"{host}: {human_size(total)}, {rate}")
                shown = total
    finally:
        task.cancel()


def _silent(urls: Sequence[str], peers: Sequence[str]) -> NetworkError:
    hosts = dict.fromkeys(host for url in urls if (host := urlsplit(url).hostname))
    at = f" (connected to {', '.join(peers)})" if peers else ""
    return NetworkError(
        f"Nothing has come from {' or '.join(hosts)}{at} for {limit():g} s",
        "Check the network, or name a mirror (`mirrors:` in condainer.yml); "
        "`network_timeout:` is how long to wait.",
    )


def _connections() -> list[tuple[int, str, int]]:
    """Return this process's TCP connections: inode, peer, and how many bytes came."""
    connections = []
    for name in os.listdir("/proc/self/fd"):
        # Other threads may close a descriptor.
        with contextlib.suppress(OSError):
            status = os.fstat(int(name))
            if not stat.S_ISSOCK(status.st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as connection:
                inet = connection.family in (socket.AF_INET, socket.AF_INET6)
                if not inet or connection.type != socket.SOCK_STREAM:
                    continue
                told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                # A connection that is not established has no peer.
                peer = ""
                with contextlib.suppress(OSError):
                    peer = str(connection.getpeername()[0])
                # Kernels before 4.1 do not count.
                if len(told) >= RECEIVED + 8:
                    size = struct.unpack_from("=Q", told, RECEIVED)[0]
                    connections.append((status.st_ino, peer, size))
    return connections
