"""The part of the activation scripts that claims a mounted image without starting a program.

It is what `cnd mount --shell` does then, in words that every POSIX shell, bash and zsh have. A
keeper says in a file that it heeds claims. Who wants one writes it first and looks at that file
afterwards; a keeper that goes deletes the file first and looks for claims afterwards. So one of
both sees the other, without a lock.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from string import Template

# How long a daemon may take to answer before `cnd` asks it with more patience, in seconds.
PATIENCE = 1

QUICK = """\
__condainer_claim=
while [ -z "${CONDAINER_MOUNT-}" ]; do
    # Collected, or in quarantine: `cnd` knows what to do.
    [ -e @image ] || break
    # The same time is younger, too: clocks of file systems tick slowly.
    for __condainer_file in @present; do
        [ @script -nt "$__condainer_file" ] || break 2
    done
    for __condainer_file in @absent; do
        [ ! -e "$__condainer_file" ] || break 2
    done
    # One that was put there with an old time gives the directory a new one.
    __condainer_at=$__condainer_config/condainer
    if [ -e "$__condainer_at/condainer.yml" ]; then
        [ -O @script ] && [ @script -nt "$__condainer_at" ] || break
        [ @script -nt "$__condainer_at/condainer.yml" ] || break
    fi
    __condainer_at=@base/.condainer-$__condainer_user
    { IFS=- read -r __condainer_boot __condainer_rest </proc/sys/kernel/random/boot_id; } \\
        2>/dev/null || break
    __condainer_file=$__condainer_at/@name-$__condainer_boot-any.ready
    [ -O "$__condainer_at" ] && [ -O "$__condainer_file" ] || break
    { IFS= read -r __condainer_ready <"$__condainer_file"; } 2>/dev/null || break
    __condainer_keeper=${__condainer_ready%% *}
    __condainer_rest=${__condainer_ready#* }
    [ "/proc/$__condainer_keeper/ns/mnt" -ef /proc/self/ns/mnt ] || break
    # When both processes were started: numbers are used again.
    __condainer_times=
    for __condainer_pid in "$__condainer_keeper" "$__condainer_shell"; do
        { IFS= read -r __condainer_stat <"/proc/$__condainer_pid/stat"; } 2>/dev/null || break 2
        __condainer_stat=${__condainer_stat##*") "}
        __condainer_count=0
        while [ "$__condainer_count" -lt 19 ]; do
            __condainer_stat=${__condainer_stat#* }
            __condainer_count=$((__condainer_count + 1))
        done
        __condainer_times="$__condainer_times ${__condainer_stat%% *}"
    done
    [ "${__condainer_times% *}" = " ${__condainer_rest%% *}" ] || break
    __condainer_claim=${__condainer_rest#* }.$__condainer_shell
    # The keeper has to read it, whatever the umask.
    (umask 077 && printf '%s' "${__condainer_times##* }" >|"$__condainer_claim") 2>/dev/null || {
        __condainer_claim=
        break
    }
    { IFS= read -r __condainer_rest <"$__condainer_file"; } 2>/dev/null || __condainer_rest=
    __condainer_stat=
    while IFS= read -r __condainer_pid; do
        case "$__condainer_pid" in *" "@escaped" "*) __condainer_stat=$__condainer_pid ;; esac
    done </proc/self/mountinfo
    # The kind and the options; the source is what its user calls it, and has no blanks either.
    case "$__condainer_stat" in
        *" / "@escaped" "*" - "*) __condainer_stat="${__condainer_stat##*" - "}" ;;
        *) __condainer_stat= ;;
    esac
    case "${__condainer_stat%% *} ,${__condainer_stat##* }," in
        fuse*" "*",user_id=$__condainer_user,"*) ;;
        "squashfs "*) [ "$__condainer_user" = 0 ] || __condainer_rest= ;;
        *) __condainer_rest= ;;
    esac
    # Asked by a child, without which a daemon that does not answer would hold the shell for ever.
    __condainer_file=@prefix/.condainer/address
    case "${BASH_VERSION+:${SHELLOPTS-}:}${ZSH_VERSION-}" in
        "" | *:posix:*)
            __condainer_stat=$(timeout @patience cat "$__condainer_file" 2>/dev/null)
            ;;
        *)
            # Others cannot even parse it. No redirection around it: a child that hangs would keep
            # open what the shell saves then; nor of `read`, with which zsh waits for the child.
            unset __condainer_asked
            eval 'exec {__condainer_asked}< <(
                exec 2>/dev/null
                IFS= read -r __condainer_stat <"$__condainer_file" &&
                    printf "%s\\n" "$__condainer_stat"
            )
            IFS= read -r -t @patience -u "$__condainer_asked" __condainer_stat ||
                __condainer_stat=
            exec {__condainer_asked}<&-'
            ;;
    esac || __condainer_stat=
    if [ "$__condainer_rest" != "$__condainer_ready" ] || [ "$__condainer_stat" != @address ]; then
        command rm -f -- "$__condainer_claim" || :
        __condainer_claim=
    fi
    break
done
unset __condainer_file __condainer_at __condainer_boot __condainer_rest __condainer_ready
unset __condainer_keeper __condainer_times __condainer_pid __condainer_stat __condainer_count
unset __condainer_asked
"""

# Without a configuration that could have changed nothing is known: the program decides.
NEVER = "__condainer_claim=\n"

# Mounts and claims an image, or says in __condainer_problem why not; what sets the variables of the
# packages is in __condainer_variables then.
CLAIM = """\
case "${XDG_CACHE_HOME-}" in
    /*) __condainer_cache=$XDG_CACHE_HOME ;;
    *) __condainer_cache=${HOME:+$HOME/.cache} ;;
esac
case "${XDG_CONFIG_HOME-}" in
    /*) __condainer_config=$XDG_CONFIG_HOME ;;
    *) __condainer_config=${HOME:+$HOME/.config} ;;
esac
@quick
__condainer_problem=
__condainer_variables=
[ -n "$__condainer_claim" ] || __condainer_claim=$(@mount "$__condainer_shell") ||
    __condainer_problem='the image could not be mounted'
# Only this says that the image is there: without it, python would be that of the system.
if [ -z "$__condainer_problem" ]; then
    { IFS= read -r __condainer_found < @prefix/.condainer/address; } 2>/dev/null ||
        __condainer_found=
    [ "$__condainer_found" = @address ] ||
        __condainer_problem='the image is not at its place: '@prefix
    unset __condainer_found
fi
if [ -z "$__condainer_problem" ] && [ -d @prefix/etc/conda/env_vars.d ]; then
    __condainer_variables=$(@packaged) ||
        __condainer_problem="the packages' variables could not be read"
fi
if [ -n "$__condainer_problem" ]; then
    command rm -f -- "$__condainer_claim" || :
    printf '%s\\n' "cnd: not activated: $__condainer_problem" >&2
fi
"""

# For shells that cannot run the above themselves: prints the claim, given the shell's number, the
# directories of caches and configurations, and the lines to evaluate; nothing, unless the image is
# mounted and at its place.
FOR_OTHERS = """\
__condainer_shell=$1
__condainer_user=$(id -u)
@claim
[ -n "$__condainer_problem" ] ||
    printf '%s\\n' "${__condainer_claim:-@none}" "${__condainer_cache:-@none}" \\
        "${__condainer_config:-@none}" "$__condainer_variables"
"""
# In the place of a claim, which what root has mounted for all users does not need, and of a
# directory that a user without a home directory does not have.
NONE = "none"


class Script(Template):
    """A template whose placeholders, `@name`, look unlike anything in a shell script."""

    delimiter = "@"


def quick(settled: Sequence[Path], script: Path, prefix: Path, address: str, image: Path) -> str:
    """Return the text that sets __condainer_claim, or leaves it empty if it takes `cnd` to claim.

    Parameters: it is for `cnd` if one of the files `settled` is younger than `script`, has come or
    gone, or if there are none to look at; if the user's own configuration is younger, or the script
    another user's; and if `image` is gone. The shell's number, the user's number
    and the configuration directory are in __condainer_shell, _user and _config.
    """
    # What the kernel writes otherwise into the mount table, and what would take many lines.
    if not settled or set(str(prefix)) & set("\t\n\\#"):
        return NEVER
    base = Path(os.path.realpath(prefix.parent))
    return Script(QUICK).substitute(
        present=shlex.join(str(path) for path in settled if path.exists()),
        absent=shlex.join(str(path) for path in settled if not path.exists()),
        script=shlex.quote(str(script)),
        base=shlex.quote(str(prefix.parent)),
        name=prefix.name,
        escaped=shlex.quote(str(base / prefix.name).replace(" ", "\\040")),
        prefix=shlex.quote(str(prefix)),
        address=address,
        image=shlex.quote(str(image)),
        patience=str(PATIENCE),
    )


def for_others(text: str) -> str:
    """Return a script of sh that does the same for the shell whose number it is given.

    Parameters: `text` is that of Activation.claim().
    """
    return Script(FOR_OTHERS).substitute(claim=text, none=NONE)
