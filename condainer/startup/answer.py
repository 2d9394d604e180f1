"""The commands that a stamp answers, without click; None leaves a command to the long way.

It imports next to nothing, so that `cnd build` with nothing changed takes hardly longer than a bare
interpreter.
"""

import os
import sys
import time

from condainer.startup import find_project, stamp

# The only setting that a command line may have: wrappers and kernels name the cache of an image.
CACHE = "cache_directory=/"
# The option that names one of several environments of a project.
ENVIRONMENT = ("-e", "--environment")


class Call:
    """A `cnd build` or `cnd exec` with nothing unusual about it, or what activation asks.

    `directory` is the project's, `named` if `-d` gave it; `env` is the name of an image, or its
    whole address, empty for the project's own, and `overrides` tells its cache, if it is given;
    `environment` is which one of several in the project is asked for, empty for `default`;
    `stamped` is what the stamp says, None if that is not valid any more.
    """

    def __init__(
        self,
        command: str,
        words: list[str],
        directory: str,
        named: bool,
        quiet: bool,
        env: str,
        overrides: list[str],
        environment: str,
    ) -> None:
        self.command = command
        self.words = words
        self.directory = directory
        self.named = named
        self.quiet = quiet
        self.env = env
        self.overrides = overrides
        self.environment = environment
        # What activation asks is about an image, not about a project.
        asked = command == "activation-variables"
        key = stamp.named(directory, env, overrides, environment)
        self.stamped = None if asked else _stamped(key)


def parsed(arguments: list[str]) -> "Call | None":
    """Return what the arguments ask for; None for what only click's command line knows."""
    quiet = False
    given: str | None = None
    chosen = ""
    overrides: list[str] = []
    rest = arguments
    while rest:
        word, value = rest[0], rest[1] if len(rest) > 1 else ""
        if word in ("-q", "--quiet"):
            quiet, rest = True, rest[1:]
        elif word in ("-d", "--directory") and value:
            given, rest = value, rest[2:]
        elif word in ENVIRONMENT and value:
            chosen, rest = value, rest[2:]
        elif word == "--set" and value and not overrides:
            overrides, rest = [value], rest[2:]
        else:
            break
    command, rest = "".join(rest[:1]), rest[1:]
    command = "exec" if command == "run" else command
    if len(rest) > 1 and rest[0] in ENVIRONMENT and rest[1]:
        chosen, rest = rest[1], rest[2:]
    env, rest = _env(command, rest, chosen)
    environment = chosen or os.environ.get(find_project.ENVIRONMENT, "")
    environment = "" if environment == find_project.DEFAULT else environment
    words = _words(command, rest)
    # A shell that asks for completions gets them from click.
    if words is None or "_CND_COMPLETE" in os.environ:
        return None
    if overrides and not (env and overrides[0].startswith(CACHE)):
        return None
    directory, named = _directory(command, given), given is not None
    if not directory:
        return None
    return Call(command, words, directory, named, quiet, env, overrides, environment)


def _env(command: str, words: list[str], chosen: str) -> tuple[str, list[str]]:
    """Return the name or whole address of the image of a command, if any, and the other words.

    There is none where the command line has `chosen` an environment of the project.
    """
    if command != "exec" or chosen:
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
    if command == "build" and all(word in ("--locked", "--pull-only", "--json") for word in words):
        return words
    if command == "exec" and words and not words[0].startswith("-"):
        return words
    if command == "activation-variables" and len(words) == 3:
        return words
    return words[1:] or None if command == "exec" and words[:1] == ["--"] else None


def run(call: Call, start: float) -> int | None:
    """Do what a call asks for and return the exit status; None if its stamp is not enough.

    Parameters: `start` is when the command began, by time.perf_counter(). Raises CommandNotStarted.
    """
    if call.command == "build":
        return _build(call, start)
    if call.command == "exec" and call.stamped is not None:
        from condainer.startup import command

        command.run(call.words, call.stamped, call.quiet)
    return None


def _build(call: Call, start: float) -> int | None:
    stamped = call.stamped
    if stamped is None or "text" not in stamped:
        return None
    if "--json" in call.words:
        seconds = round(time.perf_counter() - start, 3)
        sys.stdout.write(f"{stamped['head']}{seconds}{stamped['tail']}\n")
    elif not call.quiet:
        seconds = time.perf_counter() - start
        told = use(call.directory, call.environment)
        sys.stderr.write(f"{stamped['text']} in {seconds:.2f} s\n{told}\n")
    return 0


def use(project: str, environment: str = "") -> str:
    """Return the commands that use the image of a project, in the shell of this user.

    The path of the script always has a slash: without one, bash looks in PATH first, where conda
    and virtual environments have an `activate` of their own. Parameters: `environment` is the one
    of several that the image is of, empty for `default`.
    """
    shell = os.path.basename(os.environ.get("SHELL", ""))
    script = {"fish": "activate.fish", "csh": "activate.csh", "tcsh": "activate.csh"}
    name, option = script.get(shell, "activate"), ""
    if environment not in ("", find_project.DEFAULT):
        name, option = name.replace("activate", f"activate-{environment}"), f" -e {environment}"
    commands = f"cnd shell{option}, or cnd exec{option} -- COMMAND"
    path = f"{'.' if find_project.is_here(project) else project}/{name}"
    if not path.isprintable():
        # It could be an escape sequence of the terminal.
        return f"Use it: {commands}"
    if not all(sign.isalnum() or sign in "/._-+" for sign in path):
        from condainer.startup.stand_ins import quoted

        path = quoted(path)
    return f"Use it: source {path}, {commands}"


def _directory(command: str, given: str | None) -> str:
    """Return the path of the project, or an empty text where there is none."""
    try:
        return _absolute(find_project.project_of(command) if given is None else given)
    except OSError:
        return ""


def _stamped(directory: str) -> dict[str, str] | None:
    try:
        stamped = stamp.valid(directory)
        young = stamped is not None and 0 <= time.time() - int(stamped["time"]) < stamp.LIFE
        return stamped if young else None
    except (OSError, ValueError, KeyError):
        return None


def _absolute(directory: str) -> str:
    """Return a path as Path.absolute() does; an empty text for one that begins with two slashes."""
    path = directory if directory.startswith("/") else f"{os.getcwd()}/{directory}"
    if path.startswith("//"):
        return ""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
