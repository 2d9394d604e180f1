"""Damage to an image: what finds it, `cnd verify`, a mount, or the look-up of a build."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from condainer.cache import entries, verify
from condainer.lock.address import Address, address_of
from condainer.lock.explicit import read_explicit
from condainer.settings.config import Settings
from condainer.system.machine import this_platform
from condainer.system.reporter import Silent
from tests.torture.bench import Bench, Figures

Damage = Callable[[bytearray, random.Random], None]


def flip(content: bytearray, chance: random.Random) -> None:
    """Turn one bit over."""
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def cut(content: bytearray, chance: random.Random) -> None:
    """Lose the end."""
    del content[chance.randrange(len(content)) :]


def hole(content: bytearray, chance: random.Random) -> None:
    """Lose some blocks in the middle, as a file system does that was not unmounted."""
    length = chance.choice([512, 4096, 65536])
    while True:
        start = chance.randrange(len(content))
        end = min(len(content), start + length)
        if any(content[start:end]):
            content[start:end] = bytes(end - start)
            return


# The faults, and what they are called in the figures.
FAULTS: dict[str, tuple[str, Damage]] = {
    "bit": ("bit flips", flip),
    "cut": ("truncations", cut),
    "hole": ("zeroed holes", hole),
}


@dataclass(frozen=True)
class Found:
    """How many of the damaged images each of three found."""

    fault: str
    count: int
    verify: int
    mount: int
    look_up: int

    def __str__(self) -> str:
        return (
            f"{self.count} {FAULTS[self.fault][0]}: found by verify {self.verify}, by a mount "
            f"{self.mount} ({self.mount / max(1, self.count):.0%}), by a look-up {self.look_up}"
        )


def address_in(directory: Path) -> Address:
    """Return the address of an entry, computed from its lock."""
    manifest = json.loads((directory / "manifest.json").read_text())
    lock = read_explicit(directory / "explicit.lock", this_platform())
    return address_of(lock, Path(manifest["prefix"]).parent)


def a_mount_finds(image: Path, address: str, where: Path) -> bool:
    """Tell whether mounting an image and reading its address shows that it is damaged."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(["squashfuse", image, where], capture_output=True, timeout=30)
        if done.returncode:
            return True
        try:
            return (where / ".condainer" / "address").read_text() != f"{address}\n"
        except OSError:
            return True
        finally:
            subprocess.run(["umount", "--lazy", where], check=True)
    return True


def damaged(
    directory: Path, settings: Settings, where: Path, fault: str, count: int, seed: int = 0
) -> Found:
    """Damage the image of an entry again and again, and repair it at the end.

    Parameters: `where` is an empty directory to mount it.
    """
    image, address = directory / "image.squashfs", address_in(directory)
    original = image.read_bytes()
    image.chmod(0o644)
    found = mount = looked_up = 0
    for number in range(seed, seed + count):
        content = bytearray(original)
        FAULTS[fault][1](content, random.Random(f"{fault} {number}"))
        assert content != original
        image.write_bytes(content)
        found += bool(verify.verify_entry(directory, settings, Silent()).problems)
        mount += a_mount_finds(image, address.digest, where)
        looked_up += entries.look_up(address, settings) is None
    image.write_bytes(original)
    return Found(fault, count, found, mount, looked_up)


def campaign(bench: Bench, counts: dict[str, int], settings: Settings) -> Figures:
    """Damage the bench's image so often with each fault; `verify` must find every one."""
    directory = Path(bench.build()["image"]).parent
    where = bench.root / "where"
    where.mkdir()
    lines, problems = [], []
    for fault, count in counts.items():
        result = damaged(directory, settings, where, fault, count)
        lines.append(str(result))
        if result.verify < count:
            problems.append(f"verify found {result.verify} of {count} {FAULTS[fault][0]}")
    if verify.verify_entry(directory, settings, Silent()).problems:
        problems.append("the undamaged image is called damaged")
    return Figures(tuple(lines), tuple(problems))
