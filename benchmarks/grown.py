"""A channel whose packages give environments of so many files as large ones have."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.channel import index
from benchmarks.large import half_noise
from condainer.system.files import remove_tree
from tests.channel.build import SUBDIRS
from tests.channel.package import Recipe, write_conda, write_file

# Of a package in an image: modules, as many files of byte code, and others.
MODULES, OTHERS = 120, 60
FILES = 2 * MODULES + OTHERS
FOLDER = 30
# Of the mix: files of an environment for each large library, and its size in pieces of 10 MB.
FILES_A_LIBRARY, PIECES = 5_000, 4
# Functions that modules are put together of.
FUNCTIONS = 4_000
WORDS = ("array", "batch", "cell", "data", "edge", "graph", "head", "index", "key", "layer", "node")
DONE = "grown"
KEY = f"1 {MODULES} {OTHERS} {FILES_A_LIBRARY} {PIECES} {FUNCTIONS}\n"


def ensure_grown(root: Path, base: Path, files: int, mixed: bool) -> Path:
    """Return a channel of Python and of packages with about so many files, made once.

    Parameters: `root` is where it is kept, `base` a channel that has Python; `mixed` adds large
    libraries.
    """
    channel = root / "conda-forge"
    if (root / DONE).is_file() and (root / DONE).read_text() == KEY:
        return channel
    remove_tree(root)
    for subdir in SUBDIRS:
        (channel / subdir).mkdir(parents=True)
        for archive in (base / subdir).glob("python-[0-9]*.conda"):
            shutil.copy(archive, channel / subdir)
    functions = list(_functions(random.Random(0)))
    work = root / "work"
    for number, name in enumerate(packages(files)):
        _modules(work / "site-packages" / name, functions, random.Random(number))
        write_conda(work, Recipe(name, "1.0", "py_0", ("python",), noarch="python"), channel)
        remove_tree(work)
    for number, name in enumerate(libraries(files) if mixed else ()):
        path = work / "lib" / f"lib{name}.so"
        path.parent.mkdir(parents=True)
        with path.open("wb") as stream:
            generator = random.Random(number)
            for _ in range(PIECES):
                stream.writelines(half_noise(generator))
        write_conda(work, Recipe(name, "1.0", subdir="linux-64", noarch=None), channel)
        remove_tree(work)
    index(channel)
    (root / DONE).write_text(KEY)
    return channel


def packages(files: int) -> list[str]:
    """Return the names of the packages with so many files together."""
    return [f"grown{number:04}" for number in range(files // FILES)]


def libraries(files: int) -> list[str]:
    """Return the names of the packages with one large library."""
    return [f"large{number:04}" for number in range(files // FILES_A_LIBRARY)]


def modules(files: int, wanted: int) -> list[str]:
    """Return the names of so many modules, from all packages alike."""
    found = [
        f"{name}.part{number // FOLDER}.module{number % FOLDER:02}"
        for number in range(MODULES)
        for name in packages(files)
        if number % FOLDER
    ]
    return found[:wanted]


def _modules(directory: Path, functions: list[str], draw: random.Random) -> None:
    for number in range(MODULES):
        part, place = divmod(number, FOLDER)
        name = f"module{place:02}" if place else "__init__"
        # Most are small, and a few are long.
        count = min(80, 1 + int(draw.lognormvariate(2, 1)))
        text = f'"""{directory.name} {number}."""\n' + "".join(draw.choices(functions, k=count))
        write_file(directory / f"part{part}" / f"{name}.py", text)
    write_file(directory / "__init__.py", "")
    for number in range(OTHERS - 2):
        text = " ".join(draw.choices(functions, k=1 + number % 7))
        write_file(directory / "data" / f"{number}.txt", f"{directory.name} {number} {text}")


def _functions(draw: random.Random) -> Iterator[str]:
    """Yield functions that are all different."""
    for number in range(FUNCTIONS):
        one, two, three = draw.choices(WORDS, k=3)
        yield (
            f"\ndef {one}_{number}({two}, {three}_size={draw.randrange(1000)}):\n"
            f'    """Return the {one} of a {two}, {draw.randrange(1 << 40)} at a time."""\n'
            f"    if {three}_size > {draw.randrange(100)}:\n"
            f"        return [{two} + {three}_size for _ in range({draw.randrange(50)})]\n"
            f"    return {{'{one}': {two}, '{three}': {draw.random()}}}\n\n"
        )
