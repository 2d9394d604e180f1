"""Compile .py files; runs under the interpreter of an environment.

Usage: python compile_tree.py JOBS LIST, where the file LIST holds paths, each ended by a NUL.

Stands alone (any Python from 3.7) and prints the number of finished files now and then. Unlike
compileall it tells files that are not valid Python, which are skipped as every installer does,
from files that cannot be written, which is an error: an image must not silently lack some. The
workers are plain forks: they end with the pipe to their parent, however that ends.
"""

from __future__ import annotations

import importlib.util
import os
import py_compile
import sys
import traceback
from collections.abc import Callable
from functools import partial

# Files after which a worker says how far it is.
BATCH = 20


def compile_file(path: str) -> None:
    """Compile a file; a stale .pyc of one that is not valid Python is removed."""
    try:
        py_compile.compile(
            path,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    except OSError:
        raise
    except Exception:
        # A test file of another Python's syntax, a template, a broken encoding, ...
        stale = importlib.util.cache_from_source(path)
        if os.path.exists(stale):
            os.unlink(stale)


def work(paths: list[str], reader: int, writer: int) -> None:
    """Compile files, and write a byte for each into the pipe."""
    os.close(reader)
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        for path in batch:
            compile_file(path)
        os.write(writer, b"." * len(batch))


def end_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends, rather than at the next write."""
    try:
        import ctypes

        # PR_SET_PDEATHSIG, SIGKILL
        ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    except Exception:
        # A Python without ctypes: the broken pipe ends us a little later.
        return


def start_worker(job: Callable[[], None]) -> int:
    """Start a process that does a job, and return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        end_with_parent()
        job()
        status = 0
    except OSError as error:
        print(error, file=sys.stderr)
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> int:
    """Compile what the command line names; the status is 1 if a file could not be written."""
    jobs = int(sys.argv[1])
    with open(sys.argv[2], "rb") as listed:
        paths = [os.fsdecode(path) for path in listed.read().split(b"\0") if path]
    reader, writer = os.pipe()
    # Every jobs-th file for each: neighbours are alike, so that all have about the same work.
    workers = [start_worker(partial(work, paths[n::jobs], reader, writer)) for n in range(jobs)]
    os.close(writer)
    done = 0
    while True:
        finished = os.read(reader, 65536)
        if not finished:
            break
        done += len(finished)
        print(done, len(paths), flush=True)
    failures = [worker for worker in workers if os.waitpid(worker, 0)[1]]
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
