"""The environment of a command inside an activated image; it imports next to nothing."""

import _signal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    # A variable, its value or else a directory, and the user's files that leave it unset.
    Row = tuple[str, str, str, Sequence[str]]

# Below the user's cache directory; one directory for each address, because what compilers and
# package managers leave there fits one environment only. Can be deleted at any time.
DIRECTORY = "condainer-tools"
# The variables that activation itself sets or removes.
DECIDED = ("PATH", "PS1", "IFS", "PYTHONHOME", "CONDA_PREFIX", "CONDA_SHLVL", "CONDA_DEFAULT_ENV")
# What conda writes for a variable that is not to be set.
UNSET = "***unset***"
# The `conda-meta/state` of an image without variables, as a build writes it: reading JSON would
# double the time of `cnd exec` for it.
NO_STATE = '{"env_vars": {}, "version": 1}\n'
# The end of the name of a directory of stand-ins for an image's commands; see `guard`.
STAND_INS = ".stand-ins"
# Below a prefix, the file that holds the address of its image.
SENTINEL = ".condainer/address"
# What a shell sets for itself.
SHELL_OWN = ("_", "SHLVL", "PWD", "OLDPWD")
# The settings of a shell, beside all that begins with BASH: with the caller's values, it might read
# the scripts differently or not at all (SHELLOPTS=noexec), and it sets some again itself.
SETTINGS = (
    *("SHELLOPTS", "POSIXLY_CORRECT", "ENV", "IFS", "PS1", "PS2", "PS4", "CDPATH", "GLOBIGNORE"),
    *("GLOBSORT", "EXECIGNORE", "FUNCNEST", "TMOUT", "OPTIND", "OPTERR", "RANDOM", "SECONDS"),
    *("LINENO", "PPID", "UID", "EUID"),
)

# Sources the scripts given as arguments; their output and the environment go to two descriptors. A
# script that ends the shell ends those that follow; its own EXIT trap does not run.
SOURCE_SCRIPTS = """
exec >>/proc/self/fd/{said} 2>&1
trap 'exec {env} -0 >|/proc/self/fd/{result}' EXIT
for __condainer_file in "$@"; do
    set +eu
    . "$__condainer_file"
done
unset __condainer_file
exec {env} -0 >|/proc/self/fd/{result}
"""


def environment(
    prefix: str,
    variables: "Mapping[str, str]",
    environ: "Mapping[str, str]",
    name: str,
    address: str,
    table: "Iterable[Row]",
    stand_ins: str = "",
) -> dict[str, str]:
    """Return the environment of a command as it is before the image's own scripts have run.

    Parameters: `variables` are those of the environment, without what activation itself decides;
    `environ` is the caller's environment; `table` as for defaults(); `stand_ins` is the directory
    that follows the image's own in PATH, if there is one. Raises ValueError as packaged().
    """
    result = {
        key: value
        for key, value in environ.items()
        if not (key.startswith("CONDA_PREFIX_") and key[13:].isdecimal()) and key != "PYTHONHOME"
    }
    bin_directory = f"{prefix}/bin"
    active = [environ.get("CONDA_PREFIX"), environ.get("CONDAINER_PREFIX")]
    replaced = {bin_directory, *(f"{old}/bin" for old in active if old)}
    path = environ.get("PATH", os.defpath).split(os.pathsep)
    kept = [
        entry
        for entry in path
        if entry.rstrip("/") not in replaced and not entry.endswith(STAND_INS)
    ]
    ours = [bin_directory, stand_ins] if stand_ins else [bin_directory]
    result["PATH"] = os.pathsep.join([*ours, *kept])
    result["CONDA_PREFIX"] = result["CONDAINER_PREFIX"] = prefix
    result["CONDA_DEFAULT_ENV"] = name
    result["CONDA_SHLVL"] = "1"
    result["CONDAINER_ADDRESS"] = address
    result.update(defaults(table, environ, address))
    for name, value in packaged(prefix).items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = value
    result.update(variables)
    return result


def packaged(prefix: str) -> dict[str, str | None]:
    """Return the variables that files of an image's packages set, as conda does; None: unset.

    What activation itself decides is left out. Raises ValueError for a file that conda cannot read.
    """
    directory, state = f"{prefix}/etc/conda/env_vars.d", f"{prefix}/conda-meta/state"
    try:
        paths = [f"{directory}/{name}" for name in sorted(os.listdir(directory))]
    except OSError:
        paths = []
    if os.path.exists(state):
        paths.append(state)
    variables: dict[str, str | None] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as stream:
                text = stream.read()
            if text == NO_STATE:
                continue
            import json

            told = json.loads(text)
            said = told.get("env_vars", {}) if path == state else told
            for given, value in said.items():
                # conda's own default, envvars_force_uppercase.
                name = given.upper()
                if is_identifier(name) and not is_decided(name) and value != UNSET:
                    variables[name] = None if value is None else str(value)
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path}: {error}") from None
        if any("\0" in value for value in variables.values() if value):
            raise ValueError(f"{path}: a value with a null character")
    return variables


def is_decided(name: str) -> bool:
    """Tell whether activation itself decides about a variable."""
    return name in DECIDED or name.lstrip("_").startswith("CONDAINER_")


def defaults(table: "Iterable[Row]", environ: "Mapping[str, str]", address: str) -> dict[str, str]:
    """Return the variables that are unset in `environ`, with their values for an environment.

    What was set for another environment, from which this one is started, counts as unset.
    Parameters: each row of `table` is a variable; its value, or else the directory below the
    environment's own cache; and the user's files because of which it is left alone.
    """
    cache = _directory(environ, "XDG_CACHE_HOME", ".cache")
    configuration = _directory(environ, "XDG_CONFIG_HOME", ".config")
    result = {}
    for variable, value, below, unless in table:
        given = environ.get(variable)
        if given is not None and f"/{DIRECTORY}/" not in given:
            continue
        if value:
            result[variable] = value
        elif cache and not any(os.path.exists(f"{configuration}/{file}") for file in unless):
            result[variable] = f"{cache}/{DIRECTORY}/{address}/{below}"
    return result


def _directory(environ: "Mapping[str, str]", variable: str, below_home: str) -> str:
    """Return a directory of the XDG specification, or an empty text without a home directory."""
    named = environ.get(variable, "")
    if os.path.isabs(named):
        return named
    home = environ.get("HOME")
    return f"{home}/{below_home}" if home else ""


def scripts_of(prefix: str) -> list[str]:
    """Return the scripts with which packages of an image take part in its activation, in order."""
    directory = f"{prefix}/etc/conda/activate.d"
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return [f"{directory}/{name}" for name in sorted(names) if name.endswith(".sh")]


def after_scripts(
    scripts: "Sequence[str]", environ: dict[str, str], on_output: "Callable[[str], None] | None"
) -> dict[str, str] | None:
    """Return the environment after a shell has sourced some scripts.

    None if it failed, if it ended without telling its environment, or if the directory of the
    image's programs is no longer in PATH: those of the system would run in their place.
    Parameters: `on_output` receives what they print.
    """
    if not scripts:
        return environ
    # Files instead of pipes: we must not wait for a background process that a script leaves.
    said, result = unnamed_file(), unnamed_file()
    try:
        env = "/usr/bin/env" if os.path.exists("/usr/bin/env") else "env"
        text = SOURCE_SCRIPTS.format(said=said, result=result, env=env)
        given = {k: v for k, v in environ.items() if not is_setting(k)}
        status = run([*_shell(), "-c", text, "condainer", *scripts], given, (said, result))
        output = _read(said).decode(errors="replace").strip()
        dump = dict(
            entry.split("=", 1) for entry in os.fsdecode(_read(result)).split("\0") if "=" in entry
        )
    finally:
        os.close(said)
        os.close(result)
    if output and on_output:
        on_output(output)
    programs = f"{environ['CONDA_PREFIX']}/bin"
    if status or programs not in dump.get("PATH", "").split(os.pathsep):
        return None
    for key in SHELL_OWN:
        dump.pop(key, None)
    # A shell drops variables whose names it does not allow.
    foreign = {
        k: v for k, v in environ.items() if k in SHELL_OWN or is_setting(k) or not is_identifier(k)
    }
    return {**foreign, **dump}


def is_setting(name: str) -> bool:
    """Tell whether a variable of this name is a setting of the shell."""
    return name.startswith("BASH") or name in SETTINGS


def is_identifier(name: str) -> bool:
    """Tell whether a shell can have a variable of this name."""
    return name.isascii() and name.isidentifier()


def _shell() -> list[str]:
    from condainer.startup import tool_paths

    bash = tool_paths.find("bash")
    # Started by sshd, some builds of bash read ~/.bashrc.
    return [bash, "--norc"] if bash else ["/bin/sh"]


def run(argv: list[str], env: dict[str, str], kept: "Sequence[int] | None" = None) -> int:
    """Run a command in a session that ends with it, and return its status.

    Only a daemon that starts a session of its own outlives it. Parameters: the command inherits the
    descriptors `kept` and those of ours that are inheritable; without `kept`, it inherits none,
    because a daemon never closes them.
    """
    for descriptor in kept or ():
        os.set_inheritable(descriptor, True)
    try:
        child = _spawned(argv, env, () if kept is not None else _inheritable())
    except OSError:
        return 127
    try:
        # The zombie stays until it is waited for, and with it its session's number.
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    finally:
        try:
            os.killpg(child, _signal.SIGKILL)
        except OSError:
            # We were interrupted before it had its session.
            os.kill(child, _signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return status


def close_all_but(kept: "Sequence[int]") -> None:
    """Close the other descriptors of this process, of which there may be a billion at most.

    os.closerange() tries them all on kernels, and in interpreters, that do not close a range.
    """
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) not in kept:
                os.close(int(name))
        except OSError:
            # That of the list itself.
            continue


def _inheritable() -> list[int]:
    """Return the descriptors, beside its streams, that a program inherits from us."""
    descriptors = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                descriptors.append(int(name))
        except OSError:
            # That of the list itself.
            continue
    return descriptors


def _spawned(argv: list[str], env: dict[str, str], closed: "Sequence[int]") -> int:
    """Start a command without our streams and terminal; a fork takes four times as long."""
    null: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)
    ]
    null += [(os.POSIX_SPAWN_CLOSE, number) for number in closed]
    # Python ignores these; programs expect their defaults.
    signals = (_signal.SIGPIPE, _signal.SIGXFSZ)
    try:
        return os.posix_spawn(argv[0], argv, env, file_actions=null, setsid=True, setsigdef=signals)
    except NotImplementedError:
        # The interpreter was built for an older C library.
        return os.posix_spawn(argv[0], argv, env, file_actions=null, setpgroup=0, setsigdef=signals)


def unnamed_file() -> int:
    """Return the descriptor of a new file that no other process can open by a name."""
    try:
        return os.memfd_create("condainer")
    except AttributeError:
        # The interpreter was built for an older C library.
        import tempfile

        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


def _read(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0) if size else b""


def tell(text: str) -> None:
    """Show what the scripts of an image print, on stderr."""
    print(text, file=sys.stderr)
