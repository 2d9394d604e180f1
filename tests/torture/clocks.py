"""Clocks that are an hour off, process numbers that somebody else has, builders that died."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from condainer.system.private_directory import this_host
from tests.torture.bench import Bench, Figures
from tests.torture.crowd import broken_locks
from tests.torture.shims import clock_off

HOUR = 3600
STEPS = ("Linking", "Compressing")
# How much longer than `lock_timeout` a build may take, in seconds, on a busy machine; by default,
# that is an hour.
MARGIN = 300.0


def campaign(bench: Bench, rounds: int, offsets: Sequence[int] = (HOUR, -HOUR)) -> Figures:
    """Build with clocks that are off: at once, one after the other, and in the middle.

    Parameters: `rounds` of each; `offsets` in seconds.
    """
    problems: list[str] = []
    pairs = robbed = 0
    for _ in range(rounds):
        for seconds in offsets:
            off = clock_off(bench.root, seconds)
            for locks in ("working", "absent"):
                pairs += 1
                case = f"clock {seconds:+} s, locks {locks}"
                problems += [f"{case}: {p}" for p in _at_once(bench, _without(bench, locks), off)]
            for step in STEPS:
                robbed += 1
                case = f"clock {seconds:+} s, stopped in {step}"
                problems += [f"{case}: {p}" for p in _while_one_stands(bench, step, off)]
    lines = (
        f"{pairs} pairs of builders, one clock an hour off, and a third afterwards: one entry each",
        f"{robbed} builders that stood still while another built beside them: none was robbed",
        f"{len(problems)} problems",
    )
    return Figures(lines, tuple(problems))


def _without(bench: Bench, locks: str) -> Mapping[str, str]:
    return {} if locks == "working" else broken_locks(bench.root, locks, bench.root)


def _together(*environments: Mapping[str, str]) -> dict[str, str]:
    """Return environments as one, in which all of their libraries are loaded."""
    loaded = [e["LD_PRELOAD"] for e in environments if "LD_PRELOAD" in e]
    joined = {name: value for e in environments for name, value in e.items()}
    return {**joined, "LD_PRELOAD": ":".join(loaded)} if loaded else joined


def _at_once(bench: Bench, locks: Mapping[str, str], off: Mapping[str, str]) -> list[str]:
    """Start two builders at once, and a third when they have ended."""
    bench.discard()
    pair = [bench.start("build", "--json", **_together(locks, e)) for e in ({}, off)]
    problems = []
    for child in pair:
        stdout, stderr = child.communicate(timeout=300)
        problems += _ended_well(bench, child.returncode, stdout, stderr)
    third = bench.build(**_together(locks, off))
    if not third["hit"]:
        problems.append("the third builder built again")
    if len(bench.entries()) != 1:
        problems.append(f"entries: {bench.entries()}")
    return [*problems, *bench.torn(), *(f"left: {path}" for path in bench.leftovers())]


def _while_one_stands(bench: Bench, step: str, off: Mapping[str, str]) -> list[str]:
    """Stop a builder in a step, build beside it with another clock, and let it go on."""
    bench.discard()
    first = bench.start("build", "--json")
    assert first.stderr is not None
    for line in first.stderr:
        if line.startswith(step):
            break
    first.send_signal(signal.SIGSTOP)
    problems: list[str] = []
    mine = set(bench.leftovers())
    for path in mine:
        # As if the other host's clock had written these times.
        os.utime(path, (time.time() - int(off["CLOCK_OFF"]),) * 2)
    start = time.monotonic()
    second = bench.build(CONDAINER_LOCK_TIMEOUT="1", **off)
    seconds = time.monotonic() - start
    if second["hit"] or seconds > 1 + MARGIN:
        problems.append(f"the second builder: hit {second['hit']}, {seconds:.0f} s")
    problems += [f"robbed of {path}" for path in mine - set(bench.leftovers())]
    first.send_signal(signal.SIGCONT)
    stdout, stderr = first.communicate(timeout=300)
    problems += _ended_well(bench, first.returncode, stdout, stderr)
    if not bench.build()["hit"] or len(bench.entries()) != 1:
        problems.append(f"entries: {bench.entries()}")
    return [*problems, *bench.torn(), *(f"left: {path}" for path in bench.leftovers())]


def _ended_well(bench: Bench, status: int, stdout: str, stderr: str) -> list[str]:
    if status:
        return [f"status {status}: {stderr}"]
    same = json.loads(stdout)["sha256"] == bench.reference["sha256"]
    return [] if same else [f"another image: {stdout}"]


def claims_of_others(bench: Bench) -> Figures:
    """Build where claims name a live process that is another's, and a host whose builder died."""
    digest = bench.reference["address"]
    problems: list[str] = []
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        hosts = {"a number used again": (this_host(), sleeper.pid), "another host": ("gone", 4711)}
        for case, (host, pid) in hosts.items():
            bench.discard()
            claims = [
                bench.cache / "tmp" / f"{digest}.{host}.{pid}.abcdefgh",
                bench.staging / f"condainer-stage.{host}.{pid}.abcdefgh",
            ]
            problems += [f"{case}: {p}" for p in _beside(bench, claims)]
    finally:
        sleeper.kill()
        sleeper.wait()
    seconds = _held(bench, 2, problems)
    return Figures(
        (
            "claims of a process number used again, and of a host that died: no build waited",
            f"a lock that its holder never gives back: the build went on after {seconds:.1f} s "
            "with a lock_timeout of 2 s",
            f"{len(problems)} problems",
        ),
        tuple(problems),
    )


def _beside(bench: Bench, claims: Sequence[Path]) -> list[str]:
    """Build beside the claims of others, which stay."""
    for claim in claims:
        claim.mkdir(parents=True)
        (claim / "image.squashfs").write_bytes(b"half")
        os.utime(claim, (0, 0))
    start = time.monotonic()
    built = bench.build()
    seconds = time.monotonic() - start
    problems = [f"it took {seconds:.0f} s"] if seconds > MARGIN else []
    if built["hit"] or built["sha256"] != bench.reference["sha256"]:
        problems.append(f"built {built}")
    for claim in claims:
        if not (claim / "image.squashfs").exists():
            problems.append(f"{claim} is gone")
        shutil.rmtree(claim, ignore_errors=True)
    return [*problems, *bench.torn(), *(f"left: {path}" for path in bench.leftovers())]


def _held(bench: Bench, patience: int, problems: list[str]) -> float:
    """Hold the lock of an address for ever, and return for how long a build takes then.

    Parameters: `patience` is its lock_timeout in seconds.
    """
    bench.discard()
    path = bench.cache / "locks" / f"{bench.reference['address']}.lock"
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start = time.monotonic()
        built = bench.build(CONDAINER_LOCK_TIMEOUT=str(patience))
        seconds = time.monotonic() - start
    if built["hit"] or not patience <= seconds < patience + MARGIN:
        problems.append(f"with the lock held: hit {built['hit']}, {seconds:.1f} s")
    return seconds


def both(bench: Bench, rounds: int) -> Figures:
    """Run both campaigns."""
    off, claims = campaign(bench, rounds), claims_of_others(bench)
    return Figures((*off.lines, *claims.lines), (*off.problems, *claims.problems))
