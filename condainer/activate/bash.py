"""The scripts `activate` and `deactivate` of a project, to be sourced by bash or zsh."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from condainer.activate import default_variables, quick_script
from condainer.activate.default_variables import Default
from condainer.activate.quick_script import Script
from condainer.activate.shell import prompt_name
from condainer.cache import entries
from condainer.startup.command_environment import STAND_INS, is_decided, is_identifier

# The first words of all scripts; a file that begins otherwise is the user's own.
OURS = "# Made by `cnd build`"


@dataclass(frozen=True)
class Activation:
    """What the activation scripts of a project set up.

    `cache` is the cache that holds the image, `command` the path of the `cnd` to use; by default
    it is the one in PATH then. With `user_site`, packages in ~/.local are seen. While none of the
    files `settled` has changed, a shell may claim what is mounted without asking `cnd`.
    `environment` is the name of one of several in the project, `script` that of its script.
    """

    project: Path
    prefix: Path
    address: str
    variables: Mapping[str, str]
    name: str
    cache: Path
    user_site: bool = False
    command: str = "cnd"
    settled: tuple[Path, ...] = ()
    environment: str = ""
    script: str = "activate"

    @property
    def fixed(self) -> dict[str, str]:
        """The variables that are set even if the shell has them."""
        chosen = {k: v for k, v in self.variables.items() if is_identifier(k)}
        # The image's conda-meta/state has them, too, in which conda takes names in upper case.
        chosen = {**{name.upper(): value for name, value in chosen.items()}, **chosen}
        return {
            **{name: value for name, value in chosen.items() if not is_decided(name)},
            "CONDA_PREFIX": str(self.prefix),
            "CONDAINER_PREFIX": str(self.prefix),
            "CONDAINER_ADDRESS": self.address,
            "CONDA_DEFAULT_ENV": self.name,
            "CONDA_SHLVL": "1",
        }

    @property
    def defaults(self) -> list[Default]:
        """The variables that are set if they are unset."""
        table, fixed = default_variables.table(self.user_site), self.fixed
        return [default for default in table if default.variable not in fixed]

    @property
    def names(self) -> list[str]:
        """All variables that are saved, and restored by deactivation."""
        # PYTHONHOME is for another interpreter: it is unset.
        return [*(default.variable for default in self.defaults), *self.fixed, "PYTHONHOME"]

    @property
    def warn(self) -> str:
        """The command that says whether the image is no longer that of the inputs."""
        return shlex.join([*self._mounting, "--warn"])

    @property
    def _mounting(self) -> list[str]:
        # All is named, so that neither an edited environment.yml nor another shell's settings
        # matter.
        pinned = ["--set", f"address={self.address}", "--set", f"cache_directory={self.cache}"]
        chosen = ["-e", self.environment] if self.environment else []
        return [self.command, "--quiet", "-d", str(self.project), *chosen, *pinned, "mount"]

    def claim(self, syntax: str) -> str:
        """Return the text that claims the image, mounted if need be, and gets its variables.

        Those of the packages are told in the `syntax` of a shell, one of package_variables.
        """
        script = self.project / self.script
        image = entries.entry_directory(self.cache, self.address) / entries.IMAGE
        names = "".join(f"{name}:" for name in self.names)
        packaged = [self.command, "activation-variables", syntax, str(self.prefix), names]
        return Script(quick_script.CLAIM).substitute(
            quick=quick_script.quick(self.settled, script, self.prefix, self.address, image),
            mount=shlex.join([*self._mounting, "--shell"]),
            packaged=shlex.join(packaged),
            prefix=shlex.quote(str(self.prefix)),
            address=self.address,
        )

    @property
    def stand_ins(self) -> str:
        """The name of the directory of stand-ins, which is beside the claim of a shell."""
        return f"{self.prefix.name}{STAND_INS}"

    @property
    def prompt(self) -> str:
        """What stands before the prompt."""
        return f"({prompt_name(self.name)}) "


# Also for shells other than bash and zsh: what cannot tell whether it is sourced refuses.
SOURCED = """\
if [ -n "${ZSH_VERSION-}" ]; then
    case "${ZSH_EVAL_CONTEXT-}" in *:file*) __condainer_ok=1 ;; *) __condainer_ok=0 ;; esac
elif [ -n "${BASH_VERSION-}" ]; then
    if (return 0 2>/dev/null); then __condainer_ok=1; else __condainer_ok=0; fi
else
    __condainer_ok=0
fi
if [ "$__condainer_ok" = 0 ]; then
    unset __condainer_ok
    printf '%s\\n' @usage >&2
    return 1 2>/dev/null || exit 1
fi
unset __condainer_ok
"""
USAGE = "cnd: use it as: source {path} (bash or zsh)"
ELSEWHERE = "     In fish and csh, source the file for that shell; elsewhere, use `cnd exec`."

# In a subshell, which has a claim of its own, $$ is that of the shell that started it.
PROCESS = """\
if [ -n "${ZSH_VERSION-}" ]; then
    zmodload zsh/system 2>/dev/null || :
    eval '__condainer_shell=${sysparams[pid]:-$$}'
else
    __condainer_shell=${BASHPID:-$$}
fi
"""

# Names with line breaks aside, this does without globs, which bash and zsh treat differently.
RUN_SCRIPTS = """\
__condainer_flags=$-
set +eu
while IFS= read -r __condainer_file <&9; do
    case "$__condainer_file" in
        *.sh) . "$CONDAINER_PREFIX/etc/conda/@kind.d/$__condainer_file" ;;
    esac
done 9<<EOF
$(LC_ALL=C command ls @order "$CONDAINER_PREFIX/etc/conda/@kind.d" 2>/dev/null)
EOF
case "$__condainer_flags" in *u*) set -u ;; esac
case "$__condainer_flags" in *e*) set -e ;; esac
unset __condainer_file __condainer_flags
"""

# What is exported besides the variables of an environment; also by `cnd shell`.
MARKS = "CONDAINER_ADDRESS:CONDAINER_PREFIX:CONDA_PREFIX:CONDA_DEFAULT_ENV:CONDA_SHLVL:"

# Tells what is in PATH beside what an activation has put there.
OTHER_PATH = """\
__condainer_rest=${PATH-}:
__condainer_path=
while [ -n "$__condainer_rest" ]; do
    case "${__condainer_rest%%:*}" in
        "$CONDAINER_PREFIX/bin" | *.stand-ins) ;;
        *) __condainer_path=$__condainer_path:${__condainer_rest%%:*} ;;
    esac
    __condainer_rest=${__condainer_rest#*:}
done
__condainer_path=${__condainer_path#:}
"""

# Undoes an activation by any shell.
UNDO = """\
@other_path
export PATH="$__condainer_path"
while [ -n "$__CONDAINER_NAMES" ]; do
    __condainer_name=${__CONDAINER_NAMES%%:*}
    __CONDAINER_NAMES=${__CONDAINER_NAMES#*:}
    if eval "[ -n \\"\\${__CONDAINER_SAVED_$__condainer_name+x}\\" ]"; then
        eval "export $__condainer_name=\\"\\$__CONDAINER_SAVED_$__condainer_name\\""
        unset "__CONDAINER_SAVED_$__condainer_name"
    else
        unset "$__condainer_name"
    fi
done
if [ -n "${__CONDAINER_PS1+x}" ]; then
    PS1=$__CONDAINER_PS1
    unset __CONDAINER_PS1
fi
unset __CONDAINER_NAMES __condainer_name __condainer_path __condainer_rest
"""

# A function, so that leaving works in every directory. Another tool's function of that name, as a
# virtual environment has one, is restored.
FUNCTIONS = """\
__condainer_undo() {
@undo
}
__condainer_leave() {
@run_scripts
    __condainer_undo
@process
    if [ -n "${__CONDAINER_CLAIM-}" ] && [ "${__CONDAINER_SHELL-}" = "$__condainer_shell" ]; then
        command rm -f -- "$__CONDAINER_CLAIM" || :
    fi
    unset __CONDAINER_CLAIM __CONDAINER_SHELL
    hash -r 2>/dev/null || :
}
__condainer_forget() {
    case "$(typeset -f deactivate 2>/dev/null)" in
        *__condainer_forget*)
            unset -f deactivate
            eval "${__CONDAINER_THEIRS-}"
            ;;
    esac
    unset __CONDAINER_THEIRS __condainer_shell
    unset -f __condainer_undo __condainer_leave __condainer_forget
}
"""

ACTIVATE = """\
# Made by `cnd build`: source it from bash or zsh.
@sourced
@process
# What another shell has exported is renewed, as in a batch job: its mount is not this shell's. The
# environment of `cnd shell` is this process's own, as long as it is mounted.
__condainer_mounted=
__condainer_active=
if [ -n "${CONDAINER_ADDRESS-}" ]; then
    if command grep -qsF -- "/condainer-$CONDAINER_ADDRESS " /proc/self/mountinfo; then
        __condainer_mounted=$__condainer_shell
    fi
    __condainer_active=$__condainer_mounted
    [ -z "${__CONDAINER_NAMES-}" ] || __condainer_active=${__CONDAINER_SHELL-}
fi
if [ "$__condainer_active$__condainer_mounted${CONDAINER_ADDRESS-}" = \\
    "$__condainer_shell$__condainer_shell"@address ]; then
    unset __condainer_active __condainer_mounted __condainer_shell
    printf '%s\\n' "cnd: ${CONDA_DEFAULT_ENV-the environment} is already active" >&2
    @warn || :
    return 0
fi
unset __condainer_mounted
__condainer_user=${EUID-}
@claim
if [ -n "$__condainer_problem" ]; then
    unset __condainer_active __condainer_shell __condainer_claim __condainer_problem
    unset __condainer_user __condainer_cache __condainer_config __condainer_variables
    return 1
fi
@functions
if [ -n "${CONDAINER_ADDRESS-}" ] && [ -n "${CONDAINER_PREFIX-}" ]; then
    if [ "$__condainer_active" = "$__condainer_shell" ]; then
        [ "$CONDAINER_ADDRESS" = @address ] ||
            printf 'cnd: switched from %s (%.8s) to %s (%.8s)\\n' \\
                "${CONDA_DEFAULT_ENV-}" "$CONDAINER_ADDRESS" @name @address >&2
    fi
    if [ -n "${__CONDAINER_NAMES-}" ] && [ "${__CONDAINER_SHELL-}" = "$__condainer_shell" ]; then
        # The claim on the same image is in the same file.
        [ "${__CONDAINER_CLAIM-}" != "$__condainer_claim" ] || __CONDAINER_CLAIM=
        __condainer_leave
    else
        __CONDAINER_NAMES=${__CONDAINER_NAMES:-@marks}
        __condainer_undo
    fi
fi
case "$(typeset -f deactivate 2>/dev/null)" in
    *__condainer_forget*) ;;
    *) __CONDAINER_THEIRS=$(typeset -f deactivate 2>/dev/null) || : ;;
esac
# An alias would be expanded here, and hide the function later.
unalias deactivate 2>/dev/null || :
deactivate() {
    __condainer_leave
    __condainer_forget
}
# Not exported: the claim is this shell's own, and not that of a shell that it starts.
unset __CONDAINER_CLAIM __CONDAINER_SHELL
__CONDAINER_CLAIM=$__condainer_claim
__CONDAINER_SHELL=$__condainer_shell
# What fails loudly, were the image's own commands not to be found.
__condainer_behind=${__condainer_claim:+:${__condainer_claim%/*}/@stand_ins}
export __CONDAINER_NAMES=@names
@settings
unset __condainer_active __condainer_shell __condainer_claim __condainer_problem
unset __condainer_user __condainer_cache __condainer_config __condainer_variables
export PATH=@prefix/bin"$__condainer_behind${PATH:+:$PATH}"
unset __condainer_behind
case $- in
    *i*)
        __CONDAINER_PS1=${PS1-}
        PS1=@prompt"${PS1-}"
        ;;
esac
hash -r 2>/dev/null || :
@run_scripts"""

DEACTIVATE = """\
# Made by `cnd build`: source it from bash or zsh; in an activated shell, `deactivate` does it.
@sourced
if [ -z "${__CONDAINER_NAMES-}" ]; then
    if [ -n "${CONDAINER_ADDRESS-}" ]; then
        printf '%s\\n' "cnd: leave this shell with \\`exit\\`" >&2
    else
        printf '%s\\n' "cnd: no environment is active" >&2
    fi
    return 1
fi
@functions
__condainer_leave
__condainer_forget
"""


def activation_script(of: Activation) -> str:
    """Return the text of a project's `activate`."""
    lines = [line for name in of.names for line in saving(name)]
    for default in of.defaults:
        lines += _setting_default(default, of.address)
    lines.append('eval "$__condainer_variables"')
    lines += [f"export {name}={shlex.quote(value)}" for name, value in of.fixed.items()]
    return Script(ACTIVATE).substitute(
        sourced=_sourced(of.script, of.project),
        process=PROCESS,
        functions=_functions(),
        name=shlex.quote(of.name),
        marks=MARKS,
        warn=of.warn,
        claim=of.claim("sh"),
        prefix=shlex.quote(str(of.prefix)),
        address=of.address,
        names="".join(f"{name}:" for name in of.names),
        stand_ins=of.stand_ins,
        settings="\n".join([*lines, "unset PYTHONHOME"]),
        prompt=shlex.quote(of.prompt),
        run_scripts=Script(RUN_SCRIPTS).substitute(kind="activate", order=""),
    )


def saving(name: str) -> list[str]:
    """Return the lines that save a variable."""
    saved = f"__CONDAINER_SAVED_{name}"
    return [f"unset {saved}", f'[ -z "${{{name}+x}}" ] || export {saved}="${name}"']


def _setting_default(default: Default, address: str) -> list[str]:
    """Return the lines that set a variable if it is unset."""
    given = f'[ -n "${{{default.variable}+x}}" ]'
    if default.value:
        return [f"{given} || export {default.variable}={shlex.quote(default.value)}"]
    theirs = [f'[ -e "$__condainer_config/{path}" ]' for path in default.unless]
    unless = " || ".join([given, '[ -z "$__condainer_cache" ]', *theirs])
    value = f'"$__condainer_cache/{default_variables.DIRECTORY}/{address}/{default.below}"'
    return [f"{unless} ||", f"    export {default.variable}={value}"]


def deactivation_script(project: Path) -> str:
    """Return the text of a project's `deactivate`, which undoes any activation of this shell."""
    return Script(DEACTIVATE).substitute(
        sourced=_sourced("deactivate", project), functions=_functions()
    )


def _functions() -> str:
    """Return the text that defines how an activation is taken back."""
    return Script(FUNCTIONS).substitute(
        undo=Script(UNDO).substitute(other_path=OTHER_PATH),
        process=PROCESS,
        run_scripts=Script(RUN_SCRIPTS).substitute(kind="deactivate", order="-r"),
    )


def _sourced(name: str, project: Path) -> str:
    usage = USAGE.format(path=shlex.quote(str(project / name)))
    return Script(SOURCED).substitute(usage=f"{shlex.quote(usage)} {shlex.quote(ELSEWHERE)}")
