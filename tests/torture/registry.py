"""SIGKILL of pushes and pulls, and registries that misbehave at random."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from condainer.network import http
from condainer.oci import image_manifest
from condainer.registry import pull
from condainer.settings.config import Settings
from condainer.settings.load import load_settings
from condainer.system.errors import CondainerError
from condainer.system.reporter import Silent
from tests.helpers import flaky, flaky_registry, registry
from tests.helpers.flaky import Answer
from tests.helpers.registry import Registry
from tests.torture.bench import Bench, Figures
from tests.torture.kills import kill_after, kill_at
from tests.torture.network import LASTING, PASSING, impatient

REPOSITORY = "group/images"
WHOLE = "whole"
NAME, TAG = "tools/1.0", "tools__1.0"
# Beside those of mirrors: in the middle of an image, and other bytes from there on.
FAULTS: tuple[Answer, ...] = (
    *PASSING,
    *(flaky.drop(size) for size in (1_000_000, 5_000_000, 20_000_000)),
    *(flaky.wrong_rest, flaky.silent, flaky.without_length(3_000_000)),
    *LASTING,
)


@dataclass
class Kills:
    """What came of transfers that were killed; `landed` counts them by the step that ran."""

    landed: Counter[str] = field(default_factory=Counter)
    whole: int = 0
    absent: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The number of transfers that were killed before they ended."""
        return sum(self.landed.values())

    def line(self, what: str, where: str) -> str:
        """Return the figures."""
        steps = ", ".join(f"{step} {count}" for step, count in sorted(self.landed.items()))
        return (
            f"{self.total} killed {what}: {steps}; {where} absent {self.absent}, "
            f"whole {self.whole}, {len(self.problems)} problems"
        )


def kills(bench: Bench, count: int, seed: int) -> tuple[Kills, Kills]:
    """Kill so many pushes to an empty registry, and so many pulls into an empty cache.

    After each, a tag leads to a whole image or is absent, an entry is whole or absent, and the
    next push, or pull, works without any hand and leaves nothing behind.
    """
    chance = random.Random(seed)
    pushes, pulls = Kills(), Kills()
    with registry.serve(bench.root / "registry") as running:
        bench.environment["CONDAINER_REGISTRIES"] = f"oci+http://{running.authority}/{REPOSITORY}"
        bench.build()
        bench.run("tag", NAME)
        push, take = _Time(bench, "push", NAME), _Time(bench, "pull")
        while pushes.total < count:
            shutil.rmtree(running.storage / "docker")
            if push.killed(chance, pushes):
                _examine_push(bench, running, pushes)
            else:
                _succeed(bench, "push", NAME)
        while pulls.total < count:
            bench.discard()
            if take.killed(chance, pulls):
                _examine_pull(bench, pulls)
    return pushes, pulls


class _Time:
    """A command that is killed at some time, and how long it takes if it is not."""

    def __init__(self, bench: Bench, *words: str) -> None:
        self.bench = bench
        self.words = words
        if words[0] == "pull":
            bench.discard()
        start = time.monotonic()
        self.transfer = _succeed(bench, *words)["seconds"]
        self.all = time.monotonic() - start

    def killed(self, chance: random.Random, result: Kills) -> bool:
        """Kill it, half of the time while it transfers; False if it had ended before."""
        child = self.bench.start(*self.words)
        if chance.random() < 0.5:
            step = f"{self.words[0].capitalize()}ing"
            reached = kill_at(child, step, chance.uniform(0, self.transfer))
        else:
            reached = kill_after(child, chance.uniform(0, self.all))
        if reached is None:
            return False
        result.landed[reached] += 1
        return True


def _succeed(bench: Bench, *words: str) -> dict[str, Any]:
    """Run a command, and return what it prints."""
    ended = bench.run(*words, "--json")
    if ended.status:
        raise AssertionError(f"cnd {words[0]}: status {ended.status}\n{ended.stderr}")
    told = json.loads(ended.stdout)
    found: dict[str, Any] = told[0] if isinstance(told, list) else told
    return found


def _examine_push(bench: Bench, running: Registry, result: Kills) -> None:
    found, problems = _tags(running)
    result.problems += problems
    if bench.reference["address"] in found:
        result.whole += 1
    else:
        result.absent += 1
    try:
        _succeed(bench, "push", NAME)
    except AssertionError as error:
        result.problems.append(f"the next push: {error}")
        return
    found, problems = _tags(running)
    result.problems += [f"after the next push: {problem}" for problem in problems]
    if set(found) != {bench.reference["address"], TAG}:
        result.problems.append(f"the next push: the registry has {found}")


def _examine_pull(bench: Bench, result: Kills) -> None:
    result.problems += bench.torn()
    if bench.entries():
        result.whole += 1
    else:
        result.absent += 1
    try:
        pulled = _succeed(bench, "pull")
    except AssertionError as error:
        result.problems.append(f"the next pull: {error}")
        return
    result.problems += bench.torn()
    if not bench.entries():
        result.problems.append("the next pull: no entry")
    if not pulled["present"]:
        # Who finds the image writes nothing, so that what was left stays until something does.
        result.problems += [f"left: {path}" for path in bench.leftovers()]


def _tags(running: Registry) -> tuple[list[str], list[str]]:
    """Return the tags that lead to a manifest, and what is wrong with what is behind it."""
    root = f"http://{running.authority}/v2/{REPOSITORY}"
    found: list[str] = []
    problems: list[str] = []
    # Before the first manifest, there is no repository; and a tag may be listed before it leads
    # anywhere: docker-registry writes one after the other, also when the client is gone.
    for tag in json.loads(_get(f"{root}/tags/list") or b"{}").get("tags") or []:
        if manifest := _get(f"{root}/manifests/{tag}"):
            found.append(tag)
            problems += [f"{tag}: {problem}" for problem in _unlike(root, manifest)]
    return found, problems


def _unlike(root: str, content: bytes) -> list[str]:
    """Return what is missing, or has another sha256, of what a manifest names."""
    manifest = json.loads(content)
    parts = manifest.get("manifests") or [manifest["config"], *manifest["layers"]]
    kind = "manifests" if "manifests" in manifest else "blobs"
    problems = []
    for digest in [part["digest"] for part in parts]:
        found = _get(f"{root}/{kind}/{digest}")
        if digest != f"sha256:{hashlib.sha256(found).hexdigest()}":
            problems.append(f"{digest} is not there, or has other bytes")
        elif kind == "manifests":
            problems += _unlike(root, found)
    return problems


def _get(url: str) -> bytes:
    """Return what a registry has; empty if it is not there."""
    types = f"{image_manifest.MANIFEST_TYPE}, {image_manifest.INDEX_TYPE}"
    try:
        with urlopen(Request(url, headers={"Accept": types}), timeout=30) as answer:
            content: bytes = answer.read()
            return content
    except HTTPError as error:
        if error.code != 404:
            raise
        return b""


@dataclass
class Faults:
    """How pulls from a registry that misbehaves ended, how much it was asked, what was wrong."""

    endings: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the figures."""
        endings = ", ".join(f"{count} {how}" for how, count in sorted(self.endings.items()))
        return (
            f"{self.endings.total()} pulls from a registry that misbehaves, {self.requests} "
            f"requests: {endings}; {len(self.problems)} problems"
        )


def faults(bench: Bench, rounds: int, seed: int) -> Faults:
    """Pull from a registry that misbehaves, and once more when it behaves again.

    What is in the cache must be right, however the first pull ended, and nothing may be left; the
    second one must succeed.
    """
    outcome = Faults()
    chance = random.Random(seed)
    address = bench.reference["address"]
    with flaky_registry.serve() as server, impatient(), _as_if_large():
        where = f"oci+http://{server.authority}/images"
        bench.build()
        _succeed(bench, "push", "--to", where)
        more = {"CONDAINER_REGISTRIES": where, "CONDAINER_NETWORK_TIMEOUT": "1"}
        settings = load_settings(bench.project, environ={**bench.environment, **more})
        server.asked.clear()
        for number in range(rounds):
            bench.discard()
            # The other half may fail before the image itself is asked for.
            server.plan[:] = [flaky.whole] * chance.choice([0, 3])
            server.plan += chance.choices(FAULTS, k=chance.randrange(8))
            how = _pulled(address, settings)
            outcome.endings[how] += 1
            problems = _state(bench, how == WHOLE)
            server.plan.clear()
            if how != WHOLE:
                again = _pulled(address, settings)
                problems += [f"then {again}: {problem}" for problem in _state(bench, True)]
            outcome.problems += [f"round {number}, {how}: {problem}" for problem in problems]
        outcome.requests = len(server.asked)
    return outcome


@contextmanager
def _as_if_large() -> Iterator[None]:
    """Treat every file as a large one, and bring every bit of an image to the disk by itself."""
    before = http.LARGE, pull.SYNCED
    http.LARGE = pull.SYNCED = 1
    try:
        yield
    finally:
        http.LARGE, pull.SYNCED = before


def _pulled(address: str, settings: Settings) -> str:
    """Pull, and return how that ended."""
    try:
        pull.pull(address, settings, Silent())
    except CondainerError as error:
        return type(error).__name__
    return WHOLE


def _state(bench: Bench, there: bool) -> list[str]:
    """Return what is wrong with a cache in which the image is to be there, or not."""
    problems = [*bench.torn(), *(f"left: {path}" for path in bench.leftovers())]
    if there != bool(bench.entries()):
        problems.append("there is no entry" if there else "there is an entry")
    return problems


def crowd(bench: Bench, pullers: int) -> tuple[int, list[str]]:
    """Pull by many at once; return how often the image's blob was asked for, and what was wrong."""
    with flaky_registry.serve() as server:
        bench.build()
        where = f"oci+http://{server.authority}/images"
        _succeed(bench, "push", "--to", where)
        bench.discard()
        server.asked.clear()
        command = ("pull", "--json")
        children = [bench.start(*command, CONDAINER_REGISTRIES=where) for _ in range(pullers)]
        problems = []
        for child in children:
            stdout, stderr = child.communicate(timeout=300)
            if child.returncode:
                problems.append(f"status {child.returncode}: {stderr.strip()}")
            elif json.loads(stdout)["sha256"] != bench.reference["sha256"]:
                problems.append(f"pulled {stdout}")
        problems += _state(bench, True)
        blob = f"/v2/images/blobs/sha256:{bench.reference['sha256']}"
        return sum(asked.path == blob for asked in server.requests("GET")), problems


def campaign(bench: Bench, count: int, rounds: int, pullers: int, seed: int) -> Figures:
    """Run all of it: `count` kills of pushes, as many of pulls, and `rounds` of faults."""
    pushes, pulls = kills(bench, count, seed)
    outcome = faults(bench, rounds, seed)
    asked, problems = crowd(bench, pullers)
    lines = (
        pushes.line("pushes", "tag"),
        pulls.line("pulls", "entry"),
        outcome.line(),
        f"{pullers} pulls at once: {asked} downloads, {len(problems)} problems",
    )
    problems += [f"{asked} downloads"] if asked != 1 else []
    return Figures(lines, (*pushes.problems, *pulls.problems, *outcome.problems, *problems))
