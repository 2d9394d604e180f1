"""Compile every .py file below some directories; runs under the interpreter of an environment.

Usage: python compile_tree.py JOBS DIRECTORY...

Stands alone (any Python from 3.7) and prints the number of finished files now and then. Unlike
compileall it tells files that are not valid Python, which are skipped as every installer does,
from files that cannot be written, which is an error: an image must not silently lack some.
"""

from __future__ import annotations

import importlib.util
import os
import py_compile
import sys
from concurrent.futures import ProcessPoolExecutor

# Files a worker takes at a time: few enough to keep the workers equally busy.
BATCH = 40


def sources(directories: list[str]) -> list[str]:
    """Return the .py files below the directories, sorted."""
    found: list[str] = []
    for directory in directories:
        for root, folders, names in os.walk(directory):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            found += [os.path.join(root, name) for name in sorted(names) if name.endswith(".py")]
    return found


def compile_batch(paths: list[str]) -> int:
    """Compile some files; a stale .pyc of one that is not valid Python is removed."""
    for path in paths:
        try:
            py_compile.compile(
                path,
                doraise=True,
                quiet=2,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
        except OSError:
            raise
        except Exception:
            # A test file of another Python's syntax, a template, a broken encoding, …
            stale = importlib.util.cache_from_source(path)
            if os.path.exists(stale):
                os.unlink(stale)
    return len(paths)


def main() -> None:
    """Compile what the command line names."""
    jobs = int(sys.argv[1])
    paths = [path for path in sources(sys.argv[2:]) if not os.path.islink(path)]
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    done = 0
    with ProcessPoolExecutor(jobs) as pool:
        for count in pool.map(compile_batch, batches):
            done += count
            print(done, len(paths), flush=True)


if __name__ == "__main__":
    main()
