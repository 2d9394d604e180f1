"""Libraries in C that are loaded before the C library: calls that fail, clocks that are off."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Of struct counter in faults.c: two numbers, and the first call that failed.
NUMBERS = struct.Struct("@LL")
COUNTER_SIZE = 8192
SHORT = "short"
PROGRAMS = ("mksquashfs", "unsquashfs")


def library(name: str, directory: Path) -> Path:
    """Compile `name`.c of this directory, and return the library."""
    target = directory / f"{name}.so"
    if not target.exists():
        draft = directory / f"{name}.{os.getpid()}.so"
        source = Path(__file__).with_name(f"{name}.c")
        command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(draft), str(source), "-ldl"]
        subprocess.run(command, check=True)
        draft.rename(target)
    return target


@dataclass(frozen=True)
class Fault:
    """Which call fails, and how; faults.c tells what the words mean.

    `at` counts the calls from 1; 0 lets none fail. `how` is the number of an error or SHORT.
    """

    at: int
    how: int | str = errno.EIO
    calls: str = "change"
    lasting: bool = False
    name: str = ""

    def __str__(self) -> str:
        how = self.how if isinstance(self.how, str) else errno.errorcode[self.how]
        return f"{how} at call {self.at}{' and all later ones' if self.lasting else ''}"


@dataclass(frozen=True)
class Faulty:
    """The calls of the C library that touch some directories, counted and made to fail."""

    directory: Path
    below: Sequence[Path]

    def environment(self, fault: Fault) -> Mapping[str, str]:
        """Return the environment in which a fault happens; the count begins anew."""
        self._counter.write_bytes(bytes(COUNTER_SIZE))
        values = {
            "LD_PRELOAD": str(library("faults", self.directory)),
            "FAULT_BELOW": ":".join(str(path.resolve()) for path in self.below),
            "FAULT_COUNTER": str(self._counter),
            "FAULT_CALLS": fault.calls,
            "FAULT_AT": str(fault.at),
            "FAULT_HOW": str(fault.how),
            "FAULT_NAME": fault.name,
        }
        if fault.lasting:
            values["FAULT_LASTING"] = "1"
        return {**values, "PATH": f"{self._programs(values)}:{os.environ['PATH']}"}

    def _programs(self, values: Mapping[str, str]) -> Path:
        """Return a directory of programs that fail, too; they get no variables of their caller."""
        directory = self.directory / "programs"
        directory.mkdir(exist_ok=True)
        exported = " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
        for name in PROGRAMS:
            if found := shutil.which(name):
                script = directory / name
                script.write_text(f'#!/bin/sh\nexec env {exported} {found} "$@"\n')
                script.chmod(0o755)
        return directory

    @property
    def _counter(self) -> Path:
        return self.directory / "counter"

    def counted(self) -> tuple[int, int, str]:
        """Return how many calls there were, how many of them failed, and which failed first."""
        content = self._counter.read_bytes()
        calls, faults = NUMBERS.unpack_from(content)
        text = content[NUMBERS.size :].partition(b"\0")[0]
        return calls, faults, text.decode(errors="replace")


def clock_off(directory: Path, seconds: int) -> Mapping[str, str]:
    """Return the environment in which the clock is so many seconds ahead, or behind."""
    return {"LD_PRELOAD": str(library("clock", directory)), "CLOCK_OFF": str(seconds)}
