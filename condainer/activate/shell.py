"""The environment of a command in an image, how it is started, and the interactive shell."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from condainer.activate import default_variables
from condainer.startup import command_environment
from condainer.startup.command_environment import is_decided, is_identifier
from condainer.system.errors import ToolError

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

    As conda does it: PATH and CONDA_*, then what packages' etc/conda/env_vars.d/*.json set, then
    the `variables` of the environment, then etc/conda/activate.d/*.sh in order. An environment that
    is active already is replaced.
    Parameters: `environ` is the caller's environment; with `user_site`, packages in ~/.local are
    seen; `on_output` receives what scripts print.
    """
    from condainer.mount import mount_locks

    given = chosen(variables)
    try:
        result = command_environment.environment(
            str(prefix),
            given,
            environ,
            name,
            address,
            default_variables.rows(user_site),
            mount_locks.stand_ins(prefix),
        )
    except ValueError as error:
        raise unreadable(error) from None
    done = command_environment.after_scripts(
        command_environment.scripts_of(str(prefix)), result, on_output
    )
    if done is None:
        raise ToolError(
            f"The packages' scripts in {prefix}/etc/conda/activate.d did not leave an environment "
            "with the programs of the image",
            "They need a shell, bash or /bin/sh. One of them may have ended or replaced it, or "
            f"taken {prefix}/bin out of PATH.",
        )
    return done


def unreadable(error: ValueError) -> ToolError:
    """Return the error of an image whose packages' variables cannot be read."""
    return ToolError(
        f"The variables of a package cannot be read: {error}",
        "conda could not activate this environment either: choose another version or build of "
        "the package that has this file.",
    )


def chosen(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment without what activation itself decides."""
    return {k: v for k, v in variables.items() if not is_decided(k)}


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
        descriptor = command_environment.unnamed_file()
        os.set_inheritable(descriptor, True)
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
    lines = [f"export {key}={shlex.quote(value)}" for key, value in _changed(env, environ)]
    first = shlex.quote(os.pathsep.join(_own_directories(env)))
    lines.append(f'case "$PATH" in {first}:*) ;; *) export PATH={first}:"$PATH" ;; esac')
    lines.append(f'PS1="({prompt_name(env.get("CONDA_DEFAULT_ENV", ""))}) ${{PS1-}}"')
    return "\n".join(lines) + "\n"


def _changed(env: Mapping[str, str], environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the variables, without PATH, that have another value in `environ`."""
    changed = sorted(env.items() - environ.items())
    return [(key, value) for key, value in changed if key != "PATH" and is_identifier(key)]


def _own_directories(env: Mapping[str, str]) -> list[str]:
    """Return the directories that activation puts first in PATH."""
    first, *rest = env["PATH"].split(os.pathsep)
    return [first, *(entry for entry in rest[:1] if entry.endswith(command_environment.STAND_INS))]


def _restoring_fish(env: Mapping[str, str], environ: Mapping[str, str], prompt: str) -> str:
    """Return the same for fish, which runs it after its start-up files."""
    lines = [f"set -gx {key} {fish_word(value)}" for key, value in _changed(env, environ)]
    own = [fish_word(directory) for directory in _own_directories(env)]
    lines.append(f'test "$PATH[1]" = {own[0]}; or set -gx PATH {" ".join(own)} $PATH')
    lines.append(FISH_PROMPT.replace("@prompt", fish_word(prompt)))
    return "\n".join([*lines, "__condainer_prompt_on"])


def fish_word(text: str) -> str:
    """Return a word of fish that stands for the text."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _zsh_directory(fix: str, env: Mapping[str, str]) -> str:
    """Make a start-up directory for zsh, which removes itself while it is read."""
    own, place = env.get("ZDOTDIR"), env.get("TMPDIR", "")
    import tempfile

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
