"""The scripts `activate` and `deactivate` of a project, to be sourced by bash or zsh."""

from __future__ import annotations

import shlex
import string
from collections.abc import Mapping
from pathlib import Path

from condainer.shell import IDENTIFIER, RESERVED, prompt_name

# The first words of both scripts: what does not begin so is somebody else's.
OURS = "# Made by `cnd build`"

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

ACTIVATE = """\
# Made by `cnd build`: source it from bash or zsh.
@sourced
if [ -n "${CONDAINER_ADDRESS-}" ]; then
    printf '%s\\n' "cnd: ${CONDA_DEFAULT_ENV-an environment} is already active" >&2
    printf "%s\\n" "Leave it with \\`source deactivate\\`, a cnd shell with \\`exit\\`." >&2
    return 1
fi
# All is named, so that neither an edited environment.yml nor another shell's settings matter.
@cnd --quiet -d @project --set address=@address --set @cache mount || {
    printf '%s\\n' "cnd: not activated: the image could not be mounted" >&2
    return 1
}
# Only this says that the image is there: without it, python would be that of the system.
{ IFS= read -r __condainer_found < @prefix/@{sentinel}; } 2>/dev/null || __condainer_found=
if [ "$__condainer_found" != @address ]; then
    unset __condainer_found
    printf '%s\\n' "cnd: not activated: the image is not at its place:" @prefix >&2
    return 1
fi
unset __condainer_found
@settings
export __CONDAINER_NAMES=@names
export PATH=@prefix/bin"${PATH:+:$PATH}"
case $- in
    *i*)
        __CONDAINER_PS1=${PS1-}
        PS1=@prompt"${PS1-}"
        ;;
esac
hash -r 2>/dev/null || :
@run_scripts"""
ACTIVATE = ACTIVATE.replace("@{sentinel}", ".condainer/address")

DEACTIVATE = """\
# Made by `cnd build`: source it from bash or zsh.
@sourced
if [ -z "${__CONDAINER_NAMES-}" ]; then
    if [ -n "${CONDAINER_ADDRESS-}" ]; then
        printf '%s\\n' "cnd: leave this shell with \\`exit\\`" >&2
    else
        printf '%s\\n' "cnd: no environment is active" >&2
    fi
    return 1
fi
@run_scripts
__condainer_path=":$PATH:"
while :; do
    case "$__condainer_path" in
        *":$CONDAINER_PREFIX/bin:"*) ;;
        *) break ;;
    esac
    __condainer_rest="${__condainer_path#*":$CONDAINER_PREFIX/bin:"}"
    __condainer_path="${__condainer_path%%":$CONDAINER_PREFIX/bin:"*}:$__condainer_rest"
done
__condainer_path=${__condainer_path#:}
export PATH="${__condainer_path%:}"
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
hash -r 2>/dev/null || :
"""


class _Script(string.Template):
    """A template whose placeholders look unlike anything in a shell script."""

    delimiter = "@"


def activation_script(
    project: Path,
    prefix: Path,
    address: str,
    variables: Mapping[str, str],
    *,
    name: str,
    cache: Path,
    command: str | None = None,
) -> str:
    """Return the text of a project's `activate`.

    Parameters: `cache` is the cache that holds the image, `command` the path of the `cnd` to use;
    by default it is the one in PATH then.
    """
    settings = {"PYTHONNOUSERSITE": '"${PYTHONNOUSERSITE-1}"'}
    settings["PYTHONDONTWRITEBYTECODE"] = '"${PYTHONDONTWRITEBYTECODE-1}"'
    for key, value in variables.items():
        if IDENTIFIER.match(key) and not RESERVED.match(key):
            settings[key] = shlex.quote(value)
    settings["CONDA_PREFIX"] = settings["CONDAINER_PREFIX"] = shlex.quote(str(prefix))
    settings["CONDAINER_ADDRESS"] = address
    settings["CONDA_DEFAULT_ENV"] = shlex.quote(name)
    settings["CONDA_SHLVL"] = "1"
    lines = []
    for key, value in settings.items():
        saved = f"__CONDAINER_SAVED_{key}"
        lines.append(f'    [ -z "${{{key}+x}}" ] || export {saved}="${key}"')
        lines.append(f"    export {key}={value}")
    # PYTHONHOME is for another interpreter.
    lines.append(
        '    [ -z "${PYTHONHOME+x}" ] || export __CONDAINER_SAVED_PYTHONHOME="$PYTHONHOME"'
    )
    lines.append("    unset PYTHONHOME")
    cnd = f"{shlex.quote(command)}" if command else "cnd"
    return _Script(ACTIVATE).substitute(
        sourced=_sourced("activate", project),
        cnd=cnd,
        project=shlex.quote(str(project)),
        prefix=shlex.quote(str(prefix)),
        address=address,
        cache=shlex.quote(f"cache_directory={cache}"),
        names="".join(f"{key}:" for key in [*settings, "PYTHONHOME"]),
        settings="\n".join(lines).replace("\n    ", "\n").removeprefix("    "),
        prompt=shlex.quote(f"({prompt_name(name)}) "),
        run_scripts=_Script(RUN_SCRIPTS).substitute(kind="activate", order=""),
    )


def deactivation_script(project: Path) -> str:
    """Return the text of a project's `deactivate`, which undoes any activation of this shell."""
    return _Script(DEACTIVATE).substitute(
        sourced=_sourced("deactivate", project),
        run_scripts=_Script(RUN_SCRIPTS).substitute(kind="deactivate", order="-r"),
    )


def _sourced(name: str, project: Path) -> str:
    usage = shlex.quote(f"cnd: use it as: source {shlex.quote(str(project / name))} (bash or zsh)")
    return _Script(SOURCED).substitute(usage=usage)
