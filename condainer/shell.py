"""The environment of a command in an image, how it is started, and the interactive shell."""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from condainer import comfort, process
from condainer.errors import CondainerError

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# What activation itself decides, and what a shell sets for itself.
RESERVED = re.compile(
    r"(PATH|PS1|IFS|PYTHONHOME|CONDA_(PREFIX|SHLVL|DEFAULT_ENV)|_*CONDAINER_\w+)\Z"
)
SHELL_OWN = ("_", "SHLVL", "PWD", "OLDPWD", "BASH_ENV", "ENV")

# Sources the scripts given as arguments; their output and the environment go to two descriptors.
SOURCE_SCRIPTS = """
exec >>/proc/self/fd/{said} 2>&1
trap '{env} -0 >/proc/self/fd/{result}; exit 0' EXIT
for __condainer_file in "$@"; do
    set +eu
    . "$__condainer_file"
done
unset __condainer_file
exit 0
"""

# Puts @prompt before the user's own prompt, which may show the status of the last command.
FISH_PROMPT = """\
function __condainer_prompt_on
    functions -q fish_prompt; and functions -c fish_prompt __condainer_prompt
    function fish_prompt
        set -l last $status
        printf '%s' @prompt
        functions -q __condainer_prompt; or return
        __condainer_status $last
        __condainer_prompt
    end
end
function __condainer_status
    return $argv[1]
end
"""


class CommandNotStarted(CondainerError):
    """A command could not be started; `exit_code` is 127 or 126 as a shell has them."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def environment(
    prefix: Path,
    variables: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    name: str,
    address: str,
    user_site: bool = False,
    on_output: Callable[[str], None] | None = None,
) -> dict[str, str]:
    """Return the environment that a command has inside an activated image.

    As conda does it: PATH and CONDA_*, then the `variables` of the environment, then
    etc/conda/activate.d/*.sh in order. An environment that is active already is replaced.
    Parameters: `environ` is the caller's environment; with `user_site`, packages in ~/.local are
    seen; `on_output` receives what scripts print.
    """
    result = {k: v for k, v in environ.items() if not re.fullmatch(r"CONDA_PREFIX_\d+", k)}
    result.pop("PYTHONHOME", None)
    bin_directory = f"{prefix}/bin"
    active = [environ.get("CONDA_PREFIX"), environ.get("CONDAINER_PREFIX")]
    replaced = {bin_directory, *(f"{old}/bin" for old in active if old)}
    path = environ.get("PATH", os.defpath).split(os.pathsep)
    kept = [entry for entry in path if entry.rstrip("/") not in replaced]
    result["PATH"] = os.pathsep.join([bin_directory, *kept])
    result["CONDA_PREFIX"] = result["CONDAINER_PREFIX"] = str(prefix)
    result["CONDA_DEFAULT_ENV"] = name
    result["CONDA_SHLVL"] = "1"
    result["CONDAINER_ADDRESS"] = address
    result.update(comfort.defaults(environ, address, user_site=user_site))
    result.update({k: v for k, v in variables.items() if not RESERVED.match(k)})
    scripts = sorted((prefix / "etc/conda/activate.d").glob("*.sh"))
    return _after_scripts(scripts, result, on_output) if scripts else result


def _after_scripts(
    scripts: Sequence[Path], environ: dict[str, str], on_output: Callable[[str], None] | None
) -> dict[str, str]:
    """Return the environment after a shell has sourced some scripts."""
    # Files instead of pipes: a background process that a script leaves must not make us wait.
    said, result = os.memfd_create("said"), os.memfd_create("environment")
    try:
        shell = process.find_tool("bash") or "/bin/sh"
        env = "/usr/bin/env" if os.path.exists("/usr/bin/env") else "env"
        text = SOURCE_SCRIPTS.format(said=said, result=result, env=env)
        # What a site sets up for every new bash is set up already.
        given = {k: v for k, v in environ.items() if k not in ("BASH_ENV", "ENV")}
        process.run(
            [shell, "-c", text, "condainer", *map(str, scripts)],
            env=given,
            pass_fds=(said, result),
        )
        output = _read(said).decode(errors="replace").strip()
        dump = dict(
            entry.split("=", 1) for entry in os.fsdecode(_read(result)).split("\0") if "=" in entry
        )
    finally:
        os.close(said)
        os.close(result)
    if output and on_output:
        on_output(output)
    for key in SHELL_OWN:
        dump.pop(key, None)
    # A shell drops what it cannot have as a variable of its own.
    foreign = {k: v for k, v in environ.items() if k in SHELL_OWN or not IDENTIFIER.match(k)}
    return {**foreign, **dump}


def _read(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb", closefd=False) as stream:
        return stream.read()


def execute(argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Replace this process by a command, looked for in the PATH of its new environment.

    Raises CommandNotStarted, with the exit code that a shell would give.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these signals, and an exec would hand that on; SIGINT resets itself.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    command = argv[0]
    if "/" in command:
        candidates = [command]
    else:
        directories = env.get("PATH", os.defpath).split(os.pathsep)
        candidates = [os.path.join(directory or ".", command) for directory in directories]
    refused: OSError | None = None
    for candidate in candidates:
        try:
            _exec(candidate, argv, env)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.lexists(candidate) and "/" in command and os.path.isfile(candidate):
                raise CommandNotStarted(f"{command}: its interpreter does not exist", 126) from None
        except PermissionError as error:
            if os.path.lexists(candidate) and (not os.path.isdir(candidate) or "/" in command):
                refused = refused or error
        except OSError as error:
            raise CommandNotStarted(f"{command}: {error.strerror}", 126) from None
    if refused:
        raise CommandNotStarted(f"{command}: {refused.strerror}", 126)
    reason = "No such file or directory" if "/" in command else "command not found"
    raise CommandNotStarted(f"{command}: {reason}", 127)


def _exec(path: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
    try:
        os.execve(path, list(argv), dict(env))
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script without an interpreter line is for the shell.
        os.execve("/bin/sh", ["/bin/sh", path, *argv[1:]], dict(env))


def interactive_shell(
    env: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command of the user's shell, and what its environment needs besides `env`.

    The user's own start-up files are read, and afterwards the environment is put right again
    where they changed it. Parameters: `env` is the result of `environment` for `environ`.
    """
    shell = env.get("SHELL") or "/bin/sh"
    kind = os.path.basename(shell)
    fix = _restoring(env, environ)
    if kind == "bash":
        # A file without a name is gone when the shell has read it.
        descriptor = os.memfd_create("condainer-rc", 0)
        close = f"exec {descriptor}<&-\n"
        text = f"{close}[ ! -r ~/.bashrc ] || . ~/.bashrc\n{fix}"
        os.write(descriptor, text.encode(errors="surrogateescape"))
        return [shell, "--rcfile", f"/proc/self/fd/{descriptor}", "-i"], {}
    if kind == "zsh":
        return [shell, "-i"], {"ZDOTDIR": _zsh_directory(fix, env)}
    prompt = f"({prompt_name(env.get('CONDA_DEFAULT_ENV', ''))}) "
    if kind == "fish":
        return [shell, "-i", "-C", _restoring_fish(env, environ, prompt)], {}
    plain = shell if kind in ("sh", "dash", "ksh", "mksh", "ash") else "/bin/sh"
    return [plain, "-i"], {"PS1": prompt + env.get("PS1", "$ ")}


def _restoring(env: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return shell text that sets again what differs between two environments."""
    lines = []
    for key, value in sorted(env.items()):
        if key != "PATH" and environ.get(key) != value and IDENTIFIER.match(key):
            lines.append(f"export {key}={shlex.quote(value)}")
    first = shlex.quote(env["PATH"].split(os.pathsep)[0])
    lines.append(f'case "$PATH" in {first}:*) ;; *) export PATH={first}:"$PATH" ;; esac')
    lines.append(f'PS1="({prompt_name(env.get("CONDA_DEFAULT_ENV", ""))}) ${{PS1-}}"')
    return "\n".join(lines) + "\n"


def _restoring_fish(env: Mapping[str, str], environ: Mapping[str, str], prompt: str) -> str:
    """Return the same for fish, which runs it after its start-up files."""
    lines = []
    for key, value in sorted(env.items()):
        if key != "PATH" and environ.get(key) != value and IDENTIFIER.match(key):
            lines.append(f"set -gx {key} {fish_word(value)}")
    first = fish_word(env["PATH"].split(os.pathsep)[0])
    lines.append(f'test "$PATH[1]" = {first}; or set -gx PATH {first} $PATH')
    lines.append(FISH_PROMPT.replace("@prompt", fish_word(prompt)))
    return "\n".join([*lines, "__condainer_prompt_on"])


def fish_word(text: str) -> str:
    """Return a word of fish that stands for the text."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _zsh_directory(fix: str, env: Mapping[str, str]) -> str:
    """Make a start-up directory for zsh, which removes itself while it is read."""
    own, place = env.get("ZDOTDIR"), env.get("TMPDIR", "")
    directory = tempfile.mkdtemp(
        prefix="condainer-zsh-", dir=place if os.path.isdir(place) else None
    )
    here = shlex.quote(directory)
    before = f"export ZDOTDIR={shlex.quote(own)}" if own else "unset ZDOTDIR"
    environment_file = (
        f'{before}\n[[ ! -r "${{ZDOTDIR:-$HOME}}/.zshenv" ]] || . "${{ZDOTDIR:-$HOME}}/.zshenv"\n'
        f"__condainer_own=${{ZDOTDIR-}}\nZDOTDIR={here}\n"
    )
    interactive_file = (
        f'if [[ -n "$__condainer_own" ]]; then export ZDOTDIR="$__condainer_own"; '
        f"else unset ZDOTDIR; fi\nunset __condainer_own\ncommand rm -rf {here}\n"
        f'[[ ! -r "${{ZDOTDIR:-$HOME}}/.zshrc" ]] || . "${{ZDOTDIR:-$HOME}}/.zshrc"\n{fix}'
    )
    for name, text in ((".zshenv", environment_file), (".zshrc", interactive_file)):
        Path(directory, name).write_text(text, encoding="utf-8", errors="surrogateescape")
    return directory


def prompt_name(name: str) -> str:
    """Return a name without what bash or zsh would expand in a prompt."""
    return re.sub(r"[^\w.+-]", "_", name) or "condainer"
