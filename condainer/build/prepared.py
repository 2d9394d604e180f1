"""Byte code from the shelves of the package cache, written beside a prefix while that is filled.

What fits, because its source is the one in the finished prefix, is moved there at the end. So
installers do not meet it meanwhile, and the order of both does not show.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from condainer.build.unshelve import SHELVES, Written
from condainer.package_cache.archives import note_use
from condainer.startup import launch
from condainer.system import process
from condainer.system.errors import CondainerError
from condainer.system.files import storage_error_told, storage_errors
from condainer.system.process import CommandFailed
from condainer.system.reporter import Reporter


@dataclass(frozen=True)
class Restored:
    """What a shelf of the package cache gave: sources that need no compiling, digests by path."""

    sources: tuple[str, ...]
    digests: Mapping[str, str]


@dataclass(frozen=True)
class Prepared:
    """What is written of the shelves in `places`, by packages' sha256, below `directory`.

    `finish` waits for that, where there are any.
    """

    directory: Path
    places: Mapping[str, Path]
    finish: Callable[[], object] | None

    def wait(self, reporter: Reporter) -> None:
        """Wait until all of it stands there; raises StorageError when the disk does not take it.

        After another failure, what is not there is compiled as if it were new.
        """
        try:
            if self.finish is not None:
                self.finish()
        except CommandFailed as error:
            doing = f"write byte code below {self.directory}"
            if full := storage_error_told(doing, error.reason):
                raise full from None
            reporter.warn(f"Compiled modules of the package cache cannot be used: {error.reason}")

    def written(self, number: int) -> list[Written] | None:
        """Return what there is of the shelf of a number; None without a shelf."""
        try:
            text = (self.directory / f"{number}.json").read_text("utf-8")
        except FileNotFoundError:
            return None
        return [(s, sha256, target, digest) for s, sha256, target, digest in json.loads(text)]

    def put(
        self, prefix: Path, digests: Mapping[str, str], is_compiled: Callable[[str], bool]
    ) -> list[Restored | None]:
        """Move what fits into a prefix, and return for each place what that was.

        Parameters: `digests` are sha256 of the sources that stand there; `is_compiled` tells
        whether one has byte code there already. Raises OSError.
        """
        restored: list[Restored | None] = []
        for number, place in enumerate(self.places.values()):
            written = self.written(number)
            if written is None:
                restored.append(None)
                continue
            note_use(place)
            fitting = [row for row in written if digests.get(row[0]) == row[1]]
            _move(self.directory / str(number), prefix, written, fitting)
            # Byte code that is there of what cannot be compiled is stale: it goes when compiling
            # fails again.
            good = [r for r in fitting if r[3] is not None or not is_compiled(r[0])]
            targets = {row[2]: row[3] for row in good if row[3] is not None}
            restored.append(Restored(tuple(row[0] for row in good), targets))
        return restored


@contextlib.contextmanager
def preparing(
    places: Mapping[str, Path], final: Path, scratch: Path, jobs: int
) -> Iterator[Prepared]:
    """Begin to write the byte code of shelves for the prefix `final`; it ends with the context.

    Parameters: `scratch` is a private directory, `jobs` how many processors may be used, of which
    installing needs one.
    """
    directory = scratch / "bytecode"
    if not any(os.path.exists(place) for place in places.values()):
        yield Prepared(directory, places, None)
        return
    listed = b"".join(os.fsencode(place) + b"\0" for place in places.values())
    with storage_errors(f"write byte code in {scratch}"):
        directory.mkdir()
        (directory / SHELVES).write_bytes(listed)
    command = launch.module_command("condainer.build.unshelve")
    workers = max(jobs - 1, 1)
    arguments = [str(directory), str(final), str(workers)]
    with process.started([*command, *arguments], os.environ) as finish:
        if jobs == 1:
            # wait() tells of its failure.
            with contextlib.suppress(CondainerError):
                finish()
        yield Prepared(directory, places, finish)


def _move(
    source: Path, prefix: Path, written: Sequence[Written], fitting: Sequence[Written]
) -> None:
    """Move the byte code of modules, whole directories where all that is in one fits."""
    wanted = {row[2] for row in fitting if row[3] is not None}
    present = sorted({row[2] for row in written if row[3] is not None}, key=os.path.dirname)
    for folder, group in groupby(present, os.path.dirname):
        targets = list(group)
        chosen = [target for target in targets if target in wanted]
        if chosen == targets and not os.path.lexists(prefix / folder):
            shutil.move(source / folder, prefix / folder)
        elif chosen:
            (prefix / folder).mkdir(parents=True, exist_ok=True)
            for target in chosen:
                # It may be a hard link into the package cache.
                (prefix / target).unlink(missing_ok=True)
                shutil.move(source / target, prefix / target)
