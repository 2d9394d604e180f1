"""Which directory is the project of a command that names none: the nearest one upward."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "CONDAINER_PROJECT"
# Which of several environments of a project a command is about.
ENVIRONMENT = "CONDAINER_ENVIRONMENT"
# The environment that is used if none is named.
DEFAULT = "default"
CONFIGURATION = "condainer.yml"
INPUTS = (
    *("environment.yml", "environment.yaml", "conda-lock.yml", "pixi.lock", "conda.lock"),
    *("pixi.toml", "conda.toml", "pylock.toml", "uv.lock"),
)
# It is an input if it has a table of pixi or conda-workspaces; one of conda-lock does not count.
PYPROJECT = "pyproject.toml"
OF_TOOLS = (b"tool.pixi.", b"tool.pixi]", b"tool.conda.", b"tool.conda]")
# Commands that use no project.
WITHOUT = ("activation-variables", "prereq", "version")


def this_platform() -> str:
    """Return the conda subdir of this machine, such as `linux-64`."""
    machine = os.uname().machine
    return {"x86_64": "linux-64"}.get(machine, f"linux-{machine}")


def project_of(command: str) -> str:
    """Return the project of a command without `-d`: CONDAINER_PROJECT, or the nearest one upward.

    Raises FileNotFoundError if the working directory was deleted.
    """
    named = os.environ.get(VARIABLE) if command not in WITHOUT else None
    if named:
        return named
    here = os.getcwd()
    return here if command in (*WITHOUT, "init") else _upward(here)


def note(project: str) -> str:
    """Return the line that names a project, empty if it is the working directory."""
    return "" if is_here(project) else f"Project: {project}"


def is_here(project: str) -> bool:
    """Tell whether a project is the working directory, which may have been deleted."""
    try:
        return project == os.getcwd()
    except OSError:
        return False


def _upward(here: str) -> str:
    """Return the nearest directory with a configuration, else with an input, else this one."""
    inputs = (*INPUTS, f"conda-{this_platform()}.lock")
    nearest = ""
    for directory in _ours(here):
        if os.path.exists(f"{directory}/{CONFIGURATION}"):
            return directory
        if not nearest and _has_input(directory, inputs):
            nearest = directory
    return nearest or here


def _has_input(directory: str, inputs: "tuple[str, ...]") -> bool:
    if any(os.path.exists(f"{directory}/{name}") for name in inputs):
        return True
    return _is_workspace(f"{directory}/{PYPROJECT}")


def _is_workspace(path: str) -> bool:
    """Tell whether a pyproject.toml has a table of pixi or conda, as settings.input_files does."""
    try:
        # Without O_NONBLOCK, a FIFO would keep us waiting.
        with open(path, "rb", opener=_without_waiting) as file:
            lines = file.read().replace(b" ", b"").replace(b"\t", b"").split(b"\n")
    except OSError:
        return False
    return any(line[:1] == b"[" and line.lstrip(b"[").startswith(OF_TOOLS) for line in lines)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _ours(directory: str) -> "Iterator[str]":
    """Yield a directory, and those above it as long as they are ours and on its file system."""
    yield directory
    try:
        device = os.stat(directory).st_dev
        while directory != "/":
            directory = os.path.dirname(directory)
            status = os.stat(directory)
            if status.st_uid != os.geteuid() or status.st_dev != device:
                return
            # The sticky bit: others may put files beside ours, as in /tmp.
            if status.st_mode & 0o1000:
                return
            yield directory
    except OSError:
        return
