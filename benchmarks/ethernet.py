"""A network of a given rate: two namespaces of this machine, and a cable between them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.original import tool

# Addresses that are reserved for benchmarks (RFC 2544).
SERVER, CLIENT = "198.18.0.1", "198.18.0.2"
DEVICE = "cable"
# Bytes that may go at once: more than the largest packet that a driver cuts up itself.
BURST = 1 << 20


@dataclass(frozen=True)
class Ethernet:
    """The names of two namespaces that reach each other, and nothing else."""

    server: str
    client: str

    def inside(self, namespace: str) -> tuple[str, ...]:
        """Return what is written before a command that is to run in a namespace."""
        return (tool("ip"), "netns", "exec", namespace)

    def limit(self, megabits: int) -> None:
        """Let so many megabits a second through from now on, each way."""
        for namespace in (self.server, self.client):
            bucket = f"tbf rate {megabits}mbit burst {BURST} latency 50ms"
            _run(tool("tc"), f"-n {namespace} qdisc replace dev {DEVICE} root {bucket}")


@contextmanager
def ethernet() -> Iterator[Ethernet]:
    """Have a network, with no limit yet; raises RuntimeError where that cannot be, as for users."""
    if os.geteuid() != 0:
        raise RuntimeError("a network of a given rate needs root")
    ip, name = tool("ip"), f"condainer-benchmark-{os.getpid()}"
    made = Ethernet(f"{name}-server", f"{name}-client")
    ends = {made.server: SERVER, made.client: CLIENT}
    try:
        for namespace in ends:
            _run(ip, f"netns add {namespace}")
        peer = f"type veth peer name {DEVICE} netns {made.client}"
        _run(ip, f"-n {made.server} link add {DEVICE} {peer}")
        for namespace, address in ends.items():
            _run(ip, f"-n {namespace} address add {address}/24 dev {DEVICE}")
            _run(ip, f"-n {namespace} link set {DEVICE} up")
        yield made
    finally:
        for namespace in ends:
            # The cable goes with them.
            subprocess.run([ip, "netns", "delete", namespace], check=False, capture_output=True)


def _run(program: str, words: str) -> None:
    done = subprocess.run([program, *words.split()], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} {words}: {done.stderr.strip()}")
