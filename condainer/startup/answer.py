"""The commands that a stamp answers, without click; in doubt, the long way.

It imports next to nothing, so that `cnd build` with nothing changed costs hardly more than an
interpreter.
"""

import os
import sys
import time

from condainer.startup import find_project, stamp


class Call:
    """A `cnd build` or `cnd exec` with nothing unusual about it, or what activation asks.

    `directory` is the project's, `named` if `-d` gave it; `env` is the name of an image, or its
    whole address, empty for the project's own; `found` is what the stamp says, None if that is not
    valid any more.
    """

    def __init__(
        self, command: str, words: list[str], directory: str, named: bool, quiet: bool, env: str
    ) -> None:
        self.command = command
        self.words = words
        self.directory = directory
        self.named = named
        self.quiet = quiet
        self.env = env
        # What activation asks is about an image, not about a project.
        asked = command == "activation-variables"
        self.found = None if asked else _found(stamp.named(directory, env))


def parsed(arguments: list[str]) -> "Call | None":
    """Return what the arguments ask for; None for what only the command line itself knows."""
    quiet, place = False, 0
    given: str | None = None
    while place < len(arguments):
        word = arguments[place]
        place += 1
        if word in ("-q", "--quiet"):
            quiet = True
        elif word in ("-d", "--directory") and place < len(arguments):
            given = arguments[place]
            place += 1
        else:
            command = "exec" if word == "run" else word
            env, rest = _env(command, arguments[place:])
            words = _words(command, rest)
            # Not for a shell that completes.
            if words is None or "_CND_COMPLETE" in os.environ:
                return None
            directory = _directory(command, given)
            named = given is not None
            return Call(command, words, directory, named, quiet, env) if directory else None
    return None


def _env(command: str, words: list[str]) -> tuple[str, list[str]]:
    """Return the name or whole address of the image of a command, if any, and the other words."""
    if command != "exec":
        return "", words
    option, equals, value = (words or [""])[0].partition("=")
    rest = words[1:]
    if option in ("--env", "--address") and not equals and rest:
        value, *rest = rest
    # The beginning of an address may be that of several.
    if value and (option == "--env" or (option == "--address" and len(value) == stamp.DIGITS)):
        return value, rest
    return os.environ.get("CONDAINER_ENV", ""), words


def _words(command: str, words: list[str]) -> list[str] | None:
    if command == "build" and all(word in ("--locked", "--json") for word in words):
        return words
    if command == "exec" and words and not words[0].startswith("-"):
        return words
    if command == "activation-variables" and len(words) == 3:
        return words
    return words[1:] or None if command == "exec" and words[:1] == ["--"] else None


def run(call: Call, start: float) -> int | None:
    """Do what a call asks for and return the exit status; None if its stamp is not enough for that.

    Parameters: `start` is when the command began, by time.perf_counter(). Raises CommandNotStarted.
    """
    if call.command == "build":
        return _build(call, start)
    if call.command == "exec" and call.found is not None:
        from condainer.startup import attach

        attach.command(call.words, call.found, call.quiet)
    return None


def _build(call: Call, start: float) -> int | None:
    found = call.found
    if found is None or "text" not in found:
        return None
    if "--json" in call.words:
        seconds = round(time.perf_counter() - start, 3)
        sys.stdout.write(f"{found['head']}{seconds}{found['tail']}\n")
    elif not call.quiet:
        seconds = time.perf_counter() - start
        sys.stderr.write(f"{found['text']} in {seconds:.2f} s\n{use(call.directory)}\n")
    return 0


def use(project: str) -> str:
    """Return how the image of a project is used, in the shell of this user.

    Not without a slash: bash looks in PATH first, where conda and virtual environments have an
    `activate` of their own.
    """
    shell = os.path.basename(os.environ.get("SHELL", ""))
    script = {"fish": "activate.fish", "csh": "activate.csh", "tcsh": "activate.csh"}
    path = f"{'.' if find_project.is_here(project) else project}/{script.get(shell, 'activate')}"
    if not path.isprintable():
        # It could be an escape sequence of the terminal.
        return "Use it: cnd shell, or cnd exec -- COMMAND"
    if not all(sign.isalnum() or sign in "/._-+" for sign in path):
        from condainer.startup.stand_ins import quoted

        path = quoted(path)
    return f"Use it: source {path}, cnd shell, or cnd exec -- COMMAND"


def _directory(command: str, given: str | None) -> str:
    """Return the path of the project; nothing where there is none."""
    try:
        return _absolute(find_project.project_of(command) if given is None else given)
    except OSError:
        return ""


def _found(directory: str) -> dict[str, str] | None:
    try:
        found = stamp.valid(directory)
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
