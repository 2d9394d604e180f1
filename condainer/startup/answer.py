"""The commands that a stamp answers, and `lock`, without click; in doubt, the long way.

It imports next to nothing, so that `cnd build` with nothing changed costs hardly more than an
interpreter.
"""

import os
import sys
import time

from condainer.startup import stamp


def run(arguments: list[str]) -> int | None:
    """Do what the arguments say and return the exit status; None if the long way has to be taken.

    What it does not know, and what is not exactly as it was, is for the long way.
    """
    start = time.perf_counter()
    quiet, directory, place = False, "", 0
    while place < len(arguments):
        word = arguments[place]
        place += 1
        if word in ("-q", "--quiet"):
            quiet = True
        elif word in ("-d", "--directory") and place < len(arguments):
            directory = arguments[place]
            place += 1
        elif word == "build":
            return _build(arguments[place:], directory, quiet, start)
        elif word == "exec":
            _execute(arguments[place:], directory, quiet)
            break
        elif word == "lock" and place == len(arguments):
            return _lock(directory, quiet)
        else:
            break
    return None


def _build(options: list[str], directory: str, quiet: bool, start: float) -> int | None:
    if not all(option in ("--locked", "--json") for option in options):
        return None
    found = _found(directory)
    if found is None or "text" not in found:
        if not _is_plain(directory):
            return None
        from condainer.startup import later

        later.import_pathlib()
        _settle()
        from condainer.cli import hit

        return hit.build(directory, quiet, "--locked" in options, "--json" in options)
    if "--json" in options:
        seconds = round(time.perf_counter() - start, 3)
        sys.stdout.write(f"{found['head']}{seconds}{found['tail']}\n")
    elif not quiet:
        sys.stderr.write(f"{found['text']} in {time.perf_counter() - start:.2f} s\n")
    return 0


def _execute(words: list[str], directory: str, quiet: bool) -> None:
    """Become a command in an image, mounted or not; return if the long way has to be taken."""
    if words[:1] == ["--"]:
        del words[0]
    elif words and words[0].startswith("-"):
        return
    if not words or not _is_plain(directory):
        return
    found = _found(directory)
    if found is not None:
        from condainer.startup import attach

        attach.command(words, found)
    from condainer.startup import later, launch

    launch.end_cleanly()
    later.import_pathlib()
    from condainer.cli import hit

    hit.execute(words, directory, quiet, found is not None)


def _lock(directory: str, quiet: bool) -> int | None:
    if not _is_plain(directory):
        return None
    _settle()
    from condainer.cli import lock_quick

    return lock_quick.lock(directory, quiet)


def _settle() -> None:
    """Prepare for work that takes its time."""
    import warnings

    from condainer.startup import launch

    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    launch.end_cleanly()


def _is_plain(directory: str) -> bool:
    """Tell whether there is a directory, and this is no question of a shell that completes."""
    try:
        return bool(_absolute(directory)) and "_CND_COMPLETE" not in os.environ
    except OSError:
        return False


def _found(directory: str) -> dict[str, str] | None:
    if "_CND_COMPLETE" in os.environ:
        return None
    try:
        project = _absolute(directory)
        found = stamp.valid(project) if project else None
        young = found is not None and 0 <= time.time() - int(found["time"]) < stamp.LIFE
        return found if young else None
    except (OSError, ValueError, KeyError):
        return None


def _absolute(directory: str) -> str:
    """Return a path as pathlib's absolute() writes it; nothing for one that it writes otherwise."""
    path = directory if directory.startswith("/") else f"{os.getcwd()}/{directory}"
    if path.startswith("//"):
        return ""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
